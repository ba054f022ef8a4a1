//! The verifiable log, without I/O, clock or storage: entries, the tree over them, proofs, signed
//! checkpoints and receipts.
//!
//! The formats are the public ones, so that foreign tools can follow a log: RFC 6962 hashing, node
//! numbers as in Go's `sumdb/tlog`, C2SP signed-note and tlog-checkpoint. Whatever comes from outside
//! is refused with an error, never with a panic, and has exactly one accepted spelling.

mod attestation;
pub mod body;
mod checkpoint;
pub mod commitment;
mod entry;
mod error;
mod hash;
mod proof;
pub mod receipt;
mod tree;

pub use attestation::{attest, verify_attestation};
pub use checkpoint::{LogSigner, LogVerifier, SignedCheckpoint, sign};
pub use entry::LogEntry;
pub use error::LedgerError;
pub use hash::{Hash, Sha256, sha256};
pub use proof::{
    MAX_PROOF, consistency_indexes, consistency_proof, inclusion_indexes, inclusion_proof,
    parse_proof, verify_consistency, verify_inclusion,
};
pub use receipt::{Proven, ReceiptError};
pub use tree::{Edge, Head, MAX_SIZE};

/// 32 random bytes that keep a hash from being guessed open; never used twice.
pub type Salt = [u8; 32];

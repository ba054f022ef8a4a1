/// Why something is no part of a log, or cannot become one. Names fields and node numbers, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("a log entry is 34 bytes of format 1")]
    Entry,
    /// The bytes are not the one encoding of the message.
    #[error("the bytes are not in canonical form")]
    NotCanonical,
    #[error("{field} is missing, unknown or of the wrong length")]
    Field { field: &'static str },
    #[error("a committed value is longer than 65535 bytes")]
    ValueTooLong,
    #[error("the index or size is outside the tree")]
    NoSuchTree,
    #[error("a tree of {size} entries has another number of edge hashes")]
    Edge { size: u64 },
    #[error("the stored hash {index} is missing")]
    NodeMissing { index: u64 },
    #[error("a proof is at most 64 hashes of 32 bytes")]
    ProofMalformed,
    #[error("the proof does not show that the entry is in the tree")]
    NotIncluded,
    #[error("the proof does not show that the newer tree extends the older")]
    NotConsistent,
    #[error("a log's origin is a name without spaces, control characters and plus signs")]
    Origin,
    #[error("the log's signing key is not an Ed25519 key in PKCS#8")]
    SigningKey,
    #[error("the log's verifier key is not an Ed25519 key in the form of C2SP signed-note")]
    VerifierKey,
    #[error("the checkpoint could not be signed")]
    Signing,
    #[error("the checkpoint is not in the form of C2SP tlog-checkpoint")]
    Checkpoint,
    #[error("the checkpoint does not carry a good signature of this log's key")]
    CheckpointSignature,
    #[error("the checkpoint is of another origin")]
    CheckpointOrigin,
    #[error("this log's key did not sign that")]
    Attestation,
}

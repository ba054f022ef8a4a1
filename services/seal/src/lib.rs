//! What keeps a record shut and a statement honest: keys, commitments, sealed fields, signed headers,
//! statements, the wrapping of secrets at rest; and what hides who a record is about: the oblivious
//! function that makes [tokens](oprf) of identifiers, and [pseudonyms](pseudonym). Pure but for the random
//! bytes that it draws.
//!
//! A source calls [`seal_record`], which draws a [`RecordKey`] for this one sealing, and
//! [`commit_routing`]. The [`Header`] is the checked form of what the source signs over both; whoever
//! holds one can check a key, a ciphertext or a routing value against it, and [`Header::open`] is the
//! only way back to a value.
//!
//! # What is computed over what
//!
//! Each input is a domain label, then every byte string behind its length as a big-endian `u16`, and
//! every number as a big-endian `u32`. No label is the beginning of another. HKDF is HKDF-SHA-256 without
//! salt, 32 bytes out.
//!
//! | | by | over |
//! |---|---|---|
//! | key commitment of a record | HKDF(record key) | `amanat/commit/v1`, record, version |
//! | field key | HKDF(record key) | `amanat/field/v1`, case, record, version, path, suite |
//! | key commitment of a field | HKDF(field key) | `amanat/field-commit/v1` |
//! | sealed field | AES-256-GCM(field key) | the padded value; bound to `amanat/seal/v1`, suite, record, case, path, version, source agency, schema version, the record's key commitment |
//! | routing commitment | SHA-256 | `amanat/routing/v1`, salt, record, version, path, value |
//! | wrapped secret | AES-256-GCM(wrap key) | the secret; bound to `amanat/wrap/v1`, label, each part of the context |
//! | OPRF key | RFC 9497 DeriveKeyPair(seed) | info `amanat/oprf-key/v1` |
//! | token | RFC 9497 VOPRF(OPRF key), 64 bytes | `amanat/oprf/v1`, domain, identifier type, canonical identifier |
//! | stored token of an agency | HMAC-SHA-256(first pepper) | `amanat/token/v1`, agency, token |
//! | stored token of a canary | HMAC-SHA-256(first pepper) | `amanat/canary/v1`, token |
//! | either, each further pepper | HMAC-SHA-256(pepper) | `amanat/pepper/v1`, the stored token before |
//! | pseudonym key of an agency | HKDF(pseudonym key) | `amanat/pseudonym-key/v1`, agency |
//! | pseudonym | HMAC-SHA-256(pseudonym key of the agency), first 16 bytes | `amanat/pseudonym/v1`, the agency's subject |
//! | handle key | HKDF(secret) | `amanat/handle-key/v1` |
//! | officer's handle | HMAC-SHA-256(handle key), first 16 bytes | `amanat/officer-handle/v1`, agency, SHA-256 of the officer |
//!
//! Ciphertext is 12-byte nonce ‖ AES-256-GCM ciphertext ‖ 16-byte tag. A value is padded as its length in
//! a big-endian `u32`, the value, then zeros.

mod error;
mod field;
mod header;
mod input;
pub mod oprf;
pub mod pseudonym;
mod record;
mod record_key;
mod secret;
pub mod statement;
mod wrap;

pub use error::SealError;
pub use field::{MAX_VALUE_LEN, SUITE};
pub use header::{FieldCommitments, Header};
pub use record::{SealedRecord, commit_routing, seal_record};
pub use record_key::{Binding, FieldKey, RecordKey};
pub use wrap::WrapKey;

use aws_lc_rs::{digest, rand};

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Random bytes for ids and salts. Keys draw their own.
///
/// # Errors
/// [`SealError::Provider`] if the system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| SealError::Provider)?;
    Ok(bytes)
}

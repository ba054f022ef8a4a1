/// Why something was not sealed, opened or loaded. Names the field, never a value or a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Out of random bytes or memory; nothing was sealed.
    #[error("the cryptographic provider failed")]
    Provider,
    #[error("a key is 32 bytes")]
    KeyLength,
    #[error("not an Ed25519 private key in PKCS#8")]
    SigningKey,
    /// Longer than [`MAX_VALUE_LEN`](crate::MAX_VALUE_LEN), or 65,535 bytes where it is not sealed.
    #[error("the value of {path} is too long")]
    TooLong { path: &'static str },
    /// A ROUTING leaf is committed, not sealed.
    #[error("{path} is not a sealed field")]
    NotSealed { path: &'static str },
    #[error("the key does not fit the header's commitment for {path}")]
    FieldKey { path: &'static str },
    #[error("the ciphertext of {path} is not the one that the header names")]
    Ciphertext { path: &'static str },
    /// Sealed for another case, record, path, version, source or schema, or damaged by its source.
    #[error("the ciphertext of {path} does not open")]
    Open { path: &'static str },
    #[error("the value of {path} is not padded as its size class asks")]
    Padding { path: &'static str },
    #[error("the value of field {field} does not open the header's commitment")]
    Routing { field: u32 },
    #[error("a label or a part of a context is at most 65,535 bytes")]
    Context,
    #[error("at least one pepper is needed")]
    NoPepper,
    #[error("the wrapped secret does not open under this key, label and context")]
    Unwrap,
}

//! Secrets at rest: what a server stores is bound to where it stands.

use zeroize::Zeroizing;

use crate::{SealError, input::Input, secret::Secret};

/// Wraps the secrets that a server keeps in its database. Wiped on drop.
pub struct WrapKey(Secret);

impl WrapKey {
    /// # Errors
    /// [`SealError::Provider`] if the system gives no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        Secret::generate().map(Self)
    }

    /// # Errors
    /// [`SealError::KeyLength`] unless there are 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        Secret::parse(bytes).map(Self)
    }

    /// For the key file.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Nonce ‖ ciphertext ‖ tag: 28 bytes longer than `plaintext`. `label` names the kind of secret (a
    /// table and column, say), `context` the row that it belongs to; both are asked for again.
    ///
    /// # Errors
    /// [`SealError::Context`] if the label or a part is too long; [`SealError::Provider`].
    pub fn wrap(
        &self,
        label: &str,
        context: &[&[u8]],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        self.0.seal(
            &bound_to(label, context)?,
            Zeroizing::new(plaintext.to_vec()),
        )
    }

    /// # Errors
    /// [`SealError::Unwrap`] if anything differs from what was wrapped, or how; [`SealError::Context`].
    pub fn unwrap(
        &self,
        label: &str,
        context: &[&[u8]],
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.0
            .open(&bound_to(label, context)?, wrapped)
            .ok_or(SealError::Unwrap)
    }
}

fn bound_to(label: &str, context: &[&[u8]]) -> Result<Input, SealError> {
    let labelled = Input::new("amanat/wrap/v1").part(label.as_bytes());
    context
        .iter()
        .fold(labelled, |input, part| input?.part(part))
        .ok_or(SealError::Context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "record_key";

    #[test]
    fn a_secret_comes_back_under_the_same_key_label_and_context() {
        let key = WrapKey::generate().unwrap();
        let wrapped = key.wrap(LABEL, &[b"row", b"epoch"], b"secret").unwrap();
        assert_eq!(wrapped.len(), 6 + 28);

        let same = WrapKey::from_bytes(key.expose()).unwrap();
        let secret = same.unwrap(LABEL, &[b"row", b"epoch"], &wrapped).unwrap();
        assert_eq!(secret.as_slice(), b"secret");
    }

    #[test]
    fn a_wrapped_secret_opens_nowhere_else() {
        let key = WrapKey::generate().unwrap();
        let wrapped = key.wrap(LABEL, &[b"row", b"epoch"], b"secret").unwrap();
        let elsewhere: [(&str, &[&[u8]]); 6] = [
            ("other", &[b"row", b"epoch"]),
            (LABEL, &[b"row"]),
            (LABEL, &[b"row", b"epoch", b""]),
            (LABEL, &[b"epoch", b"row"]),
            (LABEL, &[b"rowe", b"poch"]),
            (LABEL, &[b"rowepoch"]),
        ];
        for (label, context) in elsewhere {
            let refused = key.unwrap(label, context, &wrapped).unwrap_err();
            assert_eq!(refused, SealError::Unwrap, "{label} {context:?}");
        }
        let other = WrapKey::generate().unwrap();
        let refused = other.unwrap(LABEL, &[b"row", b"epoch"], &wrapped);
        assert_eq!(refused.unwrap_err(), SealError::Unwrap);
    }

    #[test]
    fn a_damaged_or_cut_secret_is_refused() {
        let key = WrapKey::generate().unwrap();
        let wrapped = key.wrap(LABEL, &[], b"secret").unwrap();
        for at in 0..wrapped.len() {
            let mut damaged = wrapped.clone();
            damaged[at] ^= 1;
            assert_eq!(
                key.unwrap(LABEL, &[], &damaged).unwrap_err(),
                SealError::Unwrap
            );
            assert_eq!(
                key.unwrap(LABEL, &[], &wrapped[..at]).unwrap_err(),
                SealError::Unwrap
            );
        }
    }

    #[test]
    fn a_context_whose_length_cannot_be_written_is_refused() {
        let key = WrapKey::generate().unwrap();
        let long = [0; 65_536];
        assert_eq!(
            key.wrap(LABEL, &[&long], b"secret").unwrap_err(),
            SealError::Context
        );
    }
}

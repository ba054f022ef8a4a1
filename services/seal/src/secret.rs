//! 32 secret bytes and what can be done with them; every symmetric key here is one.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    hmac::{self, HMAC_SHA256},
    rand,
};
use zeroize::Zeroizing;

use crate::{SealError, input::Input, random};

/// INVARIANT: no Debug, Display, Clone or Serialize, here or on the keys made of it.
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

impl From<Zeroizing<[u8; 32]>> for Secret {
    fn from(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }
}

impl Secret {
    pub(crate) fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(bytes.as_mut()).map_err(|_| SealError::Provider)?;
        Ok(Self(bytes))
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        let bytes = <&[u8; 32]>::try_from(bytes).map_err(|_| SealError::KeyLength)?;
        Ok(Self(Zeroizing::new(*bytes)))
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// HKDF-SHA-256 without salt: the secret is uniform, and `info` separates the uses.
    #[expect(
        clippy::expect_used,
        reason = "HKDF refuses only outputs over 255 hashes long; one hash is asked for"
    )]
    pub(crate) fn derive(&self, info: &Input) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        Salt::none(HKDF_SHA256)
            .extract(self.expose())
            .expand(&[info.as_ref()], HKDF_SHA256)
            .and_then(|output| output.fill(bytes.as_mut()))
            .expect("one hash of output");
        Self(bytes)
    }

    /// HMAC-SHA-256.
    pub(crate) fn mac(&self, input: &Input) -> [u8; 32] {
        let mut mac = [0; 32];
        let key = hmac::Key::new(HMAC_SHA256, self.expose());
        mac.copy_from_slice(hmac::sign(&key, input.as_ref()).as_ref());
        mac
    }

    /// What sealing adds to a plaintext's length.
    pub(crate) fn overhead() -> usize {
        NONCE_LEN + AES_256_GCM.tag_len()
    }

    /// Nonce ‖ ciphertext ‖ tag, with a random nonce.
    pub(crate) fn seal(
        &self,
        bound_to: &Input,
        mut plaintext: Zeroizing<Vec<u8>>,
    ) -> Result<Vec<u8>, SealError> {
        let nonce = random::<NONCE_LEN>()?;
        let tag = self
            .cipher()
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_separate_tag(nonce, Aad::from(bound_to), &mut plaintext)
            })
            .map_err(|_| SealError::Provider)?;
        Ok([&nonce, plaintext.as_slice(), tag.as_ref()].concat())
    }

    /// The inverse of [`Secret::seal`]; `None` for any other key, binding or ciphertext.
    pub(crate) fn open(&self, bound_to: &Input, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let cipher = self.cipher().ok()?;
        let length = cipher
            .open_in_place(nonce, Aad::from(bound_to), &mut buffer)
            .ok()?
            .len();
        buffer.truncate(length);
        Some(buffer)
    }

    fn cipher(&self) -> Result<LessSafeKey, Unspecified> {
        UnboundKey::new(&AES_256_GCM, self.expose()).map(LessSafeKey::new)
    }
}

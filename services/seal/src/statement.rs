//! Statements: signed messages that travel as the exact bytes that were signed, in DSSE envelopes.
//!
//! A verified statement is a value, [`Verified`], that nothing but verification makes.

use std::collections::BTreeSet;

use amanat_schema::statement::{Envelope, Signature};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use prost::{Message, Name};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{SealError, sha256};

/// Why an envelope is no statement by those keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    #[error("not a {expected}")]
    Type { expected: String },
    #[error("exactly one signature is needed")]
    OneSignature,
    #[error("{threshold} signers are needed")]
    Threshold { threshold: usize },
    #[error("a signer signed twice")]
    RepeatedSigner,
    #[error("a signature is not by any of the signers known here")]
    UnknownSigner,
    #[error("a signature does not fit the statement")]
    Signature,
    #[error("the payload of the {expected} does not decode, or holds more than this version knows")]
    Payload { expected: String },
}

/// The DSSE pre-authentication encoding: what is signed.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut encoded = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    encoded.extend_from_slice(payload);
    encoded
}

/// Names a public key in an envelope: its SHA-256.
pub fn key_id(public_key: &[u8; 32]) -> [u8; 32] {
    sha256(public_key)
}

/// An Ed25519 key that signs statements. Wiped on drop.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new key as PKCS#8 DER, for a key file. Version 1 of the format, which OpenSSL reads too.
    ///
    /// # Errors
    /// [`SealError::Provider`] if the system gives no random bytes.
    pub fn generate_pkcs8() -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|_| SealError::Provider)?;
        Ok(Zeroizing::new(key.as_ref().to_vec()))
    }

    /// # Errors
    /// [`SealError::SigningKey`] unless it is an unencrypted Ed25519 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, SealError> {
        Ed25519KeyPair::from_pkcs8(der)
            .map(Self)
            .map_err(|_| SealError::SigningKey)
    }

    /// The first `PRIVATE KEY` of a PEM file.
    ///
    /// # Errors
    /// [`SealError::SigningKey`] unless there is one, and it is an unencrypted Ed25519 key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SealError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| SealError::SigningKey)?;
        Self::from_pkcs8(Zeroizing::new(der).secret_pkcs8_der())
    }

    pub fn public_key(&self) -> [u8; 32] {
        let mut public_key = [0; 32];
        public_key.copy_from_slice(self.0.public_key().as_ref());
        public_key
    }

    pub fn key_id(&self) -> [u8; 32] {
        key_id(&self.public_key())
    }

    /// Encodes the message once; the envelope keeps those bytes for ever.
    pub fn sign<M: Message + Name>(&self, message: &M) -> Envelope {
        let mut envelope = Envelope {
            payload_type: M::full_name(),
            payload: message.encode_to_vec(),
            signatures: Vec::new(),
        };
        self.cosign(&mut envelope);
        envelope
    }

    /// Adds this key's signature over the same bytes.
    pub fn cosign(&self, envelope: &mut Envelope) {
        let signed = pae(&envelope.payload_type, &envelope.payload);
        envelope.signatures.push(Signature {
            key_id: self.key_id().to_vec(),
            signature: self.0.sign(&signed).as_ref().to_vec(),
        });
    }
}

/// A message whose signatures were verified, by keys that the verifier chose.
#[derive(Debug, Clone)]
pub struct Verified<M> {
    message: M,
    payload_sha256: [u8; 32],
}

impl<M> Verified<M> {
    pub fn message(&self) -> &M {
        &self.message
    }

    pub fn into_message(self) -> M {
        self.message
    }

    /// Of the signed bytes: what a later statement `follows`.
    pub fn payload_sha256(&self) -> &[u8; 32] {
        &self.payload_sha256
    }
}

/// A statement signed by exactly one of these Ed25519 public keys.
///
/// # Errors
/// [`StatementError`]; unknown fields in the payload are refused, for they may say what must be heeded.
pub fn verify<M: Message + Name + Default>(
    envelope: &Envelope,
    keys: &[[u8; 32]],
) -> Result<Verified<M>, StatementError> {
    check_one_signature::<M>(envelope, keys)?;
    accept(envelope, M::decode(envelope.payload.as_slice()).ok())
}

/// The same for who has decoded the payload already, to find out whose keys those are.
///
/// # Errors
/// [`StatementError`], as for [`verify`]; [`StatementError::Payload`] if it is another message than the payload's.
pub fn verify_decoded<M: Message + Name>(
    envelope: &Envelope,
    message: M,
    keys: &[[u8; 32]],
) -> Result<Verified<M>, StatementError> {
    check_one_signature::<M>(envelope, keys)?;
    accept(envelope, Some(message))
}

/// A statement signed by at least `threshold` different keys of these, and by nobody else. A threshold
/// of 0 counts as 1.
///
/// # Errors
/// [`StatementError`], as for [`verify`].
pub fn verify_threshold<M: Message + Name + Default>(
    envelope: &Envelope,
    keys: &[[u8; 32]],
    threshold: usize,
) -> Result<Verified<M>, StatementError> {
    check_type::<M>(envelope)?;
    if envelope.signatures.len() < threshold.max(1) {
        return Err(StatementError::Threshold { threshold });
    }
    check_signatures(envelope, keys)?;
    accept(envelope, M::decode(envelope.payload.as_slice()).ok())
}

fn check_one_signature<M: Name>(
    envelope: &Envelope,
    keys: &[[u8; 32]],
) -> Result<(), StatementError> {
    check_type::<M>(envelope)?;
    if envelope.signatures.len() != 1 {
        return Err(StatementError::OneSignature);
    }
    check_signatures(envelope, keys)
}

fn check_type<M: Name>(envelope: &Envelope) -> Result<(), StatementError> {
    let expected = M::full_name();
    if envelope.payload_type == expected {
        Ok(())
    } else {
        Err(StatementError::Type { expected })
    }
}

/// Every signature is good and by another of `keys`. Stops at the first that is not, so no envelope
/// costs more verifications than there are keys.
fn check_signatures(envelope: &Envelope, keys: &[[u8; 32]]) -> Result<(), StatementError> {
    let signed = pae(&envelope.payload_type, &envelope.payload);
    let mut signers = BTreeSet::new();
    for signature in &envelope.signatures {
        let key = keys
            .iter()
            .find(|key| key_id(key) == *signature.key_id)
            .ok_or(StatementError::UnknownSigner)?;
        if !signers.insert(key) {
            return Err(StatementError::RepeatedSigner);
        }
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&signed, &signature.signature)
            .map_err(|_| StatementError::Signature)?;
    }
    Ok(())
}

/// What decodes to it and encodes to the same bytes again is the payload's message, with nothing beside it.
fn accept<M: Message + Name>(
    envelope: &Envelope,
    message: Option<M>,
) -> Result<Verified<M>, StatementError> {
    message
        .filter(|message| message.encode_to_vec() == envelope.payload)
        .map(|message| Verified {
            message,
            payload_sha256: sha256(&envelope.payload),
        })
        .ok_or_else(|| StatementError::Payload {
            expected: M::full_name(),
        })
}

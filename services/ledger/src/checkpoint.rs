use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use signed_note::{
    Note, Signature, VerificationError, Verifier, Verifiers, is_key_name_valid, key_id,
};
use tlog_tiles::Checkpoint;

use crate::{Head, LedgerError, MAX_SIZE};

/// The longest note that is read, in bytes: room for many witnesses.
const MAX_NOTE: usize = 16 * 1024;
/// The algorithm number of Ed25519 in C2SP signed-note.
const ALGORITHM: u8 = 1;

/// A head with the note that proves who said it. Only [`sign`] and [`LogVerifier::open`] make one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SignedCheckpoint {
    /// The signed note, with the log's signature and perhaps those of witnesses.
    pub text: String,
    pub head: Head,
}

/// Signs for one log. Has no `Debug` and no `Clone`; the key is wiped when dropped.
pub struct LogSigner {
    keys: Ed25519KeyPair,
    verifier: LogVerifier,
}

impl LogSigner {
    /// From an origin, the log's name for ever, and a private key in PKCS#8 DER.
    ///
    /// # Errors
    /// [`LedgerError::Origin`], [`LedgerError::SigningKey`].
    pub fn from_pkcs8(origin: &str, der: &[u8]) -> Result<Self, LedgerError> {
        let keys = Ed25519KeyPair::from_pkcs8(der).map_err(|_| LedgerError::SigningKey)?;
        let public_key = keys
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| LedgerError::SigningKey)?;
        Ok(Self {
            keys,
            verifier: LogVerifier::new(origin, public_key)?,
        })
    }

    pub fn origin(&self) -> &str {
        self.verifier.origin()
    }

    /// What others verify this log's checkpoints with.
    pub const fn verifier(&self) -> &LogVerifier {
        &self.verifier
    }

    /// [`LogVerifier::verifier_key`] of the verifier.
    pub fn verifier_key(&self) -> String {
        self.verifier.verifier_key()
    }

    /// A text with this key's signature.
    pub(crate) fn note(&self, text: &str) -> Result<String, LedgerError> {
        let verifier = self.verifier();
        let signature = self
            .keys
            .try_sign(text.as_bytes())
            .map_err(|_| LedgerError::Signing)?;
        let note = Signature::new(
            verifier.origin.clone(),
            verifier.key_id(),
            signature.as_ref().to_vec(),
        )
        .and_then(|signature| Note::new(text.as_bytes(), &[signature]))
        .map_err(|_| LedgerError::Signing)?;
        String::from_utf8(note.to_bytes()).map_err(|_| LedgerError::Signing)
    }
}

/// Signs a head. Sign only what is stored and extends all that was signed before: two heads of one size
/// under one key are the proof of a fork.
///
/// # Errors
/// [`LedgerError::NoSuchTree`] over [`MAX_SIZE`]; [`LedgerError::Signing`] if the key does not work.
pub fn sign(signer: &LogSigner, head: Head) -> Result<SignedCheckpoint, LedgerError> {
    if head.size > MAX_SIZE {
        return Err(LedgerError::NoSuchTree);
    }
    let text = signer.note(&signer.verifier.text(&head))?;
    Ok(SignedCheckpoint { text, head })
}

/// Verifies the checkpoints of one log.
#[derive(Clone, PartialEq, Eq)]
pub struct LogVerifier {
    origin: String,
    public_key: [u8; 32],
}

impl LogVerifier {
    fn new(origin: &str, public_key: [u8; 32]) -> Result<Self, LedgerError> {
        if !is_key_name_valid(origin) || origin.chars().any(char::is_control) {
            return Err(LedgerError::Origin);
        }
        Ok(Self {
            origin: origin.to_owned(),
            public_key,
        })
    }

    /// From the text form of C2SP signed-note: `origin+key hash+base64(0x01 ‖ public key)`.
    ///
    /// # Errors
    /// [`LedgerError::Origin`], or [`LedgerError::VerifierKey`] if anything differs from how
    /// [`LogVerifier::verifier_key`] writes that key.
    pub fn from_verifier_key(text: &str) -> Result<Self, LedgerError> {
        let mut parts = text.splitn(3, '+');
        let (Some(origin), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(LedgerError::VerifierKey);
        };
        let key = BASE64_STANDARD
            .decode(key)
            .map_err(|_| LedgerError::VerifierKey)?;
        let Some((&ALGORITHM, public_key)) = key.split_first() else {
            return Err(LedgerError::VerifierKey);
        };
        let public_key = public_key
            .try_into()
            .map_err(|_| LedgerError::VerifierKey)?;
        let verifier = Self::new(origin, public_key)?;
        (verifier.verifier_key() == text)
            .then_some(verifier)
            .ok_or(LedgerError::VerifierKey)
    }

    /// The text form of C2SP signed-note, as a directory lists it.
    pub fn verifier_key(&self) -> String {
        let key = BASE64_STANDARD.encode(self.typed_key());
        format!("{}+{:08x}+{key}", self.origin, self.key_id())
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Opens a note: at most 16 KiB, signed by this key, of this origin, without extension lines.
    /// Further signatures, as of witnesses, may follow; they are not judged.
    ///
    /// # Errors
    /// [`LedgerError::Checkpoint`], [`LedgerError::CheckpointSignature`], [`LedgerError::CheckpointOrigin`].
    pub fn open(&self, text: &str) -> Result<SignedCheckpoint, LedgerError> {
        let note = self.signed(text)?;
        let checkpoint =
            Checkpoint::from_bytes(note.text()).map_err(|_| LedgerError::Checkpoint)?;
        if checkpoint.origin() != self.origin {
            return Err(LedgerError::CheckpointOrigin);
        }
        let head = Head {
            size: checkpoint.size(),
            root: *checkpoint.hash(),
        };
        let possible = head.size <= MAX_SIZE && (head.size > 0 || head == Head::EMPTY);
        // Written again it must be the same text: so there are no extensions and no other spellings.
        let same = self.text(&head).as_bytes() == note.text() && note.to_bytes() == text.as_bytes();
        if !possible || !same {
            return Err(LedgerError::Checkpoint);
        }
        Ok(SignedCheckpoint {
            text: text.to_owned(),
            head,
        })
    }

    /// A note with a good signature of this key.
    pub(crate) fn signed(&self, text: &str) -> Result<Note, LedgerError> {
        if text.len() > MAX_NOTE {
            return Err(LedgerError::Checkpoint);
        }
        let note = Note::from_bytes(text.as_bytes()).map_err(|_| LedgerError::Checkpoint)?;
        note.verify(self)
            .map_err(|_| LedgerError::CheckpointSignature)?;
        Ok(note)
    }

    /// What is signed: the three lines of C2SP tlog-checkpoint.
    fn text(&self, head: &Head) -> String {
        format!("{}\n{}\n{}\n", self.origin, head.size, head.root)
    }

    fn typed_key(&self) -> Vec<u8> {
        [[ALGORITHM].as_slice(), &self.public_key].concat()
    }
}

impl fmt::Debug for LogVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogVerifier({})", self.verifier_key())
    }
}

impl Verifier for LogVerifier {
    fn name(&self) -> &str {
        &self.origin
    }

    fn key_id(&self) -> u32 {
        key_id(&self.origin, &self.typed_key())
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public_key)
            .verify(message, signature)
            .is_ok()
    }
}

/// A list of one.
impl Verifiers for LogVerifier {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        if name == self.origin && id == self.key_id() {
            Ok(self)
        } else {
            Err(VerificationError::UnknownKey {
                name: name.to_owned(),
                id,
            })
        }
    }
}

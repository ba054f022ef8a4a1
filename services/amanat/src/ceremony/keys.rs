//! Private keys, each in a file of its own.

use std::path::{Path, PathBuf};

use amanat_config::private_key_pem;
use amanat_ledger::LogSigner;
use amanat_seal::{oprf::OprfKey, statement::SigningKey};
use rcgen::KeyPair;

use super::{CeremonyError, folder::Folder};

/// An Ed25519 key that signs statements, tokens or the directory.
pub(crate) struct KeyFile {
    pub(crate) path: PathBuf,
    pub(crate) key: SigningKey,
}

impl KeyFile {
    pub(crate) fn make(folder: &Folder, name: &str) -> Result<Self, CeremonyError> {
        let pkcs8 = SigningKey::generate_pkcs8()?;
        let path = folder.private(name, pem(&pkcs8)?.as_bytes())?;
        Ok(Self {
            path,
            key: SigningKey::from_pkcs8(&pkcs8)?,
        })
    }

    /// From a file that nobody else can read.
    pub(crate) fn open(path: &Path) -> Result<Self, CeremonyError> {
        let der = private_key_pem(path)?;
        Ok(Self {
            path: path.to_owned(),
            key: SigningKey::from_pkcs8(der.secret_der())?,
        })
    }

    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.key.public_key().to_vec()
    }
}

/// A log's signing key; its path and its verifier key in the form of C2SP signed-note.
pub(crate) fn log_key(
    folder: &Folder,
    name: &str,
    origin: &str,
) -> Result<(PathBuf, String), CeremonyError> {
    let pkcs8 = SigningKey::generate_pkcs8()?;
    let path = folder.private(name, pem(&pkcs8)?.as_bytes())?;
    Ok((path, LogSigner::from_pkcs8(origin, &pkcs8)?.verifier_key()))
}

/// 32 secret bytes, as 64 hexadecimal digits.
pub(crate) fn secret(folder: &Folder, name: &str) -> Result<PathBuf, CeremonyError> {
    secret_file(folder, name, &amanat_seal::random()?)
}

/// The seed of an OPRF key, as 64 hexadecimal digits; its path and the public key.
pub(crate) fn oprf_seed(folder: &Folder, name: &str) -> Result<(PathBuf, [u8; 32]), CeremonyError> {
    let seed = amanat_seal::random()?;
    let path = secret_file(folder, name, &seed)?;
    Ok((path, OprfKey::from_seed(&seed)?.public_key()))
}

fn secret_file(folder: &Folder, name: &str, bytes: &[u8; 32]) -> Result<PathBuf, CeremonyError> {
    let digits = hex::encode(bytes);
    folder.private(name, format!("{digits}\n").as_bytes())
}

fn pem(pkcs8: &[u8]) -> Result<String, CeremonyError> {
    Ok(KeyPair::try_from(pkcs8)?.serialize_pem())
}

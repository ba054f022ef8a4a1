//! An agency's profile: which agency it is, where the servers are, which keys it holds.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use amanat_identity::{Directory, Registrars, TokenIssuer};
use amanat_schema::{AgencyId, Time, policy::Right};
use amanat_seal::{WrapKey, statement::SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::ConnectorError;

/// `profile.toml`; unknown keys are refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// How this agency calls itself in its own commands.
    pub name: String,
    pub agency: AgencyId,
    pub gateway: String,
    pub custodian: String,
    /// SQLite; made on first use.
    pub outbox: PathBuf,
    /// 64 hexadecimal digits: seals what waits in the outbox, and the evidence part of consents.
    pub evidence_key: PathBuf,
    pub directory: DirectoryFiles,
    pub tls: TlsFiles,
    pub statements: StatementFiles,
    /// The development issuer; absent where the agency's identity provider issues tokens.
    pub tokens: Option<TokenFiles>,
    /// Who can act, by a local name; `default` if a command names nobody.
    #[serde(default)]
    pub officers: BTreeMap<String, OfficerProfile>,
    /// This agency's own names for the others.
    #[serde(default)]
    pub agencies: BTreeMap<String, AgencyId>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryFiles {
    pub file: PathBuf,
    pub seen: PathBuf,
    pub registrars: Vec<String>,
    pub threshold: usize,
    /// A folder with the servers' revocation lists: `gateway.crl` and `custodian.crl`, DER or PEM. They are
    /// read with each new connection.
    pub crls: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementFiles {
    pub signing_key: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFiles {
    pub issuer: String,
    pub key_id: String,
    pub signing_key: PathBuf,
}

/// An officer whom the development issuer can name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficerProfile {
    pub id: String,
    pub rights: Vec<String>,
    pub station: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("{path}: {message}")]
    File { path: String, message: String },
    #[error("{path} can be read by others; run `chmod 600 {path}`")]
    Open { path: String },
}

impl Profile {
    /// Reads `profile.toml` of a profile's folder.
    ///
    /// # Errors
    /// [`ProfileError::File`] with the line that is not valid.
    pub fn load(folder: &Path) -> Result<Self, ProfileError> {
        let path = folder.join("profile.toml");
        let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
        toml::from_str(&text).map_err(|error| failed(&path, &error))
    }

    pub(crate) fn name_of(&self, agency: AgencyId) -> String {
        let known = self.agencies.iter().find(|(_, id)| **id == agency);
        known.map_or_else(|| agency.to_string(), |(name, _)| name.clone())
    }

    pub(crate) fn agency_named(&self, name: &str) -> Result<AgencyId, ConnectorError> {
        let known = self
            .agencies
            .get(name)
            .copied()
            .or_else(|| name.parse().ok());
        known.ok_or_else(|| {
            let names: Vec<_> = self.agencies.keys().map(String::as_str).collect();
            ConnectorError::Input(format!(
                "no agency is called that here; known names: {}",
                names.join(", ")
            ))
        })
    }

    pub(crate) fn load_directory(&self, now: Time) -> Result<Directory, ConnectorError> {
        let keys: Option<Vec<[u8; 32]>> = self
            .directory
            .registrars
            .iter()
            .map(|text| hex::decode(text).ok()?.try_into().ok())
            .collect();
        let keys = keys.ok_or_else(|| {
            ConnectorError::Input("directory.registrars: each is 64 hexadecimal digits".into())
        })?;
        let registrars = Registrars {
            keys,
            threshold: self.directory.threshold,
        };
        let files = &self.directory;
        Ok(Directory::load(&files.file, &files.seen, &registrars, now)?)
    }

    /// The connector's own certificate first.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ProfileError> {
        let path = &self.tls.certificate;
        let pem = read(path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            _ => Err(failed(path, &"a certificate in PEM form is expected")),
        }
    }

    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, ProfileError> {
        let path = &self.tls.private_key;
        PrivateKeyDer::from_pem_slice(&secret(path)?).map_err(|error| failed(path, &error))
    }

    pub(crate) fn statement_key(&self) -> Result<SigningKey, ProfileError> {
        let path = &self.statements.signing_key;
        SigningKey::from_pem(&secret(path)?).map_err(|error| failed(path, &error))
    }

    pub(crate) fn token_issuer(&self) -> Result<Option<TokenIssuer>, ProfileError> {
        let Some(tokens) = &self.tokens else {
            return Ok(None);
        };
        let pem = secret(&tokens.signing_key)?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|error| failed(&tokens.signing_key, &error))?;
        Ok(Some(TokenIssuer::new(
            tokens.issuer.clone(),
            tokens.key_id.clone(),
            key.secret_der(),
        )))
    }

    pub(crate) fn local_key(&self) -> Result<WrapKey, ProfileError> {
        let path = &self.evidence_key;
        let text = secret(path)?;
        let bytes = hex::decode(text.trim_ascii()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| failed(path, &"64 hexadecimal digits are expected"))?;
        WrapKey::from_bytes(&bytes).map_err(|error| failed(path, &error))
    }
}

impl OfficerProfile {
    pub(crate) fn officer(&self) -> Result<amanat_identity::Officer, ConnectorError> {
        let rights = self.rights.iter().map(|name| {
            Right::from_str_name(&format!("RIGHT_{name}"))
                .ok_or_else(|| ConnectorError::Input("officers.rights: no such right".into()))
        });
        Ok(amanat_identity::Officer {
            id: self.id.clone(),
            rights: rights.collect::<Result<_, _>>()?,
            station: self.station.clone(),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ProfileError> {
    fs::read(path).map_err(|error| failed(path, &error))
}

/// A file that nobody else can read.
fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, ProfileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path)
        .map_err(|error| failed(path, &error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(ProfileError::Open {
            path: path.display().to_string(),
        });
    }
    read(path).map(Zeroizing::new)
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> ProfileError {
    ProfileError::File {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}

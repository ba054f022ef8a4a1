//! An agency's profile: which agency it is, where the servers are, which keys it holds.

mod inspect;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use amanat_config::{
    ConfigError, FileError, FileSetting, Section, ServerAddresses, Settings, private_key_pem,
    read_file, secret_hex,
};
use amanat_identity::{Directory, Registrars, TokenIssuer};
use amanat_schema::{AgencyId, Time, policy::Right};
use amanat_seal::{WrapKey, statement::SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::ConnectorError;

/// In a profile's folder.
pub const FILE: &str = "profile.toml";

/// `profile.toml`; unknown keys are refused.
#[derive(Debug, Clone)]
pub struct Profile {
    /// How this agency calls itself in its own commands.
    pub name: String,
    pub agency: AgencyId,
    /// Of each of its replicas, which differ in nothing else.
    pub gateway: ServerAddresses,
    pub custodian: ServerAddresses,
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
    pub officers: BTreeMap<String, OfficerProfile>,
    /// This agency's own names for the others.
    pub agencies: BTreeMap<String, AgencyId>,
}

#[derive(Debug, Clone)]
pub struct DirectoryFiles {
    pub file: PathBuf,
    pub seen: PathBuf,
    pub registrars: Registrars,
    /// A folder with the servers' revocation lists: `gateway.crl` and `custodian.crl`, DER or PEM. They are
    /// read with each new connection.
    pub crls: PathBuf,
}

#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

#[derive(Debug, Clone)]
pub struct StatementFiles {
    pub signing_key: PathBuf,
}

#[derive(Debug, Clone)]
pub struct TokenFiles {
    pub issuer: String,
    pub key_id: String,
    pub signing_key: PathBuf,
}

/// An officer whom the development issuer can name.
#[derive(Debug, Clone)]
pub struct OfficerProfile {
    pub id: String,
    pub rights: Vec<String>,
    pub station: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path}: {message}")]
    Unusable { path: String, message: String },
}

impl Profile {
    /// Reads `profile.toml` of a profile's folder.
    ///
    /// # Errors
    /// [`ProfileError::Config`] with all that is not valid.
    pub fn load(folder: &Path) -> Result<Self, ProfileError> {
        Ok(amanat_config::read(&folder.join(FILE), Self::read)?)
    }

    /// Reads a profile from its file, with the lines of its settings.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is not valid.
    pub fn load_with_settings(file: &Path) -> Result<(Self, Settings), ConfigError> {
        amanat_config::read_with_settings(file, Self::read)
    }

    fn read(top: &mut Section<'_>) -> Option<Self> {
        const AGENCY: &str = "an agency's id, 32 hexadecimal digits";
        let name = top.required("name", "a name");
        let agency = top.required("agency", AGENCY);
        let gateway =
            top.server_addresses("gateway", "an address, as in https://gateway.example:8443");
        let custodian = top.server_addresses(
            "custodian",
            "an address, as in https://custodian.example:8444",
        );
        let (outbox, evidence_key) = (top.path("outbox"), top.path("evidence_key"));
        let directory = top.section("directory", DirectoryFiles::read);
        let tls = top.section("tls", TlsFiles::read);
        let statements = top.section("statements", |section| {
            let signing_key = section.path("signing_key")?;
            Some(StatementFiles { signing_key })
        });
        let tokens = top.optional_section("tokens", TokenFiles::read);
        let officers = top.named("officers", OfficerProfile::read);
        let agencies = top.values("agencies", AGENCY);
        let profile = Self {
            name: name?,
            agency: agency?,
            gateway: gateway?,
            custodian: custodian?,
            outbox: outbox?,
            evidence_key: evidence_key?,
            directory: directory?,
            tls: tls?,
            statements: statements?,
            tokens: tokens?,
            officers: officers?,
            agencies: agencies?,
        };
        profile.keep_apart(top)?;
        Some(profile)
    }

    /// Whoever copies what waits in the outbox does not get the keys with it, and restoring it does not roll
    /// the directory back.
    fn keep_apart(&self, top: &Section<'_>) -> Option<()> {
        let outbox = FileSetting::new("outbox", &self.outbox);
        let seen = FileSetting::new("directory.seen", &self.directory.seen);
        let keys = top.keep_out(
            &outbox,
            &self.key_files(),
            "whoever copies the outbox must not get the keys with it",
        );
        let seen = top.keep_out(
            &outbox,
            &[seen],
            "restoring the outbox would take it along, and nobody would see a directory rolled back",
        );
        keys.and(seen)
    }

    /// The files that nobody else may read.
    fn key_files(&self) -> Vec<FileSetting<'_>> {
        let mut files = vec![
            FileSetting::new("evidence_key", &self.evidence_key),
            FileSetting::new("tls.private_key", &self.tls.private_key),
            FileSetting::new("statements.signing_key", &self.statements.signing_key),
        ];
        let issuer = self.tokens.iter();
        files.extend(
            issuer.map(|tokens| FileSetting::new("tokens.signing_key", &tokens.signing_key)),
        );
        files
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
            ConnectorError::Input {
                what: format!(
                    "no agency is called that here; known names: {}",
                    names.join(", ")
                ),
                next: "take one of these names or an agency's id, or name it under [agencies] in profile.toml",
            }
        })
    }

    pub(crate) fn load_directory(&self, now: Time) -> Result<Directory, ConnectorError> {
        let files = &self.directory;
        Ok(Directory::load(
            &files.file,
            &files.seen,
            &files.registrars,
            now,
        )?)
    }

    /// The connector's own certificate first.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ProfileError> {
        let path = &self.tls.certificate;
        let pem = read_file(path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            _ => Err(unusable(path, &"a certificate in PEM form is expected")),
        }
    }

    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, ProfileError> {
        Ok(private_key_pem(&self.tls.private_key)?)
    }

    pub(crate) fn statement_key(&self) -> Result<SigningKey, ProfileError> {
        let path = &self.statements.signing_key;
        let key = private_key_pem(path)?;
        SigningKey::from_pkcs8(key.secret_der()).map_err(|error| unusable(path, &error))
    }

    pub(crate) fn token_issuer(&self) -> Result<Option<TokenIssuer>, ProfileError> {
        let Some(tokens) = &self.tokens else {
            return Ok(None);
        };
        let key = private_key_pem(&tokens.signing_key)?;
        Ok(Some(TokenIssuer::new(
            tokens.issuer.clone(),
            tokens.key_id.clone(),
            key.secret_der(),
        )))
    }

    pub(crate) fn local_key(&self) -> Result<WrapKey, ProfileError> {
        let path = &self.evidence_key;
        let bytes = secret_hex(path)?;
        WrapKey::from_bytes(bytes.as_slice()).map_err(|error| unusable(path, &error))
    }
}

impl DirectoryFiles {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let (file, seen) = (section.path("file"), section.path("seen"));
        let (registrars, crls) = (Registrars::read(section), section.path("crls"));
        Some(Self {
            file: file?,
            seen: seen?,
            registrars: registrars?,
            crls: crls?,
        })
    }
}

impl TlsFiles {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let (certificate, private_key) = (section.path("certificate"), section.path("private_key"));
        Some(Self {
            certificate: certificate?,
            private_key: private_key?,
        })
    }
}

impl TokenFiles {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let issuer = section.required("issuer", "the tokens' issuer (iss)");
        let key_id = section.required("key_id", "the issuer key's name (kid)");
        let signing_key = section.path("signing_key");
        Some(Self {
            issuer: issuer?,
            key_id: key_id?,
            signing_key: signing_key?,
        })
    }
}

impl OfficerProfile {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let id = section.required("id", "the officer's id");
        const RIGHTS: &str = "a list of rights, as in [\"CASE_WORKER\"]";
        let rights: Option<Vec<String>> = section.required("rights", RIGHTS);
        let rights = match rights {
            Some(rights) if !rights.iter().all(|name| right(name).is_some()) => {
                section.refuse("rights", RIGHTS)
            }
            rights => rights,
        };
        let station = section.required("station", "the duty station");
        Some(Self {
            id: id?,
            rights: rights?,
            station: station?,
        })
    }

    pub(crate) fn officer(&self) -> Result<amanat_identity::Officer, ConnectorError> {
        let rights = self.rights.iter().map(|name| {
            right(name).ok_or_else(|| ConnectorError::Input {
                what: "officers.rights: no such right".to_owned(),
                next: "mend profile.toml; `amanat config check` tells what is wrong with it",
            })
        });
        Ok(amanat_identity::Officer {
            id: self.id.clone(),
            rights: rights.collect::<Result<_, _>>()?,
            station: self.station.clone(),
        })
    }
}

fn right(name: &str) -> Option<Right> {
    Right::from_str_name(&format!("RIGHT_{name}")).filter(|right| *right != Right::Unspecified)
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> ProfileError {
    ProfileError::Unusable {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}

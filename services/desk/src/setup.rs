//! Starting a server: what the parts of its configuration that gateway and custodian share become. Keys are
//! read from files only, and a key file that others can read is refused.

use amanat_config::{FileError, private_key_pem, secret_hex};
use amanat_identity::{
    CertificateFault, DirectoryError, ShownCertificate, SuspensionError, TokenVerifier, Trusted,
    tls::{TlsError, server_config},
    token::Audience,
};
use amanat_journal::Keys;
use amanat_ledger::LogSigner;
use amanat_schema::clock::Clock;
use amanat_seal::{WrapKey, pseudonym::HandleKey};
use amanat_server::{Guard, Limits};
use tokio_rustls::rustls::ServerConfig;

use crate::{
    Rulebook,
    own::Own,
    reload::{Fingerprint, Loaded, Reload},
    settings::{DirectoryFiles, Listen, Log},
};

pub use crate::own::certificate;

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "{0}; until it can be read this server does not start, for it may close an agency that is not to be \
         trusted"
    )]
    Suspension(SuspensionError),
    #[error("{path}: {message}")]
    Table { path: String, message: String },
    #[error(
        "{path} is not the decision table that the directory names; put the table there that was published \
         with the directory"
    )]
    OtherTable { path: String },
    #[error("the directory is of another exchange; fetch that of this one from your registrars")]
    OtherExchange,
    #[error(
        "the directory lists another {0} than this server works with; change the configuration to fit it, \
         and restart the server"
    )]
    Unfit(&'static str),
    #[error("{path} holds no certificate in PEM form")]
    Certificate { path: String },
    #[error("{path}, the certificate of this server: {fault}")]
    OwnCertificate {
        path: String,
        fault: CertificateFault,
    },
    #[error(
        "by it the certificate that this server shows does not count: {0}. Have the directory list the old \
         authority too until the certificate of the new one is in use"
    )]
    Unlisted(CertificateFault),
    #[error("{path} holds no usable signing key")]
    SigningKey { path: String },
    #[error("the log's signing key is not the one that the directory lists for this server")]
    OtherLogKey,
}

/// What a server starts from.
pub struct Setup {
    pub rules: Rulebook,
    pub guard: Guard,
    pub tls: ServerConfig,
    /// What this server shows of itself, as a client too.
    pub certificate: ShownCertificate,
    /// Takes newer files into use, once it knows what this server needs of them.
    pub reload: Reload,
}

impl Setup {
    /// Loads and checks everything that the configuration names, but the log.
    ///
    /// # Errors
    /// [`SetupError`], naming the file.
    pub fn load(
        listen: &Listen,
        files: &DirectoryFiles,
        audience: Audience,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        let registrars = files.registrars.clone();
        let now = (clock)();
        let fingerprint = Fingerprint::of(files, Some(listen));
        let Loaded { rules, trust, .. } = Loaded::at_start(files, &registrars, now)?;
        let own = Own::load(listen, audience, &rules.directory, now)?;
        rules.directory.remember(&files.seen)?;
        let trusted = Trusted::new(trust);
        let certificate = own.shown.clone();
        let tls = server_config(certificate.clone(), trusted.clone(), &clock)?;
        let guard = Guard::new(trusted, TokenVerifier::new(audience), clock);
        let rules = Rulebook::new(rules);
        let reload = Reload::new(files.clone(), registrars, guard.clone(), rules.clone());
        Ok(Self {
            rules,
            guard,
            tls,
            certificate,
            reload: reload.showing(own).knowing(fingerprint),
        })
    }
}

impl Log {
    /// The keys of the log, which must be the ones that the directory lists.
    ///
    /// # Errors
    /// [`SetupError`], naming the file.
    pub fn keys(&self, listed: &amanat_ledger::LogVerifier) -> Result<Keys, SetupError> {
        Ok(Keys {
            signer: self.signer(listed)?,
            openings: self.openings()?,
        })
    }

    pub(crate) fn signer(
        &self,
        listed: &amanat_ledger::LogVerifier,
    ) -> Result<LogSigner, SetupError> {
        let der = private_key_pem(&self.signing_key)?;
        let signer = LogSigner::from_pkcs8(listed.origin(), der.secret_der()).map_err(|_| {
            SetupError::SigningKey {
                path: self.signing_key.display().to_string(),
            }
        })?;
        if signer.verifier() == listed {
            Ok(signer)
        } else {
            Err(SetupError::OtherLogKey)
        }
    }

    /// The key of the openings alone.
    ///
    /// # Errors
    /// [`SetupError`], naming the file.
    pub fn openings(&self) -> Result<WrapKey, SetupError> {
        let bytes = secret_hex(&self.openings_key)?;
        WrapKey::from_bytes(bytes.as_slice()).map_err(|_| SetupError::SigningKey {
            path: self.openings_key.display().to_string(),
        })
    }

    /// The key of the officers' handles, from the same file.
    ///
    /// # Errors
    /// [`SetupError`], naming the file.
    pub fn handles(&self) -> Result<HandleKey, SetupError> {
        let bytes = secret_hex(&self.openings_key)?;
        HandleKey::from_bytes(bytes.as_slice()).map_err(|_| SetupError::SigningKey {
            path: self.openings_key.display().to_string(),
        })
    }

    /// Where the journal lives, with a service's own tables.
    pub fn journal(
        &self,
        migrations: &'static [(&'static str, &'static str)],
        limits: &Limits,
    ) -> amanat_journal::Config {
        amanat_journal::Config {
            database: self.database.clone(),
            checkpoint_file: self.checkpoint_file.clone(),
            migrations,
            waiting_per_agency: limits.waiting_per_agency,
        }
    }
}

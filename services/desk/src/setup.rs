//! Starting a server: what the parts of its configuration that gateway and custodian share become. Keys are
//! read from files only, and a key file that others can read is refused.

pub(crate) mod error;

use amanat_config::{private_key_pem, secret_hex};
use amanat_database::{Changing, Step};
use amanat_identity::{
    ShownCertificate, TokenVerifier, Trusted, tls::server_config, token::Audience,
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
pub use error::SetupError;

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

    /// Where the journal lives, with a service's own tables, and what changes in them.
    pub fn journal(
        &self,
        steps: &'static [Step],
        changing: &'static [Changing],
        limits: &Limits,
    ) -> amanat_journal::Config {
        amanat_journal::Config {
            database: self.database.clone(),
            checkpoint_file: self.checkpoint_file.clone(),
            steps,
            changing,
            waiting_per_agency: limits.waiting_per_agency,
        }
    }
}

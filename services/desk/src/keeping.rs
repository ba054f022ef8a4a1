//! What is kept of a server over the years: its database, made, brought up to date, backed up, restored, moved.

use std::path::Path;

use amanat_config::{FileError, secret_hex};
use amanat_database::Place;
use amanat_identity::{Directory, Service, token::Audience};
use amanat_journal::backup::{self, Backup, BackupError, Owner, Restored, Restoring};
use amanat_ledger::Head;
use amanat_schema::Time;
use amanat_seal::WrapKey;

use crate::{
    own,
    settings::{Backups, DirectoryFiles, Log},
    setup::SetupError,
};

/// What there is to keep, and by which keys.
pub struct Keeping<'c> {
    pub audience: Audience,
    pub directory: &'c DirectoryFiles,
    pub log: &'c Log,
    /// Absent: the key is named each time.
    pub backups: Option<&'c Backups>,
    pub journal: amanat_journal::Config,
}

#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("with which key? The configuration has no backup.key")]
    NoKey,
    #[error("it says that it is of a server called neither gateway nor custodian")]
    UnknownServer,
}

/// From where a server's database is made anew.
pub struct Origin<'a> {
    pub file: &'a Path,
    /// Other than the configuration's.
    pub key: Option<&'a Path>,
    /// The newest checkpoint of this log that others hold.
    pub seen: Option<&'a str>,
}

impl Keeping<'_> {
    /// Writes a backup into a new file; the server may be at work.
    ///
    /// # Errors
    /// [`KeepError`].
    pub async fn back_up(
        &self,
        out: &Path,
        key: Option<&Path>,
        now: Time,
        progress: impl FnMut(u64),
    ) -> Result<Backup, KeepError> {
        let directory = self.listed(now)?;
        let signer = self
            .log
            .signer(&own::service(self.audience, &directory).log)?;
        let (owner, key) = (owner(self.audience, &directory), self.key(key)?);
        let taken = backup::take(&self.journal, owner, &signer, &key, out, now, progress);
        Ok(taken.await?)
    }

    /// Makes the database anew, as `role` if that is another than the service's.
    ///
    /// # Errors
    /// [`KeepError`]; then nothing that counts was written.
    pub async fn restore(
        &self,
        origin: Origin<'_>,
        role: Option<&Place>,
        now: Time,
        progress: impl FnMut(u64),
    ) -> Result<Restored, KeepError> {
        let directory = self.listed(now)?;
        let from = Restoring {
            file: origin.file,
            owner: &owner(self.audience, &directory),
            log: &own::service(self.audience, &directory).log,
            key: &self.key(origin.key)?,
            seen: origin.seen,
        };
        Ok(backup::restore(&self.journal, role, from, progress).await?)
    }

    /// Copies the database to another place, made as `role` if that is another than the service's.
    ///
    /// # Errors
    /// [`KeepError`]; then the server goes on where it was.
    pub async fn transfer(
        &self,
        to: Place,
        role: Option<&Place>,
        now: Time,
        progress: impl FnMut(u64),
    ) -> Result<Head, KeepError> {
        let directory = self.listed(now)?;
        let log = &own::service(self.audience, &directory).log;
        Ok(backup::transfer(&self.journal, to, role, log, progress).await?)
    }

    fn listed(&self, now: Time) -> Result<Directory, SetupError> {
        let files = self.directory;
        let directory = Directory::check(&files.file, &files.seen, &files.registrars, now);
        Ok(directory?)
    }

    fn key(&self, named: Option<&Path>) -> Result<WrapKey, KeepError> {
        let configured = self.backups.map(|backups| backups.key.as_path());
        backup_key(named.or(configured).ok_or(KeepError::NoKey)?)
    }
}

/// Verifies a backup far from its server. The directory need not be in force: a backup can be older than that.
///
/// # Errors
/// [`KeepError`] naming what does not hold.
pub fn verify(
    file: &Path,
    directory: &Directory,
    key: &Path,
    progress: impl FnMut(u64),
) -> Result<Backup, KeepError> {
    let says = backup::look(file)?;
    let servers = [Audience::Gateway, Audience::Custodian];
    let audience = servers.into_iter().find(|a| name(*a) == says.server);
    let audience = audience.ok_or(KeepError::UnknownServer)?;
    let Service { log, .. } = own::service(audience, directory);
    let (owner, key) = (owner(audience, directory), backup_key(key)?);
    Ok(backup::verify(file, &owner, log, &key, progress)?)
}

fn backup_key(path: &Path) -> Result<WrapKey, KeepError> {
    let bytes = secret_hex(path)?;
    let unusable = |_| SetupError::SigningKey {
        path: path.display().to_string(),
    };
    Ok(WrapKey::from_bytes(bytes.as_slice()).map_err(unusable)?)
}

fn owner(audience: Audience, directory: &Directory) -> Owner {
    Owner {
        exchange_id: directory.exchange_id().to_owned(),
        server: name(audience).to_owned(),
    }
}

const fn name(audience: Audience) -> &'static str {
    match audience {
        Audience::Gateway => "gateway",
        Audience::Custodian => "custodian",
    }
}

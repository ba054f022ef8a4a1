//! A backup: every table of a service as of one moment, sealed for whoever holds its key, signed by the log's key.
//!
//! The log is verified on each way: a backup is signed only if every entry hashes to the signed checkpoint, is
//! restored only if it still does, and what was filled is read back before it counts. The nodes of the tree are
//! computed anew. A restored database ends where its backup does: the checkpoint file, which no backup holds, says
//! whether that is behind what was signed.

mod fill;
mod format;
mod message;
mod read;
mod walk;
mod write;

use std::{io, path::Path};

use amanat_database::{
    Engine, Place, Sql, StepsError,
    copy::{CopyError, Pages, Table, tables},
};
use amanat_ledger::{Head, LedgerError, LogSigner, LogVerifier, SignedCheckpoint};
use amanat_schema::Time;
use amanat_seal::{SealError, WrapKey};

use crate::{
    Config, JournalError, note_file,
    open::{Loaded, load},
    store,
};
use fill::Filling;
use message::Shape;
use read::Reading;
use walk::Walk;
use write::Writing;

/// What follows from the log alone, and is not copied.
const DERIVED: [&str; 2] = ["head", "nodes"];
const ENTRIES: &str = "entries";

/// Whose data it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub exchange_id: String,
    /// As in `gateway`.
    pub server: String,
}

/// What a backup says of itself.
#[derive(Debug, Clone)]
pub struct Backup {
    pub owner: Owner,
    /// Of the log.
    pub origin: String,
    pub time: Time,
    /// Of the log that it holds; `None` if that is empty.
    pub checkpoint: Option<SignedCheckpoint>,
    pub rows: u64,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    pub backup: Backup,
    /// How many entries were signed, if the backup ends before: the log is frozen then.
    pub behind: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("it is no backup of this program")]
    NoBackup,
    #[error("its format is {found}, and this program reads {known}: use the version that made it")]
    Format { found: String, known: &'static str },
    #[error("it ends before its end: it was cut off")]
    CutOff,
    #[error("something stands behind its end")]
    Longer,
    #[error("its header is damaged")]
    Header,
    #[error("this key does not open it: another key made it, or its header was altered")]
    Key,
    #[error("part {0} does not open: it was altered, left out, repeated or put in another place")]
    Part(u64),
    #[error("part {0} is not in its form")]
    Form(u64),
    #[error("it is not signed by the key of {0}: it was altered, or another made it")]
    Signature(String),
    #[error("it is of {server} of {exchange_id}, with the log {origin}")]
    Another {
        server: String,
        exchange_id: String,
        origin: String,
    },
    #[error("its log does not hold: {0}")]
    Log(String),
    #[error("steps made it that this program does not know: a later version made it")]
    Steps,
    #[error("its table {0} is not as this program makes it")]
    Table(String),
    #[error("{path} is gone, and nothing else here says how far this log had come")]
    NoCheckpoint { path: String },
    #[error("this is no checkpoint of this log")]
    Seen,
    #[error("the database was written to meanwhile: stop every replica of the server first")]
    InUse,
    #[error("{path} exists already, and was left as it is")]
    Exists { path: String },
    #[error("cannot read or write {path}: {source}")]
    File { path: String, source: io::Error },
    #[error(transparent)]
    Copy(CopyError),
    #[error("it cannot be sealed: {0}")]
    Seal(#[from] SealError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<CopyError> for BackupError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Database(error) => error.into(),
            error @ (CopyError::Keyless(_) | CopyError::Type { .. }) => Self::Copy(error),
        }
    }
}

impl From<amanat_database::Error> for BackupError {
    fn from(error: amanat_database::Error) -> Self {
        Self::Journal(error.into())
    }
}

impl From<StepsError> for BackupError {
    fn from(error: StepsError) -> Self {
        Self::Journal(error.into())
    }
}

impl From<LedgerError> for BackupError {
    fn from(error: LedgerError) -> Self {
        Self::Journal(error.into())
    }
}

/// The tables as they are at one moment, with their log.
struct Source {
    loaded: Loaded,
    tables: Vec<Table>,
}

impl Source {
    async fn open(config: &Config, log: &LogVerifier) -> Result<Self, BackupError> {
        let mut connection = config.database.connect().await?;
        connection.begin_snapshot().await?;
        amanat_database::check(&config.steps(), &mut connection).await?;
        let mut loaded = load(connection, log).await?;
        let tables = copied(tables(&mut loaded.connection).await?);
        Ok(Self { loaded, tables })
    }
}

/// Those whose rows are copied.
fn copied(tables: Vec<Table>) -> Vec<Table> {
    let is_copied = |table: &Table| !DERIVED.contains(&table.name.as_str());
    tables.into_iter().filter(is_copied).collect()
}

/// Writes a backup of the service's database into a new file, also while it is served. `progress` hears how many rows
/// are done.
///
/// # Errors
/// [`BackupError`]; also if the log does not hold: what contradicts itself is evidence, and is copied as it is.
pub async fn take(
    config: &Config,
    owner: Owner,
    signer: &LogSigner,
    key: &WrapKey,
    out: &Path,
    now: Time,
    mut progress: impl FnMut(u64),
) -> Result<Backup, BackupError> {
    let Source { loaded, tables } = Source::open(config, signer.verifier()).await?;
    let Loaded {
        mut connection,
        edge,
        checkpoint,
    } = loaded;
    let mut backup = Backup {
        owner,
        origin: signer.origin().to_owned(),
        time: now,
        checkpoint,
        rows: 0,
    };
    let steps = config.steps();
    let mut writing = Writing::begin(out, &backup, &steps, &tables, key)?;
    let mut walk = Walk::default();
    for (number, table) in (0..).zip(&tables) {
        let (mut pages, shape) = (Pages::of(table), Shape::of(table));
        while let Some(rows) = pages.next(&mut connection).await? {
            if table.name == ENTRIES {
                walk.pass(&shape, &rows).map_err(frozen)?;
            }
            backup.rows += rows.len() as u64;
            writing.rows(number, rows)?;
            progress(backup.rows);
        }
    }
    walk.ends_at(&edge.head()).map_err(frozen)?;
    connection.rollback().await?;
    connection.close().await?;
    writing.end(signer)?;
    Ok(backup)
}

/// What a file says of itself; nothing of it is verified.
///
/// # Errors
/// [`BackupError`] if it is no backup that this program reads.
pub fn look(file: &Path) -> Result<Owner, BackupError> {
    read::owner(file)
}

/// Verifies a file as a whole: signature, every part, every entry of the log from its body up to the signed
/// checkpoint.
///
/// # Errors
/// [`BackupError`] naming what does not hold.
pub fn verify(
    file: &Path,
    owner: &Owner,
    log: &LogVerifier,
    key: &WrapKey,
    mut progress: impl FnMut(u64),
) -> Result<Backup, BackupError> {
    let mut reading = Reading::open(file, owner, log, key)?;
    let mut walk = Walk::default();
    while let Some((table, rows)) = reading.next()? {
        if table.name == ENTRIES {
            walk.pass(table, &rows)?;
        }
        progress(reading.backup.rows);
    }
    walk.ends_at(&head(&reading.backup))?;
    Ok(reading.backup)
}

/// What [`restore`] restores from.
pub struct Restoring<'a> {
    pub file: &'a Path,
    pub owner: &'a Owner,
    pub log: &'a LogVerifier,
    pub key: &'a WrapKey,
    /// The newest checkpoint of this log that others hold; needed where the checkpoint file is gone.
    pub seen: Option<&'a str>,
}

/// Makes the service's database anew from a backup, as `owner` if that is another role than the service's. Nothing is
/// written unless the whole file holds.
///
/// # Errors
/// [`BackupError`]; also if there is a database. One that was not restored to its end does not count as one.
pub async fn restore(
    config: &Config,
    owner: Option<&Place>,
    from: Restoring<'_>,
    mut progress: impl FnMut(u64),
) -> Result<Restored, BackupError> {
    let anchor = anchor(config, &from)?;
    let backup = verify(from.file, from.owner, from.log, from.key, &mut progress)?;
    let mut reading = Reading::open(from.file, from.owner, from.log, from.key)?;
    let mut filling = Filling::begin(config, owner, &reading.steps, &reading.tables).await?;
    while let Some((table, rows)) = reading.next()? {
        filling.add(&table.name, rows).await?;
        progress(backup.rows + reading.backup.rows);
    }
    let filled = filling.check(backup.checkpoint.as_ref(), from.log).await?;
    filled.keep(config, owner).await?;
    if let Anchor::Seen(note) = &anchor {
        note_file::begin(&config.checkpoint_file, note)?;
    }
    let signed = anchor.size(from.log);
    let behind = signed.filter(|signed| *signed > head(&backup).size);
    Ok(Restored { backup, behind })
}

/// What a restored log is compared with at its start.
enum Anchor {
    /// The checkpoint file, which is there.
    Filed(String),
    /// What others saw.
    Seen(String),
}

impl Anchor {
    /// `None` if it cannot be compared with; the start will say so.
    fn size(&self, log: &LogVerifier) -> Option<u64> {
        let (Self::Filed(note) | Self::Seen(note)) = self;
        log.open(note).ok().map(|signed| signed.head.size)
    }
}

fn anchor(config: &Config, from: &Restoring<'_>) -> Result<Anchor, BackupError> {
    let path = &config.checkpoint_file;
    match (note_file::read(path)?, from.seen) {
        (Some(note), _) => Ok(Anchor::Filed(note)),
        (None, Some(note)) => match from.log.open(note) {
            Ok(_) => Ok(Anchor::Seen(note.to_owned())),
            Err(_) => Err(BackupError::Seen),
        },
        (None, None) => Err(BackupError::NoCheckpoint {
            path: path.display().to_string(),
        }),
    }
}

/// Copies the service's database to another place, which `owner` makes, and marks the one that it leaves so that it is
/// not served again. Nothing may serve from it meanwhile.
///
/// # Errors
/// [`BackupError`]; then the database is served where it was.
pub async fn transfer(
    config: &Config,
    to: Place,
    owner: Option<&Place>,
    log: &LogVerifier,
    mut progress: impl FnMut(u64),
) -> Result<Head, BackupError> {
    let target = Config {
        database: to,
        checkpoint_file: config.checkpoint_file.clone(),
        ..*config
    };
    let Source { mut loaded, tables } = Source::open(config, log).await?;
    let steps: Vec<_> = config
        .steps()
        .iter()
        .map(|step| step.name.to_owned())
        .collect();
    let shapes: Vec<_> = tables.iter().map(Shape::of).collect();
    let mut filling = Filling::begin(&target, owner, &steps, &shapes).await?;
    let mut done = 0;
    for table in &tables {
        let mut pages = Pages::of(table);
        while let Some(rows) = pages.next(&mut loaded.connection).await? {
            done += rows.len() as u64;
            filling.add(&table.name, rows).await.map_err(frozen)?;
            progress(done);
        }
    }
    let filled = filling.check(loaded.checkpoint.as_ref(), log).await?;
    let head = loaded.edge.head();
    loaded.connection.rollback().await?;
    loaded.connection.close().await?;
    let leaving = Leaving::begin(config, &head).await?;
    filled.keep(&target, owner).await?;
    leaving.end(&target.database).await?;
    Ok(head)
}

/// A database held so that nobody writes to it any more.
struct Leaving<'c> {
    config: &'c Config,
    connection: amanat_database::Connection,
}

impl<'c> Leaving<'c> {
    /// # Errors
    /// [`BackupError::InUse`] if its log has grown.
    async fn begin(config: &'c Config, copied: &Head) -> Result<Self, BackupError> {
        let mut connection = config.database.connect().await?;
        connection.begin_filling().await?;
        let size: u64 = Sql::new("SELECT size FROM head")
            .per("", " FOR UPDATE")
            .fetch_one(&mut connection)
            .await?
            .get(0)?;
        if size == copied.size {
            Ok(Self { config, connection })
        } else {
            Err(BackupError::InUse)
        }
    }

    /// A file gets another name, on PostgreSQL the log is frozen.
    async fn end(mut self, to: &Place) -> Result<(), BackupError> {
        if self.connection.engine() == Engine::Postgres {
            store::freeze(&mut self.connection, &format!("it was moved to {to}")).await?;
        }
        self.connection.commit().await?;
        self.connection.close().await?;
        match self.config.database.file() {
            Some(file) => {
                let moved = moved(file);
                std::fs::rename(file, &moved).map_err(|source| failed(&moved, source))
            }
            None => Ok(()),
        }
    }
}

/// What a file is called that a database was moved away from.
pub fn moved(file: &Path) -> std::path::PathBuf {
    file.with_added_extension("moved")
}

/// What is wrong with the log of a server is no fault of a copy.
fn frozen(error: BackupError) -> BackupError {
    if let BackupError::Log(what) = error {
        return JournalError::Frozen(what).into();
    }
    error
}

fn head(backup: &Backup) -> Head {
    let checkpoint = backup.checkpoint.as_ref();
    checkpoint.map_or(Head::EMPTY, |checkpoint| checkpoint.head)
}

fn failed(path: &Path, source: io::Error) -> BackupError {
    BackupError::File {
        path: path.display().to_string(),
        source,
    }
}

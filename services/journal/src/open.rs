//! Making and opening a journal's database, and the check that it is the log that was last signed.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use amanat_ledger::{Edge, Head, LogSigner, LogVerifier, SignedCheckpoint};
use amanat_schema::clock::Clock;
use amanat_seal::WrapKey;
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    Book, Journal, JournalError, Reader, Trouble, Writer, fold, note_file, read, schema, store,
};

/// Connections that serve proofs and checkpoints beside the writer.
const READERS: u32 = 4;
/// Statements that stay prepared: those that write rows have one for each number of them.
const STATEMENTS: usize = 1024;
/// Pages in memory, in KiB as SQLite wants it: negative.
const CACHE_KIB: &str = "-65536";
const READERS_CACHE_KIB: &str = "-4096";
/// Pages of the write-ahead log, 4 KiB each, after which the writer folds what [`fold`] has left of it and begins it
/// anew: without that it could grow for ever under load.
const WAL_PAGES: &str = "8192";
const BUSY: Duration = Duration::from_secs(5);

/// Where a journal lives and which tables the service adds: (step name, SQL), in order.
pub struct Config {
    pub database: PathBuf,
    /// Outside every folder that is backed up with the database.
    pub checkpoint_file: PathBuf,
    pub migrations: &'static [(&'static str, &'static str)],
    /// How many calls of one agency may wait.
    pub waiting_per_agency: NonZeroUsize,
}

/// What signs the log and seals the openings beside it.
pub struct Keys {
    pub signer: LogSigner,
    pub openings: WrapKey,
}

/// A journal at work.
pub struct Opened<B: Book> {
    pub journal: Journal<B>,
    pub reader: Reader,
    /// End when every [`Journal`] is dropped, with the last checkpoint in its file and the database closed.
    pub tasks: Vec<JoinHandle<()>>,
}

/// The database file with the settings that durability rests on.
pub(crate) struct Database {
    options: SqliteConnectOptions,
}

/// A log as it was found.
pub(crate) struct State {
    pub(crate) database: Database,
    pub(crate) connection: SqliteConnection,
    pub(crate) edge: Edge,
    pub(crate) checkpoint: Option<SignedCheckpoint>,
    /// Why nothing may be signed, if so.
    pub(crate) frozen: Option<String>,
}

/// What the database alone says.
pub(crate) struct Loaded {
    pub(crate) connection: SqliteConnection,
    pub(crate) edge: Edge,
    pub(crate) checkpoint: Option<SignedCheckpoint>,
}

/// Makes an empty database. It is never made on the way to serving: an absent file is then a lost log,
/// not a new one.
///
/// # Errors
/// [`JournalError`] if the file exists, or cannot be made.
pub async fn init(config: &Config) -> Result<(), JournalError> {
    if config.database.exists() {
        return Err(JournalError::Database("it exists already".to_owned()));
    }
    let options = Database::options(config).create_if_missing(true);
    let mut connection = options.connect().await?;
    schema::apply(config, &mut connection).await?;
    sqlx::query("INSERT INTO head (id, size, root, checkpoint) VALUES (1, 0, $1, '')")
        .bind(Edge::empty().head().root.0.as_slice())
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}

/// Brings a database that an earlier version of the service made up to date, while nothing serves from it: the names
/// of the steps that were missing.
///
/// # Errors
/// [`JournalError::Database`] if it is missing, another service's or a later version's.
pub async fn migrate(config: &Config) -> Result<Vec<&'static str>, JournalError> {
    let mut connection = Database::options(config).connect().await?;
    let missing = schema::missing(config, &mut connection).await?;
    schema::apply(config, &mut connection).await?;
    connection.close().await?;
    Ok(missing)
}

/// Opens a journal, checks it against the checkpoint file and starts its writer.
///
/// # Errors
/// [`JournalError`] if the database is missing or another service's. A log that contradicts itself is no
/// error here: it opens frozen, so that its proofs can still be read.
pub async fn open<B: Book>(
    config: &Config,
    keys: Keys,
    book: B,
    clock: Clock,
) -> Result<Opened<B>, JournalError> {
    let database = Database {
        options: Database::options(config),
    };
    let mut connection = database.connect().await?;
    schema::check(config, &mut connection).await?;
    let verifier = keys.signer.verifier().clone();
    let mut state = match load(connection, &verifier).await {
        Ok(loaded) => State {
            database,
            connection: loaded.connection,
            edge: loaded.edge,
            checkpoint: loaded.checkpoint,
            frozen: None,
        },
        Err(error) => State {
            connection: database.connect().await?,
            database,
            edge: Edge::empty(),
            checkpoint: None,
            frozen: Some(error.into_reason()),
        },
    };
    if state.frozen.is_none() {
        state.frozen = against_file(&mut state, &config.checkpoint_file, &keys.signer).await?;
    }
    if let Some(why) = &state.frozen {
        tracing::error!(why, "the log is frozen: nothing is signed or disclosed");
    }
    let folding = state.database.connect().await?;
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS)
        .connect_with(
            Database::options(config)
                .read_only(true)
                .pragma("cache_size", READERS_CACHE_KIB),
        )
        .await?;
    let (newest, follow) = watch::channel(state.checkpoint.clone());
    let reader = Reader::new(pool.clone(), newest.subscribe());
    let filing = Trouble::with("checkpoint");
    let share = config.waiting_per_agency;
    let (mut journal, writer) = Writer::new(Arc::new(book), state, keys, clock, newest, share)?;
    journal.filing = filing.clone();
    let tasks = vec![
        tokio::spawn(writer.run(pool)),
        tokio::spawn(fold::follow(folding, follow.clone())),
        tokio::spawn(note_file::follow(
            config.checkpoint_file.clone(),
            follow,
            |checkpoint: &SignedCheckpoint| &checkpoint.text,
            filing,
        )),
    ];
    Ok(Opened {
        journal,
        reader,
        tasks,
    })
}

impl Database {
    fn options(config: &Config) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&config.database)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What is deleted, a key say, does not stay behind in free pages.
            .pragma("secure_delete", "ON")
            .pragma("cache_size", CACHE_KIB)
            .pragma("wal_autocheckpoint", WAL_PAGES)
            // What a statement would need to undo its own rows is small.
            .pragma("temp_store", "MEMORY")
            .busy_timeout(BUSY)
            .statement_cache_capacity(STATEMENTS)
            .disable_statement_logging()
    }

    async fn connect(&self) -> Result<SqliteConnection, JournalError> {
        Ok(self.options.connect().await?)
    }

    /// What the database holds now, over a new connection. It must extend what was last handed out.
    pub(crate) async fn reload(
        &self,
        verifier: &LogVerifier,
        last: Option<&SignedCheckpoint>,
    ) -> Result<Loaded, JournalError> {
        let mut loaded = load(self.connect().await?, verifier).await?;
        let signed = last.map_or(Head::EMPTY, |checkpoint| checkpoint.head);
        match departure(&mut loaded.connection, &signed, &loaded.edge.head()).await {
            None => Ok(loaded),
            Some(why) => Err(JournalError::Frozen(why)),
        }
    }
}

/// Reads the head and the right edge, and checks that they are one log that this key signed.
async fn load(
    mut connection: SqliteConnection,
    verifier: &LogVerifier,
) -> Result<Loaded, JournalError> {
    let row = sqlx::query(
        "SELECT size, root, checkpoint, (SELECT count(*) FROM entries), \
         (SELECT coalesce(max(idx), -1) + 1 FROM entries) FROM head",
    )
    .fetch_one(&mut connection)
    .await?;
    let size = store::unsigned(row.try_get(0)?);
    let (root, note): (Vec<u8>, String) = (row.try_get(1)?, row.try_get(2)?);
    let (count, next) = (
        store::unsigned(row.try_get(3)?),
        store::unsigned(row.try_get(4)?),
    );
    if next < size {
        return Err(contradiction(&format!(
            "entries {next} to {} are gone",
            size - 1
        )));
    }
    if next > size {
        return Err(contradiction(&format!(
            "entry {size} is stored, but the head ends before it"
        )));
    }
    if count != size {
        return Err(contradiction(&format!(
            "of entries 0 to {} only {count} are stored",
            size - 1
        )));
    }
    let hashes = store::nodes(&mut connection, &Edge::indexes(size))
        .await
        .map_err(|_| contradiction(&format!("nodes of the tree of {size} entries are missing")))?;
    let edge = Edge::restore(size, hashes)?;
    if edge.head().root.0.as_slice() != root {
        return Err(contradiction(&format!(
            "the root over {size} entries is not that of the stored nodes"
        )));
    }
    let checkpoint = if size == 0 {
        None
    } else {
        let checkpoint = verifier.open(&note).map_err(|_| {
            contradiction(&format!(
                "the stored checkpoint of {size} entries is not signed by this log's key"
            ))
        })?;
        if checkpoint.head != edge.head() {
            return Err(contradiction(&format!(
                "the stored checkpoint is not of the tree of {size} entries"
            )));
        }
        Some(checkpoint)
    };
    Ok(Loaded {
        connection,
        edge,
        checkpoint,
    })
}

fn contradiction(what: &str) -> JournalError {
    JournalError::Frozen(what.to_owned())
}

/// Database ahead of the file and consistent with it: proceed. Behind, or of another history: frozen.
/// A log that has not begun gets its file here.
async fn against_file(
    state: &mut State,
    path: &Path,
    signer: &LogSigner,
) -> Result<Option<String>, JournalError> {
    let head = state.edge.head();
    let Some(note) = note_file::read(path)? else {
        if head == Head::EMPTY {
            let first = amanat_ledger::sign(signer, head)?;
            note_file::begin(path, &first.text)?;
            return Ok(None);
        }
        let why = "the file of the last signed checkpoint is gone, but the log is not empty";
        return Ok(Some(why.to_owned()));
    };
    Ok(match signer.verifier().open(&note) {
        Ok(signed) => departure(&mut state.connection, &signed.head, &head).await,
        Err(_) => Some("the checkpoint file is not a checkpoint of this log".to_owned()),
    })
}

/// How the stored log, with its head, departs from one that was signed before; `None` if it extends it.
async fn departure(
    connection: &mut SqliteConnection,
    signed: &Head,
    stored: &Head,
) -> Option<String> {
    if signed.size > stored.size {
        return Some(format!(
            "entry {} was signed, but the database ends before entry {}: it was rolled back or cut",
            signed.size - 1,
            stored.size
        ));
    }
    match read::consistency(connection, signed.size, stored.size).await {
        Ok(proof) if amanat_ledger::verify_consistency(signed, stored, &proof).is_ok() => None,
        _ => Some(format!(
            "entries 0 to {} are not those that were signed",
            signed.size.saturating_sub(1)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_deleted_is_overwritten() {
        let config = Config {
            database: ":memory:".into(),
            checkpoint_file: PathBuf::new(),
            migrations: &[],
            waiting_per_agency: NonZeroUsize::MIN,
        };
        let mut connection = Database::options(&config).connect().await.unwrap();
        let row = sqlx::query("PRAGMA secure_delete")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(row.get::<i64, _>(0), 1);
    }
}

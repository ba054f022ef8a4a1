//! Making and opening a journal's database, and the check that it is the log that was last signed.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use amanat_database::{Changing, Connection, Engine, Error, Place, Sql, Step, grant, unfit};
use amanat_ledger::{Edge, Hash, Head, LogSigner, LogVerifier, SignedCheckpoint};
use amanat_schema::clock::Clock;
use amanat_seal::WrapKey;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    Book, Journal, JournalError, Reader, Trouble, Writer, fold, note_file, own_key, read::Readers,
    schema, store, timeline,
};

/// The newest entries that must all be there at the start; whether older ones are is for `audit verify` to find, for
/// a start must not take longer the longer the log is.
const LOOKED_AT: u64 = 4096;
/// How long a replica waits after a failover before it signs: another one that knows more of the log than the new
/// primary has then said so, and nobody signs any more.
const SETTLE: Duration = Duration::from_secs(2);
/// The same where the standby may have lost what was acknowledged: until the last replica has noticed that its old
/// connection is dead.
const SETTLE_LONG: Duration = Duration::from_secs(25);

/// Where a journal lives and which tables the service adds.
pub struct Config {
    pub database: Place,
    /// Outside every folder that is backed up with the database.
    pub checkpoint_file: PathBuf,
    /// After the journal's own.
    pub steps: &'static [Step],
    /// What the service changes in its tables; all else is only ever added.
    pub changing: &'static [Changing],
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

/// The database, and which of its histories is served.
pub(crate) struct Database {
    place: Place,
    /// The newest that was ever seen here.
    timeline: timeline::Seen,
    /// Whether a commit waited for a standby at the last turn.
    pub(crate) is_synchronous: bool,
    /// Since the last failover nothing was signed here yet, and must not be for so long.
    settling: Option<Duration>,
}

/// A log as it was found.
pub(crate) struct State {
    pub(crate) database: Database,
    pub(crate) connection: Connection,
    pub(crate) edge: Edge,
    pub(crate) checkpoint: Option<SignedCheckpoint>,
    /// Why nothing may be signed, if so.
    pub(crate) frozen: Option<String>,
}

/// What the database alone says.
pub(crate) struct Loaded {
    pub(crate) connection: Connection,
    pub(crate) edge: Edge,
    pub(crate) checkpoint: Option<SignedCheckpoint>,
}

impl Config {
    pub(crate) fn steps(&self) -> Vec<Step> {
        [&[schema::FIRST], self.steps].concat()
    }
}

/// Makes an empty database, or on PostgreSQL the tables in an empty one: as `owner`, if it is another role than the
/// service's, which then gets no more rights than it needs. It is never made on the way to serving: an absent
/// database is then a lost log, not a new one.
///
/// # Errors
/// [`JournalError`] if it exists, or cannot be made.
pub async fn init(config: &Config, owner: Option<&Place>) -> Result<(), JournalError> {
    if config.database.file().is_some_and(Path::exists) {
        return Err(exists());
    }
    let mut connection = owner.unwrap_or(&config.database).create().await?;
    if amanat_database::missing(&config.steps(), &mut connection)
        .await
        .is_ok()
    {
        return Err(exists());
    }
    fitting(&mut connection).await?;
    amanat_database::apply(&config.steps(), &mut connection).await?;
    store::begin_head(&mut connection, &Head::EMPTY, "").await?;
    give(config, owner, &mut connection).await?;
    Ok(connection.close().await?)
}

/// Brings a database that an earlier version of the service made up to date, while nothing serves from it: the names
/// of the steps that were missing.
///
/// # Errors
/// [`JournalError::Database`] if it is missing, another service's or a later version's.
pub async fn migrate(
    config: &Config,
    owner: Option<&Place>,
) -> Result<Vec<&'static str>, JournalError> {
    let mut connection = owner.unwrap_or(&config.database).connect().await?;
    let missing = amanat_database::missing(&config.steps(), &mut connection).await?;
    amanat_database::apply(&config.steps(), &mut connection).await?;
    give(config, owner, &mut connection).await?;
    connection.close().await?;
    Ok(missing)
}

/// The service's rights on what its owner made.
pub(crate) async fn give(
    config: &Config,
    owner: Option<&Place>,
    connection: &mut Connection,
) -> Result<(), JournalError> {
    let (Some(owner), Some(role)) = (owner.and_then(Place::role), config.database.role()) else {
        return Ok(());
    };
    if owner != role {
        let changing = [&[schema::CHANGING], config.changing].concat();
        grant(connection, role, &changing).await?;
    }
    Ok(())
}

/// Goes on if the server keeps what it is given, and to itself.
pub(crate) async fn fitting(connection: &mut Connection) -> Result<(), JournalError> {
    let unfit = unfit(connection).await?;
    if unfit.is_empty() {
        return Ok(());
    }
    Err(JournalError::Database(format!(
        "its server is not fit to hold it: {}",
        unfit.join("; ")
    )))
}

pub(crate) fn exists() -> JournalError {
    JournalError::Database("it exists already".to_owned())
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
    let place = config.database.clone();
    let mut connection = place.connect().await?;
    amanat_database::check(&config.steps(), &mut connection).await?;
    fitting(&mut connection).await?;
    let mut timeline = timeline::Seen::read(&config.checkpoint_file)?;
    let mut settling = None;
    if let Some(now) = timeline::of(&mut connection).await?
        && timeline.advance(&now)?
    {
        settling = Some(SETTLE);
    }
    let database = Database {
        place,
        timeline,
        is_synchronous: false,
        settling,
    };
    let verifier = keys.signer.verifier().clone();
    let mut state = match load(connection, &verifier).await {
        Ok(loaded) => State {
            database,
            connection: loaded.connection,
            edge: loaded.edge,
            checkpoint: loaded.checkpoint,
            frozen: None,
        },
        Err(error @ JournalError::Unreachable(_)) => return Err(error),
        Err(error) => State {
            connection: database.place.connect().await?,
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
    let engine = config.database.engine();
    let is_frozen = state.frozen.is_some();
    own_key::check(&mut state.connection, &keys.openings, is_frozen).await?;
    let readers = Readers::open(&config.database).await?;
    let (newest, follow) = watch::channel(state.checkpoint.clone());
    let reader = Reader::new(readers.clone(), engine, verifier, newest.subscribe());
    let filing = Trouble::with("checkpoint");
    let mut tasks = Vec::new();
    if engine == Engine::Sqlite {
        let folding = config.database.connect().await?;
        tasks.push(tokio::spawn(fold::follow(folding, follow.clone())));
    }
    let share = config.waiting_per_agency;
    let book = Arc::new(book);
    let (mut journal, writer) = Writer::new(book, state, keys, clock, newest, readers, share)?;
    journal.filing = filing.clone();
    let here = tokio::runtime::Handle::current();
    tasks.push(tokio::task::spawn_blocking(move || {
        here.block_on(writer.run())
    }));
    tasks.push(tokio::spawn(note_file::follow(
        config.checkpoint_file.clone(),
        follow,
        |checkpoint: &SignedCheckpoint| &checkpoint.text,
        filing,
    )));
    Ok(Opened {
        journal,
        reader,
        tasks,
    })
}

impl Database {
    /// What the database holds now, over a new connection. It must extend what was last handed out.
    pub(crate) async fn reload(
        &mut self,
        verifier: &LogVerifier,
        last: Option<&SignedCheckpoint>,
    ) -> Result<Loaded, JournalError> {
        let mut connection = self.place.connect().await?;
        // Before anything is compared with it: an old primary that came back is not the log.
        if let Some(now) = timeline::of(&mut connection).await?
            && self.timeline.advance(&now)?
        {
            tracing::warn!("another server of the database is the primary now");
            self.settling = Some(if self.is_synchronous {
                SETTLE
            } else {
                SETTLE_LONG
            });
        }
        // Each time: a server that was not fit must not be taken for one because it was met before.
        fitting(&mut connection).await?;
        let mut loaded = load(connection, verifier).await?;
        let signed = last.map_or(Head::EMPTY, |checkpoint| checkpoint.head);
        if let Some(why) = departure(&mut loaded.connection, &signed, &loaded.edge.head()).await? {
            return Err(JournalError::Frozen(why));
        }
        Ok(loaded)
    }

    /// Returns when what another replica may know of the log has been said, after a failover.
    pub(crate) async fn settle(&mut self) {
        if let Some(settling) = self.settling {
            sleep(settling).await;
            self.settling = None;
        }
    }

    /// Tells all replicas that none may write any more.
    pub(crate) async fn freeze(&self, why: &str) -> Result<(), JournalError> {
        let mut connection = self.place.connect().await?;
        store::freeze(&mut connection, why).await?;
        Ok(connection.close().await?)
    }
}

/// Reads the head and the right edge, and checks that they are one log that this key signed.
pub(crate) async fn load(
    mut connection: Connection,
    verifier: &LogVerifier,
) -> Result<Loaded, JournalError> {
    let row = Sql::new(
        "SELECT size, root, checkpoint, (SELECT coalesce(max(idx), -1) + 1 FROM entries), ",
    )
    .push("(SELECT count(*) FROM entries WHERE idx >= head.size - ")
    .bind(store::signed(LOOKED_AT))
    .push("), ")
    .per("''", "frozen")
    .push(" FROM head")
    .fetch_one(&mut connection)
    .await?;
    let (size, next, count): (u64, u64, u64) = (row.get(0)?, row.get(3)?, row.get(4)?);
    let (root, note, frozen): (Vec<u8>, String, String) = (row.get(1)?, row.get(2)?, row.get(5)?);
    if !frozen.is_empty() {
        return Err(contradiction(&frozen));
    }
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
    let first = size.saturating_sub(LOOKED_AT);
    if count != size - first {
        return Err(contradiction(&format!(
            "of entries {first} to {} only {count} are stored",
            size - 1
        )));
    }
    let hashes = match store::nodes(&mut connection, &Edge::indexes(size)).await {
        Ok(hashes) => hashes,
        Err(Error::RowNotFound) => {
            return Err(contradiction(&format!(
                "nodes of the tree of {size} entries are missing"
            )));
        }
        Err(error) => return Err(error.into()),
    };
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
        return doubtful(state, path, why);
    };
    match signer.verifier().open(&note) {
        Ok(signed) => departure(&mut state.connection, &signed.head, &head).await,
        Err(_) => {
            let why = "the checkpoint file is not a checkpoint of this log";
            doubtful(state, path, why)
        }
    }
}

/// Without its file one writer cannot tell whether its log was rolled back, and is frozen. A replica without its file
/// only is not fit to start: the others can tell.
fn doubtful(state: &State, path: &Path, why: &str) -> Result<Option<String>, JournalError> {
    match state.connection.engine() {
        Engine::Sqlite => Ok(Some(why.to_owned())),
        Engine::Postgres => Err(JournalError::File {
            path: path.display().to_string(),
            message: format!("{why}; copy that of a replica that runs"),
        }),
    }
}

/// How the stored log, with its head, departs from one that was signed before; `None` if it extends it.
///
/// # Errors
/// That it cannot be asked.
pub(crate) async fn departure(
    connection: &mut Connection,
    signed: &Head,
    stored: &Head,
) -> Result<Option<String>, JournalError> {
    if signed.size > stored.size {
        return Ok(Some(format!(
            "entry {} was signed, but the database ends before entry {}: it was rolled back or cut",
            signed.size - 1,
            stored.size
        )));
    }
    let differs = || {
        Some(format!(
            "entries 0 to {} are not those that were signed",
            signed.size.saturating_sub(1)
        ))
    };
    if signed.size == stored.size {
        return Ok((signed.root != stored.root).then(differs).flatten());
    }
    let indexes = amanat_ledger::consistency_indexes(signed.size, stored.size)?;
    let nodes: HashMap<u64, Hash> = match store::nodes(connection, &indexes).await {
        Ok(hashes) => indexes.into_iter().zip(hashes).collect(),
        // It cannot be proved, for some of it is gone. That it cannot be asked proves nothing.
        Err(Error::RowNotFound) => return Ok(differs()),
        Err(error) => return Err(error.into()),
    };
    let node = |index| nodes.get(&index).copied();
    let proof = amanat_ledger::consistency_proof(signed.size, stored.size, node)?;
    match amanat_ledger::verify_consistency(signed, stored, &proof) {
        Ok(()) => Ok(None),
        Err(_) => Ok(differs()),
    }
}

//! The writer's hold on the stored log: its connection, and the log as it was when it was last looked at.
//!
//! A connection is never used again after anything went wrong with it: what it was in the middle of ends with it, and
//! the next one tells what became of that.

use std::{future::Future, time::Duration};

use amanat_database::{Connection, Engine};
use amanat_ledger::{Edge, Hash, Head, LogVerifier, SignedCheckpoint};
use tokio::time::timeout;

use crate::{
    JournalError, Logged,
    open::{self, Database, State},
    read::Readers,
    store::{self, Turn},
};

/// For anything that is asked of a server, which may be gone without a word: longer than a writer waits for its turn.
const ANSWERS: Duration = Duration::from_secs(15);
/// Of more entries by others it is not asked what each changed.
const MOST_FOLLOWED: u64 = 1024;

pub(crate) struct Hold {
    database: Database,
    /// `None` after a failure, until there is another.
    connection: Option<Connection>,
    engine: Engine,
    pub(crate) edge: Edge,
    pub(crate) checkpoint: Option<SignedCheckpoint>,
    verifier: LogVerifier,
    readers: Readers,
}

/// What other writers logged since this one's last turn.
pub(crate) enum Others {
    Nothing,
    Logged(Vec<Logged>),
    /// Too much to be asked for.
    Much,
}

impl Hold {
    pub(crate) fn new(state: State, verifier: LogVerifier, readers: Readers) -> Self {
        Self {
            engine: state.connection.engine(),
            database: state.database,
            connection: Some(state.connection),
            edge: state.edge,
            checkpoint: state.checkpoint,
            verifier,
            readers,
        }
    }

    /// Whether other processes may write the log too.
    pub(crate) fn is_shared(&self) -> bool {
        self.engine == Engine::Postgres
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// # Errors
    /// [`JournalError::Unreachable`] if there is none.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection, JournalError> {
        let lost = || JournalError::Unreachable("the connection was lost".to_owned());
        self.connection.as_mut().ok_or_else(lost)
    }

    /// Ends the connection, and with it what it was in the middle of.
    pub(crate) fn let_go(&mut self) {
        self.connection = None;
    }

    /// Starts from what the database really holds now, which must extend what this writer last saw.
    ///
    /// # Errors
    /// [`JournalError::Frozen`] if it does not; or why there is no connection.
    pub(crate) async fn reconnect(&mut self) -> Result<(), JournalError> {
        self.connection = None;
        let last = self.checkpoint.as_ref();
        let loaded = within(self.engine, self.database.reload(&self.verifier, last)).await?;
        self.settle().await;
        self.connection = Some(loaded.connection);
        self.edge = loaded.edge;
        self.checkpoint = loaded.checkpoint;
        self.readers.follow_primary().await;
        Ok(())
    }

    /// Returns when it may be written after a failover.
    pub(crate) async fn settle(&mut self) {
        self.database.settle().await;
    }

    /// A commit that leaves nothing behind.
    pub(crate) async fn probe(&mut self) -> Result<(), JournalError> {
        let engine = self.engine;
        let connection = self.connection()?;
        within(engine, async { Ok(store::probe(connection).await?) }).await
    }

    /// Takes a turn and does nothing with it.
    pub(crate) async fn look(&mut self) -> Result<Others, JournalError> {
        within(self.engine, async {
            let others = self.take_turn().await?;
            self.connection()?.rollback().await?;
            Ok(others)
        })
        .await
    }

    /// Begins a transaction in which nobody else writes, from the log as it is then: other replicas may have
    /// written since this one's last.
    ///
    /// # Errors
    /// [`JournalError::Frozen`] if a replica has found that the log must not go on, or this one does.
    pub(crate) async fn take_turn(&mut self) -> Result<Others, JournalError> {
        let Some(turn) = store::begin(self.connection()?).await? else {
            return Ok(Others::Nothing);
        };
        self.database.is_synchronous = turn.is_synchronous;
        if !turn.frozen.is_empty() {
            return Err(JournalError::Frozen(turn.frozen));
        }
        let ours = self.edge.head();
        if (turn.size, turn.root) == (ours.size, ours.root.0) {
            return Ok(Others::Nothing);
        }
        let (edge, checkpoint) = self.catch_up(&turn).await?;
        let others = if turn.size - ours.size > MOST_FOLLOWED {
            Others::Much
        } else {
            Others::Logged(store::logged(self.connection()?, ours.size).await?)
        };
        self.edge = edge;
        self.checkpoint = Some(checkpoint);
        Ok(others)
    }

    /// The right edge and the checkpoint that others left, if they continue ours.
    async fn catch_up(&mut self, turn: &Turn) -> Result<(Edge, SignedCheckpoint), JournalError> {
        let ours = self.edge.head();
        let stored = Head {
            size: turn.size,
            root: Hash(turn.root),
        };
        if let Some(why) = open::departure(self.connection()?, &ours, &stored).await? {
            return Err(JournalError::Frozen(why));
        }
        let hashes = store::nodes(self.connection()?, &Edge::indexes(turn.size)).await?;
        let edge = Edge::restore(turn.size, hashes)?;
        match self.verifier.open(&turn.checkpoint) {
            Ok(signed) if signed.head == stored && edge.head() == stored => Ok((edge, signed)),
            _ => Err(JournalError::Frozen(format!(
                "the stored checkpoint is not of the tree of {} entries",
                turn.size
            ))),
        }
    }

    /// Tells all replicas that none may write any more.
    pub(crate) async fn freeze(&mut self, why: &str) -> Result<(), JournalError> {
        if !self.is_shared() {
            return Ok(());
        }
        // Its turn, if it has one, stands in the way.
        self.let_go();
        within(self.engine, self.database.freeze(why)).await
    }

    /// The readers first: on SQLite the last connection folds the write-ahead log into the database, and only the
    /// writer's may write.
    pub(crate) async fn close(self) {
        self.readers.close().await;
        let Some(connection) = self.connection else {
            return;
        };
        if let Err(error) = connection.close().await {
            tracing::warn!(%error, "the database was not closed; it is durable all the same");
        }
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }
}

/// A file's database answers, or its disk hangs with everything else; a server may never answer.
pub(crate) async fn within<T>(
    engine: Engine,
    asked: impl Future<Output = Result<T, JournalError>>,
) -> Result<T, JournalError> {
    match engine {
        Engine::Sqlite => asked.await,
        Engine::Postgres => timeout(ANSWERS, asked).await.unwrap_or_else(|_| {
            let why = "the database's server does not answer";
            Err(JournalError::Unreachable(why.to_owned()))
        }),
    }
}

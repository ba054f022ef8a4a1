//! The writer of a log: the only one on SQLite, one at a time on PostgreSQL.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use amanat_database::{Connection, Engine, Pool};
use amanat_ledger::{Edge, Hash, Head, SignedCheckpoint};
use amanat_schema::{
    audit::{Opening, Receipt},
    clock::Clock,
};
use amanat_telemetry::Moment;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    Book, Committed, Journal, JournalError, Overtaking, Trouble, batch,
    journal::{Answer, Job, WAITING, stopped},
    open::{self, Database},
    read,
    scribe::{Growth, Placed, Scribe},
    store::{self, Turn},
    watch::{Stages, Watch},
};

/// How long a log that could not be written rests before it is tried again without a call, and how long one that
/// others write too is not looked at.
const AGAIN: Duration = Duration::from_secs(1);
/// For a transaction on a server, which may be gone without a word: longer than it lets anybody wait for the turn.
const ANSWERS: Duration = Duration::from_secs(15);
const SILENT: &str = "the database's server does not answer";
/// Of more entries by others it is not asked what each changed.
const MOST_FOLLOWED: u64 = 1024;

fn unwritable(error: &JournalError) -> String {
    format!("nothing is disclosed, for the log cannot be written: {error}")
}

/// The writer task's state.
pub struct Writer<B: Book> {
    book: Arc<B>,
    jobs: mpsc::Receiver<Job<B>>,
    database: Database,
    connection: Connection,
    edge: Edge,
    checkpoint: Option<SignedCheckpoint>,
    scribe: Scribe,
    clock: Clock,
    newest: watch::Sender<Option<SignedCheckpoint>>,
    frozen: watch::Sender<Option<String>>,
    trouble: Trouble,
    watch: Watch,
    readers: Pool,
}

impl<B: Book> Writer<B> {
    pub(crate) fn new(
        book: Arc<B>,
        opened: open::State,
        keys: open::Keys,
        clock: Clock,
        newest: watch::Sender<Option<SignedCheckpoint>>,
        readers: Pool,
        waiting_per_agency: NonZeroUsize,
    ) -> Result<(Journal<B>, Self), JournalError> {
        let scribe = Scribe::new(keys)?;
        let watch = Watch::new(opened.edge.size(), opened.frozen.is_some());
        let (frozen, frozen_receiver) = watch::channel(opened.frozen);
        let trouble = Trouble::with("database");
        let (journal, jobs) = Journal::new(
            Arc::clone(&book),
            waiting_per_agency,
            frozen_receiver,
            trouble.clone(),
        );
        let writer = Self {
            book,
            jobs,
            database: opened.database,
            connection: opened.connection,
            edge: opened.edge,
            checkpoint: opened.checkpoint,
            scribe,
            clock,
            newest,
            frozen,
            trouble,
            watch,
            readers,
        };
        Ok((journal, writer))
    }

    /// Serves until every [`Journal`] is dropped and the queue is drained; closes the database then.
    pub async fn run(mut self) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match self.next().await {
                    Some(job) => waiting.push_back(job),
                    None => break,
                }
            }
            while waiting.len() < WAITING
                && let Ok(job) = self.jobs.try_recv()
            {
                waiting.push_back(job);
            }
            let jobs = batch::take(&mut waiting, |job: &Job<B>| &job.access);
            self.watch.waiting(waiting.len());
            self.serve(jobs).await;
        }
        // The readers first: the last connection folds the write-ahead log into the database, and only
        // this one may write.
        self.readers.close().await;
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the database was not closed; it is durable all the same");
        }
    }

    /// The next call; `None` when there will be none. Meanwhile a log that could not be written is tried again,
    /// so that it is known when it can; and what other replicas log is followed.
    async fn next(&mut self) -> Option<Job<B>> {
        let is_shared = self.connection.engine() == Engine::Postgres;
        while self.frozen.borrow().is_none() && (is_shared || self.trouble.now().is_some()) {
            match timeout(AGAIN, self.jobs.recv()).await {
                Ok(job) => return job,
                Err(_) if self.trouble.now().is_some() => self.probe().await,
                Err(_) => self.follow().await,
            }
        }
        self.jobs.recv().await
    }

    /// Takes a turn and does nothing with it.
    async fn follow(&mut self) {
        let followed = match self.take_turn().await {
            Ok(()) => self.connection.rollback().await.map_err(JournalError::from),
            Err(error) => Err(error),
        };
        self.conclude(followed).await.ok();
    }

    /// A commit that changes nothing.
    async fn probe(&mut self) {
        let written = store::rewrite_head(&mut self.connection).await;
        self.conclude(written.map_err(JournalError::from))
            .await
            .ok();
    }

    /// One transaction for all; if that fails, one for each, so that none can poison the others.
    async fn serve(&mut self, jobs: Vec<Job<B>>) {
        match self.attempt(&jobs.iter().collect::<Vec<_>>()).await {
            Ok(outcomes) => {
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    job.respond(outcome);
                }
            }
            // Where nothing can be written, on a full disk say, none is the one that poisons the others.
            Err(error)
                if jobs.len() == 1
                    || matches!(error, JournalError::Full)
                    || self.trouble.now().is_some() =>
            {
                for job in jobs {
                    job.respond(Err(error.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, calls = jobs.len(), "a batch failed; its calls run one by one");
                for job in jobs {
                    let outcome = self.attempt(&[&job]).await.and_then(|outcomes| {
                        outcomes
                            .into_iter()
                            .next()
                            .unwrap_or_else(|| Err(stopped()))
                    });
                    job.respond(outcome);
                }
            }
        }
    }

    /// Runs one batch, and after a failure starts from what the database really holds: a commit that
    /// was reported lost may have happened.
    async fn attempt(&mut self, jobs: &[&Job<B>]) -> Result<Vec<Answer<B::Answer>>, JournalError> {
        if let Some(why) = self.frozen.borrow().clone() {
            return Err(JournalError::Frozen(why));
        }
        let outcome = match self.connection.engine() {
            Engine::Sqlite => self.transact(jobs).await,
            // What became of it, the next connection tells.
            Engine::Postgres => timeout(ANSWERS, self.transact(jobs))
                .await
                .unwrap_or_else(|_| Err(JournalError::Unwritable(SILENT.to_owned()))),
        };
        self.conclude(outcome).await
    }

    /// After a failure, starts from what the database really holds.
    async fn conclude<T>(&mut self, outcome: Result<T, JournalError>) -> Result<T, JournalError> {
        let failed = match outcome {
            Ok(done) => {
                self.trouble.over();
                return Ok(done);
            }
            Err(JournalError::Frozen(why)) => return Err(self.freeze(why).await),
            Err(failed) => failed,
        };
        self.watch.failed();
        self.scribe.begin_epoch()?;
        let verifier = self.scribe.signer.verifier();
        let last = self.checkpoint.as_ref();
        match self.database.reload(verifier, last).await {
            Ok(state) => {
                self.connection = state.connection;
                self.edge = state.edge;
                self.checkpoint = state.checkpoint;
                self.book.overtaken(Overtaking::Unknown);
                self.readers.follow_primary().await;
                self.watch.grown(self.edge.size());
                // Readers and the file follow: the commit that was reported lost may have grown the log.
                self.newest.send_replace(self.checkpoint.clone());
                self.find_trouble(&failed).await;
                Err(failed)
            }
            Err(
                error @ (JournalError::Unwritable(_)
                | JournalError::Full
                | JournalError::File { .. }),
            ) => {
                self.trouble.met(unwritable(&error));
                Err(failed)
            }
            Err(error) => Err(self.freeze(error.into_reason()).await),
        }
    }

    /// Nothing is written any more, by no replica, until a person has looked.
    async fn freeze(&mut self, why: String) -> JournalError {
        tracing::error!(why, "the log contradicts itself");
        self.frozen.send_replace(Some(why.clone()));
        self.watch.froze();
        // Its turn, if it has one, stands in the way of the word to the others.
        self.connection.rollback().await.ok();
        if let Err(error) = self.database.freeze(&why).await {
            tracing::error!(%error, "the other replicas could not be told that the log is frozen");
        }
        JournalError::Frozen(why)
    }

    /// Begins a transaction in which nobody else writes, from the log as it is then: other replicas may have
    /// written since this one's last.
    async fn take_turn(&mut self) -> Result<(), JournalError> {
        let Some(turn) = store::begin(&mut self.connection).await? else {
            return Ok(());
        };
        if !turn.frozen.is_empty() {
            return Err(JournalError::Frozen(turn.frozen));
        }
        let ours = self.edge.head();
        if (turn.size, turn.root) == (ours.size, ours.root.0) {
            return Ok(());
        }
        let (edge, checkpoint) = self.catch_up(&turn).await?;
        if turn.size - ours.size > MOST_FOLLOWED {
            self.book.overtaken(Overtaking::Unknown);
        } else {
            let logged = store::logged(&mut self.connection, ours.size).await?;
            self.book.overtaken(Overtaking::Entries(&logged));
        }
        self.edge = edge;
        self.checkpoint = Some(checkpoint);
        self.watch.grown(self.edge.size());
        self.newest.send_replace(self.checkpoint.clone());
        Ok(())
    }

    /// The right edge and the checkpoint that others left, if they continue ours: the trees that ours is made of
    /// must still be there.
    async fn catch_up(&mut self, turn: &Turn) -> Result<(Edge, SignedCheckpoint), JournalError> {
        let ours: Vec<_> = self.edge.nodes().collect();
        let theirs = Edge::indexes(turn.size);
        let indexes: Vec<_> = ours.iter().map(|(idx, _)| *idx).collect();
        let indexes = [indexes.as_slice(), &theirs].concat();
        let departs = turn.size < self.edge.size();
        let mut hashes = match store::nodes(&mut self.connection, &indexes).await {
            Ok(hashes) if !departs => hashes,
            Err(amanat_database::Error::RowNotFound) | Ok(_) => {
                return Err(self.contradicts(turn).await);
            }
            Err(error) => return Err(error.into()),
        };
        let of_theirs = hashes.split_off(ours.len());
        let same = ours
            .iter()
            .zip(&hashes)
            .all(|((_, ours), stored)| ours == stored);
        let edge = Edge::restore(turn.size, of_theirs)?;
        let signed = self.scribe.signer.verifier().open(&turn.checkpoint);
        match signed {
            Ok(signed) if same && signed.head == edge.head() && edge.root().0 == turn.root => {
                Ok((edge, signed))
            }
            _ => Err(self.contradicts(turn).await),
        }
    }

    /// What is stored does not continue what was signed: how, for the operator.
    async fn contradicts(&mut self, turn: &Turn) -> JournalError {
        let stored = Head {
            size: turn.size,
            root: Hash(turn.root),
        };
        let why = open::departure(&mut self.connection, &self.edge.head(), &stored).await;
        JournalError::Frozen(why.unwrap_or_else(|| {
            format!(
                "the checkpoint of {} entries is not of their tree",
                turn.size
            )
        }))
    }

    /// Whether it was about one call, or none could be written.
    async fn find_trouble(&mut self, failed: &JournalError) {
        let probed = store::rewrite_head(&mut self.connection).await;
        match (failed, probed.map_err(JournalError::from)) {
            (JournalError::Full, _) => self.trouble.met(unwritable(failed)),
            (_, Err(error)) => self.trouble.met(unwritable(&error)),
            (_, Ok(())) => {}
        }
    }

    /// The order of a batch: facts, decisions, state, entries, nodes, signature, head, commit.
    async fn transact(&mut self, jobs: &[&Job<B>]) -> Result<Vec<Answer<B::Answer>>, JournalError> {
        let (now, begun) = ((self.clock)(), Moment::now());
        let book = Arc::clone(&self.book);
        self.take_turn().await?;
        let mut edge = self.edge.clone();

        let requests: Vec<_> = jobs.iter().map(|job| job.access.request.as_ref()).collect();
        let remembered = store::remembered(&mut self.connection, &requests).await?;
        let fresh: Vec<&B::Call> = jobs
            .iter()
            .zip(&remembered)
            .filter(|(_, known)| known.is_none())
            .map(|(job, _)| &job.call)
            .collect();
        let mut facts = book.load(&mut self.connection, &fresh).await?;

        let mut growth = Growth::default();
        let mut outcomes = Vec::with_capacity(jobs.len());
        for (job, known) in jobs.iter().zip(remembered) {
            outcomes.push(match known {
                Some(known)
                    if Some(known.request_sha256.as_slice())
                        != job
                            .access
                            .request
                            .as_ref()
                            .map(|r| r.request_sha256.as_slice()) =>
                {
                    Pending::Refused(JournalError::RequestIdReused)
                }
                Some(known) => Pending::Repeated(book.replay(&job.call, &known.answer), known.idx),
                None => {
                    let ruling = book.decide(&mut facts, &job.call, now);
                    let entry = match ruling.draft {
                        None => None,
                        Some(draft) => {
                            Some(self.scribe.place(draft, now, &mut edge, &mut growth)?)
                        }
                    };
                    if let (Some(answer), Some(key), Some(entry)) =
                        (ruling.remember, &job.access.request, &entry)
                    {
                        growth.requests.push((key.clone(), entry.idx, answer));
                    }
                    Pending::Decided(ruling.answer, entry)
                }
            });
        }

        let decided = Moment::now();
        book.write(&mut self.connection, facts).await?;
        let checkpoint = if growth.rows.is_empty() {
            self.checkpoint.clone()
        } else {
            let head = edge.head();
            let checkpoint = amanat_ledger::sign(&self.scribe.signer, head)?;
            let (from, note) = (self.edge.size(), &checkpoint.text);
            store::append(&mut self.connection, &growth, from, &head, note).await?;
            Some(checkpoint)
        };
        self.connection.commit().await?;

        // Durable. Only now does anything of it show.
        let old_edge = std::mem::replace(&mut self.edge, edge);
        self.checkpoint.clone_from(&checkpoint);
        if !growth.rows.is_empty() {
            self.scribe.committed(&growth);
            self.newest.send_replace(checkpoint.clone());
            self.watch.grown(self.edge.size());
        }
        let queued = jobs.iter().map(|job| &job.queued);
        self.watch
            .committed(&Stages { begun, decided }, queued, &growth.rows);
        let mut answers = Vec::with_capacity(outcomes.len());
        let nodes: HashMap<u64, Hash> = old_edge
            .nodes()
            .chain(growth.nodes.iter().copied())
            .collect();
        for pending in outcomes {
            answers.push(
                self.answer(pending, &growth, &nodes, checkpoint.as_ref())
                    .await,
            );
        }
        Ok(answers)
    }

    async fn answer(
        &mut self,
        pending: Pending<B::Answer>,
        growth: &Growth,
        nodes: &HashMap<u64, Hash>,
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Answer<B::Answer> {
        match pending {
            Pending::Refused(error) => Err(error),
            Pending::Decided(answer, None) => Ok(Committed {
                answer,
                receipt: None,
                officer: None,
            }),
            Pending::Decided(answer, Some(placed)) => {
                // INVARIANT: what was placed in this batch has its row, and a checkpoint was signed.
                let (Some(row), Some(checkpoint)) = (growth.rows.get(placed.row), checkpoint)
                else {
                    return Err(stopped());
                };
                let proof =
                    amanat_ledger::inclusion_proof(placed.idx, checkpoint.head.size, |i| {
                        nodes.get(&i).copied()
                    })?;
                let receipt = Receipt {
                    index: placed.idx,
                    body: row.body.clone(),
                    salt: row.salt.to_vec(),
                    linkage: Some(Opening {
                        salt: row.linkage_salt.to_vec(),
                        value: row.linkage.clone(),
                    }),
                    inclusion_proof: proof.iter().map(|hash| hash.0.to_vec()).collect(),
                    checkpoint: checkpoint.text.clone(),
                };
                Ok(Committed {
                    answer,
                    receipt: Some(receipt),
                    officer: Some(placed.officer),
                })
            }
            Pending::Repeated(answer, idx) => {
                let checkpoint = checkpoint.ok_or_else(stopped)?;
                let receipt = read::receipt(&mut self.connection, idx, checkpoint).await?;
                Ok(Committed {
                    answer,
                    receipt: Some(receipt),
                    officer: None,
                })
            }
        }
    }
}

enum Pending<A> {
    Decided(A, Option<Placed>),
    Repeated(A, u64),
    Refused(JournalError),
}

//! The one writer of a log.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use amanat_ledger::{Edge, Hash, SignedCheckpoint};
use amanat_schema::{
    audit::{Opening, Receipt},
    clock::Clock,
};
use amanat_telemetry::Moment;
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    Book, Committed, Journal, JournalError, Trouble, batch,
    journal::{Answer, Job, WAITING, stopped},
    open::{self, Database},
    read,
    scribe::{Growth, Placed, Scribe},
    store,
    watch::{Stages, Watch},
};

/// How long a log that could not be written rests before it is tried again without a call.
const AGAIN: Duration = Duration::from_secs(1);

fn unwritable(error: &JournalError) -> String {
    format!("nothing is disclosed, for the log cannot be written: {error}")
}

/// The writer task's state.
pub struct Writer<B: Book> {
    book: Arc<B>,
    jobs: mpsc::Receiver<Job<B>>,
    database: Database,
    connection: SqliteConnection,
    edge: Edge,
    checkpoint: Option<SignedCheckpoint>,
    scribe: Scribe,
    clock: Clock,
    newest: watch::Sender<Option<SignedCheckpoint>>,
    frozen: watch::Sender<Option<String>>,
    trouble: Trouble,
    watch: Watch,
}

impl<B: Book> Writer<B> {
    pub(crate) fn new(
        book: Arc<B>,
        opened: open::State,
        keys: open::Keys,
        clock: Clock,
        newest: watch::Sender<Option<SignedCheckpoint>>,
        waiting_per_agency: NonZeroUsize,
    ) -> Result<(Journal<B>, Self), JournalError> {
        let scribe = Scribe::new(keys, opened.edge.size())?;
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
        };
        Ok((journal, writer))
    }

    /// Serves until every [`Journal`] is dropped and the queue is drained; closes the database then.
    pub async fn run(mut self, readers: SqlitePool) {
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
        readers.close().await;
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the database was not closed; it is durable all the same");
        }
    }

    /// The next call; `None` when there will be none. Meanwhile a log that could not be written is tried again,
    /// so that it is known when it can.
    async fn next(&mut self) -> Option<Job<B>> {
        while self.trouble.now().is_some() && self.frozen.borrow().is_none() {
            match timeout(AGAIN, self.jobs.recv()).await {
                Ok(job) => return job,
                Err(_) => self.probe().await,
            }
        }
        self.jobs.recv().await
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
            // On a full disk none is the one that poisons the others.
            Err(error) if jobs.len() == 1 || matches!(error, JournalError::Full) => {
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
        let outcome = self.transact(jobs).await;
        self.conclude(outcome).await
    }

    /// After a failure, starts from what the database really holds.
    async fn conclude<T>(&mut self, outcome: Result<T, JournalError>) -> Result<T, JournalError> {
        let Err(failed) = outcome else {
            self.trouble.over();
            return outcome;
        };
        self.watch.failed();
        let verifier = self.scribe.signer.verifier();
        let last = self.checkpoint.as_ref();
        match self.database.reload(verifier, last).await {
            Ok(state) => {
                self.connection = state.connection;
                self.edge = state.edge;
                self.checkpoint = state.checkpoint;
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
            Err(error) => {
                tracing::error!(%error, "the log contradicts itself");
                let why = error.into_reason();
                self.frozen.send_replace(Some(why.clone()));
                self.watch.froze();
                Err(JournalError::Frozen(why))
            }
        }
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
        let mut edge = self.edge.clone();
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;

        let requests: Vec<_> = jobs.iter().map(|job| job.access.request.as_ref()).collect();
        let remembered = store::remembered(&mut transaction, &requests).await?;
        let fresh: Vec<&B::Call> = jobs
            .iter()
            .zip(&remembered)
            .filter(|(_, known)| known.is_none())
            .map(|(job, _)| &job.call)
            .collect();
        let mut facts = book.load(&mut transaction, &fresh).await?;

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
        book.write(&mut transaction, facts).await?;
        let checkpoint = if growth.rows.is_empty() {
            self.checkpoint.clone()
        } else {
            store::insert_entries(&mut transaction, &growth.rows).await?;
            store::insert_nodes(&mut transaction, &growth.nodes).await?;
            store::insert_requests(&mut transaction, &growth.requests).await?;
            let checkpoint = amanat_ledger::sign(&self.scribe.signer, edge.head())?;
            store::advance_head(
                &mut transaction,
                self.edge.size(),
                &edge.head(),
                &checkpoint.text,
            )
            .await?;
            Some(checkpoint)
        };
        transaction.commit().await?;

        // Durable. Only now does anything of it show.
        let old_edge = std::mem::replace(&mut self.edge, edge);
        self.checkpoint.clone_from(&checkpoint);
        if !growth.rows.is_empty() {
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

//! The writer of a log: the only one on SQLite, one at a time on PostgreSQL.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use amanat_ledger::{Hash, SignedCheckpoint};
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
    hold::{Hold, Others, within},
    journal::{Answer, Job, WAITING, stopped},
    open,
    read::{self, Readers},
    scribe::{Growth, Placed, Scribe},
    store,
    watch::{Stages, Watch},
};

/// How long a log that could not be written rests before it is tried again without a call, and how long one that
/// others write too is not looked at.
const AGAIN: Duration = Duration::from_secs(1);

fn unwritable(error: &JournalError) -> String {
    format!("nothing is disclosed, for the log cannot be written: {error}")
}

/// The writer task's state.
pub struct Writer<B: Book> {
    book: Arc<B>,
    jobs: mpsc::Receiver<Job<B>>,
    hold: Hold,
    scribe: Scribe,
    clock: Clock,
    newest: watch::Sender<Option<SignedCheckpoint>>,
    frozen: watch::Sender<Option<String>>,
    /// The other replicas must still hear that the log is frozen.
    is_untold: bool,
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
        readers: Readers,
        waiting_per_agency: NonZeroUsize,
    ) -> Result<(Journal<B>, Self), JournalError> {
        let scribe = Scribe::new(keys)?;
        let watch = Watch::new(opened.edge.size(), opened.frozen.is_some());
        let is_untold = opened.frozen.is_some();
        let (frozen, frozen_receiver) = watch::channel(opened.frozen.clone());
        let hold = Hold::new(opened, scribe.signer.verifier().clone(), readers);
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
            hold,
            scribe,
            clock,
            newest,
            frozen,
            is_untold,
            trouble,
            watch,
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
        self.hold.close().await;
    }

    /// The next call; `None` when there will be none. Meanwhile a log that could not be written is tried again,
    /// so that it is known when it can; and what other replicas log is followed.
    async fn next(&mut self) -> Option<Job<B>> {
        loop {
            let frozen = self.frozen.borrow().clone();
            let is_watched = match &frozen {
                None => self.hold.is_shared() || self.trouble.now().is_some(),
                Some(_) => self.is_untold,
            };
            if !is_watched {
                return self.jobs.recv().await;
            }
            match (timeout(AGAIN, self.jobs.recv()).await, frozen) {
                (Ok(job), _) => return job,
                (Err(_), Some(why)) => self.tell(&why).await,
                (Err(_), None) => self.look().await,
            }
        }
    }

    /// Whether the log can be written again, and what others have written meanwhile.
    async fn look(&mut self) {
        let is_troubled = self.trouble.now().is_some();
        let looked = match self.hold.is_connected() {
            true if is_troubled => self.hold.probe().await,
            true => match self.hold.look().await {
                Ok(others) => {
                    self.follow(&others);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            // Which looks already.
            false => self.reconnect().await,
        };
        match looked {
            Ok(()) if is_troubled && self.hold.is_connected() => self.trouble.over(),
            Ok(()) => {}
            Err(error) => drop(self.failed(error).await),
        }
    }

    /// Takes note of what others wrote.
    fn follow(&mut self, others: &Others) {
        match others {
            Others::Nothing => return,
            Others::Logged(entries) => self.book.overtaken(Overtaking::Entries(entries)),
            Others::Much => self.book.overtaken(Overtaking::Unknown),
        }
        self.show();
    }

    /// Readers, the file and the operator see the log as this writer holds it.
    fn show(&self) {
        self.watch.grown(self.hold.edge.size());
        self.newest.send_replace(self.hold.checkpoint.clone());
    }

    /// One transaction for all; if that fails, one for each, so that none can poison the others.
    async fn serve(&mut self, jobs: Vec<Job<B>>) {
        match self.attempt(&jobs.iter().collect::<Vec<_>>()).await {
            Ok(outcomes) => {
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    job.respond(outcome);
                }
            }
            Err(error) if jobs.len() == 1 || self.concerns_all(&error) => {
                for job in jobs {
                    job.respond(Err(error.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, calls = jobs.len(), "a batch failed; its calls run one by one");
                let mut concerns_all = None;
                for job in jobs {
                    if let Some(error) = &concerns_all {
                        job.respond(Err(JournalError::clone(error)));
                        continue;
                    }
                    // Nobody waits for it any more, and it was told nothing: as if it had not come.
                    if job.is_abandoned() {
                        continue;
                    }
                    let outcome = self.attempt(&[&job]).await.and_then(|outcomes| {
                        let outcome = outcomes.into_iter().next();
                        outcome.unwrap_or_else(|| Err(stopped()))
                    });
                    if let Err(error) = &outcome
                        && self.concerns_all(error)
                    {
                        concerns_all = Some(error.clone());
                    }
                    job.respond(outcome);
                }
            }
        }
    }

    /// Whether nothing can be written, so that no call is the one that poisons the others.
    fn concerns_all(&self, error: &JournalError) -> bool {
        matches!(
            error,
            JournalError::Full | JournalError::Unreachable(_) | JournalError::Frozen(_)
        ) || self.trouble.now().is_some()
    }

    /// Runs one batch, and after a failure starts from what the database really holds: a commit that
    /// was reported lost may have happened.
    async fn attempt(&mut self, jobs: &[&Job<B>]) -> Result<Vec<Answer<B::Answer>>, JournalError> {
        if let Some(why) = self.frozen.borrow().clone() {
            return Err(JournalError::Frozen(why));
        }
        if !self.hold.is_connected()
            && let Err(error) = self.reconnect().await
        {
            return Err(self.failed(error).await);
        }
        self.hold.settle().await;
        match within(self.hold.engine(), self.transact(jobs)).await {
            Ok(answers) => {
                self.try_again().await;
                Ok(answers)
            }
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// After a batch that wrote nothing, which says nothing of whether anything can be written.
    async fn try_again(&mut self) {
        if self.trouble.now().is_some() {
            match self.hold.probe().await {
                Ok(()) => self.trouble.over(),
                Err(_) => self.hold.let_go(),
            }
        }
    }

    /// After a failure, starts from what the database really holds, and finds out whether it was about one call or
    /// none could be written. Returns what its callers are told.
    async fn failed(&mut self, failed: JournalError) -> JournalError {
        // First of all: what it was in the middle of must not go on.
        self.hold.let_go();
        if let JournalError::Frozen(why) = failed {
            return self.freeze(why).await;
        }
        self.watch.failed();
        if let Err(error) = self.scribe.begin_epoch() {
            return error;
        }
        let written = match self.reconnect().await {
            Ok(()) => self.hold.probe().await,
            Err(JournalError::Frozen(why)) => return self.freeze(why).await,
            Err(error) => Err(error),
        };
        match written {
            Err(error) => {
                self.hold.let_go();
                self.trouble.met(unwritable(&error));
            }
            Ok(()) if matches!(failed, JournalError::Full) => {
                self.trouble.met(unwritable(&failed));
            }
            Ok(()) => {}
        }
        failed
    }

    async fn reconnect(&mut self) -> Result<(), JournalError> {
        self.hold.reconnect().await?;
        self.book.overtaken(Overtaking::Unknown);
        // The commit that was reported lost may have grown the log.
        self.show();
        Ok(())
    }

    /// Nothing is written any more, by no replica, until a person has looked.
    async fn freeze(&mut self, why: String) -> JournalError {
        tracing::error!(why, "the log contradicts itself");
        self.frozen.send_replace(Some(why.clone()));
        self.watch.froze();
        self.is_untold = true;
        self.tell(&why).await;
        JournalError::Frozen(why)
    }

    /// Tells the other replicas; again later if they cannot be told.
    async fn tell(&mut self, why: &str) {
        match self.hold.freeze(why).await {
            Ok(()) => self.is_untold = false,
            Err(error) => {
                tracing::error!(%error, "the other replicas do not know yet that the log is frozen");
            }
        }
    }

    /// The order of a batch: facts, decisions, state, entries, nodes, signature, head, commit.
    async fn transact(&mut self, jobs: &[&Job<B>]) -> Result<Vec<Answer<B::Answer>>, JournalError> {
        let (now, begun) = ((self.clock)(), Moment::now());
        let book = Arc::clone(&self.book);
        let others = self.hold.take_turn().await?;
        self.follow(&others);
        let mut edge = self.hold.edge.clone();

        let requests: Vec<_> = jobs.iter().map(|job| job.access.request.as_ref()).collect();
        let remembered = store::remembered(self.hold.connection()?, &requests).await?;
        let fresh: Vec<&B::Call> = jobs
            .iter()
            .zip(&remembered)
            .filter(|(_, known)| known.is_none())
            .map(|(job, _)| &job.call)
            .collect();
        let mut facts = book.load(self.hold.connection()?, &fresh).await?;

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
        book.write(self.hold.connection()?, facts).await?;
        let checkpoint = if growth.rows.is_empty() {
            self.hold.checkpoint.clone()
        } else {
            let head = edge.head();
            let checkpoint = amanat_ledger::sign(&self.scribe.signer, head)?;
            let (from, note) = (self.hold.edge.size(), &checkpoint.text);
            store::append(self.hold.connection()?, &growth, from, &head, note).await?;
            Some(checkpoint)
        };
        self.hold.connection()?.commit().await?;

        // Durable. Only now does anything of it show.
        let old_edge = std::mem::replace(&mut self.hold.edge, edge);
        self.hold.checkpoint.clone_from(&checkpoint);
        if !growth.rows.is_empty() {
            self.scribe.committed(&growth);
            self.trouble.over();
            self.show();
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
                let receipt = read::receipt(self.hold.connection()?, idx, checkpoint).await?;
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

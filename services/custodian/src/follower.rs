//! Follows the gateway's log: whoever brings a checkpoint waits until it is proved to continue the observed
//! head. One proof is fetched at a time, for all that wait.

mod gateway;
mod ladder;
mod pulse;
mod recent;
mod view;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use amanat_journal::{Journal, JournalError, Trouble, note_file};
use amanat_ledger::{LogVerifier, SignedCheckpoint};
use amanat_schema::audit::{ConsistencyProof, GetConsistencyProofRequest};
use amanat_server::Signs;
use amanat_telemetry::Trace;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tonic::Request;

use crate::store::{
    Call, Custody, Reply,
    head::{Contradiction, HeadCall, Observation, Observe, Seen, Standing},
};
pub(crate) use gateway::{Client, Gateway};
use ladder::Ladder;
pub(crate) use pulse::Pulse;
use recent::Recent;
use view::View;

/// The most checkpoints of one round: with the head, as many sizes as one call proves.
const MOST: usize = 255;
/// How many may wait; more are told to come back.
const WAITING: usize = 1024;
/// Between two attempts to record a contradiction.
const AGAIN: Duration = Duration::from_millis(500);

/// A hold on the one task that follows the log; it ends when all are dropped.
#[derive(Clone)]
pub(crate) struct Follower {
    waiting: mpsc::Sender<Waiting>,
    newest: watch::Receiver<Option<Observation>>,
    /// Of the observed head's file.
    filing: Trouble,
    /// The gateway has contradicted itself.
    frozen: Arc<AtomicBool>,
    recent: Arc<Recent>,
}

struct Waiting {
    checkpoint: SignedCheckpoint,
    done: oneshot::Sender<()>,
    /// `None` for what is not sampled.
    trace: Option<Trace>,
}

/// The task's state.
struct Task {
    journal: Journal<Custody>,
    gateway: Gateway,
    newest: watch::Sender<Option<Observation>>,
    frozen: Arc<AtomicBool>,
    recent: Arc<Recent>,
    /// The observed head and some others; `None` when the database must be asked.
    seen: Option<Seen>,
    view: View,
}

#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("custody.gateway is no https:// address that can be connected to")]
    Address,
    #[error(
        "the gateway has contradicted itself, so nothing is released until a person has looked: the evidence \
         is in this database"
    )]
    Contradicted,
}

impl Follower {
    /// Checks the observed head against its file, then follows. What contradicts itself freezes the custodian,
    /// it does not stop it: its log can still be read.
    ///
    /// # Errors
    /// [`FollowError`] if file or journal cannot be read.
    pub(crate) async fn start(
        journal: Journal<Custody>,
        gateway: Gateway,
        log: &LogVerifier,
        file: &Path,
    ) -> Result<(Self, [JoinHandle<()>; 2]), FollowError> {
        let head = match check_file(&journal, log, file).await {
            // Then nothing is decided here, but the log can still be read.
            Err(FollowError::Journal(JournalError::Frozen(_))) => None,
            checked => checked?,
        };
        let (waiting, queue) = mpsc::channel(WAITING);
        let (newest, receiver) = watch::channel(head);
        let filing = Trouble::with("observed_head");
        let file = note_file::follow(
            file.to_owned(),
            receiver.clone(),
            |head: &Observation| &head.note,
            filing.clone(),
        );
        let frozen = look(&journal, Vec::new())
            .await
            .is_ok_and(|seen| seen.frozen);
        let frozen = Arc::new(AtomicBool::new(frozen));
        let view = View::new();
        view.show(receiver.borrow().as_ref(), frozen.load(Ordering::Relaxed));
        let recent = Arc::new(Recent::default());
        let task = Task {
            journal,
            gateway,
            newest,
            frozen: Arc::clone(&frozen),
            recent: Arc::clone(&recent),
            seen: None,
            view,
        };
        let tasks = [tokio::spawn(task.run(queue)), tokio::spawn(file)];
        let follower = Self {
            waiting,
            newest: receiver,
            filing,
            frozen,
            recent,
        };
        Ok((follower, tasks))
    }

    /// Returns when the checkpoint is observed, or cannot be: which, the store knows that decides next.
    pub(crate) async fn observe(&self, checkpoint: SignedCheckpoint) {
        if self.recent.holds(&checkpoint.head) {
            return;
        }
        let (done, woken) = oneshot::channel();
        let trace = Trace::current().map(|trace| trace.begin("follow"));
        let waiting = Waiting {
            checkpoint,
            done,
            trace: trace.clone(),
        };
        if self.waiting.try_send(waiting).is_err() || woken.await.is_err() {
            tracing::warn!("a checkpoint could not be followed");
        }
        drop(trace);
    }

    /// What keeps this custodian from releasing anything, or will.
    pub(crate) fn look(&self, signs: &mut Signs) {
        signs.reasons.extend(self.filing.now());
        if self.frozen.load(Ordering::Relaxed) {
            signs.reasons.push(FollowError::Contradicted.to_string());
        }
    }

    /// Answers whether the gateway has contradicted itself, without holding the follower.
    pub(crate) fn contradicted(&self) -> impl Fn() -> bool + use<> {
        let frozen = Arc::clone(&self.frozen);
        move || frozen.load(Ordering::Relaxed)
    }

    /// The observed head; `None` before the first.
    pub(crate) fn newest(&self) -> Option<Observation> {
        self.newest.borrow().clone()
    }
}

impl Task {
    /// Serves until every [`Follower`] is dropped.
    async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        let mut taken = Vec::new();
        while queue.recv_many(&mut taken, MOST).await > 0 {
            // The one proof is in the trace of whoever came first.
            let trace = taken.iter().find_map(|waiting| waiting.trace.clone());
            let (checkpoints, waiting): (Vec<_>, Vec<_>) = taken
                .drain(..)
                .map(|waiting| (waiting.checkpoint, waiting.done))
                .unzip();
            // Submitted before anyone is woken: what they submit next is decided after it.
            let submitted = match self.examine(checkpoints, trace).await {
                None => None,
                Some(Ok(observe)) => {
                    let added = observe.checkpoints.clone();
                    let submitted = self.journal.submit(HeadCall::Observe(observe).into());
                    submitted.ok().map(|committed| (added, committed))
                }
                Some(Err(contradiction)) => {
                    self.freeze(contradiction).await;
                    None
                }
            };
            for done in waiting {
                if done.send(()).is_err() {
                    tracing::debug!("a caller left before its checkpoint was followed");
                }
            }
            if let Some((added, committed)) = submitted {
                let answer = committed.await.ok().and_then(Result::ok);
                match answer.map(|committed| committed.answer) {
                    Some(Ok(Reply::Seen(seen))) => self.publish(seen, &added),
                    _ => {
                        tracing::error!("what was seen of the gateway's log could not be recorded");
                        self.seen = None;
                    }
                }
            }
        }
    }

    /// What the checkpoints come to: `None` if there is nothing to record, or no proof to be had.
    async fn examine(
        &mut self,
        checkpoints: Vec<SignedCheckpoint>,
        trace: Option<Trace>,
    ) -> Option<Result<Observe, Contradiction>> {
        let sizes: Vec<_> = checkpoints.iter().map(|c| c.head.size).collect();
        let seen = match &self.seen {
            Some(seen) if sizes.iter().all(|size| seen.tells(*size)) => seen,
            _ => {
                let seen = look(&self.journal, sizes).await.ok()?;
                self.seen.insert(seen)
            }
        };
        if seen.frozen || self.frozen.load(Ordering::Relaxed) {
            return None;
        }
        let ladder = match Ladder::new(seen, checkpoints) {
            Ok(ladder) => ladder?,
            Err(contradiction) => return Some(Err(contradiction)),
        };
        let sizes = ladder.sizes();
        let proofs = if sizes.len() < 2 {
            Vec::new()
        } else {
            self.fetch(sizes, trace).await?
        };
        ladder.climb(&proofs)
    }

    /// Returns when the contradiction is recorded: the log may never contradict itself again, so what was
    /// found is not dropped because the journal is busy. The operator hears of it first.
    async fn freeze(&self, contradiction: Contradiction) {
        self.frozen.store(true, Ordering::Relaxed);
        self.view.show(None, true);
        let Contradiction { why, ours, theirs } = &contradiction;
        tracing::error!(why, ?ours, ?theirs, "ALARM: the gateway contradicts itself");
        loop {
            let freeze = HeadCall::Freeze(contradiction.clone());
            match self.journal.call(freeze.into()).await {
                Ok(_) => return,
                // Nothing is decided then until a person has looked.
                Err(error @ JournalError::Frozen(_)) => {
                    tracing::error!(%error, "the contradiction cannot be recorded");
                    return;
                }
                Err(error) => tracing::error!(%error, "the contradiction is not recorded yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn fetch(
        &mut self,
        sizes: Vec<u64>,
        trace: Option<Trace>,
    ) -> Option<Vec<ConsistencyProof>> {
        let mut request = Request::new(GetConsistencyProofRequest { sizes });
        let span = trace.map(|trace| trace.calling("proof"));
        let parent = span.as_ref().map(Trace::traceparent);
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            request.metadata_mut().insert("traceparent", parent);
        }
        let answered = self.gateway.calls().get_consistency_proof(request).await;
        drop(span);
        self.view.fetched(answered.is_ok());
        match answered {
            Ok(response) => Some(response.into_inner().proofs),
            Err(status) => {
                tracing::warn!(code = ?status.code(), "the gateway gave no consistency proof");
                None
            }
        }
    }

    /// Shows the head that the database holds now.
    fn publish(&mut self, seen: Seen, added: &[SignedCheckpoint]) {
        self.recent.add(added);
        self.view.show(seen.head(), seen.frozen);
        self.newest.send_replace(seen.head().cloned());
        self.seen = Some(seen);
    }
}

/// What was seen, of these sizes and the head.
async fn look(journal: &Journal<Custody>, sizes: Vec<u64>) -> Result<Seen, JournalError> {
    let committed = journal.call(Call::Head(HeadCall::Look(sizes))).await?;
    match committed.answer {
        Ok(Reply::Seen(seen)) => Ok(seen),
        // A look is answered with what was seen.
        _ => Err(JournalError::Unwritable(
            "no answer to a look at the observed head".to_owned(),
        )),
    }
}

/// The observed head, after it was held against its file.
async fn check_file(
    journal: &Journal<Custody>,
    log: &LogVerifier,
    file: &Path,
) -> Result<Option<Observation>, FollowError> {
    let note = note_file::read(file)?;
    let filed = note.as_deref().and_then(|note| log.open(note).ok());
    let seen = look(journal, filed.iter().map(|filed| filed.head.size).collect()).await?;
    if let Some(contradiction) = against_file(&seen, note.as_deref(), log) {
        journal.call(HeadCall::Freeze(contradiction).into()).await?;
    }
    Ok(seen.head().cloned())
}

/// Database ahead of the file: proceed. Behind, or of another tree: frozen.
fn against_file(seen: &Seen, file: Option<&str>, log: &LogVerifier) -> Option<Contradiction> {
    let ours = seen.head().map(|head| head.note.clone());
    let contradiction = |why| {
        Some(Contradiction {
            why,
            ours: ours.clone().unwrap_or_default(),
            theirs: file.unwrap_or_default().to_owned(),
        })
    };
    let filed = match file {
        None => return contradiction("the file of the observed head is gone"),
        // Made before anything was seen, and not written since: any head is ahead of it.
        Some("") => return None,
        Some(note) => log.open(note),
    };
    let Ok(filed) = filed else {
        return contradiction("the observed-head file holds no checkpoint of the gateway's log");
    };
    match seen.standing(&filed.head) {
        Standing::Contradicted(_) => contradiction("the observed-head file names another tree"),
        Standing::Unknown
            if seen
                .head()
                .is_none_or(|head| head.head.size < filed.head.size) =>
        {
            contradiction("the database ends before the observed-head file: it was rolled back")
        }
        // Smaller and no longer retained.
        Standing::Unknown | Standing::Known => None,
    }
}

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

use amanat_database::Engine;
use amanat_journal::{Journal, JournalError, Trouble, note_file};
use amanat_ledger::{Head, LogVerifier, SignedCheckpoint};
use amanat_schema::audit::{ConsistencyProof, GetConsistencyProofRequest};
use amanat_server::Signs;
use amanat_telemetry::Trace;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
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
/// Between two looks at what other replicas observed.
const EACH_SECOND: Duration = Duration::from_secs(1);

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

/// Whether a checkpoint is followed because it was brought, or because it was not there when it was needed: another
/// replica moved the head meanwhile, or observed so many others that it was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    First,
    Again,
}

/// What following a checkpoint came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// What is decided from now on finds it observed, unless other replicas came in between.
    Seen,
    /// There is no proof of it to be had.
    InVain,
}

struct Waiting {
    checkpoint: SignedCheckpoint,
    brought: Brought,
    done: oneshot::Sender<Followed>,
    /// `None` for what is not sampled.
    trace: Option<Trace>,
}

/// What the checkpoints of a round come to.
enum Found {
    Known,
    New(Observe),
    Contradiction(Contradiction),
    Nothing,
}

/// The task's state.
struct Task {
    journal: Journal<Custody>,
    gateway: Gateway,
    newest: watch::Sender<Option<Observation>>,
    frozen: Arc<AtomicBool>,
    recent: Arc<Recent>,
    /// The observed head and some others; `None` when the database must be asked. Other replicas observe too, so it
    /// may be behind: what rests on it is then not taken.
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
        engine: Engine,
    ) -> Result<(Self, [JoinHandle<()>; 2]), FollowError> {
        let head = match check_file(&journal, log, file, engine).await {
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
    pub(crate) async fn observe(
        &self,
        checkpoint: &SignedCheckpoint,
        brought: Brought,
    ) -> Followed {
        match brought {
            Brought::First if self.recent.holds(&checkpoint.head) => return Followed::Seen,
            Brought::First => {}
            Brought::Again => self.recent.forget(&checkpoint.head),
        }
        let (done, woken) = oneshot::channel();
        let trace = Trace::current().map(|trace| trace.begin("follow"));
        let waiting = Waiting {
            checkpoint: checkpoint.clone(),
            brought,
            done,
            trace: trace.clone(),
        };
        let followed = match self.waiting.try_send(waiting) {
            Ok(()) => woken.await.ok(),
            Err(_) => None,
        };
        drop(trace);
        followed.unwrap_or_else(|| {
            tracing::warn!("a checkpoint could not be followed");
            Followed::InVain
        })
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
        let mut ticks = tokio::time::interval(EACH_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                count = queue.recv_many(&mut taken, MOST) => {
                    if count == 0 {
                        return;
                    }
                    self.follow(std::mem::take(&mut taken)).await;
                }
                _ = ticks.tick() => self.look_again().await,
            }
        }
    }

    /// One round.
    async fn follow(&mut self, taken: Vec<Waiting>) {
        // The one proof is in the trace of whoever came first.
        let trace = taken.iter().find_map(|waiting| waiting.trace.clone());
        self.doubt(&taken);
        let (checkpoints, waiting): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .map(|waiting| (waiting.checkpoint, waiting.done))
            .unzip();
        // Submitted before anyone is woken: what they submit next is decided after it.
        let (followed, submitted) = match self.examine(checkpoints, trace).await {
            Found::Known => (Followed::Seen, None),
            Found::New(observe) => {
                let new: Vec<_> = observe.checkpoints.iter().map(|new| new.head).collect();
                match self.journal.submit(HeadCall::Observe(observe).into()) {
                    Ok(committed) => (Followed::Seen, Some((new, committed))),
                    Err(_) => (Followed::InVain, None),
                }
            }
            Found::Contradiction(contradiction) => {
                self.freeze(contradiction).await;
                (Followed::InVain, None)
            }
            Found::Nothing => (Followed::InVain, None),
        };
        for done in waiting {
            if done.send(followed).is_err() {
                tracing::debug!("a caller left before its checkpoint was followed");
            }
        }
        if let Some((new, committed)) = submitted {
            let answer = committed.await.ok().and_then(Result::ok);
            match answer.map(|committed| committed.answer) {
                Some(Ok(Reply::Seen(seen))) => self.publish(seen, &new).await,
                _ => {
                    tracing::error!("what was seen of the gateway's log could not be recorded");
                    self.seen = None;
                }
            }
        }
    }

    /// Asks the database again if somebody comes back with what it was thought to hold.
    fn doubt(&mut self, taken: &[Waiting]) {
        let is_known = |waiting: &Waiting, seen: &Seen| {
            waiting.brought == Brought::Again
                && seen.standing(&waiting.checkpoint.head) == Standing::Known
        };
        self.seen
            .take_if(|seen| taken.iter().any(|waiting| is_known(waiting, seen)));
    }

    async fn examine(&mut self, checkpoints: Vec<SignedCheckpoint>, trace: Option<Trace>) -> Found {
        let sizes: Vec<_> = checkpoints.iter().map(|c| c.head.size).collect();
        if self
            .seen
            .as_ref()
            .is_none_or(|seen| !sizes.iter().all(|size| seen.tells(*size)))
        {
            self.look(sizes).await;
        }
        let Some(seen) = self.seen.as_ref().filter(|_| !self.is_frozen()) else {
            return Found::Nothing;
        };
        let ladder = match Ladder::new(seen, checkpoints) {
            Ok(Some(ladder)) => ladder,
            Ok(None) => return Found::Known,
            Err(contradiction) => return Found::Contradiction(contradiction),
        };
        let sizes = ladder.sizes();
        let proofs = if sizes.len() < 2 {
            Some(Vec::new())
        } else {
            self.fetch(sizes, trace).await
        };
        match proofs.and_then(|proofs| ladder.climb(&proofs)) {
            None => Found::Nothing,
            Some(Ok(observe)) => Found::New(observe),
            Some(Err(contradiction)) => Found::Contradiction(contradiction),
        }
    }

    /// What other replicas observed, and whether one of them found a contradiction, is shown here too.
    async fn look_again(&mut self) {
        if !self.is_frozen() {
            self.look(Vec::new()).await;
        }
    }

    /// Asks the database for the head, for these sizes, and for what was the head before.
    async fn look(&mut self, mut sizes: Vec<u64>) {
        sizes.extend(self.newest.borrow().as_ref().map(|newest| newest.head.size));
        match look(&self.journal, sizes).await {
            Ok(seen) => self.publish(seen, &[]).await,
            Err(error) => {
                tracing::debug!(%error, "what was seen of the gateway's log cannot be read");
                self.seen = None;
            }
        }
    }

    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
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

    /// Shows the head that the database holds now. Which of the new ones it took, stands in it.
    async fn publish(&mut self, seen: Seen, new: &[Head]) {
        let newest = self.newest.borrow().clone();
        if let Some((newest, why)) = newest.and_then(|newest| {
            let why = departed(&seen, &newest.head)?;
            Some((newest, why))
        }) {
            let ours = seen.head().map(|head| head.note.clone());
            self.freeze(Contradiction {
                why,
                ours: ours.unwrap_or_default(),
                theirs: newest.note,
            })
            .await;
            return;
        }
        let is_there = |head: &&Head| seen.standing(head) == Standing::Known;
        self.recent.add(new.iter().filter(is_there));
        self.frozen.fetch_or(seen.frozen, Ordering::Relaxed);
        self.view.show(seen.head(), self.is_frozen());
        self.newest.send_if_modified(|newest| {
            let has_moved = newest.as_ref() != seen.head();
            *newest = seen.head().cloned();
            has_moved
        });
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
    engine: Engine,
) -> Result<Option<Observation>, FollowError> {
    let note = note_file::read(file)?;
    let filed = note.as_deref().and_then(|note| log.open(note).ok());
    if engine == Engine::Postgres && filed.is_none() && note.as_deref() != Some("") {
        // A replica that lost its own file says nothing about the database: the others' stand guard.
        return Err(no_file(file).into());
    }
    let seen = look(journal, filed.iter().map(|filed| filed.head.size).collect()).await?;
    if let Some(contradiction) = against_file(&seen, note.as_deref(), log) {
        journal.call(HeadCall::Freeze(contradiction).into()).await?;
    }
    Ok(seen.head().cloned())
}

fn no_file(file: &Path) -> JournalError {
    JournalError::File {
        path: file.display().to_string(),
        message: "it is gone, or holds no checkpoint of the gateway's log; copy another replica's"
            .to_owned(),
    }
}

/// Database ahead of the file: proceed. Behind, or of another tree: frozen.
fn against_file(seen: &Seen, file: Option<&str>, log: &LogVerifier) -> Option<Contradiction> {
    let why = match file {
        None => Some("the file of the observed head is gone"),
        // Made before anything was seen, and not written since: any head is ahead of it.
        Some("") => None,
        Some(note) => match log.open(note) {
            Ok(filed) => departed(seen, &filed.head),
            Err(_) => Some("the observed-head file holds no checkpoint of the gateway's log"),
        },
    };
    let ours = seen.head().map(|head| head.note.clone());
    Some(Contradiction {
        why: why?,
        ours: ours.unwrap_or_default(),
        theirs: file.unwrap_or_default().to_owned(),
    })
}

/// How the database departs from a head that was observed before; `None` if it does not, or if that is smaller and no
/// longer retained.
fn departed(seen: &Seen, before: &Head) -> Option<&'static str> {
    match seen.standing(before) {
        Standing::Contradicted(_) => Some("the database names another tree than was observed"),
        Standing::Unknown if seen.size() < before.size => {
            Some("the database ends before the observed head: it was rolled back")
        }
        Standing::Unknown | Standing::Known => None,
    }
}

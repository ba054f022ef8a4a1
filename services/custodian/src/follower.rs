//! Follows the gateway's log: whoever brings a checkpoint waits until it is proved to continue the observed
//! head. One proof is fetched at a time, for all that wait.

mod gateway;
mod ladder;

use std::{path::Path, time::Duration};

use amanat_journal::{Journal, JournalError, note_file};
use amanat_ledger::{LogVerifier, SignedCheckpoint};
use amanat_schema::audit::{
    ConsistencyProof, GetConsistencyProofRequest, audit_service_client::AuditServiceClient,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tonic::transport::Channel;

use crate::store::{
    Call, Custody, Reply,
    head::{Contradiction, HeadCall, Observation, Observe, Seen, Standing},
};
pub(crate) use gateway::{Client, connect};
use ladder::Ladder;

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
}

struct Waiting {
    checkpoint: SignedCheckpoint,
    done: oneshot::Sender<()>,
}

/// The task's state.
struct Task {
    journal: Journal<Custody>,
    gateway: AuditServiceClient<Channel>,
    newest: watch::Sender<Option<Observation>>,
}

#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("custody.gateway is no https:// address that can be connected to")]
    Address,
}

impl Follower {
    /// Checks the observed head against its file, then follows. What contradicts itself freezes the custodian,
    /// it does not stop it: its log can still be read.
    ///
    /// # Errors
    /// [`FollowError`] if file or journal cannot be read.
    pub(crate) async fn start(
        journal: Journal<Custody>,
        gateway: AuditServiceClient<Channel>,
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
        let file = note_file::follow(file.to_owned(), receiver.clone(), |head: &Observation| {
            &head.note
        });
        let task = Task {
            journal,
            gateway,
            newest,
        };
        let tasks = [tokio::spawn(task.run(queue)), tokio::spawn(file)];
        let follower = Self {
            waiting,
            newest: receiver,
        };
        Ok((follower, tasks))
    }

    /// Returns when the checkpoint is observed, or cannot be: which, the store knows that decides next.
    pub(crate) async fn observe(&self, checkpoint: SignedCheckpoint) {
        let (done, woken) = oneshot::channel();
        let waiting = Waiting { checkpoint, done };
        if self.waiting.try_send(waiting).is_err() || woken.await.is_err() {
            tracing::warn!("a checkpoint could not be followed");
        }
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
            let (checkpoints, waiting): (Vec<_>, Vec<_>) = taken
                .drain(..)
                .map(|waiting| (waiting.checkpoint, waiting.done))
                .unzip();
            // Submitted before anyone is woken: what they submit next is decided after it.
            let submitted = match self.examine(checkpoints).await {
                None => None,
                Some(Ok(observe)) => self.journal.submit(HeadCall::Observe(observe).into()).ok(),
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
            if let Some(committed) = submitted {
                self.publish(committed.await.is_ok_and(|outcome| outcome.is_ok()))
                    .await;
            }
        }
    }

    /// What the checkpoints come to: `None` if there is nothing to record, or no proof to be had.
    async fn examine(
        &mut self,
        checkpoints: Vec<SignedCheckpoint>,
    ) -> Option<Result<Observe, Contradiction>> {
        let sizes = checkpoints.iter().map(|checkpoint| checkpoint.head.size);
        let seen = look(&self.journal, sizes.collect()).await.ok()?;
        if seen.frozen {
            return None;
        }
        let ladder = match Ladder::new(&seen, checkpoints) {
            Ok(ladder) => ladder?,
            Err(contradiction) => return Some(Err(contradiction)),
        };
        let sizes = ladder.sizes();
        let proofs = if sizes.len() < 2 {
            Vec::new()
        } else {
            self.fetch(sizes).await?
        };
        ladder.climb(&proofs)
    }

    /// Returns when the contradiction is recorded: the log may never contradict itself again, so what was
    /// found is not dropped because the journal is busy. The operator hears of it first.
    async fn freeze(&self, contradiction: Contradiction) {
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

    async fn fetch(&mut self, sizes: Vec<u64>) -> Option<Vec<ConsistencyProof>> {
        let request = GetConsistencyProofRequest { sizes };
        match self.gateway.get_consistency_proof(request).await {
            Ok(response) => Some(response.into_inner().proofs),
            Err(status) => {
                tracing::warn!(code = ?status.code(), "the gateway gave no consistency proof");
                None
            }
        }
    }

    /// Shows the head that the database holds now.
    async fn publish(&self, committed: bool) {
        if !committed {
            tracing::error!("what was seen of the gateway's log could not be recorded");
        } else if let Ok(seen) = look(&self.journal, Vec::new()).await {
            self.newest.send_replace(seen.head().cloned());
        }
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

//! A service's hold on its journal: where calls queue for the one writer.

use std::{num::NonZeroUsize, sync::Arc};

use amanat_schema::AgencyId;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::{Access, Book, Committed, JournalError, Trouble, shares::Shares, watch::Queued};

/// How many calls may wait; more are told to come back.
pub(crate) const WAITING: usize = 1024;

/// What one call came to.
pub(crate) type Answer<A> = Result<Committed<A>, JournalError>;

/// A call on its way to the writer.
pub(crate) struct Job<B: Book> {
    pub(crate) call: B::Call,
    pub(crate) access: Access,
    answer: oneshot::Sender<Answer<B::Answer>>,
    pub(crate) queued: Queued,
    /// Of its agency's places; given back when it is answered, whether anybody still waits or not.
    _place: Option<OwnedSemaphorePermit>,
}

/// The service's hold on its journal; cheap to clone.
pub struct Journal<B: Book> {
    book: Arc<B>,
    jobs: mpsc::Sender<Job<B>>,
    shares: Arc<Shares>,
    frozen: watch::Receiver<Option<String>>,
    /// Of the database.
    writing: Trouble,
    /// Of the checkpoint file.
    pub(crate) filing: Trouble,
}

impl<B: Book> Clone for Journal<B> {
    fn clone(&self) -> Self {
        Self {
            book: Arc::clone(&self.book),
            jobs: self.jobs.clone(),
            shares: Arc::clone(&self.shares),
            frozen: self.frozen.clone(),
            writing: self.writing.clone(),
            filing: self.filing.clone(),
        }
    }
}

impl<B: Book> Journal<B> {
    /// A hold on a journal whose writer takes what comes out of the receiver.
    pub(crate) fn new(
        book: Arc<B>,
        waiting_per_agency: NonZeroUsize,
        frozen: watch::Receiver<Option<String>>,
        writing: Trouble,
    ) -> (Self, mpsc::Receiver<Job<B>>) {
        let (sender, jobs) = mpsc::channel(WAITING);
        let journal = Self {
            book,
            jobs: sender,
            shares: Arc::new(Shares::new(waiting_per_agency)),
            frozen,
            writing,
            filing: Trouble::default(),
        };
        (journal, jobs)
    }

    /// Decides and records one call; the answer comes after the durable commit.
    ///
    /// # Errors
    /// As [`Journal::submit`]; [`JournalError::RequestIdReused`]; or [`JournalError::Unwritable`] and
    /// [`JournalError::Full`] if it could not be committed.
    pub async fn call(&self, call: B::Call) -> Answer<B::Answer> {
        self.submit(call)?.await.map_err(|_| stopped())?
    }

    /// Queues a call without waiting for its answer: calls are decided in the order of submission.
    ///
    /// # Errors
    /// [`JournalError::Busy`], [`JournalError::Crowded`] or [`JournalError::Frozen`].
    pub fn submit(
        &self,
        call: B::Call,
    ) -> Result<oneshot::Receiver<Answer<B::Answer>>, JournalError> {
        if let Some(why) = self.frozen() {
            return Err(JournalError::Frozen(why));
        }
        let agency = self.book.agency(&call);
        let place = agency.map(|agency| self.shares.take(agency)).transpose()?;
        let access = self.book.access(&call);
        let (answer, receiver) = oneshot::channel();
        self.jobs
            .try_send(Job {
                call,
                access,
                answer,
                queued: Queued::now(),
                _place: place,
            })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => JournalError::Busy,
                mpsc::error::TrySendError::Closed(_) => stopped(),
            })?;
        Ok(receiver)
    }

    /// In whose share of the queue a call would wait.
    pub fn agency(&self, call: &B::Call) -> Option<AgencyId> {
        self.book.agency(call)
    }

    /// Why the log is frozen; `None` while it runs.
    pub fn frozen(&self) -> Option<String> {
        self.frozen.borrow().clone()
    }

    /// Answers the same, without holding the journal: also when its tasks have ended.
    pub fn freezing(&self) -> impl Fn() -> Option<String> + use<B> {
        let frozen = self.frozen.clone();
        move || frozen.borrow().clone()
    }

    /// Why log or checkpoint file cannot be written now, in words for the operator.
    pub fn troubles(&self) -> impl Iterator<Item = String> + use<B> {
        [self.writing.now(), self.filing.now()]
            .into_iter()
            .flatten()
    }
}

impl<B: Book> Job<B> {
    /// Whether nobody waits for its answer.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    pub(crate) fn respond(self, outcome: Answer<B::Answer>) {
        if self
            .answer
            .send(outcome.map_err(JournalError::of_writer))
            .is_err()
        {
            // The caller went away; what it asked for is done and logged all the same.
            tracing::debug!("a caller left before its answer");
        }
    }
}

pub(crate) fn stopped() -> JournalError {
    JournalError::Unwritable("the service is stopping".to_owned())
}

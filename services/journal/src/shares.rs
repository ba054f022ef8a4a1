//! Who may have how many calls waiting, so that no agency fills the queue for the others.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use amanat_schema::AgencyId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::JournalError;

/// As many places of the queue for each agency.
pub(crate) struct Shares {
    each: NonZeroUsize,
    /// INVARIANT: only agencies of the directory get here, so there are never many.
    of: Mutex<BTreeMap<AgencyId, Arc<Semaphore>>>,
}

impl Shares {
    pub(crate) fn new(each: NonZeroUsize) -> Self {
        Self {
            each,
            of: Mutex::default(),
        }
    }

    /// A place, until it is dropped.
    ///
    /// # Errors
    /// [`JournalError::Crowded`].
    pub(crate) fn take(&self, agency: AgencyId) -> Result<OwnedSemaphorePermit, JournalError> {
        // A panic elsewhere cannot leave the map half written.
        let mut shares = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let share = shares
            .entry(agency)
            .or_insert_with(|| Arc::new(Semaphore::new(self.each.get())));
        let place = Arc::clone(share).try_acquire_owned();
        place.map_err(|_| JournalError::Crowded)
    }
}

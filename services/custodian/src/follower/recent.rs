//! The checkpoints that this replica observed last, so that whoever brings one of them again need not wait. The
//! database may have dropped one since, for others observe too: that is found out where it is needed.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use amanat_ledger::Head;

/// Far fewer than the database keeps.
const KEPT: usize = 512;

#[derive(Default)]
pub(super) struct Recent(Mutex<VecDeque<Head>>);

impl Recent {
    pub(super) fn holds(&self, head: &Head) -> bool {
        self.kept().iter().rev().any(|seen| seen == head)
    }

    pub(super) fn add<'a>(&self, observed: impl Iterator<Item = &'a Head>) {
        let mut kept = self.kept();
        kept.extend(observed);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    pub(super) fn forget(&self, head: &Head) {
        self.kept().retain(|seen| seen != head);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Head>> {
        // Its operations do not panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The checkpoints that were observed last, so that whoever brings one of them again need not wait.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use amanat_ledger::{Head, SignedCheckpoint};

/// Fewer than the database keeps, so that what is found here is found there too.
const KEPT: usize = 512;

#[derive(Default)]
pub(super) struct Recent(Mutex<VecDeque<Head>>);

impl Recent {
    pub(super) fn holds(&self, head: &Head) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().any(|seen| seen == head)
    }

    pub(super) fn add(&self, observed: &[SignedCheckpoint]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(observed.iter().map(|checkpoint| checkpoint.head));
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
}

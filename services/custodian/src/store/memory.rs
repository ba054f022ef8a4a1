//! What releases rest on, kept from one batch to the next. No key is among it but as it is stored, wrapped.

use std::collections::BTreeMap;

use amanat_desk::{
    Remembered,
    consent::{self, RememberedConsents},
};
use amanat_journal::{Logged, Overtaking};
use amanat_schema::{CaseId, IdError, RecordId, Time, audit::Action, policy::Decision};

use super::{deposit::Deposits, redeemed::ConsentKey};

/// Of all cases together.
const CHANGES_MIB: usize = 16;
/// Of all records together; a deposit is some 20 kilobytes.
const DEPOSITS_MIB: usize = 64;

pub(crate) struct Memory {
    pub(super) consents: RememberedConsents,
    /// When each consent of a case was last recorded or withdrawn here.
    pub(super) changes: Remembered<CaseId, BTreeMap<ConsentKey, Time>>,
    /// Of records with no deposit pending: one that expires goes from memory too.
    pub(super) deposits: Remembered<RecordId, Deposits>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            consents: consent::remembered(),
            // The nodes of a map are half empty at worst.
            changes: Remembered::holding(CHANGES_MIB, |changes| {
                changes.len() * 2 * size_of::<(ConsentKey, Time)>()
            }),
            deposits: Remembered::holding(DEPOSITS_MIB, |deposits| {
                deposits.iter().map(|(_, deposit)| deposit.bytes()).sum()
            }),
        }
    }
}

impl Memory {
    /// Forgets what other writers may have changed. What expires makes no entry, and none of it is kept here.
    pub(super) fn overtaken(&self, by: Overtaking<'_>) {
        self.consents.overtaken(by);
        let forgotten = match by {
            Overtaking::Entries(entries) => entries.iter().try_for_each(|entry| self.forget(entry)),
            Overtaking::Unknown => Err(IdError),
        };
        // An entry that does not say what it is about may be about anything.
        if forgotten.is_err() {
            self.changes.forget_all();
            self.deposits.forget_all();
        }
    }

    fn forget(&self, entry: &Logged) -> Result<(), IdError> {
        if entry.decision != Decision::Allow {
            return Ok(());
        }
        if let Action::RecordConsent | Action::WithdrawConsent = entry.action {
            self.changes.forget(&CaseId::parse(&entry.linkage.case_id)?);
        }
        if let Action::DepositKey | Action::ActivateKey = entry.action {
            let record = RecordId::parse(&entry.linkage.record_id)?;
            self.deposits.forget(&record);
        }
        Ok(())
    }
}

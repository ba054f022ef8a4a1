//! What releases rest on, kept from one batch to the next. No key is among it but as it is stored, wrapped.

use std::collections::BTreeMap;

use amanat_desk::{
    Remembered,
    consent::{self, RememberedConsents},
};
use amanat_schema::{CaseId, RecordId, Time};

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

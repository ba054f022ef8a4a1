//! What releases rest on, kept from one batch to the next. No key is among it but as it is stored, wrapped.

use std::collections::BTreeMap;

use amanat_desk::{Remembered, consent::RememberedConsents};
use amanat_schema::{CaseId, RecordId, Time};

use super::{deposit::Deposits, redeemed::ConsentKey};

/// Cases whose consents are kept; some kilobytes each.
const CASES: usize = 4096;
/// Records whose deposits are kept; some 20 kilobytes each.
const RECORDS: usize = 2048;

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
            consents: RememberedConsents::holding(CASES),
            changes: Remembered::holding(CASES),
            deposits: Remembered::holding(RECORDS),
        }
    }
}

//! What reads rest on, kept from one batch to the next.

use std::sync::Arc;

use amanat_desk::{
    Remembered,
    consent::{RememberedConsents, SourceCase},
};

use super::{
    record::{Content, RecordKey},
    referral::ReferralRow,
};

/// Cases whose consents and referrals are kept; some kilobytes each.
const CASES: usize = 4096;
/// Record versions that are kept; some 25 kilobytes each.
const VERSIONS: usize = 2048;

pub(crate) struct Memory {
    pub(super) consents: RememberedConsents,
    /// All that a source sent in a case.
    pub(super) referrals: Remembered<SourceCase, Vec<Arc<ReferralRow>>>,
    /// The newest version of a record.
    pub(super) contents: Remembered<RecordKey, Content>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            consents: Remembered::holding(CASES),
            referrals: Remembered::holding(CASES),
            contents: Remembered::holding(VERSIONS),
        }
    }
}

//! What reads rest on, kept from one batch to the next.

use std::sync::Arc;

use amanat_desk::{
    Remembered,
    consent::{self, RememberedConsents, SourceCase},
};

use super::{
    record::{Content, RecordKey},
    referral::ReferralRow,
};

/// Of all cases together; a referral is some two kilobytes, and a case with all that it may have is still kept.
const REFERRALS_MIB: usize = 128;
/// Of all records together; a version is some 25 kilobytes.
const CONTENTS_MIB: usize = 64;

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
            consents: consent::remembered(),
            referrals: Remembered::holding(REFERRALS_MIB, |rows| {
                rows.iter().map(|row| row.bytes()).sum()
            }),
            contents: Remembered::holding(CONTENTS_MIB, Content::bytes),
        }
    }
}

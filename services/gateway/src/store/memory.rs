//! What reads rest on, kept from one batch to the next.

use std::sync::Arc;

use amanat_desk::{
    Remembered, RememberedByCase,
    consent::{self, RememberedConsents},
};
use amanat_journal::{Logged, Overtaking};
use amanat_schema::{AgencyId, CaseId, IdError, RecordId, audit::Action, policy::Decision};

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
    pub(super) referrals: RememberedByCase<Vec<Arc<ReferralRow>>>,
    /// The newest version of a record.
    pub(super) contents: Remembered<RecordKey, Content>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            consents: consent::remembered(),
            referrals: RememberedByCase::holding(REFERRALS_MIB, |rows| {
                rows.iter().map(|row| row.bytes()).sum()
            }),
            contents: Remembered::holding(CONTENTS_MIB, Content::bytes),
        }
    }
}

impl Memory {
    /// Forgets what other writers of the database may have changed.
    pub(super) fn overtaken(&self, by: Overtaking<'_>) {
        self.consents.overtaken(by);
        let forgotten = match by {
            Overtaking::Entries(entries) => self.forget_changed(entries),
            Overtaking::Unknown => Err(IdError),
        };
        // An entry that does not say what it is about may be about anything.
        if forgotten.is_err() {
            self.referrals.forget_all();
            self.contents.forget_all();
        }
    }

    fn forget_changed(&self, entries: &[Logged]) -> Result<(), IdError> {
        // A refusal changes nothing.
        let allowed = |entry: &&Logged| entry.decision == Decision::Allow;
        for Logged {
            action, linkage, ..
        } in entries.iter().filter(allowed)
        {
            if *action == Action::PutRecord {
                let source = AgencyId::parse(&linkage.source_id)?;
                let record = RecordId::parse(&linkage.record_id)?;
                self.contents.forget(&(source, record));
            }
            // Whose referral it was, the entry does not name.
            if moves_referrals(*action) {
                let case = CaseId::parse(&linkage.case_id)?;
                self.referrals.forget_case(&case);
            }
        }
        Ok(())
    }
}

/// A withdrawal suspends what rested on the consent.
fn moves_referrals(action: Action) -> bool {
    matches!(
        action,
        Action::SubmitReferral
            | Action::AcknowledgeReferral
            | Action::AcceptReferral
            | Action::RejectReferral
            | Action::StartService
            | Action::CompleteReferral
            | Action::RevokeReferral
            | Action::WithdrawConsent
    )
}

//! What other writers of the database recorded, withdrew and counted is forgotten here.

use amanat_journal::{Logged, Overtaking};
use amanat_schema::{AgencyId, CaseId, IdError, audit::Action, policy::Decision};

use super::{RememberedConsents, SourceCase};

impl RememberedConsents {
    /// Forgets the consents that may not be what they were when they were loaded.
    pub fn overtaken(&self, by: Overtaking<'_>) {
        let forgotten = match by {
            Overtaking::Entries(entries) => self.forget_changed(entries),
            Overtaking::Unknown => return self.forget_all(),
        };
        // An entry of ours names what it is about; whatever this one is, nothing is known any more.
        if forgotten.is_err() {
            self.forget_all();
        }
    }

    fn forget_changed(&self, entries: &[Logged]) -> Result<(), IdError> {
        for entry in entries {
            if entry.decision != Decision::Allow {
                continue;
            }
            // A withdrawal closes consents of any source in the case.
            if let Action::RecordConsent | Action::WithdrawConsent = entry.action {
                self.forget_case(&case(entry)?);
            }
            // The gateway counts what it lets be read, the custodian what it releases the keys of.
            if let Action::ReadRecord | Action::ReleaseKeys = entry.action {
                let source = AgencyId::parse(&entry.linkage.source_id)?;
                self.forget_counted(&(source, case(entry)?));
            }
        }
        Ok(())
    }

    /// Reads are counted on consents with a limit only.
    fn forget_counted(&self, of: &SourceCase) {
        let grants = self.get(of);
        let mut grants = grants.iter().flat_map(|grants| grants.iter());
        if grants.any(|grant| grant.terms.max_reads != 0) {
            self.forget(of);
        }
    }
}

fn case(entry: &Logged) -> Result<CaseId, IdError> {
    CaseId::parse(&entry.linkage.case_id)
}

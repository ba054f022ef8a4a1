//! What happened in a case, as far as this agency may know.

use amanat_schema::{CaseId, RecordId, ReferralId, Time, referral::Direction};
use amanat_seal::pseudonym::Pseudonym;

use crate::{
    Connector, ConnectorError, ConsentQuery, ConsentSeen, ReferralQuery, ReferralSeen, Server,
    StepSeen, VersionQuery, VersionSeen,
};

/// A case's events, oldest first.
#[derive(Debug, Clone)]
pub struct CaseHistory {
    pub case: CaseId,
    pub events: Vec<CaseEvent>,
}

#[derive(Debug, Clone)]
pub struct CaseEvent {
    /// A server's, but for a referral's steps: those are by their signers' clocks.
    pub time: Time,
    pub happened: Happened,
}

#[derive(Debug, Clone)]
pub enum Happened {
    /// This agency got its own pseudonym of the person; known to this connector alone.
    Named {
        record: RecordId,
        pseudonym: Pseudonym,
    },
    Put(VersionSeen),
    /// With its status now.
    Consented(ConsentSeen),
    /// With its state now; its steps are events of their own.
    Referred(ReferralSeen),
    Moved {
        referral: ReferralId,
        step: StepSeen,
    },
}

impl Connector {
    /// The record versions, consents and referrals of a case, each verified as in its own list, and this
    /// agency's own pseudonym of the person.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`]; [`ConnectorError::Untrustworthy`] if a signature does not hold, or a
    /// version is not the one that was seen here before.
    pub async fn case_history(&self, case: CaseId) -> Result<CaseHistory, ConnectorError> {
        let mut events = Vec::new();
        for subject in self.keep.subjects_of(case).await? {
            events.push(CaseEvent {
                time: subject.found,
                happened: Happened::Named {
                    record: subject.record,
                    pseudonym: subject.pseudonym,
                },
            });
        }
        for version in self.list_versions(VersionQuery::from(Some(case))).await? {
            self.is_as_seen(&version).await?;
            events.push(CaseEvent {
                time: version.put,
                happened: Happened::Put(version),
            });
        }
        let consents = self.list_consents(Server::Gateway, ConsentQuery::from(Some(case)));
        for consent in consents.await? {
            events.push(CaseEvent {
                time: consent.recorded,
                happened: Happened::Consented(consent),
            });
        }
        for direction in [Direction::Sent, Direction::Received] {
            let query = ReferralQuery {
                case: Some(case),
                ..ReferralQuery::from(direction)
            };
            for referral in self.list_referrals(query).await? {
                events.extend(referral_events(referral));
            }
        }
        events.sort_by_key(|event| event.time);
        Ok(CaseHistory { case, events })
    }

    async fn is_as_seen(&self, listed: &VersionSeen) -> Result<(), ConnectorError> {
        let seen = self.keep.version(listed.source, listed.record).await?;
        let other = seen.is_some_and(|(version, header)| {
            version == listed.version && header != listed.header_sha256
        });
        if other {
            let what = format!("another version {} was seen here before", listed.version);
            return Err(ConnectorError::untrustworthy("gateway", what));
        }
        Ok(())
    }
}

/// The submission and each step. They follow one another by their signatures, so a signer's clock that is
/// behind does not move a step before the one that it follows.
fn referral_events(mut referral: ReferralSeen) -> Vec<CaseEvent> {
    let id = referral.referral;
    let steps = std::mem::take(&mut referral.steps);
    let mut time = referral.submitted;
    let mut events = vec![CaseEvent {
        time,
        happened: Happened::Referred(referral),
    }];
    for step in steps {
        time = time.max(step.signed);
        events.push(CaseEvent {
            time,
            happened: Happened::Moved { referral: id, step },
        });
    }
    events
}

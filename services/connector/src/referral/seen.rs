//! A referral as its parties see it: the sender's submission and each step after it, checked.

use amanat_policy::Actor;
use amanat_schema::{
    AgencyId, CaseId, ReferralId, Time,
    policy::{Purpose, ReferralState},
    record::{MinorBand, Need, Urgency},
    referral::RecordedReferral,
    statement::{Referral, ReferralOutcome, ReferralTransition, RejectionReason},
};

use super::{Move, untrustworthy};
use crate::{Connector, ConnectorError, Server, told::Told};

/// A referral as a party sees it; every step is its agency's own.
#[derive(Debug, Clone)]
pub struct ReferralSeen {
    pub referral: ReferralId,
    pub case: CaseId,
    pub sender: AgencyId,
    pub recipient: AgencyId,
    pub purpose: Purpose,
    pub services: Vec<Need>,
    pub urgency: Urgency,
    pub minor_band: MinorBand,
    pub paths: Vec<String>,
    pub state: ReferralState,
    /// Why its recipient declined, if it did.
    pub rejection: Option<RejectionReason>,
    /// How the service ended, if it did.
    pub outcome: Option<ReferralOutcome>,
    /// The closed referral that it takes up again.
    pub previous: Option<ReferralId>,
    pub submitted: Time,
    pub respond_by: Time,
    /// What was signed after the submission, oldest first.
    pub steps: Vec<StepSeen>,
    /// False if the directory lists the sender or its key no more: the signature can no longer be checked.
    pub verified: bool,
    /// SHA-256 of the submission.
    pub(super) submission: [u8; 32],
    /// SHA-256 of the newest signed step.
    pub(super) newest: [u8; 32],
}

/// One signed step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSeen {
    /// Who signed it.
    pub agency: AgencyId,
    pub to_state: ReferralState,
    /// The signer's clock.
    pub signed: Time,
    /// False if the directory lists the signer or its key no more: the signature can no longer be checked.
    pub verified: bool,
}

impl Connector {
    /// Checks the sender's submission and each step after it.
    pub(super) fn seen_referral(
        &self,
        wire: &RecordedReferral,
    ) -> Result<ReferralSeen, ConnectorError> {
        let submission = wire
            .submission
            .as_ref()
            .ok_or_else(|| untrustworthy("no submission"))?;
        let time = |t| Time::parse(t).map_err(|_| untrustworthy("a malformed referral"));
        let submitted = time(wire.submit_time.as_ref())?;
        let submission = self.told::<Referral>(Server::Gateway, submission, Some(submitted))?;
        let terms = amanat_policy::parse_referral(&submission.message)
            .map_err(|_| untrustworthy("a submission that is not valid"))?;
        let paths = terms.paths.iter().map(|id| id.field().path.to_owned());
        let mut seen = ReferralSeen {
            referral: terms.referral,
            case: terms.case,
            sender: terms.sender,
            recipient: terms.recipient,
            purpose: terms.purpose,
            services: terms.services.iter().copied().collect(),
            urgency: terms.urgency,
            minor_band: terms.minor_band,
            paths: paths.collect(),
            state: ReferralState::Submitted,
            rejection: None,
            outcome: None,
            previous: terms.previous.map(|(id, _)| id),
            submitted,
            respond_by: time(wire.respond_by_time.as_ref())?,
            steps: Vec::new(),
            verified: submission.verified,
            submission: submission.sha256,
            newest: submission.sha256,
        };
        for envelope in &wire.transitions {
            // When a step was recorded is not told.
            let step = self.told::<ReferralTransition>(Server::Gateway, envelope, None)?;
            seen.take(step)?;
        }
        // A suspension is the one thing that is nobody's statement: it follows from a withdrawal.
        let suspended = wire.state() == ReferralState::Suspended;
        if wire.state() != seen.state && !(suspended && amanat_policy::is_open(seen.state)) {
            return Err(untrustworthy("a state that no signed step led to"));
        }
        seen.state = wire.state();
        Ok(seen)
    }
}

impl ReferralSeen {
    /// Moves on by one signed step, if it follows and its signer may take it.
    fn take(&mut self, step: Told<ReferralTransition>) -> Result<(), ConnectorError> {
        let actor = match step.agency {
            signer if signer == self.recipient => Actor::Recipient,
            signer if signer == self.sender => Actor::Sender,
            _ => return Err(untrustworthy("a step of a stranger")),
        };
        let id = ReferralId::parse(&step.message.referral_id);
        let is_of_this = id == Ok(self.referral) && step.case == self.case;
        if !is_of_this || step.follows != Some(self.newest) {
            return Err(untrustworthy("a step that does not follow"));
        }
        let to = step.message.to_state();
        let state = Move::ALL
            .into_iter()
            .find(|known| known.to() == to)
            .and_then(|known| amanat_policy::next(self.state, known.step(), actor).ok());
        self.state = state.ok_or_else(|| untrustworthy("a step that may not be taken"))?;
        let rejection = step.message.rejection_reason();
        self.rejection = Some(rejection).filter(|why| *why != RejectionReason::Unspecified);
        let outcome = step.message.outcome();
        self.outcome = Some(outcome).filter(|how| *how != ReferralOutcome::Unspecified);
        self.newest = step.sha256;
        self.steps.push(StepSeen {
            agency: step.agency,
            to_state: to,
            signed: step.signed,
            verified: step.verified,
        });
        Ok(())
    }
}

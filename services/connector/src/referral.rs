//! Referrals: submit, move on, list; every step checked to be its agency's own.

use amanat_identity::Signed;
use amanat_policy::{Actor, Step};
use amanat_schema::{
    AgencyId, CaseId, ReferralId, Time, Violation,
    audit::Action,
    catalogue,
    policy::{Purpose, ReferralState},
    record::{MinorBand, Need, Urgency},
    referral::{
        Direction, GetReferralRequest, ListReferralsRequest, RecordedReferral,
        SubmitReferralRequest, TransitionReferralRequest,
    },
    statement::{Referral, ReferralTransition, RejectionReason},
};
use prost::Message as _;

use crate::{
    Connector, ConnectorError, Delivery, Server,
    case::request_id,
    client::with_token,
    jobs::{Asked, Kind},
    pages::Pages,
};

/// A referral to submit.
#[derive(Debug, Clone)]
pub struct NewReferral {
    pub case: CaseId,
    pub recipient: AgencyId,
    pub purpose: Purpose,
    pub services: Vec<Need>,
    pub urgency: Urgency,
    pub minor_band: MinorBand,
    /// The leaf paths that the recipient will need.
    pub paths: Vec<String>,
}

/// A referral that was handed in.
#[derive(Debug, Clone)]
pub struct Referred {
    pub referral: ReferralId,
    pub delivery: Delivery,
}

/// A referral as a party sees it; every signed step verified.
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
    pub submitted: Time,
    pub respond_by: Time,
    /// SHA-256 of the newest signed step.
    newest: [u8; 32],
}

const GATEWAY: &str = "gateway";

impl Connector {
    /// Signs and submits a referral.
    ///
    /// # Errors
    /// [`ConnectorError::Invalid`] for paths that are no leaves; otherwise as for any delivery.
    pub async fn submit_referral(&self, new: &NewReferral) -> Result<Referred, ConnectorError> {
        let unknown = new.paths.iter().enumerate();
        let unknown = unknown.filter(|(_, path)| catalogue::by_path(path).is_none());
        let violations: Vec<_> = unknown
            .map(|(at, _)| Violation {
                path: format!("fields[{at}]"),
                expected: "a leaf of the shared record".to_owned(),
            })
            .collect();
        if !violations.is_empty() {
            return Err(ConnectorError::Invalid(violations));
        }
        let referral = ReferralId::new(amanat_seal::random()?);
        let statement = self.signer.sign(new.case, None, |head| Referral {
            head: Some(head),
            referral_id: referral.to_vec(),
            recipient_id: new.recipient.to_vec(),
            purpose: new.purpose.into(),
            services: new.services.iter().map(|need| i32::from(*need)).collect(),
            urgency: new.urgency.into(),
            minor_band: new.minor_band.into(),
            paths: new.paths.clone(),
            previous_referral_id: Vec::new(),
        })?;
        let request = SubmitReferralRequest {
            request_id: request_id()?,
            referral: Some(statement),
        };
        let requests = vec![request.encode_to_vec()];
        let delivery = self
            .deliver_now(Kind::Referral, &referral.to_string(), requests)
            .await?;
        Ok(Referred { referral, delivery })
    }

    /// Tells the sender that the referral was seen.
    ///
    /// # Errors
    /// As for any delivery.
    pub async fn acknowledge_referral(&self, id: ReferralId) -> Result<Delivery, ConnectorError> {
        self.transition(id, Kind::Acknowledgement, ReferralState::Acknowledged, None)
            .await
    }

    /// Takes the case; its content opens.
    ///
    /// # Errors
    /// As for any delivery.
    pub async fn accept_referral(&self, id: ReferralId) -> Result<Delivery, ConnectorError> {
        self.transition(id, Kind::Acceptance, ReferralState::Accepted, None)
            .await
    }

    /// Declines, with a reason.
    ///
    /// # Errors
    /// As for any delivery.
    pub async fn reject_referral(
        &self,
        id: ReferralId,
        reason: RejectionReason,
    ) -> Result<Delivery, ConnectorError> {
        self.transition(id, Kind::Rejection, ReferralState::Rejected, Some(reason))
            .await
    }

    /// One referral of this agency's.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`]; [`ConnectorError::Untrustworthy`] if a step is not signed by its agency
    /// or does not follow the one before.
    pub async fn get_referral(&self, id: ReferralId) -> Result<ReferralSeen, ConnectorError> {
        let request = GetReferralRequest {
            referral_id: id.to_vec(),
        };
        let asked = Asked::of(Server::Gateway, Action::GetReferral, &request);
        let request = with_token(request, &self.signer.token()?)?;
        let answer = self
            .servers
            .referrals()
            .get_referral(request)
            .await?
            .into_inner();
        self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
        let seen = self.seen_referral(&answer.referral.unwrap_or_default())?;
        if seen.referral == id {
            Ok(seen)
        } else {
            Err(untrustworthy("another referral"))
        }
    }

    /// What this agency sent or received.
    ///
    /// # Errors
    /// As [`Connector::get_referral`].
    pub async fn list_referrals(
        &self,
        direction: Direction,
    ) -> Result<Vec<ReferralSeen>, ConnectorError> {
        let mut referrals = Vec::new();
        let mut pages = Pages::default();
        loop {
            let request = ListReferralsRequest {
                direction: direction.into(),
                state: ReferralState::Unspecified.into(),
                page_size: 0,
                page_token: pages.token(),
                ..ListReferralsRequest::default()
            };
            let asked = Asked::of(Server::Gateway, Action::ListReferrals, &request);
            let request = with_token(request, &self.signer.token()?)?;
            let answer = self
                .servers
                .referrals()
                .list_referrals(request)
                .await?
                .into_inner();
            self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
            for referral in &answer.referrals {
                referrals.push(self.seen_referral(referral)?);
            }
            if !pages.next(GATEWAY, answer.next_page_token)? {
                return Ok(referrals);
            }
        }
    }

    async fn transition(
        &self,
        id: ReferralId,
        kind: Kind,
        to: ReferralState,
        reason: Option<RejectionReason>,
    ) -> Result<Delivery, ConnectorError> {
        let seen = self.get_referral(id).await?;
        let step = self
            .signer
            .sign(seen.case, Some(seen.newest), |head| ReferralTransition {
                head: Some(head),
                referral_id: id.to_vec(),
                to_state: to.into(),
                rejection_reason: reason.unwrap_or_default().into(),
                outcome: 0,
            })?;
        let request = TransitionReferralRequest {
            request_id: request_id()?,
            transition: Some(step),
        };
        self.deliver_now(kind, &id.to_string(), vec![request.encode_to_vec()])
            .await
    }

    /// Checks the sender's submission and each step after it.
    fn seen_referral(&self, wire: &RecordedReferral) -> Result<ReferralSeen, ConnectorError> {
        let submission = wire
            .submission
            .as_ref()
            .ok_or_else(|| untrustworthy("no submission"))?;
        let signed = Signed::<Referral>::verify_envelope(submission, &self.directory)?;
        let terms = amanat_policy::parse_referral(signed.message())
            .map_err(|_| untrustworthy("a submission that is not valid"))?;
        let mut newest = *signed.payload_sha256();
        let mut state = ReferralState::Submitted;
        let mut rejection = None;
        for envelope in &wire.transitions {
            let step = Signed::<ReferralTransition>::verify_envelope(envelope, &self.directory)?;
            let follows = step.head().follows == Some(newest);
            let actor = match step.head().agency {
                signer if signer == terms.recipient => Actor::Recipient,
                signer if signer == terms.sender => Actor::Sender,
                _ => return Err(untrustworthy("a step of a stranger")),
            };
            let id = ReferralId::parse(&step.message().referral_id);
            if !follows || id != Ok(terms.referral) {
                return Err(untrustworthy("a step that does not follow"));
            }
            state = after(state, step.message().to_state(), actor)
                .ok_or_else(|| untrustworthy("a step that may not be taken"))?;
            let reason = step.message().rejection_reason();
            rejection = Some(reason).filter(|reason| *reason != RejectionReason::Unspecified);
            newest = *step.payload_sha256();
        }
        // A suspension is the one thing that is nobody's statement: it follows from a withdrawal.
        if wire.state() != state && wire.state() != ReferralState::Suspended {
            return Err(untrustworthy("a state that no signed step led to"));
        }
        let time = |t| Time::parse(t).map_err(|_| untrustworthy("a malformed referral"));
        Ok(ReferralSeen {
            referral: terms.referral,
            case: terms.case,
            sender: terms.sender,
            recipient: terms.recipient,
            purpose: terms.purpose,
            services: terms.services.iter().copied().collect(),
            urgency: terms.urgency,
            minor_band: terms.minor_band,
            paths: terms
                .paths
                .iter()
                .map(|field| field.field().path.to_owned())
                .collect(),
            state: wire.state(),
            rejection,
            submitted: time(wire.submit_time.as_ref())?,
            respond_by: time(wire.respond_by_time.as_ref())?,
            newest,
        })
    }
}

/// The state that a party's signed step leads to, if it may be taken.
fn after(state: ReferralState, to: ReferralState, actor: Actor) -> Option<ReferralState> {
    let step = match to {
        ReferralState::Acknowledged => Step::Acknowledge,
        ReferralState::Accepted => Step::Accept,
        ReferralState::Rejected => Step::Reject,
        ReferralState::InService => Step::Start,
        ReferralState::Completed => Step::Complete,
        ReferralState::Revoked => Step::Revoke,
        ReferralState::Unspecified | ReferralState::Submitted | ReferralState::Suspended => {
            return None;
        }
    };
    amanat_policy::next(state, step, actor).ok()
}

fn untrustworthy(what: &str) -> ConnectorError {
    ConnectorError::untrustworthy(GATEWAY, what)
}

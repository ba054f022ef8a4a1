//! Referrals: submit, move on, list; every step checked to be its agency's own.

mod seen;

use amanat_policy::Step;
use amanat_schema::{
    AgencyId, CaseId, ReferralId, Violation,
    audit::Action,
    catalogue,
    policy::{Purpose, ReferralState},
    record::{MinorBand, Need, Urgency},
    referral::{
        Direction, GetReferralRequest, ListReferralsRequest, SubmitReferralRequest,
        TransitionReferralRequest, TransitionReferralResponse,
    },
    statement::{Referral, ReferralOutcome, ReferralTransition, RejectionReason},
};
use prost::Message as _;

use crate::{
    Connector, ConnectorError, Delivery, Server,
    case::request_id,
    client::with_token,
    jobs::{Asked, Kind},
    pages::{self, Pages},
};

pub use seen::{ReferralSeen, StepSeen};

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
    /// Of a resubmission: the open ones that took the same referral up before, oldest first.
    pub also_open: Vec<ReferralId>,
}

/// What differs when a closed referral is taken up again; the rest is as it was.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub recipient: Option<AgencyId>,
    pub purpose: Option<Purpose>,
    pub services: Option<Vec<Need>>,
    pub urgency: Option<Urgency>,
    pub paths: Option<Vec<String>>,
}

/// Which referrals to list.
#[derive(Debug, Clone)]
pub struct ReferralQuery {
    pub direction: Direction,
    pub state: Option<ReferralState>,
    pub case: Option<CaseId>,
    /// Only those that their recipient should have answered by now and has not.
    pub overdue: bool,
    /// At most this many; all of them if absent.
    pub limit: Option<usize>,
}

impl From<Direction> for ReferralQuery {
    /// All that was received or sent.
    fn from(direction: Direction) -> Self {
        Self {
            direction,
            state: None,
            case: None,
            overdue: false,
            limit: None,
        }
    }
}

/// A step that a party of a referral signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    Acknowledge,
    Accept,
    Reject,
    Start,
    Complete,
    Revoke,
}

impl Move {
    pub(crate) const ALL: [Self; 6] = [
        Self::Acknowledge,
        Self::Accept,
        Self::Reject,
        Self::Start,
        Self::Complete,
        Self::Revoke,
    ];

    /// Of a delivery.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledgement",
            Self::Accept => "acceptance",
            Self::Reject => "rejection",
            Self::Start => "start of service",
            Self::Complete => "completion",
            Self::Revoke => "revocation",
        }
    }

    pub(crate) const fn action(self) -> Action {
        match self {
            Self::Acknowledge => Action::AcknowledgeReferral,
            Self::Accept => Action::AcceptReferral,
            Self::Reject => Action::RejectReferral,
            Self::Start => Action::StartService,
            Self::Complete => Action::CompleteReferral,
            Self::Revoke => Action::RevokeReferral,
        }
    }

    const fn to(self) -> ReferralState {
        match self {
            Self::Acknowledge => ReferralState::Acknowledged,
            Self::Accept => ReferralState::Accepted,
            Self::Reject => ReferralState::Rejected,
            Self::Start => ReferralState::InService,
            Self::Complete => ReferralState::Completed,
            Self::Revoke => ReferralState::Revoked,
        }
    }

    const fn step(self) -> Step {
        match self {
            Self::Acknowledge => Step::Acknowledge,
            Self::Accept => Step::Accept,
            Self::Reject => Step::Reject,
            Self::Start => Step::Start,
            Self::Complete => Step::Complete,
            Self::Revoke => Step::Revoke,
        }
    }
}

const GATEWAY: &str = "gateway";

impl Connector {
    /// Signs and submits a referral.
    ///
    /// # Errors
    /// [`ConnectorError::Invalid`] for paths that are no leaves; otherwise as for any delivery.
    pub async fn submit_referral(&self, new: &NewReferral) -> Result<Referred, ConnectorError> {
        self.submit_after(new, None).await
    }

    /// Takes up a closed referral of this agency's by a new one, to the same recipient and on the same terms
    /// but for `changes`. The closed one stays as it is.
    ///
    /// # Errors
    /// [`ConnectorError::Input`] if another agency sent it, or its signature can no longer be checked;
    /// otherwise as for any delivery.
    pub async fn resubmit_referral(
        &self,
        id: ReferralId,
        changes: &Changes,
    ) -> Result<Referred, ConnectorError> {
        let seen = self.get_referral(id).await?;
        if seen.sender != self.profile.agency {
            return Err(ConnectorError::Unfit {
                what: "only its sender takes a referral up again".to_owned(),
                next: "ask its sender to, or submit one of your own with `amanat refer submit`",
            });
        }
        if !seen.verified {
            // Or the gateway could put terms into this agency's mouth, to be signed by a key that counts.
            return Err(ConnectorError::Unfit {
                what: "its signature can no longer be checked".to_owned(),
                next: "submit a new one with `amanat refer submit`",
            });
        }
        let also_open = self.taken_up(&seen).await?;
        let new = NewReferral {
            case: seen.case,
            recipient: changes.recipient.unwrap_or(seen.recipient),
            purpose: changes.purpose.unwrap_or(seen.purpose),
            services: changes.services.clone().unwrap_or(seen.services),
            urgency: changes.urgency.unwrap_or(seen.urgency),
            minor_band: seen.minor_band,
            paths: changes.paths.clone().unwrap_or(seen.paths),
        };
        let referred = self.submit_after(&new, Some((id, seen.submission)));
        Ok(Referred {
            also_open,
            ..referred.await?
        })
    }

    /// The open referrals that take up a closed one, oldest first.
    async fn taken_up(&self, closed: &ReferralSeen) -> Result<Vec<ReferralId>, ConnectorError> {
        let query = ReferralQuery {
            case: Some(closed.case),
            ..ReferralQuery::from(Direction::Sent)
        };
        let sent = self.list_referrals(query).await?.into_iter();
        let open = sent.filter(|sent| {
            sent.previous == Some(closed.referral) && amanat_policy::is_open(sent.state)
        });
        Ok(open.map(|sent| sent.referral).collect())
    }

    async fn submit_after(
        &self,
        new: &NewReferral,
        previous: Option<(ReferralId, [u8; 32])>,
    ) -> Result<Referred, ConnectorError> {
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
        let follows = previous.map(|(_, sha256)| sha256);
        let statement = self
            .session()?
            .signer
            .sign(new.case, follows, |head| Referral {
                head: Some(head),
                referral_id: referral.to_vec(),
                recipient_id: new.recipient.to_vec(),
                purpose: new.purpose.into(),
                services: new.services.iter().map(|need| i32::from(*need)).collect(),
                urgency: new.urgency.into(),
                minor_band: new.minor_band.into(),
                paths: new.paths.clone(),
                previous_referral_id: previous.map(|(id, _)| id.to_vec()).unwrap_or_default(),
            })?;
        let request = SubmitReferralRequest {
            request_id: request_id()?,
            referral: Some(statement),
        };
        let requests = vec![request.encode_to_vec()];
        let delivery = self
            .deliver_now(Kind::Referral, &referral.to_string(), requests)
            .await?;
        Ok(Referred {
            referral,
            delivery,
            also_open: Vec::new(),
        })
    }

    /// Tells the sender that the referral was seen.
    ///
    /// # Errors
    /// As for any delivery.
    pub async fn acknowledge_referral(&self, id: ReferralId) -> Result<Delivery, ConnectorError> {
        self.transition(id, Move::Acknowledge, None, None).await
    }

    /// Takes the case; its content opens.
    ///
    /// # Errors
    /// As for any delivery.
    pub async fn accept_referral(&self, id: ReferralId) -> Result<Delivery, ConnectorError> {
        self.transition(id, Move::Accept, None, None).await
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
        self.transition(id, Move::Reject, Some(reason), None).await
    }

    /// Begins to serve her.
    ///
    /// # Errors
    /// As for any delivery.
    pub async fn start_service(&self, id: ReferralId) -> Result<Delivery, ConnectorError> {
        self.transition(id, Move::Start, None, None).await
    }

    /// Ends the service, with its outcome; content closes.
    ///
    /// # Errors
    /// As for any delivery.
    pub async fn complete_referral(
        &self,
        id: ReferralId,
        outcome: ReferralOutcome,
    ) -> Result<Delivery, ConnectorError> {
        self.transition(id, Move::Complete, None, Some(outcome))
            .await
    }

    /// Takes back what this agency sent; content closes. The recipient need not be there any more.
    ///
    /// # Errors
    /// As for any delivery.
    pub async fn revoke_referral(&self, id: ReferralId) -> Result<Delivery, ConnectorError> {
        self.transition(id, Move::Revoke, None, None).await
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
        let session = self.session()?;
        let request = with_token(request, &session.signer.token()?)?;
        let answer = session
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

    /// What this agency sent or received, oldest first.
    ///
    /// # Errors
    /// As [`Connector::get_referral`].
    pub async fn list_referrals(
        &self,
        query: impl Into<ReferralQuery>,
    ) -> Result<Vec<ReferralSeen>, ConnectorError> {
        let query = query.into();
        let mut referrals = Vec::new();
        let mut pages = Pages::default();
        while let Some(page_size) = pages::size(query.limit, referrals.len()) {
            let request = ListReferralsRequest {
                direction: query.direction.into(),
                state: query.state.unwrap_or_default().into(),
                page_size,
                page_token: pages.token(),
                case_id: query.case.map(CaseId::to_vec).unwrap_or_default(),
                overdue: query.overdue,
            };
            let asked = Asked::of(Server::Gateway, Action::ListReferrals, &request);
            let session = self.session()?;
            let request = with_token(request, &session.signer.token()?)?;
            let answer = session
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
                break;
            }
        }
        Ok(referrals)
    }

    async fn transition(
        &self,
        id: ReferralId,
        step: Move,
        reason: Option<RejectionReason>,
        outcome: Option<ReferralOutcome>,
    ) -> Result<Delivery, ConnectorError> {
        let seen = self.get_referral(id).await?;
        if step == Move::Accept && !seen.verified {
            return Err(untrustworthy(
                "its sender's signature can no longer be checked; ask the sender to submit it again",
            ));
        }
        let newest = Some(seen.newest);
        let statement =
            self.session()?
                .signer
                .sign(seen.case, newest, |head| ReferralTransition {
                    head: Some(head),
                    referral_id: id.to_vec(),
                    to_state: step.to().into(),
                    rejection_reason: reason.unwrap_or_default().into(),
                    outcome: outcome.unwrap_or_default().into(),
                })?;
        let request = TransitionReferralRequest {
            request_id: request_id()?,
            transition: Some(statement),
        };
        let requests = vec![request.encode_to_vec()];
        self.deliver_now(Kind::Move(step), &id.to_string(), requests)
            .await
    }

    /// The call of a step.
    pub(crate) async fn move_referral(
        &self,
        step: Move,
        request: TransitionReferralRequest,
    ) -> Result<TransitionReferralResponse, ConnectorError> {
        let mut referrals = self.session()?.servers.referrals();
        let answer = match step {
            Move::Acknowledge => referrals.acknowledge_referral(request).await,
            Move::Accept => referrals.accept_referral(request).await,
            Move::Reject => referrals.reject_referral(request).await,
            Move::Start => referrals.start_service(request).await,
            Move::Complete => referrals.complete_referral(request).await,
            Move::Revoke => referrals.revoke_referral(request).await,
        };
        Ok(answer?.into_inner())
    }
}

fn untrustworthy(what: &str) -> ConnectorError {
    ConnectorError::untrustworthy(GATEWAY, what)
}

//! ReferralService, the edge.

use amanat_desk::{Act, Desk, Pages, Stored};
use amanat_identity::Signed;
use amanat_policy::{ReferralTerms, Step};
use amanat_schema::{
    ReferralId, Violation,
    audit::{Action, Linkage},
    policy::{ReferralState, Right},
    referral::{
        Direction, GetReferralRequest, GetReferralResponse, ListReferralsRequest,
        ListReferralsResponse, RecordedReferral, SubmitReferralRequest, SubmitReferralResponse,
        TransitionReferralRequest, TransitionReferralResponse,
        referral_service_server::ReferralService,
    },
    statement::{Referral, ReferralOutcome, ReferralTransition, RejectionReason},
};
use amanat_server::Refusal;
use tonic::{Request, Response, Status};

use crate::store::{
    Call, Exchange, Reply,
    referral::{GetReferral, ListReferrals, ReferralView, SubmitReferral, TransitionReferral},
};

pub(crate) struct ReferralDesk {
    pub(crate) desk: Desk<Exchange>,
}

const SENDERS: [Right; 1] = [Right::CaseWorker];
const REVOKERS: [Right; 2] = [Right::CaseWorker, Right::Supervisor];
const ACCEPTERS: [Right; 1] = [Right::Accepter];
const PARTIES: [Right; 2] = [Right::CaseWorker, Right::Accepter];

#[tonic::async_trait]
impl ReferralService for ReferralDesk {
    async fn submit_referral(
        &self,
        request: Request<SubmitReferralRequest>,
    ) -> Result<Response<SubmitReferralResponse>, Status> {
        let wire = request.get_ref();
        let (act, signed) = self.desk.delivered::<_, Referral>(
            &request,
            "SubmitReferral",
            &wire.request_id,
            wire.referral.as_ref(),
        )?;
        self.desk
            .authorise(&act, Action::SubmitReferral, &SENDERS, || linkage(&signed))
            .await?;
        let terms = amanat_policy::parse_referral(signed.message()).map_err(Refusal::invalid)?;
        self.capable(&terms)?;
        let submit = SubmitReferral {
            act,
            terms,
            statement: Stored::from(&signed),
            submission: signed.envelope().clone(),
        };
        let answered = self.desk.call(Call::Submit(Box::new(submit))).await?;
        Ok(Response::new(SubmitReferralResponse {
            receipt: Some(answered.receipt),
        }))
    }

    async fn acknowledge_referral(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, Step::Acknowledge).await
    }

    async fn accept_referral(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, Step::Accept).await
    }

    async fn reject_referral(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, Step::Reject).await
    }

    async fn start_service(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, Step::Start).await
    }

    async fn complete_referral(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, Step::Complete).await
    }

    async fn revoke_referral(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, Step::Revoke).await
    }

    async fn list_referrals(
        &self,
        request: Request<ListReferralsRequest>,
    ) -> Result<Response<ListReferralsResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::ListReferrals, &PARTIES, Linkage::default)
            .await?;
        let pages = self.desk.pages(act.agency, "ListReferrals");
        let list = parse_list(act, request.get_ref(), &pages).map_err(Refusal::invalid)?;
        let answered = self.desk.call(Call::Referrals(list)).await?;
        let Reply::Referrals { referrals, next } = answered.reply else {
            // A list is answered with a list.
            return Err(Refusal::audit_unavailable().into());
        };
        Ok(Response::new(ListReferralsResponse {
            referrals: referrals.into_iter().map(render).collect(),
            next_page_token: pages.token(next)?,
            receipt: Some(answered.receipt),
        }))
    }

    async fn get_referral(
        &self,
        request: Request<GetReferralRequest>,
    ) -> Result<Response<GetReferralResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::GetReferral, &PARTIES, Linkage::default)
            .await?;
        let referral = ReferralId::parse(&request.get_ref().referral_id)
            .map_err(|_| Refusal::field("referral_id", "16 bytes"))?;
        let answered = self
            .desk
            .call(Call::Referral(GetReferral { act, referral }))
            .await?;
        let Reply::Referral(view) = answered.reply else {
            // A get is answered with a referral.
            return Err(Refusal::audit_unavailable().into());
        };
        Ok(Response::new(GetReferralResponse {
            referral: Some(render(*view)),
            receipt: Some(answered.receipt),
        }))
    }
}

impl ReferralDesk {
    async fn transition(
        &self,
        request: Request<TransitionReferralRequest>,
        step: Step,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        let (method, action, to, rights) = match step {
            Step::Acknowledge => (
                "AcknowledgeReferral",
                Action::AcknowledgeReferral,
                ReferralState::Acknowledged,
                &PARTIES[..],
            ),
            Step::Accept => (
                "AcceptReferral",
                Action::AcceptReferral,
                ReferralState::Accepted,
                &ACCEPTERS[..],
            ),
            Step::Start => (
                "StartService",
                Action::StartService,
                ReferralState::InService,
                &PARTIES[..],
            ),
            Step::Complete => (
                "CompleteReferral",
                Action::CompleteReferral,
                ReferralState::Completed,
                &PARTIES[..],
            ),
            Step::Revoke => (
                "RevokeReferral",
                Action::RevokeReferral,
                ReferralState::Revoked,
                &REVOKERS[..],
            ),
            // A suspension is no agency's statement; it follows from a withdrawal.
            Step::Reject | Step::Suspend => (
                "RejectReferral",
                Action::RejectReferral,
                ReferralState::Rejected,
                &ACCEPTERS[..],
            ),
        };
        let wire = request.get_ref();
        let (act, signed) = self.desk.delivered::<_, ReferralTransition>(
            &request,
            method,
            &wire.request_id,
            wire.transition.as_ref(),
        )?;
        let case = signed.head().case;
        let linkage = || Linkage {
            case_id: case.to_vec(),
            ..Linkage::default()
        };
        self.desk.authorise(&act, action, rights, linkage).await?;
        let referral = parse_transition(signed.message(), to).map_err(Refusal::invalid)?;
        let statement = Stored::from(&signed);
        let call = TransitionReferral {
            act,
            action,
            step,
            case,
            referral,
            statement,
        };
        let answered = self.desk.call(Call::Transition(Box::new(call))).await?;
        Ok(Response::new(TransitionReferralResponse {
            receipt: Some(answered.receipt),
        }))
    }

    /// The recipient is of the directory and offers every service.
    fn capable(&self, terms: &ReferralTerms) -> Result<(), Refusal> {
        let rules = self.desk.rules.current();
        let Some(recipient) = rules.directory.agency(terms.recipient) else {
            return Err(Refusal::field(
                "referral.recipient_id",
                "an agency of the directory",
            ));
        };
        let missing = terms
            .services
            .iter()
            .filter(|service| !recipient.services.contains(service));
        let violations: Vec<_> = missing
            .map(|service| Violation {
                path: "referral.services".to_owned(),
                expected: format!(
                    "services that the recipient offers, not {}",
                    service.as_str_name()
                ),
            })
            .collect();
        if violations.is_empty() {
            Ok(())
        } else {
            Err(Refusal::invalid(violations))
        }
    }
}

fn parse_transition(
    wire: &ReferralTransition,
    to: ReferralState,
) -> Result<ReferralId, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut check = |holds: bool, path: &str, expected: &str| {
        if !holds {
            let (path, expected) = (format!("transition.{path}"), expected.to_owned());
            violations.push(Violation { path, expected });
        }
    };
    let referral = ReferralId::parse(&wire.referral_id);
    check(referral.is_ok(), "referral_id", "16 bytes");
    check(
        wire.to_state() == to,
        "to_state",
        "the state that this call leads to",
    );
    let has_reason = wire.rejection_reason() != RejectionReason::Unspecified;
    let needs_reason = to == ReferralState::Rejected;
    check(
        has_reason == needs_reason,
        "rejection_reason",
        "a reason with a rejection, and only then",
    );
    let has_outcome = wire.outcome() != ReferralOutcome::Unspecified;
    check(
        has_outcome == (to == ReferralState::Completed),
        "outcome",
        "an outcome with a completion, and only then",
    );
    match referral {
        Ok(referral) if violations.is_empty() => Ok(referral),
        _ => Err(violations),
    }
}

fn parse_list(
    act: Act,
    wire: &ListReferralsRequest,
    pages: &Pages<'_>,
) -> Result<ListReferrals, Vec<Violation>> {
    let direction = match wire.direction() {
        Direction::Unspecified => Err(Violation {
            path: "direction".to_owned(),
            expected: "RECEIVED or SENT".to_owned(),
        }),
        direction @ (Direction::Received | Direction::Sent) => Ok(direction),
    };
    let state = Some(wire.state()).filter(|state| *state != ReferralState::Unspecified);
    match (direction, pages.parse(wire.page_size, &wire.page_token)) {
        (Ok(direction), Ok(page)) => Ok(ListReferrals {
            act,
            direction,
            state,
            page,
        }),
        (direction, page) => Err(direction.err().into_iter().chain(page.err()).collect()),
    }
}

fn render(view: ReferralView) -> RecordedReferral {
    RecordedReferral {
        submission: Some(view.submission),
        transitions: view.transitions,
        state: view.state.into(),
        submit_time: Some(view.submitted.to_timestamp()),
        respond_by_time: Some(view.respond_by.to_timestamp()),
    }
}

fn linkage(signed: &Signed<Referral>) -> Linkage {
    Linkage {
        case_id: signed.head().case.to_vec(),
        ..Linkage::default()
    }
}

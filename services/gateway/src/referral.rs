//! ReferralService, the edge.

use amanat_desk::{Act, Desk, Filters, Pages, Stored};
use amanat_policy::{ReferralTerms, Step};
use amanat_schema::{
    CaseId, ReferralId, Time, Violation,
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
const PARTIES: [Right; 2] = [Right::CaseWorker, Right::Accepter];

/// A call that moves a referral on.
struct Move {
    method: &'static str,
    action: Action,
    step: Step,
    to: ReferralState,
    rights: &'static [Right],
}

const ACKNOWLEDGE: Move = Move {
    method: "AcknowledgeReferral",
    action: Action::AcknowledgeReferral,
    step: Step::Acknowledge,
    to: ReferralState::Acknowledged,
    rights: &PARTIES,
};
const ACCEPT: Move = Move {
    method: "AcceptReferral",
    action: Action::AcceptReferral,
    step: Step::Accept,
    to: ReferralState::Accepted,
    rights: &[Right::Accepter],
};
const REJECT: Move = Move {
    method: "RejectReferral",
    action: Action::RejectReferral,
    step: Step::Reject,
    to: ReferralState::Rejected,
    rights: &[Right::Accepter],
};
const START: Move = Move {
    method: "StartService",
    action: Action::StartService,
    step: Step::Start,
    to: ReferralState::InService,
    rights: &PARTIES,
};
const COMPLETE: Move = Move {
    method: "CompleteReferral",
    action: Action::CompleteReferral,
    step: Step::Complete,
    to: ReferralState::Completed,
    rights: &PARTIES,
};
const REVOKE: Move = Move {
    method: "RevokeReferral",
    action: Action::RevokeReferral,
    step: Step::Revoke,
    to: ReferralState::Revoked,
    rights: &[Right::CaseWorker, Right::Supervisor],
};

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
            .authorise(&act, Action::SubmitReferral, &SENDERS, || {
                of_case(signed.head().case)
            })
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
        self.transition(request, &ACKNOWLEDGE).await
    }

    async fn accept_referral(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, &ACCEPT).await
    }

    async fn reject_referral(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, &REJECT).await
    }

    async fn start_service(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, &START).await
    }

    async fn complete_referral(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, &COMPLETE).await
    }

    async fn revoke_referral(
        &self,
        request: Request<TransitionReferralRequest>,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        self.transition(request, &REVOKE).await
    }

    async fn list_referrals(
        &self,
        request: Request<ListReferralsRequest>,
    ) -> Result<Response<ListReferralsResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::ListReferrals, &PARTIES, Linkage::default)
            .await?;
        let (wire, now) = (request.get_ref(), (self.desk.guard.clock)());
        let pages = self.desk.pages(act.agency, wire);
        let list = parse_list(act, wire, &pages, now).map_err(Refusal::invalid)?;
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
        asked: &Move,
    ) -> Result<Response<TransitionReferralResponse>, Status> {
        let wire = request.get_ref();
        let (act, signed) = self.desk.delivered::<_, ReferralTransition>(
            &request,
            asked.method,
            &wire.request_id,
            wire.transition.as_ref(),
        )?;
        let case = signed.head().case;
        let linkage = || of_case(case);
        self.desk
            .authorise(&act, asked.action, asked.rights, linkage)
            .await?;
        let referral = parse_transition(signed.message(), asked.to).map_err(Refusal::invalid)?;
        let call = TransitionReferral {
            act,
            action: asked.action,
            step: asked.step,
            case,
            referral,
            statement: Stored::from(&signed),
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
    let is_reason = |number| RejectionReason::try_from(number).is_ok_and(|_| number != 0);
    let reason = wire.rejection_reason;
    check(
        if to == ReferralState::Rejected {
            is_reason(reason)
        } else {
            reason == 0
        },
        "rejection_reason",
        "a reason with a rejection, and only then",
    );
    let is_outcome = |number| ReferralOutcome::try_from(number).is_ok_and(|_| number != 0);
    let outcome = wire.outcome;
    check(
        if to == ReferralState::Completed {
            is_outcome(outcome)
        } else {
            outcome == 0
        },
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
    now: Time,
) -> Result<ListReferrals, Vec<Violation>> {
    let mut filters = Filters::default();
    let direction = wire.direction();
    let is_one = direction != Direction::Unspecified;
    filters.that(is_one, "direction", "RECEIVED or SENT");
    let state = filters.code("state", wire.state);
    let case = filters.id("case_id", &wire.case_id, CaseId::parse);
    let page = pages.parse(wire.page_size, &wire.page_token);
    filters.finish(page, |page| ListReferrals {
        act,
        direction,
        state,
        case,
        overdue_at: wire.overdue.then_some(now),
        page,
    })
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

fn of_case(case: CaseId) -> Linkage {
    Linkage {
        case_id: case.to_vec(),
        ..Linkage::default()
    }
}

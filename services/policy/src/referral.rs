//! A referral's states, who moves it between them, and the terms of its submission.

use std::{collections::BTreeSet, time::Duration};

use amanat_schema::{
    AgencyId, CaseId, ReferralId, Violation,
    catalogue::FieldId,
    policy::{Purpose, ReferralState},
    record::{MinorBand, Need, Urgency},
    statement::Referral,
};

use crate::check::Check;

/// More than the shared record has leaves.
const MOST_PATHS: usize = 200;

/// What moves a referral on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Acknowledge,
    Accept,
    Reject,
    /// The recipient begins to serve her.
    Start,
    Complete,
    /// The sender takes it back.
    Revoke,
    /// A consent that it rests on was withdrawn.
    Suspend,
}

impl Step {
    const fn word(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Start => "start the service of",
            Self::Complete => "complete",
            Self::Revoke => "revoke",
            Self::Suspend => "suspend",
        }
    }
}

/// Which party of the referral acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    Sender,
    Recipient,
}

impl Actor {
    const fn word(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Recipient => "recipient",
        }
    }
}

/// A step that the referral's state or the acting party does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {} may not {} a referral that is {}{}",
    actor.word(),
    step.word(),
    state.as_str_name().trim_start_matches("REFERRAL_STATE_"),
    advice(*state, *step, *actor)
)]
pub struct IllegalTransition {
    pub state: ReferralState,
    pub step: Step,
    pub actor: Actor,
}

/// What to do instead, where there is one thing; nothing after a referral that is over.
fn advice(state: ReferralState, step: Step, actor: Actor) -> &'static str {
    match (state, step, actor) {
        (
            open,
            Step::Acknowledge | Step::Accept | Step::Reject | Step::Start | Step::Complete,
            Actor::Sender,
        ) if is_open(open) => ": only its recipient may",
        (open, Step::Revoke, Actor::Recipient)
            if is_open(open) || open == ReferralState::Suspended =>
        {
            ": only its sender may"
        }
        (
            ReferralState::Submitted,
            Step::Accept | Step::Reject | Step::Start | Step::Complete,
            Actor::Recipient,
        ) => ": acknowledge it first",
        (ReferralState::Acknowledged, Step::Start | Step::Complete, Actor::Recipient) => {
            ": accept it first"
        }
        (ReferralState::Accepted, Step::Complete, Actor::Recipient) => ": start the service first",
        _ => "",
    }
}

/// The state after a step.
///
/// # Errors
/// [`IllegalTransition`]; the referral stays as it is.
pub fn next(
    state: ReferralState,
    step: Step,
    actor: Actor,
) -> Result<ReferralState, IllegalTransition> {
    match (state, step, actor) {
        (ReferralState::Submitted, Step::Acknowledge, Actor::Recipient) => {
            Ok(ReferralState::Acknowledged)
        }
        (ReferralState::Acknowledged, Step::Accept, Actor::Recipient) => {
            Ok(ReferralState::Accepted)
        }
        (ReferralState::Acknowledged, Step::Reject, Actor::Recipient) => {
            Ok(ReferralState::Rejected)
        }
        (ReferralState::Accepted, Step::Start, Actor::Recipient) => Ok(ReferralState::InService),
        (ReferralState::InService, Step::Complete, Actor::Recipient) => {
            Ok(ReferralState::Completed)
        }
        (open, Step::Revoke, Actor::Sender) if is_open(open) => Ok(ReferralState::Revoked),
        // Closed for want of consent, it can still be taken back.
        (ReferralState::Suspended, Step::Revoke, Actor::Sender) => Ok(ReferralState::Revoked),
        // Either party may hand in a withdrawal.
        (open, Step::Suspend, Actor::Sender | Actor::Recipient) if is_open(open) => {
            Ok(ReferralState::Suspended)
        }
        (state, step, actor) => Err(IllegalTransition { state, step, actor }),
    }
}

/// Whether anything can still happen to it.
pub fn is_open(state: ReferralState) -> bool {
    match state {
        ReferralState::Submitted
        | ReferralState::Acknowledged
        | ReferralState::Accepted
        | ReferralState::InService => true,
        ReferralState::Unspecified
        | ReferralState::Rejected
        | ReferralState::Suspended
        | ReferralState::Completed
        | ReferralState::Revoked => false,
    }
}

/// Whether it is over, or stands still for want of consent: then it may be taken up again by a new one.
pub fn is_closed(state: ReferralState) -> bool {
    state != ReferralState::Unspecified && !is_open(state)
}

/// The states in which the recipient still owes its answer.
pub const UNANSWERED: [ReferralState; 2] = [ReferralState::Submitted, ReferralState::Acknowledged];

/// The states in which the recipient may read.
pub const OPENING: [ReferralState; 2] = [ReferralState::Accepted, ReferralState::InService];

/// Whether the recipient may read: before, it has the sender's submission to answer by and nothing else.
pub fn opens_content(state: ReferralState) -> bool {
    OPENING.contains(&state)
}

/// How long after the submission the recipient must have accepted or rejected.
pub fn respond_within(urgency: Urgency) -> Duration {
    let hours = match urgency {
        // A parsed referral is never unspecified; if one were, it should not wait.
        Urgency::Emergency | Urgency::Unspecified => 1,
        Urgency::Urgent => 3,
        Urgency::Priority => 24,
        Urgency::Routine => 3 * 24,
    };
    Duration::from_hours(hours)
}

/// A sender's submission, checked by [`parse_referral`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferralTerms {
    pub referral: ReferralId,
    pub case: CaseId,
    pub sender: AgencyId,
    pub recipient: AgencyId,
    pub purpose: Purpose,
    pub services: BTreeSet<Need>,
    pub urgency: Urgency,
    pub minor_band: MinorBand,
    /// What the recipient will need, ROUTING leaves included.
    pub paths: BTreeSet<FieldId>,
    /// The closed referral that this one takes up again, and the SHA-256 of its submission.
    pub previous: Option<(ReferralId, [u8; 32])>,
}

/// Checks a referral statement's own terms; whether the recipient offers the services and whether each
/// sealed path has a basis is for the caller.
///
/// # Errors
/// Every [`Violation`], by the path in the statement; never a value of it.
pub fn parse_referral(referral: &Referral) -> Result<ReferralTerms, Vec<Violation>> {
    let mut check = Check::new("referral");
    // A missing head is reported as its missing ids.
    let head = referral.head.clone().unwrap_or_default();
    let case = check.id(CaseId::parse(&head.case_id), "head.case_id");
    let sender = check.id(AgencyId::parse(&head.agency_id), "head.agency_id");
    let id = check.id(ReferralId::parse(&referral.referral_id), "referral_id");
    let recipient = check.id(AgencyId::parse(&referral.recipient_id), "recipient_id");
    check.that(
        recipient.is_none() || recipient != sender,
        "recipient_id",
        "another agency than the sender",
    );

    let purpose = check.purpose(referral.purpose());
    let services = parse_services(&mut check, &referral.services);
    let urgency = Some(referral.urgency()).filter(|urgency| *urgency != Urgency::Unspecified);
    let urgency = check.some(urgency, "urgency", "an urgency");
    let minor_band = Some(referral.minor_band()).filter(|band| *band != MinorBand::Unspecified);
    let minor_band = check.some(minor_band, "minor_band", "a minor band");
    check.that(
        referral.paths.len() <= MOST_PATHS,
        "paths",
        "at most 200 paths",
    );
    let paths = check.paths(&referral.paths, |_| true, "a leaf of the shared record");
    let previous = parse_previous(&mut check, &referral.previous_referral_id, &head.follows);
    check.that(
        id.is_none() || previous.is_none_or(|(previous, _)| Some(previous) != id),
        "previous_referral_id",
        "another referral than this one",
    );

    let terms = || {
        Some(ReferralTerms {
            referral: id?,
            case: case?,
            sender: sender?,
            recipient: recipient?,
            purpose: purpose?,
            services,
            urgency: urgency?,
            minor_band: minor_band?,
            paths,
            previous,
        })
    };
    check.finish(terms())
}

/// The referral that is taken up again; it and the hash that follows it stand together or not at all.
fn parse_previous(check: &mut Check, id: &[u8], follows: &[u8]) -> Option<(ReferralId, [u8; 32])> {
    if id.is_empty() {
        check.that(
            follows.is_empty(),
            "head.follows",
            "nothing, unless it takes up a previous referral",
        );
        return None;
    }
    let id = ReferralId::parse(id).ok();
    let id = check.some(id, "previous_referral_id", "16 bytes, or nothing");
    let expected = "the SHA-256 of the previous referral's submission";
    let follows = check.some(follows.try_into().ok(), "head.follows", expected);
    id.zip(follows)
}

fn parse_services(check: &mut Check, numbers: &[i32]) -> BTreeSet<Need> {
    check.that(!numbers.is_empty(), "services", "at least one service");
    let mut services = BTreeSet::new();
    for (at, number) in numbers.iter().enumerate() {
        let at = format_args!("services[{at}]");
        let service = Need::try_from(*number)
            .ok()
            .filter(|need| *need != Need::Unspecified);
        if let Some(service) = check.some(service, at, "a service") {
            check.that(
                services.insert(service),
                at,
                "a service that is not listed before",
            );
        }
    }
    services
}

#[cfg(test)]
mod tests;

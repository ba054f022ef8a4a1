use amanat_schema::statement::StatementHead;

use super::*;

const STATES: [ReferralState; 6] = [
    ReferralState::Unspecified,
    ReferralState::Submitted,
    ReferralState::Acknowledged,
    ReferralState::Accepted,
    ReferralState::Rejected,
    ReferralState::Suspended,
];
const STEPS: [Step; 4] = [Step::Acknowledge, Step::Accept, Step::Reject, Step::Suspend];

#[test]
fn these_transitions_are_legal_and_no_other() {
    use Actor::{Recipient, Sender};
    use ReferralState::{Accepted, Acknowledged, Rejected, Submitted, Suspended};
    let legal = [
        (Submitted, Step::Acknowledge, Recipient, Acknowledged),
        (Acknowledged, Step::Accept, Recipient, Accepted),
        (Acknowledged, Step::Reject, Recipient, Rejected),
        (Submitted, Step::Suspend, Sender, Suspended),
        (Submitted, Step::Suspend, Recipient, Suspended),
        (Acknowledged, Step::Suspend, Sender, Suspended),
        (Acknowledged, Step::Suspend, Recipient, Suspended),
        (Accepted, Step::Suspend, Sender, Suspended),
        (Accepted, Step::Suspend, Recipient, Suspended),
    ];
    for state in STATES {
        for step in STEPS {
            for actor in [Sender, Recipient] {
                let expected = legal
                    .iter()
                    .find(|row| (row.0, row.1, row.2) == (state, step, actor))
                    .map(|row| row.3)
                    .ok_or(IllegalTransition { state, step, actor });
                assert_eq!(next(state, step, actor), expected);
            }
        }
    }
}

#[test]
fn a_closed_referral_never_opens_again() {
    for state in STATES.into_iter().filter(|state| !is_open(*state)) {
        for step in STEPS {
            for actor in [Actor::Sender, Actor::Recipient] {
                assert!(
                    next(state, step, actor).is_err(),
                    "{state:?} {step:?} {actor:?}"
                );
            }
        }
    }
}

#[test]
fn content_opens_on_acceptance_alone() {
    let opening: Vec<_> = STATES
        .into_iter()
        .filter(|state| opens_content(*state))
        .collect();
    assert_eq!(opening, [ReferralState::Accepted]);
}

#[test]
fn an_illegal_step_is_named() {
    let error = next(ReferralState::Submitted, Step::Accept, Actor::Sender).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the sender may not accept a referral that is SUBMITTED"
    );
}

#[test]
fn the_more_urgent_the_sooner_the_answer() {
    let urgencies = [
        Urgency::Emergency,
        Urgency::Urgent,
        Urgency::Priority,
        Urgency::Routine,
    ];
    let hours = urgencies.map(|urgency| respond_within(urgency).as_secs() / 3600);
    assert_eq!(hours, [1, 3, 24, 72]);
}

fn referral() -> Referral {
    Referral {
        head: Some(StatementHead {
            agency_id: vec![1; 16],
            case_id: vec![9; 16],
            ..StatementHead::default()
        }),
        referral_id: vec![8; 16],
        recipient_id: vec![2; 16],
        purpose: Purpose::Shelter.into(),
        services: vec![Need::Safehouse.into(), Need::LegalAid.into()],
        urgency: Urgency::Urgent.into(),
        minor_band: MinorBand::Adult.into(),
        paths: vec!["needs.narrative".into(), "case.urgency".into()],
    }
}

fn violations(referral: &Referral) -> Vec<String> {
    parse_referral(referral)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_submission_is_read_as_it_was_signed() {
    let terms = parse_referral(&referral()).unwrap();
    let paths = terms.paths.iter().map(|id| id.field().path);
    assert_eq!(
        paths.collect::<Vec<_>>(),
        ["needs.narrative", "case.urgency"]
    );
    assert_eq!(
        terms,
        ReferralTerms {
            referral: ReferralId::new([8; 16]),
            case: CaseId::new([9; 16]),
            sender: AgencyId::new([1; 16]),
            recipient: AgencyId::new([2; 16]),
            purpose: Purpose::Shelter,
            services: BTreeSet::from([Need::Safehouse, Need::LegalAid]),
            urgency: Urgency::Urgent,
            minor_band: MinorBand::Adult,
            paths: terms.paths.clone(),
        }
    );
}

#[test]
fn an_empty_statement_is_told_everything_that_it_lacks() {
    assert_eq!(
        violations(&Referral::default()),
        [
            "referral.head.case_id: expected 16 bytes",
            "referral.head.agency_id: expected 16 bytes",
            "referral.referral_id: expected 16 bytes",
            "referral.recipient_id: expected 16 bytes",
            "referral.purpose: expected a purpose, and never IMMIGRATION_ENFORCEMENT",
            "referral.services: expected at least one service",
            "referral.urgency: expected an urgency",
            "referral.minor_band: expected a minor band",
            "referral.paths: expected at least one path",
        ]
    );
}

#[test]
fn an_agency_does_not_refer_to_itself() {
    assert_eq!(
        violations(&Referral {
            recipient_id: vec![1; 16],
            ..referral()
        }),
        ["referral.recipient_id: expected another agency than the sender"]
    );
}

#[test]
fn services_and_paths_are_known_and_listed_once() {
    let unclear = Referral {
        services: vec![Need::Medical.into(), 0, 99, Need::Medical.into()],
        paths: vec!["needs.needs".into(), "needs.*".into(), "needs.needs".into()],
        ..referral()
    };
    assert_eq!(
        violations(&unclear),
        [
            "referral.services[1]: expected a service",
            "referral.services[2]: expected a service",
            "referral.services[3]: expected a service that is not listed before",
            "referral.paths[1]: expected a leaf of the shared record",
            "referral.paths[2]: expected a path that is not listed before",
        ]
    );
}

#[test]
fn more_than_200_paths_are_refused_as_such() {
    let long = Referral {
        paths: vec!["needs.needs".into(); 201],
        ..referral()
    };
    assert_eq!(
        violations(&long)[0],
        "referral.paths: expected at most 200 paths"
    );
}

#[test]
fn nobody_is_referred_for_immigration_enforcement() {
    let deport = Referral {
        purpose: Purpose::ImmigrationEnforcement.into(),
        ..referral()
    };
    assert_eq!(
        violations(&deport),
        ["referral.purpose: expected a purpose, and never IMMIGRATION_ENFORCEMENT"]
    );
}

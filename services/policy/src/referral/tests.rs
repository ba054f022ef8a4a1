use amanat_schema::statement::StatementHead;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::table::tests::every;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/referral.txt");
const LEGEND: &str = "\
# What becomes of a referral by a step: the state after it, or - where the step may not be taken. First by
# the sender, then by the recipient.
#
# Written by the test that checks it: UPDATE_GOLDEN=1 cargo test -p amanat-policy golden
";

/// As proto/ numbers them, with the one that is never stored.
fn states() -> Vec<ReferralState> {
    let mut states = vec![ReferralState::Unspecified];
    states.extend(every::<ReferralState>());
    states
}

const STEPS: [Step; 7] = [
    Step::Acknowledge,
    Step::Accept,
    Step::Reject,
    Step::Start,
    Step::Complete,
    Step::Revoke,
    Step::Suspend,
];

fn short(state: ReferralState) -> &'static str {
    state.as_str_name().trim_start_matches("REFERRAL_STATE_")
}

#[test]
fn every_transition_is_as_the_golden_file_says() {
    let mut text = LEGEND.to_owned();
    let mut line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:<13}")).collect();
        text.push_str(cells.join(" ").trim_end());
        text.push('\n');
    };
    let mut head = vec!["actor".to_owned(), "state".to_owned()];
    head.extend(STEPS.map(|step| format!("{step:?}")));
    line(&head);
    for actor in [Actor::Sender, Actor::Recipient] {
        for state in states() {
            let mut cells = vec![format!("{actor:?}"), short(state).to_owned()];
            cells.extend(STEPS.map(|step| {
                next(state, step, actor).map_or_else(|_| "-".to_owned(), |to| short(to).to_owned())
            }));
            line(&cells);
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(GOLDEN).unwrap(), text);
}

/// A walk of steps that anybody may try.
fn walks() -> impl Strategy<Value = Vec<(Step, Actor)>> {
    let step = (
        select(STEPS.to_vec()),
        select(vec![Actor::Sender, Actor::Recipient]),
    );
    vec(step, 0..24)
}

/// The states that a walk leads through; what is refused changes nothing.
fn through(walk: &[(Step, Actor)]) -> Vec<ReferralState> {
    let mut states = vec![ReferralState::Submitted];
    for (step, actor) in walk {
        let state = *states.last().unwrap();
        states.extend(next(state, *step, *actor));
    }
    states
}

proptest! {
    #[test]
    fn content_never_opens_but_by_the_recipients_acceptance(walk in walks()) {
        let mut state = ReferralState::Submitted;
        for (step, actor) in walk {
            let before = state;
            state = next(state, step, actor).unwrap_or(state);
            if !opens_content(before) && opens_content(state) {
                prop_assert_eq!((step, actor), (Step::Accept, Actor::Recipient));
            }
        }
    }

    #[test]
    fn what_is_closed_stays_closed_and_its_content_shut(walk in walks()) {
        let states = through(&walk);
        let closed = states.iter().position(|state| is_closed(*state));
        for state in states.iter().skip(closed.unwrap_or(states.len())) {
            prop_assert!(is_closed(*state) && !opens_content(*state));
        }
    }

    #[test]
    fn a_sender_can_take_back_whatever_is_open_or_suspended(walk in walks()) {
        let state = *through(&walk).last().unwrap();
        let taken = next(state, Step::Revoke, Actor::Sender);
        let may = is_open(state) || state == ReferralState::Suspended;
        prop_assert_eq!(taken.ok(), may.then_some(ReferralState::Revoked));
        prop_assert!(next(state, Step::Revoke, Actor::Recipient).is_err());
    }

    #[test]
    fn no_walk_comes_to_an_answered_state_twice(walk in walks()) {
        let mut states = through(&walk);
        let all = states.len();
        states.sort_unstable();
        states.dedup();
        prop_assert_eq!(states.len(), all);
    }
}

#[test]
fn every_state_is_open_or_closed_and_never_both() {
    for state in every::<ReferralState>() {
        assert_ne!(is_open(state), is_closed(state), "{state:?}");
    }
    let none = ReferralState::Unspecified;
    assert!(!is_open(none) && !is_closed(none));
}

#[test]
fn content_opens_on_acceptance_and_closes_with_the_service() {
    let opening: Vec<_> = states()
        .into_iter()
        .filter(|state| opens_content(*state))
        .collect();
    assert_eq!(opening, [ReferralState::Accepted, ReferralState::InService]);
}

#[test]
fn an_illegal_step_is_named_with_what_to_do_where_there_is_one_thing() {
    use Actor::{Recipient, Sender};
    use ReferralState::{Accepted, Acknowledged, Completed, InService, Submitted, Suspended};

    for (state, step, actor, told) in [
        (
            Submitted,
            Step::Accept,
            Sender,
            "the sender may not accept a referral that is SUBMITTED: only its recipient may",
        ),
        (
            InService,
            Step::Revoke,
            Recipient,
            "the recipient may not revoke a referral that is IN_SERVICE: only its sender may",
        ),
        (
            Suspended,
            Step::Revoke,
            Recipient,
            "the recipient may not revoke a referral that is SUSPENDED: only its sender may",
        ),
        (
            Submitted,
            Step::Accept,
            Recipient,
            "the recipient may not accept a referral that is SUBMITTED: acknowledge it first",
        ),
        (
            Submitted,
            Step::Reject,
            Recipient,
            "the recipient may not reject a referral that is SUBMITTED: acknowledge it first",
        ),
        (
            Acknowledged,
            Step::Start,
            Recipient,
            "the recipient may not start the service of a referral that is ACKNOWLEDGED: accept it first",
        ),
        (
            Accepted,
            Step::Complete,
            Recipient,
            "the recipient may not complete a referral that is ACCEPTED: start the service first",
        ),
        (
            Accepted,
            Step::Reject,
            Recipient,
            "the recipient may not reject a referral that is ACCEPTED",
        ),
        (
            Completed,
            Step::Revoke,
            Sender,
            "the sender may not revoke a referral that is COMPLETED",
        ),
    ] {
        assert_eq!(next(state, step, actor).unwrap_err().to_string(), told);
    }
}

#[test]
fn what_a_refused_step_is_advised_to_do_can_be_done() {
    for state in states() {
        for (step, actor) in STEPS
            .iter()
            .flat_map(|step| [Actor::Sender, Actor::Recipient].map(|actor| (*step, actor)))
        {
            let Err(refused) = next(state, step, actor) else {
                continue;
            };
            let told = refused.to_string();
            let may = |step, actor| next(state, step, actor).is_ok();
            match told.split_once(": ").map(|(_, advice)| advice) {
                // Now, or once the recipient has got so far.
                Some("only its recipient may") => {
                    assert_eq!(actor, Actor::Sender, "{told}");
                    assert!(
                        STEPS.iter().any(|step| may(*step, Actor::Recipient)),
                        "{told}"
                    );
                }
                Some("only its sender may") => assert!(may(step, Actor::Sender), "{told}"),
                Some("acknowledge it first") => assert!(may(Step::Acknowledge, actor), "{told}"),
                Some("accept it first") => assert!(may(Step::Accept, actor), "{told}"),
                Some("start the service first") => assert!(may(Step::Start, actor), "{told}"),
                Some(other) => panic!("{other}"),
                None => {}
            }
        }
    }
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
        previous_referral_id: Vec::new(),
    }
}

/// The same, taking up a referral that was closed.
fn resubmitted() -> Referral {
    let mut referral = referral();
    referral.previous_referral_id = vec![7; 16];
    if let Some(head) = &mut referral.head {
        head.follows = vec![70; 32];
    }
    referral
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
            previous: None,
        }
    );
}

#[test]
fn a_submission_that_takes_up_another_names_it_and_follows_its_bytes() {
    let terms = parse_referral(&resubmitted()).unwrap();
    assert_eq!(terms.previous, Some((ReferralId::new([7; 16]), [70; 32])));

    let mut without_hash = resubmitted();
    without_hash.head.as_mut().unwrap().follows.clear();
    let expected =
        "referral.head.follows: expected the SHA-256 of the previous referral's submission";
    assert_eq!(violations(&without_hash), [expected]);

    let without_id = Referral {
        previous_referral_id: Vec::new(),
        ..resubmitted()
    };
    let expected =
        "referral.head.follows: expected nothing, unless it takes up a previous referral";
    assert_eq!(violations(&without_id), [expected]);

    let short_id = Referral {
        previous_referral_id: vec![7; 15],
        ..resubmitted()
    };
    let expected = "referral.previous_referral_id: expected 16 bytes, or nothing";
    assert_eq!(violations(&short_id), [expected]);

    let of_itself = Referral {
        previous_referral_id: vec![8; 16],
        ..resubmitted()
    };
    let expected = "referral.previous_referral_id: expected another referral than this one";
    assert_eq!(violations(&of_itself), [expected]);
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

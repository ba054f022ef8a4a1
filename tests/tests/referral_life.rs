//! A referral's whole life over both servers: served, completed, taken back, suspended, taken up again; and
//! that its content is open in between and at no other time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::{Changes, Connector, ConnectorError, Read, ReadRequest, Server, StepSeen};
use amanat_schema::{
    ReferralId,
    policy::{Purpose, ReferralState},
    referral::Direction,
    statement::{ReferralOutcome, RejectionReason},
};
use amanat_tests::{
    Running,
    attack::Stage,
    cli::{case_file, grant, refer, submit},
    party::{Party, ask, now},
    story::{self, NGO, PERMITTED, POLICE, SHELTER, Story},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const DONE: ReferralOutcome = ReferralOutcome::ServicesProvided;

fn running() -> Running {
    Running::start(PROGRAM, "info")
}

/// The Dar-ul-Aman reads what it may.
async fn read(shelter: &Connector, story: &Story) -> Result<Read, ConnectorError> {
    let request = ReadRequest {
        case: story.case,
        record: story.record,
        source: story.source,
        fields: PERMITTED.map(str::to_owned).to_vec(),
        purpose: Purpose::Shelter,
    };
    shelter.read_case(&request).await
}

/// A read of both fields, keys and all.
async fn opens(shelter: &Connector, story: &Story) {
    let read = read(shelter, story).await.unwrap();
    assert_eq!(read.released.len(), PERMITTED.len());
    assert!(read.custodian_index.is_some());
}

/// Refused, every field because the referral is not open.
async fn is_shut(shelter: &Connector, story: &Story) {
    match read(shelter, story).await {
        Err(ConnectorError::Refused(refusal)) => {
            assert_eq!(refusal.reason, "NOTHING_RELEASABLE");
            let reasons: Vec<_> = refusal.withheld.values().map(String::as_str).collect();
            assert_eq!(reasons, ["REFERRAL_NOT_OPEN"; PERMITTED.len()]);
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was released"),
    }
}

#[tokio::test]
async fn content_is_open_from_acceptance_to_completion_and_not_after() {
    let running = running();
    let story = Story::tell(&running).await;
    let [police, shelter] = [
        running.connector(POLICE).await,
        running.connector(SHELTER).await,
    ];
    opens(&shelter, &story).await;
    shelter.start_service(story.referral).await.unwrap();
    opens(&shelter, &story).await;
    let by_sender = police.complete_referral(story.referral, DONE).await;
    assert_eq!(by_sender.unwrap_err().reason(), "STATE_CONFLICT");
    shelter
        .complete_referral(story.referral, DONE)
        .await
        .unwrap();
    is_shut(&shelter, &story).await;
    let revoked = police.revoke_referral(story.referral).await;
    assert_eq!(revoked.unwrap_err().reason(), "STATE_CONFLICT");

    let seen = police.get_referral(story.referral).await.unwrap();
    assert_eq!(
        (seen.state, seen.outcome),
        (ReferralState::Completed, Some(DONE))
    );
    let steps: Vec<_> = seen
        .steps
        .iter()
        .map(|step| (step.agency, step.to_state, step.verified))
        .collect();
    let by_shelter = |state| (shelter.agency(), state, true);
    assert_eq!(
        steps,
        [
            ReferralState::Acknowledged,
            ReferralState::Accepted,
            ReferralState::InService,
            ReferralState::Completed,
        ]
        .map(by_shelter)
    );
    running.verify().await;
}

#[tokio::test]
async fn what_its_sender_takes_back_is_shut_at_once_even_in_service() {
    let running = running();
    let story = Story::tell(&running).await;
    let [police, shelter] = [
        running.connector(POLICE).await,
        running.connector(SHELTER).await,
    ];
    shelter.start_service(story.referral).await.unwrap();
    let by_recipient = shelter.revoke_referral(story.referral).await;
    assert_eq!(by_recipient.unwrap_err().reason(), "STATE_CONFLICT");
    police.revoke_referral(story.referral).await.unwrap();
    is_shut(&shelter, &story).await;
    let done = shelter.complete_referral(story.referral, DONE).await;
    assert_eq!(done.unwrap_err().reason(), "STATE_CONFLICT");
    running.verify().await;
}

#[tokio::test]
async fn a_withdrawal_suspends_a_service_and_its_sender_may_still_take_it_back() {
    let running = running();
    let story = Story::tell(&running).await;
    let police = Party::open(&running, POLICE);
    let [source, shelter] = [
        running.connector(POLICE).await,
        running.connector(SHELTER).await,
    ];
    shelter.start_service(story.referral).await.unwrap();
    for server in [Server::Custodian, Server::Gateway] {
        story::withdraw(&police, server, story.case, story.consent)
            .await
            .unwrap();
    }
    let seen = shelter.get_referral(story.referral).await.unwrap();
    assert_eq!(seen.state, ReferralState::Suspended);
    source.revoke_referral(story.referral).await.unwrap();
    let seen = shelter.get_referral(story.referral).await.unwrap();
    assert_eq!(seen.state, ReferralState::Revoked);
    assert_eq!(seen.steps.last().unwrap().agency, source.agency());
    running.verify().await;
}

#[tokio::test]
async fn the_custodian_takes_the_gateways_word_for_the_state_and_opens_in_service_and_no_later() {
    let stage = Stage::told(PROGRAM).await;
    for state in [
        ReferralState::Completed,
        ReferralState::Revoked,
        ReferralState::Suspended,
        ReferralState::Rejected,
    ] {
        stage
            .refuses_entry(
                "a referral that is over",
                "ACCESS_DENIED",
                amanat_tests::attack::Alarm::Raised,
                |forged| forged.body.set_referral_state(state),
            )
            .await;
    }
    // The later state is the one thing that the custodian cannot know: a gateway that lies about it is found
    // by whoever compares the entry with the parties' signed steps.
    let (receipt, officer) = stage.forge(|forged| {
        forged.body.set_referral_state(ReferralState::InService);
    });
    let ask = ask(receipt, officer, stage.referral());
    let token = stage.shelter.token();
    let released = stage.shelter.release(&token, ask).await.unwrap();
    assert_eq!(released.keys.len(), PERMITTED.len());
}

#[tokio::test]
async fn a_referral_can_be_taken_back_when_its_recipient_has_left_the_directory() {
    let mut running = running();
    let story = Story::tell(&running).await;
    leaves(&mut running, SHELTER).await;
    let police = running.connector(POLICE).await;
    let sent = police.list_referrals(Direction::Sent).await.unwrap();
    assert!(sent[0].verified, "its own submission");
    assert!(sent[0].steps.iter().all(|step| !step.verified));
    police.revoke_referral(story.referral).await.unwrap();
    let seen = police.get_referral(story.referral).await.unwrap();
    assert_eq!(seen.state, ReferralState::Revoked);
    let last: &StepSeen = seen.steps.last().unwrap();
    assert!(last.verified && last.agency == police.agency());
    let to_it_again = police
        .resubmit_referral(story.referral, &Changes::default())
        .await;
    assert_eq!(to_it_again.unwrap_err().reason(), "FIELD_INVALID");
    running.verify().await;
}

#[tokio::test]
async fn what_a_vanished_agency_sent_is_shown_as_unverified_and_not_accepted() {
    let mut running = running();
    let case = story::submit(&running).await.case;
    let referral = story::refer_only(&running, case, &["case.urgency"]).await;
    leaves(&mut running, POLICE).await;
    let shelter = running.connector(SHELTER).await;
    let received = shelter.list_referrals(Direction::Received).await.unwrap();
    assert!(!received[0].verified);
    let told = running.tell(SHELTER, &["refer", "list"]);
    assert!(told.out.contains("not verified"), "{}", told.out);
    shelter.acknowledge_referral(referral).await.unwrap();
    let accepted = shelter.accept_referral(referral).await;
    assert_eq!(accepted.unwrap_err().reason(), "ANSWER_UNTRUSTWORTHY");
    let reason = RejectionReason::ConflictOfInterest;
    shelter.reject_referral(referral, reason).await.unwrap();
    running.verify().await;
}

/// Both registrars sign a next directory without the agency, and the servers take it.
async fn leaves(running: &mut Running, agency: &str) {
    let id = running.exchange.agencies[agency].id;
    running
        .exchange
        .publish(now(), |next| {
            next.agencies
                .retain(|listed| listed.agency_id != id.as_bytes());
        })
        .unwrap();
    for server in [&mut running.gateway, &mut running.custodian] {
        server.stop();
        server.start();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_referral_is_taken_up_by_a_new_one_and_stays_as_it_was() {
    let running = running();
    let case = submit(&running, &case_file());
    for recipient in [SHELTER, NGO] {
        let terms = json!({ "paths": ["needs.needs"], "recipient": recipient });
        grant(&running, &case, &terms);
    }
    let told = running.tell_json(POLICE, &refer(&case, SHELTER, "needs.needs"));
    let first = told["referral"].as_str().unwrap();
    let told = running.tell(POLICE, &["refer", "resubmit", first]);
    assert_eq!(told.code, 1, "it is still open");
    assert!(told.err.contains("STATE_CONFLICT"), "{}", told.err);
    for step in [
        &["refer", "acknowledge", first][..],
        &["refer", "reject", first, "--reason", "NO_CAPACITY"],
    ] {
        assert_eq!(running.tell(SHELTER, step).code, 0);
    }
    let told = running.tell(SHELTER, &["refer", "resubmit", first]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("only its sender"), "{}", told.err);

    let told = running.tell_json(POLICE, &["refer", "resubmit", first, "--to", NGO]);
    let second = told["referral"].as_str().unwrap();
    let told = running.tell(POLICE, &["refer", "resubmit", first, "--to", NGO]);
    let still = format!("still open: {second}");
    assert!(
        told.code == 0 && told.out.contains(&still),
        "{}",
        told.shown()
    );
    let listed = running.tell(POLICE, &["refer", "list", "--sent"]).out;
    assert_eq!(listed.matches(&format!("takes up {first}")).count(), 2);
    let told = running.tell(POLICE, &["case", "history", &case]);
    let link = format!("taking up referral {first}");
    assert!(told.out.contains(&link), "{}", told.out);
    for step in [
        &["refer", "acknowledge", second][..],
        &["refer", "accept", second],
        &["refer", "start", second],
        &["refer", "complete", second, "--outcome", "PARTLY_PROVIDED"],
    ] {
        let told = running.tell(NGO, step);
        assert_eq!(told.code, 0, "{}", told.err);
    }
    let sent = running.tell_json(POLICE, &["refer", "list", "--sent", "--case", &case]);
    let of = |at: usize, key: &str| sent[at][key].clone();
    assert_eq!(
        [
            of(0, "state"),
            of(0, "rejection_reason"),
            of(0, "previous_referral")
        ],
        [json!("REJECTED"), json!("NO_CAPACITY"), Value::Null]
    );
    assert_eq!(
        [of(1, "state"), of(1, "outcome"), of(1, "previous_referral")],
        [json!("COMPLETED"), json!("PARTLY_PROVIDED"), json!(first)]
    );
    assert_eq!(
        [of(1, "recipient"), of(1, "services"), of(1, "paths")],
        [json!(NGO), of(0, "services"), of(0, "paths")]
    );
    let steps: Vec<_> = sent[1]["steps"].as_array().unwrap().iter().collect();
    assert_eq!(steps.len(), 4);
    assert!(steps.iter().all(|step| step["agency"] == NGO));
    running.verify().await;
}

#[tokio::test]
async fn one_referral_can_be_taken_up_twice_and_the_copies_live_apart() {
    let running = running();
    let case = story::submit(&running).await.case;
    let police = running.connector(POLICE).await;
    let first = story::refer_only(&running, case, &["case.urgency"]).await;
    police.revoke_referral(first).await.unwrap();
    let mut copies: Vec<ReferralId> = Vec::new();
    for recipient in [SHELTER, NGO] {
        let changes = Changes {
            recipient: Some(running.exchange.agencies[recipient].id),
            ..Changes::default()
        };
        let copy = police.resubmit_referral(first, &changes).await.unwrap();
        copies.push(copy.referral);
    }
    police.revoke_referral(copies[0]).await.unwrap();
    let other = police.get_referral(copies[1]).await.unwrap();
    assert_eq!(
        (other.state, other.previous),
        (ReferralState::Submitted, Some(first))
    );
    running.verify().await;
}

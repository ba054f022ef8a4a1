//! An agency that signs with another key from one directory on: what it signed before is shown for what it
//! is, beside all that can be checked, and whoever would act on it is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::{
    Acting, Changes, Connector, ConsentFile, Happened, Profile, ReadRequest, Server,
};
use amanat_schema::{
    consent::ConsentStatus,
    directory::RetiredKey,
    policy::{Purpose, ReferralState},
    referral::Direction,
    statement::RejectionReason,
};
use amanat_tests::{
    Running, cli,
    owner::replace_key,
    party::now,
    story::{self, PERMITTED, POLICE, SHELTER, Story},
};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const SERVERS: [Server; 2] = [Server::Gateway, Server::Custodian];

/// What the next directory says of the key that is given up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    /// It still tells who signed before.
    Retired,
    /// Nothing, as if it had never been listed.
    Dropped,
}

/// The agency takes another statement key into use.
fn rotates(running: &mut Running, agency: &str, old: Old) {
    let member = &running.exchange.agencies[agency];
    let profile = Profile::load(&member.folder).unwrap();
    let [given_up, new] = replace_key(&profile.statements.signing_key);
    running
        .exchange
        .publish(now(), |next| {
            let mut agencies = next.agencies.iter_mut();
            let listed = agencies.find(|listed| listed.agency_id == member.id.as_bytes());
            let listed = listed.unwrap();
            listed.statement_keys = vec![new];
            if old == Old::Retired {
                listed.retired_statement_keys = vec![RetiredKey {
                    public_key: given_up,
                    retired_time: Some(now().to_timestamp()),
                    compromised_since_time: None,
                }];
            }
        })
        .unwrap();
    for server in [&mut running.gateway, &mut running.custodian] {
        server.stop();
        server.start();
    }
}

/// A connector of the police on another machine: it has an outbox of its own.
async fn elsewhere(running: &Running) -> Connector {
    let mut profile = Profile::load(&running.exchange.agencies[POLICE].folder).unwrap();
    profile.outbox = running.path("elsewhere.sqlite");
    let acting = Acting::Officer("default".to_owned());
    Connector::open(profile, acting, amanat::system_clock())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_histories_show_what_an_old_key_signed_beside_what_the_new_one_signs() {
    let mut running = Running::start(PROGRAM, "info");
    let story = Story::tell(&running).await;
    rotates(&mut running, POLICE, Old::Dropped);
    let case = story.case.to_string();
    cli::grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    // What she permitted under a key that is listed no more does not count any longer.
    story::refer_only(&running, story.case, &["needs.needs"]).await;

    for (agency, direction) in [(POLICE, Direction::Sent), (SHELTER, Direction::Received)] {
        let connector = running.connector(agency).await;
        let referrals = connector.list_referrals(direction).await.unwrap();
        let verified: Vec<_> = referrals.iter().map(|seen| seen.verified).collect();
        assert_eq!(verified, [false, true], "{agency}");
        let steps = &referrals[0].steps;
        assert!(steps.iter().all(|step| step.verified), "the other's own");
        assert_eq!(referrals[0].state, ReferralState::Accepted);
        for server in SERVERS {
            let consents = connector.list_consents(server, None).await.unwrap();
            let verified: Vec<_> = consents.iter().map(|seen| seen.verified).collect();
            assert_eq!(verified, [false, true], "{agency} at the {}", server.name());
        }
        let history = connector.case_history(story.case).await.unwrap();
        let unverified = history.events.iter().filter(|event| match &event.happened {
            Happened::Consented(seen) => !seen.verified,
            Happened::Referred(seen) => !seen.verified,
            Happened::Moved { step, .. } => !step.verified,
            Happened::Named { .. } | Happened::Put(_) => false,
        });
        assert_eq!(unverified.count(), 2, "{agency}");
        for list in [
            &["refer", "list", "--case", &case][..],
            &["consent", "list"],
            &["case", "history", &case],
        ] {
            let sent: &[_] = match list[0] {
                "refer" if agency == POLICE => &["--sent"],
                _ => &[],
            };
            let told = running.tell(agency, &[list, sent].concat());
            let is_marked = |line: &&str| line.contains("not verified");
            let marked = told.out.lines().filter(is_marked).count();
            let expected = if list[0] == "case" { 2 } else { 1 };
            assert_eq!(marked, expected, "{agency}: {list:?}: {}", told.shown());
        }
    }
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_an_old_key_signed_is_closed_but_neither_accepted_nor_taken_up_again() {
    let mut running = Running::start(PROGRAM, "info");
    let case = story::submit(&running).await.case;
    let [declined, revoked] = [
        story::refer_only(&running, case, &["case.urgency"]).await,
        story::refer_only(&running, case, &["case.urgency"]).await,
    ];
    rotates(&mut running, POLICE, Old::Dropped);
    let [police, shelter] = [
        running.connector(POLICE).await,
        running.connector(SHELTER).await,
    ];
    shelter.acknowledge_referral(declined).await.unwrap();
    let accepted = shelter.accept_referral(declined).await.unwrap_err();
    assert_eq!(accepted.reason(), "ANSWER_UNTRUSTWORTHY");
    assert!(accepted.to_string().contains("submit it again"));
    let reason = RejectionReason::NoCapacity;
    shelter.reject_referral(declined, reason).await.unwrap();
    police.revoke_referral(revoked).await.unwrap();

    // Whatever the gateway says that the police once asked for, they do not sign it again.
    for closed in [declined, revoked] {
        let again = police.resubmit_referral(closed, &Changes::default()).await;
        let again = again.unwrap_err();
        assert_eq!(again.reason(), "STATE_CONFLICT");
        assert!(again.next_step().contains("amanat refer submit"), "{again}");
    }
    assert_eq!(police.pending().await.unwrap(), []);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_an_old_key_signed_is_withdrawn_once_both_servers_tell_its_case() {
    let mut running = Running::start(PROGRAM, "info");
    let story = Story::tell(&running).await;
    rotates(&mut running, POLICE, Old::Dropped);
    let police = elsewhere(&running).await;
    running.custodian.stop();
    let one_tells = police.withdraw_consent(story.consent).await.unwrap_err();
    assert_eq!(one_tells.reason(), "STATE_CONFLICT");
    assert!(one_tells.to_string().contains("both"), "{one_tells}");
    assert_eq!(police.pending().await.unwrap(), []);

    running.custodian.start();
    police.withdraw_consent(story.consent).await.unwrap();
    for server in SERVERS {
        let consents = police.list_consents(server, None).await.unwrap();
        assert_eq!(consents[0].status, ConsentStatus::Withdrawn);
    }
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_signed_before_it_was_retired_still_counts() {
    let mut running = Running::start(PROGRAM, "info");
    let story = Story::tell(&running).await;
    let pending = story::refer_only(&running, story.case, &PERMITTED).await;
    rotates(&mut running, POLICE, Old::Retired);

    let [police, shelter] = [
        running.connector(POLICE).await,
        running.connector(SHELTER).await,
    ];
    let request = ReadRequest {
        case: story.case,
        record: story.record,
        source: story.source,
        fields: PERMITTED.map(str::to_owned).to_vec(),
        purpose: Purpose::Shelter,
    };
    // The header is the source's, and the referral is good for the keys.
    let read = shelter.read_case(&request).await.unwrap();
    assert_eq!(read.released.len(), PERMITTED.len());
    shelter.acknowledge_referral(pending).await.unwrap();
    shelter.accept_referral(pending).await.unwrap();
    shelter.read_case(&request).await.unwrap();
    for (connector, direction) in [(&police, Direction::Sent), (&shelter, Direction::Received)] {
        let referrals = connector.list_referrals(direction).await.unwrap();
        assert_eq!(referrals.len(), 2);
        assert!(referrals.iter().all(|seen| seen.verified));
        for server in SERVERS {
            let consents = connector.list_consents(server, None).await.unwrap();
            assert!(consents.iter().all(|seen| seen.verified));
        }
    }
    police.revoke_referral(pending).await.unwrap();
    police
        .resubmit_referral(pending, &Changes::default())
        .await
        .unwrap();
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_under_a_key_that_was_retired_meanwhile_is_refused_and_signed_anew() {
    let mut running = Running::start(PROGRAM, "info");
    let case = story::submit(&running).await.case;
    let police = running.connector(POLICE).await;
    let consent: ConsentFile = serde_json::from_value(json!({
        "recipient": SHELTER, "mode": "WRITTEN", "paths": PERMITTED, "purpose": "SHELTER",
    }))
    .unwrap();
    for server in [&mut running.gateway, &mut running.custodian] {
        server.stop();
    }
    let waits = police.grant_consent(case, &consent).await.unwrap_err();
    assert_eq!(waits.reason(), "UNREACHABLE");
    assert_eq!(police.pending().await.unwrap().len(), 1);
    for server in [&mut running.gateway, &mut running.custodian] {
        server.start();
    }
    rotates(&mut running, POLICE, Old::Retired);

    let told = running.tell(POLICE, &["outbox", "deliver"]);
    assert_ne!(told.code, 0);
    assert!(told.shown().contains("sign it anew"), "{}", told.shown());
    assert_eq!(police.pending().await.unwrap(), []);
    let refused = police.refused().await.unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason, "FIELD_INVALID");
    police.drop_refused(refused[0].seq).await.unwrap();
    // The connector that was open all the time signs with the new key.
    police.grant_consent(case, &consent).await.unwrap();
    running.verify().await;
}

//! An agency that signs with another key from one directory on: what it signed before is shown for what it
//! is, beside all that can be checked, and whoever would act on it is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::fs;

use amanat_connector::{Acting, Changes, Connector, Happened, Profile, Server};
use amanat_schema::{
    consent::ConsentStatus, policy::ReferralState, referral::Direction, statement::RejectionReason,
};
use amanat_tests::{
    Running, cli,
    party::now,
    story::{self, PERMITTED, POLICE, SHELTER, Story},
};
use rcgen::KeyPair;
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const SERVERS: [Server; 2] = [Server::Gateway, Server::Custodian];

/// The agency takes another statement key into use, which is the only one that the next directory lists.
fn rotates(running: &mut Running, agency: &str) {
    let member = &running.exchange.agencies[agency];
    let profile = Profile::load(&member.folder).unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    fs::write(&profile.statements.signing_key, key.serialize_pem()).unwrap();
    running
        .exchange
        .publish(now(), |next| {
            let mut agencies = next.agencies.iter_mut();
            let listed = agencies.find(|listed| listed.agency_id == member.id.as_bytes());
            listed.unwrap().statement_keys = vec![key.public_key_raw().to_vec()];
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
    rotates(&mut running, POLICE);
    let case = story.case.to_string();
    cli::grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    story::refer_only(&running, story.case, &PERMITTED).await;

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
    rotates(&mut running, POLICE);
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
        assert_eq!(again.reason(), "INPUT_INVALID");
        assert!(again.next_step().contains("amanat refer submit"), "{again}");
    }
    assert_eq!(police.pending().await.unwrap(), []);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_an_old_key_signed_is_withdrawn_once_both_servers_tell_its_case() {
    let mut running = Running::start(PROGRAM, "info");
    let story = Story::tell(&running).await;
    rotates(&mut running, POLICE);
    let police = elsewhere(&running).await;
    running.custodian.stop();
    let one_tells = police.withdraw_consent(story.consent).await.unwrap_err();
    assert_eq!(one_tells.reason(), "INPUT_INVALID");
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

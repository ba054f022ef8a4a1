//! A gateway that shows the custodian another log than it showed before. Its signatures are good; that is what
//! makes the two notes evidence.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::{Server, Submitted};
use amanat_database::Sql;
use amanat_ledger::{LogSigner, LogVerifier};
use amanat_schema::{
    key::GetObservedHeadRequest, record::ReadRecordResponse, statement::ObservedHead,
};
use amanat_tests::{
    Running,
    attack::{alarms, custodian_database},
    party::{Party, ask, honest_ask, private_key_der, reason},
    rogue::{Forged, Rogue, origin},
    story::{OVERSIGHT, PERMITTED, POLICE, SHELTER, Story, police_case},
};
use prost::Message as _;

/// What the forked log looks like beside the one that the custodian observed.
enum Fork {
    /// As long, with another last entry.
    AsLong,
    /// Longer, and not a continuation.
    Longer,
}

fn running() -> Running {
    Running::start(env!("CARGO_BIN_EXE_amanat"), "info")
}

/// The Dar-ul-Aman's read, answered by both servers: the custodian has observed the gateway's log with it.
async fn released(running: &Running, story: &Story) -> ReadRecordResponse {
    let shelter = Party::open(running, SHELTER);
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    shelter
        .release(&shelter.token(), honest_ask(&answer))
        .await
        .unwrap();
    answer
}

async fn observed(running: &Running) -> ObservedHead {
    let call = GetObservedHeadRequest {};
    let answer = Party::open(running, SHELTER)
        .keys()
        .get_observed_head(call)
        .await
        .unwrap();
    let envelope = answer.into_inner().observed_head.unwrap();
    ObservedHead::decode(envelope.payload.as_slice()).unwrap()
}

fn gateway_log(running: &Running) -> LogVerifier {
    let key = private_key_der(&running.exchange.gateway.folder.join("keys/log.key"));
    let signer = LogSigner::from_pkcs8(&origin(), key.secret_der()).unwrap();
    signer.verifier().clone()
}

async fn freezes_the_custodian_for_good(fork: Fork) {
    let mut running = running();
    let story = Story::tell(&running).await;
    let shelter = Party::open(&running, SHELTER);
    let oversight = running.connector(OVERSIGHT).await;
    let answer = released(&running, &story).await;
    let head = observed(&running).await;

    let rogue = Rogue::take_over(&mut running, &shelter).await;
    let size = usize::try_from(head.size).unwrap();
    let mut tree = rogue.tree.lock().unwrap().cut(size - 1);
    let forged = Forged::of(&answer);
    let (mut receipt, mut officer) = tree.write(&rogue.signer, &forged);
    if let Fork::Longer = fork {
        (receipt, officer) = tree.write(&rogue.signer, &Forged::of(&answer));
    }
    let theirs = receipt.checkpoint.clone();
    // It proves what it says: the custodian is shown this log only.
    *rogue.tree.lock().unwrap() = tree;
    let ask = ask(receipt, officer, answer.referral.clone());
    let token = shelter.token();
    assert_eq!(
        reason(shelter.release(&token, ask).await),
        "LOG_INCONSISTENT"
    );
    assert_eq!(alarms(&oversight).await.len(), 1);
    assert_eq!(observed(&running).await, head);

    // Both notes are kept, each signed by the gateway.
    let mut database = custodian_database(&running).await;
    let rows = Sql::new("SELECT ours, theirs FROM evidence").fetch_all(&mut database);
    let rows = rows.await.unwrap();
    assert_eq!(rows.len(), 1);
    let log = gateway_log(&running);
    let notes: [String; 2] = [0, 1].map(|column| rows[0].get(column).unwrap());
    assert_eq!(notes, [head.checkpoint.clone(), theirs]);
    for note in notes {
        log.open(&note).unwrap();
    }

    // Frozen it stays: with the honest gateway back, and after a restart.
    rogue.leave().await;
    running.gateway.start();
    for _ in 0..2 {
        let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
        let refused = shelter.release(&token, honest_ask(&answer)).await;
        assert_eq!(reason(refused), "LOG_INCONSISTENT");
        let deposit = running
            .connector(POLICE)
            .await
            .submit_case(police_case(), None)
            .await
            .and_then(Submitted::delivered);
        assert_eq!(reason(deposit), "LOG_INCONSISTENT");
        assert_eq!(observed(&running).await, head);
        assert_eq!(alarms(&oversight).await.len(), 1);
        running.custodian.kill();
        running.custodian.start();
    }
    running.verify().await;
}

#[tokio::test]
async fn a_log_of_the_same_length_with_another_root_freezes_the_custodian_for_good() {
    freezes_the_custodian_for_good(Fork::AsLong).await;
}

#[tokio::test]
async fn a_longer_log_that_is_no_continuation_freezes_the_custodian_for_good() {
    freezes_the_custodian_for_good(Fork::Longer).await;
}

#[tokio::test]
async fn a_checkpoint_that_nobody_proves_is_no_evidence_and_releases_nothing() {
    let mut running = running();
    let story = Story::tell(&running).await;
    let shelter = Party::open(&running, SHELTER);
    let oversight = running.connector(OVERSIGHT).await;
    released(&running, &story).await;
    let head = observed(&running).await;
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let token = shelter.token();

    running.gateway.kill();
    let refused = shelter
        .release_once(&token, honest_ask(&answer))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "AUDIT_UNAVAILABLE");
    assert!(refused.is_retryable());
    assert_eq!(observed(&running).await, head);

    running.gateway.start();
    let released = shelter.release(&token, honest_ask(&answer)).await.unwrap();
    assert_eq!(released.keys.len(), PERMITTED.len());
    assert!(alarms(&oversight).await.is_empty());
    let report = oversight
        .verify_log(Server::Gateway, |_, _| {})
        .await
        .unwrap();
    assert!(report.entries > head.size);
    running.verify().await;
}

//! Keys in custody, between honest servers whose ledgers are not always at the same point.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::Server;
use amanat_schema::{RecordId, key::DepositKeyRequest, statement::Envelope};
use amanat_tests::{
    Running,
    attack::alarms,
    party::{Party, honest_ask, id, now, reason},
    story::{
        HOUR, NGO, OVERSIGHT, PERMITTED, POLICE, SHELTER, Sealed, Story, activate, consent,
        record_consent, refer, submit, withdraw,
    },
};
use tonic::Status;

fn running() -> Running {
    Running::start(env!("CARGO_BIN_EXE_amanat"), "info")
}

#[tokio::test]
async fn what_changed_a_moment_ago_explains_a_difference_and_raises_no_alarm() {
    let running = running();
    let story = Story::tell(&running).await;
    let police = Party::open(&running, POLICE);
    let shelter = Party::open(&running, SHELTER);
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    withdraw(&police, Server::Custodian, story.case, story.consent)
        .await
        .unwrap();

    let refused = shelter.release(&shelter.token(), honest_ask(&answer)).await;
    assert_eq!(reason(refused), "ACCESS_DENIED");
    let oversight = running.connector(OVERSIGHT).await;
    assert!(alarms(&oversight).await.is_empty());
    running.verify().await;
}

#[tokio::test]
async fn a_consent_that_only_the_gateway_has_is_waited_for() {
    let running = running();
    let submitted = submit(&running).await;
    let (police, shelter) = (
        Party::open(&running, POLICE),
        Party::open(&running, SHELTER),
    );
    let (consent_id, statement) = consent(
        &police,
        submitted.case,
        shelter.agency,
        &PERMITTED,
        now() - HOUR,
        now() + HOUR,
    );
    record_consent(&police, Server::Gateway, &statement)
        .await
        .unwrap();
    let referral = refer(&running, submitted.case, &PERMITTED).await;
    let story = Story {
        case: submitted.case,
        record: submitted.record,
        source: police.agency,
        consent: consent_id,
        referral,
    };
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let token = shelter.token();
    assert_eq!(
        reason(shelter.release(&token, honest_ask(&answer)).await),
        "LEDGER_BEHIND"
    );

    record_consent(&police, Server::Custodian, &statement)
        .await
        .unwrap();
    let released = shelter.release(&token, honest_ask(&answer)).await.unwrap();
    assert_eq!(released.keys.len(), PERMITTED.len());
    let oversight = running.connector(OVERSIGHT).await;
    assert!(alarms(&oversight).await.is_empty());
    running.verify().await;
}

#[tokio::test]
async fn only_the_newest_version_whose_put_was_shown_is_released() {
    let running = running();
    let story = Story::tell(&running).await;
    let (police, shelter) = (
        Party::open(&running, POLICE),
        Party::open(&running, SHELTER),
    );
    let record = RecordId::parse(&id()).unwrap();
    let story = Story { record, ..story };
    let token = shelter.token();

    let first = Sealed::new(&police, story.case, record, None);
    let put = first.put(&police).await;
    let pending = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    assert_eq!(
        reason(shelter.release(&token, honest_ask(&pending)).await),
        "LEDGER_BEHIND"
    );
    activate(&police, put).await.unwrap();
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    shelter.release(&token, honest_ask(&answer)).await.unwrap();

    let second = Sealed::new(&police, story.case, record, first.header.envelope.as_ref());
    let put = second.put(&police).await;
    shelter.release(&token, honest_ask(&answer)).await.unwrap();
    activate(&police, put).await.unwrap();
    assert_eq!(
        reason(shelter.release(&token, honest_ask(&answer)).await),
        "ACCESS_DENIED"
    );
    let newest = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    shelter.release(&token, honest_ask(&newest)).await.unwrap();
    running.verify().await;
}

#[tokio::test]
async fn a_deposit_is_its_sources_own_fits_its_header_and_is_never_replaced() {
    let running = running();
    let story = Story::tell(&running).await;
    let (police, ngo) = (Party::open(&running, POLICE), Party::open(&running, NGO));
    let oversight = running.connector(OVERSIGHT).await;
    let record = RecordId::parse(&id()).unwrap();
    let [first, other] = [(); 2].map(|()| Sealed::new(&police, story.case, record, None));

    assert_eq!(
        reason(deposit(&ngo, first.deposit()).await),
        "CREDENTIAL_INVALID"
    );
    let unfit = DepositKeyRequest {
        record_key: other.deposit().record_key,
        ..first.deposit()
    };
    assert_eq!(reason(deposit(&police, unfit).await), "FIELD_INVALID");
    let receipt = deposit(&police, first.deposit()).await.unwrap();
    let again = deposit(&police, first.deposit()).await.unwrap();
    assert_eq!(receipt, again);
    assert!(alarms(&oversight).await.is_empty());
    assert_eq!(
        reason(deposit(&police, other.deposit()).await),
        "STATE_CONFLICT"
    );
    assert_eq!(alarms(&oversight).await.len(), 1);
    running.verify().await;
}

/// The custodian's signed word that it holds the key.
async fn deposit(party: &Party, deposit: DepositKeyRequest) -> Result<Option<Envelope>, Status> {
    Ok(party
        .keys()
        .deposit_key(deposit)
        .await?
        .into_inner()
        .deposit_receipt)
}

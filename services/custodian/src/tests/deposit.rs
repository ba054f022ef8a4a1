use std::time::Duration;

use amanat_database::Sql;
use amanat_schema::{
    RecordId,
    audit::Action,
    policy::Decision,
    statement::{DepositReceipt, Envelope},
};
use amanat_seal::RecordKey;
use prost::Message as _;

use super::{
    acts::{Lie, ask, reason},
    exchange::{CASE, POLICE, id},
    gateway::Entry,
    world::World,
};
use crate::store::Call;

const WEEK: Duration = Duration::from_hours(7 * 24);

async fn expire(world: &World) {
    let journal = &world.custodian.desk.journal;
    journal.call(Call::Expire).await.unwrap();
}

#[tokio::test]
async fn a_deposit_is_answered_with_a_receipt_that_the_custodian_signed() {
    let world = World::new().await;
    let version = world.first_version();
    let answer = world.deposit(&version).await.unwrap();
    let receipt = amanat_seal::statement::verify::<DepositReceipt>(
        &answer.deposit_receipt.unwrap(),
        &[world.statement_key()],
    );
    let receipt = receipt.unwrap().into_message();
    assert_eq!(receipt.record_id, version.binding.record.as_bytes());
    assert_eq!(receipt.version, 1);
    assert_eq!(receipt.header_sha256, version.sha256());
    assert_eq!(world.last_action().await, Action::DepositKey);
}

#[tokio::test]
async fn the_same_header_again_is_answered_with_the_same_bytes() {
    let world = World::new().await;
    let version = world.first_version();
    let bytes = |envelope: Option<Envelope>| envelope.unwrap().encode_to_vec();
    let (key, request) = (version.key.expose().to_vec(), id());
    let first = world
        .deposit_as(&version.header, key.clone(), request)
        .await
        .unwrap();
    let first = bytes(first.deposit_receipt);
    world.pass(Duration::from_secs(5));
    let repeated = world
        .deposit_as(&version.header, key, request)
        .await
        .unwrap();
    assert_eq!(bytes(repeated.deposit_receipt), first);
    let again = world.deposit(&version).await.unwrap();
    assert_eq!(bytes(again.deposit_receipt), first);
}

#[tokio::test]
async fn another_header_under_a_version_is_refused_and_alarmed() {
    let world = World::new().await;
    let version = world.first_version();
    world.deposit(&version).await.unwrap();
    let other = world.version(CASE, version.binding.record, 1, vec![]);
    assert_eq!(reason(world.deposit(&other).await), "STATE_CONFLICT");
    assert_eq!(world.last_action().await, Action::Alarm);
}

#[tokio::test]
async fn the_second_of_two_corrections_is_refused_without_an_alarm() {
    let world = World::new().await;
    let first = world.first_version();
    world.keep(&first).await;
    let (one, other) = (world.next_version(&first), world.next_version(&first));
    world.deposit(&one).await.unwrap();
    assert_eq!(reason(world.deposit(&other).await), "VERSION_MISMATCH");
    assert_eq!(world.last_action().await, Action::DepositKey);
}

#[tokio::test]
async fn a_key_that_does_not_fit_its_header_is_refused() {
    let world = World::new().await;
    let version = world.first_version();
    let other = RecordKey::generate().unwrap();
    for key in [other.expose().as_slice(), &version.key.expose()[..31]] {
        let answer = world.deposit_as(&version.header, key.to_vec(), id()).await;
        assert_eq!(reason(answer), "FIELD_INVALID");
    }
}

#[tokio::test]
async fn versions_come_one_after_the_other_and_only_after_an_active_one() {
    let world = World::new().await;
    let skipping = world.version(CASE, RecordId::new(id()), 2, vec![0; 32]);
    assert_eq!(reason(world.deposit(&skipping).await), "VERSION_MISMATCH");

    let first = world.first_version();
    world.deposit(&first).await.unwrap();
    let second = world.next_version(&first);
    assert_eq!(reason(world.deposit(&second).await), "VERSION_MISMATCH");
    world.activate(&world.log(world.put(&first))).await.unwrap();
    let elsewhere = world.version(CASE, first.binding.record, 2, vec![1; 32]);
    assert_eq!(reason(world.deposit(&elsewhere).await), "VERSION_MISMATCH");
    let (record, follows) = (first.binding.record, first.sha256().to_vec());
    let in_another_case = world.version(id(), record, 2, follows);
    let answer = world.deposit(&in_another_case).await;
    assert_eq!(reason(answer), "VERSION_MISMATCH");
    world.deposit(&second).await.unwrap();
    // A late repeat of an older version is answered still.
    world.deposit(&first).await.unwrap();
}

#[tokio::test]
async fn a_version_that_expired_gives_its_place_to_another_header() {
    let world = World::new().await;
    let late = world.first_version();
    world.deposit(&late).await.unwrap();
    world.pass(WEEK);
    let first = world.version(CASE, late.binding.record, 1, vec![]);
    world.keep(&first).await;
    let late_put = world.log(world.put(&late));
    assert_eq!(reason(world.activate(&late_put).await), "ACCESS_DENIED");

    let late = world.next_version(&first);
    world.deposit(&late).await.unwrap();
    world.pass(WEEK);
    // Whether its key is deleted by now or not.
    expire(&world).await;
    let after_it = world.next_version(&late);
    assert_eq!(reason(world.deposit(&after_it).await), "VERSION_MISMATCH");
    let second = world.next_version(&first);
    world.keep(&second).await;
    world.keep(&world.next_version(&second)).await;
}

#[tokio::test]
async fn a_version_that_expired_can_be_deposited_again_and_then_holds_its_place() {
    let world = World::new().await;
    let version = world.first_version();
    let first = world.deposit(&version).await.unwrap();
    world.pass(WEEK);
    expire(&world).await;
    let again = world.deposit(&version).await.unwrap();
    assert_ne!(first.deposit_receipt, again.deposit_receipt);
    let other = world.version(CASE, version.binding.record, 1, vec![]);
    assert_eq!(reason(world.deposit(&other).await), "STATE_CONFLICT");
    world
        .activate(&world.log(world.put(&version)))
        .await
        .unwrap();
}

#[tokio::test]
async fn no_key_lies_in_the_custodians_files() {
    let world = World::new().await;
    let version = world.first_version();
    world.keep(&version).await;
    let files = world.kept().await;
    let holds = |bytes: &[u8]| files.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(version.binding.record.as_bytes()));
    assert!(!holds(version.key.expose()));
    assert!(!holds(&version.field_key("subject.given_name")));
}

#[tokio::test]
async fn a_put_that_is_none_activates_nothing() {
    let world = World::new().await;
    let version = world.first_version();
    world.deposit(&version).await.unwrap();
    let lies: [Lie<Entry>; 5] = [
        ("a read", |put| put.body.action = Action::ReadRecord.into()),
        ("a refusal", |put| put.body.decision = Decision::Deny.into()),
        ("another agency's", |put| {
            put.body.agency_id = POLICE.to_vec()
        }),
        ("another source's", |put| {
            put.linkage.source_id = POLICE.to_vec()
        }),
        ("of another header", |put| {
            put.linkage.statement_sha256 = vec![0; 32]
        }),
    ];
    for (lie, tell) in lies {
        let mut put = world.put(&version);
        tell(&mut put);
        let answer = world.activate(&world.log(put)).await;
        assert_eq!(reason(answer), "ACCESS_DENIED", "{lie}");
        assert_eq!(world.last_action().await, Action::Alarm, "{lie}");
    }

    let mut put = world.log(world.put(&version));
    put.receipt.salt[0] ^= 1;
    assert_eq!(reason(world.activate(&put).await), "FIELD_INVALID");
    put.receipt.salt[0] ^= 1;
    put.receipt.linkage = None;
    assert_eq!(reason(world.activate(&put).await), "FIELD_INVALID");
}

#[tokio::test]
async fn an_activation_can_be_repeated() {
    let world = World::new().await;
    let version = world.first_version();
    world.deposit(&version).await.unwrap();
    let put = world.log(world.put(&version));
    world.activate(&put).await.unwrap();
    world.pass(2 * WEEK);
    world.activate(&put).await.unwrap();
    assert_eq!(world.last_action().await, Action::ActivateKey);
}

#[tokio::test]
async fn a_key_that_waits_a_week_for_its_put_is_deleted_and_an_active_one_is_not() {
    let world = World::new().await;
    let (active, pending) = (world.first_version(), world.first_version());
    world.keep(&active).await;
    world.deposit(&pending).await.unwrap();
    world.pass(WEEK);
    // Before it is deleted, too.
    let put = world.log(world.put(&pending));
    assert_eq!(reason(world.activate(&put).await), "ACCESS_DENIED");

    expire(&world).await;
    let kept = Sql::new("SELECT record_id FROM deposits WHERE wrapped IS NOT NULL")
        .fetch_all(&mut world.database().await)
        .await
        .unwrap();
    let kept: Vec<Vec<u8>> = kept.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(kept, [active.binding.record.to_vec()]);
    assert_eq!(reason(world.activate(&put).await), "ACCESS_DENIED");
}

#[tokio::test]
async fn a_pending_key_is_not_released() {
    let world = World::new().await;
    let version = world.first_version();
    world.deposit(&version).await.unwrap();
    let consent = world.consented(|_| {}).await;
    let referral = world.referral(|_| {});
    let read = world.log(world.read(&version, &consent, &referral));
    let answer = world.release(ask(&read, &referral)).await;
    assert_eq!(reason(answer), "LEDGER_BEHIND");
    assert_eq!(world.last_action().await, Action::ReleaseKeys);
}

//! Invented persons whom nobody has a reason to ask for.

use amanat_database::{
    Column::{Bytes, Number, Text},
    Insert, Sql,
};
use amanat_identity::Caller;
use amanat_schema::{
    audit::{Action, EntryBody},
    policy::Right,
    subject::{ListCanaryHitsRequest, subject_service_server::SubjectService as _},
};
use prost::Message as _;

use super::{
    super::{POLICE, SHELTER, STRANGER, support::now, unlock},
    Cnic, Composite, GUL, Phone, THEIR_PHONE as PHONE, ZARA,
    office::{House, Office, Setting, by, reason},
};
use crate::store::{
    Call, Reply,
    subject::{Asked, SubjectCall, SubjectReply},
};

const MINUTE_MS: i64 = 60_000;

/// The oversight desk of the exchange.
const OVERSIGHT: super::super::Party = STRANGER;

/// Of the invented person.
async fn plant(office: &Office<'_>, caller: &Caller, label: &str) -> Result<(), String> {
    office
        .plant(caller, office.identifier(Cnic, ZARA), label)
        .await
}

/// By the two whom it takes.
async fn plant_live(office: &Office<'_>, label: &str) {
    for caller in [office.auditor(OVERSIGHT), office.colleague(OVERSIGHT)] {
        plant(office, &caller, label).await.unwrap();
    }
}

async fn labels(office: &Office<'_>) -> Vec<String> {
    let hits = office.hits(OVERSIGHT).await;
    hits.into_iter().map(|hit| hit.label).collect()
}

async fn lapsed(office: &Office<'_>) -> usize {
    let call = Call::Subject(Box::new(SubjectCall::CountLapsed));
    let committed = office.desk.desk.journal.call(call).await.unwrap();
    match committed.answer {
        Ok(Reply::Subject(SubjectReply::Lapsed(count))) => count,
        _ => panic!("a count"),
    }
}

/// The ALARM entries on the log, once they count this many hits: agency, body.
async fn alarms(house: &House, hits: u64) -> Vec<(Option<Vec<u8>>, EntryBody)> {
    let generous = std::time::Duration::from_secs(30);
    let alarms = tokio::time::timeout(generous, alarms_counting(house, hits));
    alarms.await.expect("an alarm")
}

async fn alarms_counting(house: &House, hits: u64) -> Vec<(Option<Vec<u8>>, EntryBody)> {
    let mut database = house.database().await;
    loop {
        let rows = Sql::new("SELECT agency, body FROM entries WHERE action = ")
            .bind(i32::from(Action::Alarm))
            .fetch_all(&mut database)
            .await
            .unwrap();
        let alarms = rows.iter().map(|row| {
            let body: Vec<u8> = row.get(1).unwrap();
            let body = EntryBody::decode(body.as_slice()).unwrap();
            (row.get(0).unwrap(), body)
        });
        let alarms: Vec<_> = alarms.collect();
        if alarms.iter().map(|(_, body)| body.count).sum::<u64>() >= hits {
            return alarms;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_asks_for_a_canary_is_answered_as_ever_and_oversight_hears_of_it() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant_live(&office, "plant 1").await;
    let harmless = office
        .send(POLICE, office.find_request(&[(Cnic, GUL)]))
        .await
        .unwrap();
    let found = office
        .send(POLICE, office.find_request(&[(Cnic, ZARA)]))
        .await
        .unwrap();
    assert_eq!(found.pseudonym.len(), harmless.pseudonym.len());
    let body = EntryBody::decode(found.receipt.unwrap().body.as_slice()).unwrap();
    let ever = EntryBody::decode(harmless.receipt.unwrap().body.as_slice()).unwrap();
    assert_eq!(
        (body.action, body.decision, body.count),
        (ever.action, ever.decision, ever.count)
    );
    let again = office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    assert_eq!(again, found.pseudonym);

    let alarms = alarms(&house, 2).await;
    for (agency, body) in &alarms {
        assert_eq!(
            (agency, body.agency_id.as_slice()),
            (&None, &[][..]),
            "no agency lists it"
        );
    }
    assert_eq!(
        alarms.iter().map(|(_, body)| body.count).sum::<u64>(),
        2,
        "each once"
    );
    let hits = office.hits(OVERSIGHT).await;
    assert_eq!(hits.len(), 2);
    assert_eq!(hits[0].label, "plant 1");
    assert_eq!(hits[0].agency_id, office.worker(POLICE).agency.to_vec());
    office.close().await;
}

#[tokio::test]
async fn the_same_officer_has_the_same_handle_and_no_other_has_it() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant_live(&office, "plant 1").await;
    let case_worker = [Right::CaseWorker];
    for (party, name) in [
        (POLICE, "officer 7"),
        (POLICE, "officer 7"),
        (POLICE, "officer 70"),
        (SHELTER, "officer 7"),
    ] {
        let caller = office.caller(party, name, &case_worker);
        let request = office.find_request(&[(Phone, PHONE), (Cnic, ZARA)]);
        office.send_as(&caller, request).await.unwrap();
    }
    let hits = office.hits(OVERSIGHT).await;
    let handle = |at: usize| &hits[at].officer_handle;
    assert_eq!(handle(0), handle(1));
    assert!(handle(0) != handle(2) && handle(0) != handle(3) && handle(2) != handle(3));
    office.close().await;
}

#[tokio::test]
async fn a_repeat_is_no_second_hit_and_what_was_not_alarmed_is_after_a_restart() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant_live(&office, "plant 1").await;
    let request = office.find_request(&[(Cnic, ZARA)]);
    for _ in 0..2 {
        office.send(POLICE, request.clone()).await.unwrap();
    }
    assert_eq!(alarms(&house, 1).await.len(), 1);
    office.close().await;

    undo_alarms(&house, MINUTE_MS).await;
    let office = house.open(&Setting::default()).await.unwrap();
    assert_eq!(alarms(&house, 2).await.len(), 2);
    office.close().await;
}

/// As if whoever answered had ended so long ago, before it looked.
async fn undo_alarms(house: &House, since_ms: i64) {
    let hit_time = now().millis() - since_ms;
    let mut database = house.database().await;
    unlock(&mut database, "canary_hits").await;
    Sql::new("UPDATE canary_hits SET alarm_time = NULL, hit_time = ")
        .bind(hit_time)
        .execute(&mut database)
        .await
        .unwrap();
}

async fn look(office: &Office<'_>, asked: Asked) {
    let call = Call::Subject(Box::new(SubjectCall::CheckCanaries(asked)));
    office.desk.desk.journal.call(call).await.unwrap();
}

/// An alarm of its own beside the look of the replica that answered would tell by the log's growth what was asked
/// for.
#[tokio::test]
async fn who_answered_nobody_leaves_what_is_recent_to_the_replica_that_did() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant_live(&office, "plant 1").await;
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    assert_eq!(alarms(&house, 1).await.len(), 1);
    undo_alarms(&house, MINUTE_MS - 1).await;
    let before = house.count("entries").await;
    look(&office, Asked::NotSince).await;
    assert_eq!(house.count("entries").await, before);
    look(&office, Asked::SinceTheLast).await;
    assert_eq!(alarms(&house, 2).await.len(), 2, "whoever's it was");
    look(&office, Asked::SinceTheLast).await;
    assert_eq!(house.count("entries").await, before + 2, "one each");
    assert_eq!(alarms(&house, 2).await.len(), 2);
    office.close().await;
}

/// What one officer plants could be a survivor's number, planted to hear who asks for her.
#[tokio::test]
async fn one_officer_alone_lies_in_wait_for_nobody() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    for label in ["plant 1", "plant 1", "another name"] {
        let planted = plant(&office, &office.auditor(OVERSIGHT), label).await;
        planted.unwrap();
    }
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    // A colleague who plants another identifier, and one under its label, are no second word on this one.
    let colleague = office.colleague(OVERSIGHT);
    let other = office.identifier(Cnic, GUL);
    office.plant(&colleague, other, "plant 1").await.unwrap();
    office
        .find(POLICE, &[(Cnic, ZARA), (Phone, PHONE)])
        .await
        .unwrap();
    assert_eq!(labels(&office).await, [""; 0]);

    // From his colleague's word on it counts what is asked for, not what was.
    plant(&office, &colleague, "a third name").await.unwrap();
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    office.find(POLICE, &[(Cnic, GUL)]).await.unwrap();
    assert_eq!(labels(&office).await, ["plant 1"], "the first label stands");
    plant(&office, &office.auditor(OVERSIGHT), "late")
        .await
        .unwrap();
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    assert_eq!(labels(&office).await, ["plant 1"; 2]);
    office.close().await;
}

#[tokio::test]
async fn a_canary_is_planted_again_under_a_new_epoch_by_two_and_keeps_its_label() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant_live(&office, "old").await;
    assert_eq!(lapsed(&office).await, 0);
    office.close().await;
    let both = Setting {
        epochs: &[1, 2],
        ..Setting::default()
    };
    let office = house.open(&both).await.unwrap();
    assert_eq!(lapsed(&office).await, 0);
    // With the old token of the canary, he hands in somebody's new one.
    let mut forged = office.identifier(Cnic, ZARA);
    forged.tokens[1] = office.identifier(Cnic, GUL).tokens.remove(1);
    let auditor = office.auditor(OVERSIGHT);
    office.plant(&auditor, forged, "new").await.unwrap();
    plant_live(&office, "new").await;
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    office.close().await;
    let later = Setting {
        epochs: &[2],
        ..Setting::default()
    };
    let office = house.open(&later).await.unwrap();
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    office.find(POLICE, &[(Cnic, GUL)]).await.unwrap();
    let labels = labels(&office).await;
    assert_eq!(labels, ["old", "old"], "one a call, whatever the epochs");
    assert_eq!(lapsed(&office).await, 0);
    office.close().await;
}

#[tokio::test]
async fn canaries_that_no_listed_epoch_hears_are_counted() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant_live(&office, "plant 1").await;
    let other = office.identifier(Composite, "nobody|nowhere|1900");
    let auditor = office.auditor(OVERSIGHT);
    office.plant(&auditor, other, "plant 2").await.unwrap();
    office.close().await;
    let later = Setting {
        epochs: &[2],
        ..Setting::default()
    };
    let office = house.open(&later).await.unwrap();
    assert_eq!(lapsed(&office).await, 1, "one was never live");
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    assert_eq!(labels(&office).await, [""; 0]);
    plant_live(&office, "plant 1").await;
    assert_eq!(lapsed(&office).await, 0);
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    assert_eq!(labels(&office).await, ["plant 1"]);
    office.close().await;
}

#[tokio::test]
async fn there_are_at_most_1_000_canaries() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant(&office, &office.auditor(OVERSIGHT), "plant 1")
        .await
        .unwrap();
    let columns = [
        Bytes("stored"),
        Number("domain"),
        Number("epoch"),
        Text("label"),
        Bytes("planter"),
        Number("plant_time"),
    ];
    let rows = (1..1_000).map(|_| {
        let stored = amanat_seal::random::<32>().unwrap();
        let (one, label) = (1.into(), "plant".into());
        [
            stored.into(),
            1.into(),
            one,
            label,
            [0; 16].into(),
            0.into(),
        ]
    });
    Insert::into("canaries", columns, rows)
        .execute(&mut house.database().await)
        .await
        .unwrap();
    let auditor = office.auditor(OVERSIGHT);
    let one_more = office.identifier(Cnic, GUL);
    let refused = office.plant(&auditor, one_more, "plant").await;
    assert_eq!(refused.unwrap_err(), "STATE_CONFLICT");
    assert_eq!(house.count("canaries").await, 1_000);
    // Of a key of its own; and the second word on one that stands is none more.
    let other_key = office.identifier(Composite, "nobody|nowhere|1900");
    office.plant(&auditor, other_key, "plant").await.unwrap();
    plant(&office, &office.colleague(OVERSIGHT), "plant 1")
        .await
        .unwrap();
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    assert_eq!(labels(&office).await, ["plant 1"]);
    office.close().await;
}

#[tokio::test]
async fn only_oversights_auditors_plant_and_list() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    for caller in [office.auditor(POLICE), office.worker(OVERSIGHT)] {
        assert_eq!(
            plant(&office, &caller, "plant").await.unwrap_err(),
            "ACCESS_DENIED"
        );
        let request = by(&caller, ListCanaryHitsRequest::default());
        let refused = office.desk.list_canary_hits(request).await.unwrap_err();
        assert_eq!(reason(&refused), "ACCESS_DENIED");
    }
    for label in ["", &"x".repeat(65)] {
        let refused = plant(&office, &office.auditor(OVERSIGHT), label).await;
        assert_eq!(refused.unwrap_err(), "FIELD_INVALID");
    }
    assert_eq!(house.count("canaries").await, 0);
    office.close().await;
}

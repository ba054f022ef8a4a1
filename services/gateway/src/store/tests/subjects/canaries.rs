//! Invented persons whom nobody has a reason to ask for.

use amanat_identity::Caller;
use amanat_schema::{
    audit::{Action, EntryBody},
    policy::Right,
    subject::{
        CanaryHit, ListCanaryHitsRequest, PlantCanaryRequest,
        subject_service_server::SubjectService as _,
    },
};
use prost::Message as _;
use sqlx::Row as _;

use super::{
    super::{POLICE, SHELTER, STRANGER},
    Cnic, GUL, Phone, ZARA,
    office::{House, Office, Setting, by, reason, request_id},
};

/// The oversight desk of the exchange.
const OVERSIGHT: super::super::Party = STRANGER;

async fn plant(office: &Office<'_>, caller: &Caller, label: &str) -> Result<(), String> {
    let request = PlantCanaryRequest {
        request_id: request_id(),
        identifier: Some(office.identifier(Cnic, ZARA)),
        label: label.to_owned(),
        nonce: vec![3; 32],
    };
    let planted = office.desk.plant_canary(by(caller, request)).await;
    planted.map(drop).map_err(|status| reason(&status))
}

async fn hits(office: &Office<'_>) -> Vec<CanaryHit> {
    let request = by(&office.auditor(OVERSIGHT), ListCanaryHitsRequest::default());
    let listed = office.desk.list_canary_hits(request).await;
    listed.unwrap().into_inner().hits
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
        let rows = sqlx::query("SELECT agency, body FROM entries WHERE action = $1")
            .bind(i32::from(Action::Alarm))
            .fetch_all(&mut database)
            .await
            .unwrap();
        let alarms = rows.iter().map(|row| {
            let body: Vec<u8> = row.get(1);
            (row.get(0), EntryBody::decode(body.as_slice()).unwrap())
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
    plant(&office, &office.auditor(OVERSIGHT), "plant 1")
        .await
        .unwrap();
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
    let hits = hits(&office).await;
    assert_eq!(hits.len(), 2);
    assert_eq!(hits[0].label, "plant 1");
    assert_eq!(hits[0].agency_id, office.worker(POLICE).agency.to_vec());
    office.close().await;
}

#[tokio::test]
async fn the_same_officer_has_the_same_handle_and_no_other_has_it() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant(&office, &office.auditor(OVERSIGHT), "plant 1")
        .await
        .unwrap();
    let case_worker = [Right::CaseWorker];
    for (party, name) in [
        (POLICE, "officer 7"),
        (POLICE, "officer 7"),
        (POLICE, "officer 70"),
        (SHELTER, "officer 7"),
    ] {
        let caller = office.caller(party, name, &case_worker);
        let request = office.find_request(&[(Phone, "+923000000001"), (Cnic, ZARA)]);
        office.send_as(&caller, request).await.unwrap();
    }
    let hits = hits(&office).await;
    let handle = |at: usize| &hits[at].officer_handle;
    assert_eq!(handle(0), handle(1));
    assert!(handle(0) != handle(2) && handle(0) != handle(3) && handle(2) != handle(3));
    office.close().await;
}

#[tokio::test]
async fn a_repeat_is_no_second_hit_and_what_was_not_alarmed_is_after_a_restart() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant(&office, &office.auditor(OVERSIGHT), "plant 1")
        .await
        .unwrap();
    let request = office.find_request(&[(Cnic, ZARA)]);
    for _ in 0..2 {
        office.send(POLICE, request.clone()).await.unwrap();
    }
    assert_eq!(alarms(&house, 1).await.len(), 1);
    office.close().await;

    let undo = "UPDATE canary_hits SET alarm_time = NULL";
    sqlx::query(undo)
        .execute(&mut house.database().await)
        .await
        .unwrap();
    let office = house.open(&Setting::default()).await.unwrap();
    assert_eq!(alarms(&house, 2).await.len(), 2);
    office.close().await;
}

#[tokio::test]
async fn a_canary_planted_again_has_its_newer_label_under_every_epoch() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    plant(&office, &office.auditor(OVERSIGHT), "old")
        .await
        .unwrap();
    office.close().await;
    let both = Setting {
        epochs: &[1, 2],
        ..Setting::default()
    };
    let office = house.open(&both).await.unwrap();
    plant(&office, &office.auditor(OVERSIGHT), "new")
        .await
        .unwrap();
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    office.close().await;
    let later = Setting {
        epochs: &[2],
        ..Setting::default()
    };
    let office = house.open(&later).await.unwrap();
    office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    let labels: Vec<_> = hits(&office)
        .await
        .into_iter()
        .map(|hit| hit.label)
        .collect();
    assert_eq!(labels, ["new", "new"], "one a call, whatever the epochs");
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

//! What a search leaves behind: nothing that ties two identifiers together.

use amanat_schema::subject::{EvaluationReason, SubjectIdentifierType::BForm};

use super::{
    super::{POLICE, SHELTER},
    Cnic, Composite, GUL, Passport, Phone, THEIR_PHONE, ZARA,
    office::{House, Setting},
};

const NAME: &str = "zara|yusuf|2001";
const PASSPORT: &str = "AB0000001";

#[tokio::test]
async fn a_careless_search_glues_nothing_together() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let both = [(Phone, THEIR_PHONE), (Composite, NAME), (Cnic, ZARA)];
    let answered = office.search(POLICE, &both).await.unwrap();
    assert_eq!(office.search(POLICE, &both).await.unwrap(), answered);
    assert_eq!(house.count("identifiers").await, 1, "the strongest alone");
    let by_card = office.search(POLICE, &both[2..]).await.unwrap();
    assert_eq!(by_card, answered);
    let by_phone = office.search(POLICE, &both[..1]).await.unwrap();
    assert_ne!(by_phone, answered);
    // Both are known now: the stronger one answers, and nobody is asked whether they are one.
    assert_eq!(office.search(POLICE, &both).await.unwrap(), answered);
    assert!(office.merges(POLICE).await.is_empty());
    assert_eq!(house.count("subjects").await, 2);

    // Whoever hands in the phone with another card has not been tied to this one.
    let others = [(Cnic, GUL), (Phone, "+923000000002")];
    let with_a_slip = [(Cnic, ZARA), (Phone, "+923000000002")];
    office.search(POLICE, &with_a_slip).await.unwrap();
    let gul = office.find(POLICE, &others).await.unwrap();
    assert_eq!(office.find(POLICE, &others[1..]).await.unwrap(), gul);
    assert!(office.merges(POLICE).await.is_empty());
    office.close().await;
}

#[tokio::test]
async fn a_search_is_answered_by_the_strongest_that_is_known() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let hers = [(Passport, PASSPORT), (Phone, THEIR_PHONE)];
    let zara = office.find(POLICE, &hers).await.unwrap();
    let rows = house.count("identifiers").await;
    // Her card is new; it stays unknown, and she answers.
    let searched = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    assert_eq!(office.search(POLICE, &searched).await.unwrap(), zara);
    assert_eq!(house.count("identifiers").await, rows);
    assert_eq!(house.count("subjects").await, 1);
    let by_card = office.search(POLICE, &searched[..1]).await.unwrap();
    assert_ne!(by_card, zara);
    let all = [(Phone, THEIR_PHONE), (Passport, PASSPORT), (Cnic, ZARA)];
    assert_eq!(office.search(POLICE, &all).await.unwrap(), by_card);
    assert!(office.merges(POLICE).await.is_empty());
    office.close().await;
}

#[tokio::test]
async fn a_search_by_a_name_alone_keeps_nothing_of_it() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let named = [(Composite, NAME)];
    let one = office.search(POLICE, &named).await.unwrap();
    assert_ne!(office.search(POLICE, &named).await.unwrap(), one);
    assert_eq!(house.count("identifiers").await, 0);
    office.find(POLICE, &named).await.unwrap();
    assert!(office.merges(POLICE).await.is_empty(), "no hint was kept");
    office.close().await;
}

#[tokio::test]
async fn an_intake_joins_what_a_search_did_not() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let both = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    let zara = office.search(POLICE, &both).await.unwrap();
    assert_eq!(office.find(POLICE, &both).await.unwrap(), zara);
    assert_eq!(office.search(POLICE, &both[1..]).await.unwrap(), zara);
    assert_eq!(house.count("subjects").await, 1);
    office.close().await;
}

/// The rows of the police's search after another agency's intake of these persons.
async fn rows_after(known: &[(super::office::Kind, &str)]) -> [i64; 4] {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    office.find(SHELTER, known).await.unwrap();
    let searched = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    office.search(POLICE, &searched).await.unwrap();
    office.close().await;
    [
        house.count("subjects").await,
        house.count("identifiers").await,
        house.count("merges").await,
        house.count("requests").await,
    ]
}

#[tokio::test]
async fn a_search_writes_the_same_rows_whether_or_not_another_agency_knows_her() {
    let hit = rows_after(&[(Cnic, ZARA), (Phone, THEIR_PHONE)]).await;
    let miss = rows_after(&[(Cnic, GUL), (Phone, "+923000000009")]).await;
    assert_eq!(hit, miss);
    assert_eq!(hit, [2, 3, 0, 2]);
}

#[tokio::test]
async fn a_find_is_for_an_intake_or_a_search() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    for reason in [
        EvaluationReason::Unspecified.into(),
        EvaluationReason::Canary.into(),
        99,
    ] {
        let mut request = office.find_request(&[(Cnic, ZARA)]);
        request.reason = reason;
        assert_eq!(office.violations(POLICE, request).await, ["reason"]);
    }
    assert_eq!(house.count("subjects").await, 0);
    office.close().await;
}

#[tokio::test]
async fn one_person_has_one_number_of_each_type_of_document() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    for second in [(Cnic, GUL), (BForm, GUL)] {
        let two = [(Cnic, ZARA), (Phone, THEIR_PHONE), second];
        for request in [office.find_request(&two), office.search_request(&two)] {
            assert_eq!(office.violations(POLICE, request).await, ["identifiers[2]"]);
        }
    }
    let passports = [(Passport, PASSPORT), (Passport, "AB0000002")];
    let request = office.find_request(&passports);
    assert_eq!(office.violations(POLICE, request).await, ["identifiers[1]"]);
    assert_eq!(house.count("subjects").await, 0);
    // A phone is changed, and a namesake is nobody's word.
    let phones = [
        (Phone, THEIR_PHONE),
        (Phone, "+923000000002"),
        (Composite, NAME),
        (Composite, "zara|yusuf|2002"),
        (Cnic, ZARA),
        (Passport, PASSPORT),
    ];
    office.find(POLICE, &phones).await.unwrap();
    office.close().await;
}

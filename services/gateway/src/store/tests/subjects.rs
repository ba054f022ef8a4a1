//! Subjects, through the service's own edge over a real journal: TLS alone is left out.

mod canaries;
mod merges;
mod office;
mod peppers;
mod searches;
mod secrets;

use super::{POLICE, SHELTER, STRANGER};
use amanat_schema::subject::SubjectIdentifierType::{Cnic, Composite, Passport, Phone};
use office::{House, Setting};

const ZARA: &str = "0000012345671";
const GUL: &str = "0000012345672";
const THEIR_PHONE: &str = "+923000000001";

#[tokio::test]
async fn each_agency_has_its_own_pseudonym_and_finds_it_again() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let police = office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    assert_eq!(police.len(), 27);
    assert_eq!(office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap(), police);
    let shelter = office.find(SHELTER, &[(Cnic, ZARA)]).await.unwrap();
    assert_ne!(shelter, police);
    assert_ne!(office.find(POLICE, &[(Cnic, GUL)]).await.unwrap(), police);
    office.close().await;
}

#[tokio::test]
async fn what_another_agency_knows_to_belong_together_is_not_told() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let both = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    office.find(SHELTER, &both).await.unwrap();
    let by_document = office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    let by_phone = office.find(POLICE, &[(Phone, THEIR_PHONE)]).await.unwrap();
    assert_ne!(by_document, by_phone);
    // Its own submission joins them: the document decides, and a person looks at the phone's.
    assert_eq!(office.find(POLICE, &both).await.unwrap(), by_document);
    let merges = office.merges(POLICE).await;
    assert_eq!(merges.len(), 1);
    assert_eq!(
        (&merges[0].into, &merges[0].from),
        (&by_document, &by_phone)
    );
    assert!(office.merges(SHELTER).await.is_empty());
    office.close().await;
}

#[tokio::test]
async fn identifiers_submitted_together_lead_to_one_subject_from_then_on() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let both = [(Phone, THEIR_PHONE), (Passport, "AB0000001")];
    let first = office.find(POLICE, &both).await.unwrap();
    for one in both {
        assert_eq!(office.find(POLICE, &[one]).await.unwrap(), first);
    }
    let more = [(Passport, "AB0000001"), (Cnic, ZARA)];
    assert_eq!(office.find(POLICE, &more).await.unwrap(), first);
    assert_eq!(office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap(), first);
    let second_phone = [(Cnic, ZARA), (Phone, "+923000000002")];
    assert_eq!(office.find(POLICE, &second_phone).await.unwrap(), first);
    let by_it = office.find(POLICE, &second_phone[1..]).await.unwrap();
    assert_eq!(by_it, first);
    assert!(office.merges(POLICE).await.is_empty());
    // Another card than hers, though with her passport.
    let others = [(Passport, "AB0000001"), (Cnic, GUL)];
    assert_ne!(office.find(POLICE, &others).await.unwrap(), first);
    office.close().await;
}

#[tokio::test]
async fn a_document_never_joins_who_is_known_by_a_phone_alone_without_a_persons_word() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let phone = [(Phone, THEIR_PHONE)];
    let by_phone = office.find(POLICE, &phone).await.unwrap();
    let both = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    let by_card = office.find(POLICE, &both).await.unwrap();
    assert_ne!(by_card, by_phone, "a slip of the pen would glue two people");
    assert_eq!(office.find(POLICE, &phone).await.unwrap(), by_phone);
    assert_eq!(office.find(POLICE, &both).await.unwrap(), by_card);
    let merges = office.merges(POLICE).await;
    let pairs: Vec<_> = merges.iter().map(|m| (&m.into, &m.from)).collect();
    assert_eq!(pairs, [(&by_card, &by_phone)]);

    office.merge(POLICE, &by_card, &by_phone).await.unwrap();
    assert_eq!(office.find(POLICE, &phone).await.unwrap(), by_card);
    // And another card with the same phone is another person again.
    let sisters = [(Cnic, GUL), (Phone, THEIR_PHONE)];
    assert_ne!(office.find(POLICE, &sisters).await.unwrap(), by_card);
    office.close().await;
}

#[tokio::test]
async fn two_persons_who_share_a_phone_stay_two() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let (zaras, guls) = (
        [(Cnic, ZARA), (Phone, THEIR_PHONE)],
        [(Cnic, GUL), (Phone, THEIR_PHONE)],
    );
    let zara = office.find(POLICE, &zaras).await.unwrap();
    let gul = office.find(POLICE, &guls).await.unwrap();
    assert_ne!(zara, gul);
    assert_eq!(office.find(POLICE, &guls).await.unwrap(), gul);
    assert_eq!(office.find(POLICE, &zaras).await.unwrap(), zara);
    assert_eq!(
        office.find(POLICE, &[(Phone, THEIR_PHONE)]).await.unwrap(),
        zara
    );
    assert_eq!(office.merges(POLICE).await.len(), 1, "proposed once");
    office.close().await;
}

#[tokio::test]
async fn without_any_document_a_name_and_a_year_are_only_a_hint() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let nameless = office.find(POLICE, &[]).await.unwrap();
    assert_ne!(office.find(POLICE, &[]).await.unwrap(), nameless);
    let named = [(Composite, "zara|yusuf|2001")];
    let one = office.find(POLICE, &named).await.unwrap();
    let other = office.find(POLICE, &named).await.unwrap();
    assert_ne!(one, other);
    let merges = office.merges(POLICE).await;
    assert_eq!(merges.len(), 1);
    assert_eq!((&merges[0].into, &merges[0].from), (&other, &one));
    office.close().await;
}

#[tokio::test]
async fn calls_that_arrive_together_agree_on_whom_they_are_about() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let both = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    let (one, two, other) = tokio::join!(
        office.find(POLICE, &both),
        office.find(POLICE, &both[1..]),
        office.find(SHELTER, &both),
    );
    let (one, two, other) = (one.unwrap(), two.unwrap(), other.unwrap());
    assert_eq!(one, two);
    assert_ne!(one, other);
    assert_eq!(house.count("subjects").await, 2);
    office.close().await;
}

#[tokio::test]
async fn a_repeated_request_gets_its_answer_again_and_makes_nobody_twice() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let request = office.find_request(&[]);
    let first = office.send(POLICE, request.clone()).await.unwrap();
    let again = office.send(POLICE, request.clone()).await.unwrap();
    assert_eq!(first.pseudonym, again.pseudonym);
    assert_eq!(first.receipt.unwrap().index, again.receipt.unwrap().index);
    let mut changed = request;
    changed.nonce = vec![9; 32];
    let refused = office.send(POLICE, changed).await;
    assert_eq!(refused.unwrap_err(), "REQUEST_ID_REUSED");
    assert_eq!(house.count("subjects").await, 1);
    office.close().await;
}

#[tokio::test]
async fn a_new_epoch_takes_over_from_the_old_one_while_both_are_listed() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let zara = office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    let gul = office.find(POLICE, &[(Cnic, GUL)]).await.unwrap();
    office.close().await;

    let setting = Setting {
        epochs: &[1, 2],
        ..Setting::default()
    };
    let office = house.open(&setting).await.unwrap();
    assert_eq!(office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap(), zara);
    office.close().await;

    let setting = Setting {
        epochs: &[2],
        ..Setting::default()
    };
    let office = house.open(&setting).await.unwrap();
    assert_eq!(office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap(), zara);
    assert_ne!(
        office.find(POLICE, &[(Cnic, GUL)]).await.unwrap(),
        gul,
        "not met in time"
    );
    office.close().await;
}

#[tokio::test]
async fn every_field_that_is_wrong_is_named() {
    let house = House::new().await;
    let setting = Setting {
        epochs: &[1, 2],
        ..Setting::default()
    };
    let office = house.open(&setting).await.unwrap();
    let good = office.find_request(&[(Cnic, ZARA), (Phone, THEIR_PHONE)]);
    let mut bad = good.clone();
    bad.request_id.pop();
    bad.nonce.push(0);
    bad.identifiers[0].r#type = 99;
    bad.identifiers[1].tokens[1].token.pop();
    let refused = office.violations(POLICE, bad).await;
    let paths = [
        "request_id",
        "nonce",
        "identifiers[0].type",
        "identifiers[1].tokens[1].token",
        "identifiers[1].tokens",
    ];
    assert_eq!(refused, paths);

    let mut one_epoch = good.clone();
    one_epoch.identifiers[0].tokens.pop();
    assert_eq!(
        office.violations(POLICE, one_epoch).await,
        ["identifiers[0].tokens"]
    );
    let mut other_epoch = good.clone();
    other_epoch.identifiers[0].tokens[0].epoch = 3;
    assert_eq!(
        office.violations(POLICE, other_epoch).await,
        ["identifiers[0].tokens"]
    );
    let mut twice = good.clone();
    twice.identifiers.push(good.identifiers[0].clone());
    assert_eq!(office.violations(POLICE, twice).await, ["identifiers[2]"]);
    let mut many = good.clone();
    many.identifiers = (0..17_u8)
        .map(|n| office::identifier(Phone, &n.to_string(), &[1, 2]))
        .collect();
    assert_eq!(office.violations(POLICE, many).await, ["identifiers"]);
    assert_eq!(house.count("subjects").await, 0);
    office.close().await;
}

#[tokio::test]
async fn only_case_workers_find() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let request = office.find_request(&[(Cnic, ZARA)]);
    let supervisor = office.supervisor(STRANGER);
    let refused = office.send_as(&supervisor, request).await;
    assert_eq!(refused.unwrap_err(), "ACCESS_DENIED");
    assert_eq!(house.count("entries").await, 1, "and it is on the log");
    office.close().await;
}

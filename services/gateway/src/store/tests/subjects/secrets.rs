//! What an answer, a log and a stolen database tell.

use std::collections::{BTreeMap, BTreeSet};

use amanat_schema::{audit::EntryBody, subject::FindSubjectResponse};
use amanat_seal::sha256;
use prost::Message as _;

use super::{
    super::{POLICE, Party, SHELTER},
    Cnic, Composite, GUL, Phone, THEIR_PHONE, ZARA,
    office::{House, Kind, Office, Setting, peppers, token},
};

const NAME: &str = "zara|yusuf|2001";

/// The rows that a find added or changed in each table, as the widths of their columns.
type Growth = BTreeMap<String, Vec<Vec<usize>>>;

async fn find_as_rows(house: &House, office: &Office<'_>) -> (Growth, FindSubjectResponse) {
    let before = house.tables().await;
    let all = [(Cnic, ZARA), (Phone, THEIR_PHONE), (Composite, NAME)];
    let answer = office
        .send(POLICE, office.find_request(&all))
        .await
        .unwrap();
    let mut growth = Growth::new();
    for (table, rows) in house.tables().await {
        let new = rows.iter().filter(|row| !before[&table].contains(row));
        let mut widths: Vec<Vec<_>> = new
            .map(|row| row.iter().map(String::len).collect())
            .collect();
        widths.sort_unstable();
        growth.insert(table, widths);
    }
    (growth, answer)
}

/// A find of the police, after another agency found these persons.
async fn police_after(known: &[(Kind, &str)]) -> (Growth, FindSubjectResponse) {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    office.find(SHELTER, known).await.unwrap();
    let found = find_as_rows(&house, &office).await;
    office.close().await;
    found
}

#[tokio::test]
async fn known_elsewhere_or_not_the_same_rows_are_written_and_the_same_bytes_answered() {
    let hit = [(Cnic, ZARA), (Phone, THEIR_PHONE), (Composite, NAME)];
    let miss = [
        (Cnic, GUL),
        (Phone, "+923000000009"),
        (Composite, "gul|amir|1999"),
    ];
    let (hit_rows, hit) = police_after(&hit).await;
    let (miss_rows, miss) = police_after(&miss).await;
    assert_eq!(hit_rows, miss_rows);
    assert_eq!(hit_rows["identifiers"].len(), 3);
    assert_eq!(hit.encoded_len(), miss.encoded_len());
}

#[tokio::test]
async fn a_pseudonyms_answer_is_as_long_as_any_other() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let mut lengths = BTreeSet::new();
    for identifiers in [
        &[][..],
        &[(Cnic, ZARA)],
        &[(Cnic, ZARA)],
        &[(Phone, THEIR_PHONE)],
    ] {
        let request = office.find_request(identifiers);
        let mut answer = office.send(POLICE, request).await.unwrap();
        answer.receipt = None;
        lengths.insert(answer.encoded_len());
    }
    assert_eq!(lengths.len(), 1);
    office.close().await;
}

#[tokio::test]
async fn an_entry_says_who_asked_and_nothing_of_whom() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let request = office.find_request(&[(Cnic, ZARA)]);
    let answer = office.send(POLICE, request).await.unwrap();
    let receipt = answer.receipt.unwrap();
    let body = EntryBody::decode(receipt.body.as_slice()).unwrap();
    assert_eq!(body.action(), amanat_schema::audit::Action::FindSubject);
    let shown = [receipt.body, receipt.linkage.unwrap().value].concat();
    let name: amanat_seal::pseudonym::Pseudonym = answer.pseudonym.parse().unwrap();
    let police = office.worker(POLICE).agency;
    let stored = peppers(&[1]).stored(police, &token(Cnic, ZARA, 1));
    for secret in [
        answer.pseudonym.as_bytes(),
        name.as_bytes(),
        &stored,
        &token(Cnic, ZARA, 1),
    ] {
        assert!(!holds(&shown, secret));
    }
    office.close().await;
}

#[tokio::test]
async fn a_stolen_database_and_the_oprf_key_match_nobody_without_the_pepper() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let all = [(Cnic, ZARA), (Phone, THEIR_PHONE), (Composite, NAME)];
    let request = office.find_request(&all);
    office.send(POLICE, request.clone()).await.unwrap();
    office.find(SHELTER, &all).await.unwrap();
    let police = office.worker(POLICE).agency;
    office.close().await;

    let stolen = house.stolen().await;
    let mut guesses = vec![request.nonce.clone()];
    for (kind, value) in all {
        let token = token(kind, value, 1);
        guesses.extend([
            value.as_bytes().to_vec(),
            token.to_vec(),
            sha256(&token).to_vec(),
        ]);
        let other = peppers(&[0]).stored(police, &token);
        guesses.extend([other.to_vec(), token[..16].to_vec()]);
        // What is looked for among canaries is the same for all agencies, and is not kept.
        guesses.push(peppers(&[1]).canary(&token).to_vec());
        guesses.push(hex::encode(token).into_bytes());
    }
    // The request's hash stands in the log; whoever guesses the identifiers lacks its nonce.
    for nonce in [Vec::new(), vec![0; 32]] {
        let mut guess = request.clone();
        guess.nonce = nonce;
        guesses.push(amanat_identity::request_sha256(&guess).to_vec());
    }
    let columns: Vec<_> = house.tables().await.into_values().flatten().collect();
    let columns = columns.concat().join(" ").into_bytes();
    for guess in guesses {
        assert!(!holds(&stolen, &guess));
        assert!(!holds(&columns, hex::encode_upper(&guess).as_bytes()));
    }
    // The search would find what is there.
    let stored = peppers(&[1]).stored(police, &token(Cnic, ZARA, 1));
    assert!(holds(&stolen, &stored));
    assert!(holds(&stolen, &amanat_identity::request_sha256(&request)));
}

#[tokio::test]
async fn two_agencies_subjects_have_no_value_in_common() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let all = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    let agencies: [Party; 2] = [POLICE, SHELTER];
    for party in agencies {
        office.find(party, &all).await.unwrap();
    }
    office.close().await;
    let subjects = &house.tables().await["subjects"];
    let [one, other] = &subjects[..] else {
        panic!("one each");
    };
    // Key version and time are everybody's.
    for (column, is_shared) in [false, false, true, false, true].into_iter().enumerate() {
        assert_eq!(one[column] == other[column], is_shared, "column {column}");
    }
}

/// All of a table's rows that are an agency's, but for what is everybody's: codes, versions and times.
fn windows_of(rows: &[Vec<String>], agency: &str) -> BTreeSet<String> {
    let of_agency = rows.iter().filter(|row| row.iter().any(|v| v == agency));
    // An id of 16 bytes is 32 digits; the shorter values are numbers.
    let values = of_agency.flatten().filter(|value| value.len() >= 32);
    let window = |value: &String, at: usize| value[at..at + 16].to_owned();
    let windows = values.flat_map(|value| {
        let starts = (0..=value.len() - 16).step_by(2);
        starts.map(|at| window(value, at)).collect::<Vec<_>>()
    });
    windows.collect()
}

#[tokio::test]
async fn what_is_stored_of_a_person_whom_two_agencies_know_joins_nowhere() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let all = [(Cnic, ZARA), (Phone, THEIR_PHONE), (Composite, NAME)];
    let agencies = [POLICE, SHELTER].map(|party: Party| {
        let agency = office.worker(party).agency;
        (party, hex::encode_upper(agency.as_bytes()))
    });
    for (party, _) in &agencies {
        office.find(*party, &all[1..]).await.unwrap();
        let card = office.find(*party, &all[..1]).await.unwrap();
        let both = office.find(*party, &all).await.unwrap();
        let waiting = office.merges(*party).await;
        assert_eq!((card == both, waiting.len()), (true, 1));
        let merge = &waiting[0];
        office
            .merge(*party, &merge.into, &merge.from)
            .await
            .unwrap();
    }
    let police = office.worker(POLICE).agency;
    office.close().await;

    let tables = house.tables().await;
    let stored = peppers(&[1]).stored(police, &token(Cnic, ZARA, 1));
    let [one, other] = agencies.map(|(_, agency)| {
        let of = ["subjects", "identifiers", "aliases", "merges", "requests"];
        let windows = of.map(|table| {
            let windows = windows_of(&tables[table], &agency);
            assert!(!windows.is_empty(), "{table}");
            windows
        });
        windows.into_iter().flatten().collect::<BTreeSet<_>>()
    });
    assert!(one.contains(&hex::encode_upper(&stored[..8])));
    assert!(one.is_disjoint(&other));
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

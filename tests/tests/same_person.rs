//! Whose record it is: a correction, a search and a merge hold two persons apart until somebody says that
//! they are one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::{Acting, Connector, ConnectorError, Profile, SamePerson};
use amanat_schema::case_file;
use amanat_tests::{
    Running,
    cli::case_file,
    story::{OVERSIGHT, POLICE},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");

/// The police hand in the case file; its record, and their pseudonym of her.
fn submit(running: &Running) -> (String, String) {
    let file = running.write(&case_file());
    let told = running.tell_json(POLICE, &["case", "submit", &file]);
    let text = |key: &str| told[key].as_str().unwrap().to_owned();
    (text("record"), text("pseudonym"))
}

/// A connector of the police on another machine: it has an outbox of its own.
async fn elsewhere(running: &Running) -> Connector {
    let mut profile = Profile::load(&running.exchange.agencies[POLICE].folder).unwrap();
    profile.outbox = running.path("elsewhere.sqlite");
    let acting = Acting::Officer("default".to_owned());
    let other = Connector::open(profile, acting, amanat::system_clock());
    other.await.unwrap()
}

/// The case file of a sister, who shares the phone.
fn of_another() -> Value {
    let mut file = case_file();
    file["subject"]["given_name"] = json!("Zara");
    file["subject"]["cnic"] = json!("0000076543210");
    file
}

/// The pseudonym that stands in a text before a word.
fn named_before(text: &str, word: &str) -> String {
    let (before, _) = text.split_once(word).expect(word);
    before.split_whitespace().last().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_with_another_womans_file_is_refused_until_a_person_says_they_are_one() {
    let running = Running::start(PROGRAM, "info");
    let (record, known) = submit(&running);
    let file = running.write(&of_another());
    let correct = ["case", "correct", &record, &file];
    let told = running.tell(POLICE, &correct);
    assert_eq!(told.code, 1, "{}", told.out);
    for word in [
        "ANOTHER_PERSON",
        "nothing was handed in",
        "--person-checked",
        "subject merge",
    ] {
        assert!(told.err.contains(word), "{word}: {}", told.err);
    }
    assert_eq!(named_before(&told.err, " to "), known);
    let found = named_before(&told.err, "; nothing was handed in");
    assert_eq!(running.tell_json(POLICE, &["outbox", "list"]), json!([]));
    let versions = || running.tell_json(POLICE, &["case", "list"]);
    assert_eq!(versions().as_array().unwrap().len(), 1);

    // A colleague says so, and whichever of the two stands for both from now on.
    let other = elsewhere(&running).await;
    for (into, from) in [(&known, &found), (&found, &known)] {
        let pair = [into, from].map(|one| one.parse().unwrap());
        other.merge_subjects(pair[0], pair[1]).await.unwrap();
        let told = running.tell_json(POLICE, &correct);
        assert_eq!(told["pseudonym"], into.as_str());
        assert_eq!(told["pseudonym_before"], Value::Null);
        running.tell_json(POLICE, &["subject", "split", into, from]);
    }
    assert_eq!(versions().as_array().unwrap().len(), 3);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_that_an_officer_checked_says_whose_the_record_was_until_now() {
    let running = Running::start(PROGRAM, "info");
    let (record, known) = submit(&running);
    let file = running.write(&of_another());
    let checked = ["case", "correct", &record, &file, "--person-checked"];
    let told = running.tell_json(POLICE, &checked);
    assert_eq!(told["version"], 2);
    assert_eq!(told["pseudonym_before"], known.as_str());
    assert_ne!(told["pseudonym"], known.as_str());
    // From now on she is whose the record is, and the first one is somebody else.
    let told = running.tell(POLICE, &checked[..4]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(!told.out.contains("until now"), "{}", told.out);
    let file = running.write(&case_file());
    let told = running.tell(POLICE, &["case", "correct", &record, &file]);
    assert!(told.err.contains("ANOTHER_PERSON"), "{}", told.shown());
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_whose_person_cannot_be_checked_is_not_handed_in() {
    let mut running = Running::start(PROGRAM, "info");
    let (record, _) = submit(&running);
    running.custodian.stop();
    let file = running.write(&case_file());
    let told = running.tell(POLICE, &["case", "correct", &record, &file]);
    assert_eq!(told.code, 4);
    for word in [
        "UNREACHABLE: the custodian cannot be reached",
        "could not be checked, and nothing was handed in",
        "--person-checked",
    ] {
        assert!(told.err.contains(word), "{word}: {}", told.err);
    }
    assert_eq!(running.tell_json(POLICE, &["outbox", "list"]), json!([]));
    running.custodian.start();
    let told = running.tell_json(POLICE, &["case", "correct", &record, &file]);
    assert_eq!(told["version"], 2);
    // It is no search that led nowhere.
    let running_out = ["oversight", "evaluations", "--running"];
    assert_eq!(running.tell_json(OVERSIGHT, &running_out), json!([]));
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_that_nothing_can_check_waits_for_an_officers_word() {
    let running = Running::start(PROGRAM, "info");
    let (record, _) = submit(&running);
    // A name and a year are nobody's alone.
    let mut nameless = case_file();
    for key in ["cnic", "mobile_phone"] {
        nameless["subject"].as_object_mut().unwrap().remove(key);
    }
    let file = running.write(&nameless);
    let told = running.tell(POLICE, &["case", "correct", &record, &file]);
    assert_eq!(told.code, 1, "{}", told.out);
    assert!(told.err.contains("--person-checked"), "{}", told.err);
    let checked = ["case", "correct", &record, &file, "--person-checked"];
    let told = running.tell(POLICE, &checked);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(!told.out.contains("pseudonym"), "{}", told.out);

    // Another connector never knew whose record it is.
    let other = elsewhere(&running).await;
    let file = case_file::parse(&of_another())
        .map_err(|_| "valid")
        .unwrap();
    let told = other.correct_case(record.parse().unwrap(), file, SamePerson::Compare);
    assert!(matches!(
        told.await,
        Err(ConnectorError::Unfit { next, .. }) if next.contains("--person-checked")
    ));
    assert!(other.pending().await.unwrap().is_empty());
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_be_somebody_known_is_said_where_it_is_decided() {
    let running = Running::start(PROGRAM, "info");
    let phone = json!({
        "subject": { "gender": "FEMALE", "mobile_phone": "0300 0000117" },
        "case": { "urgency": "URGENT" },
    });
    let file = running.write(&phone);
    let first = running.tell_json(POLICE, &["case", "submit", &file]);
    assert_eq!(first["proposed_merges"], 0);
    let file = running.write(&of_another());
    let told = running.tell(POLICE, &["case", "submit", &file]);
    assert!(
        told.out.contains("wait in `amanat subject merges`"),
        "{}",
        told.out
    );

    let merges = running.tell_json(POLICE, &["subject", "merges"]);
    let sides = [&merges[0]["into_cases"], &merges[0]["from_cases"]];
    assert!(sides.contains(&&json!([first["case"]])), "{merges}");
    let told = running.tell(POLICE, &["subject", "merges"]);
    let case = first["case"].as_str().unwrap();
    assert!(told.out.contains(&format!("(case {case})")), "{}", told.out);
    running.verify().await;
}

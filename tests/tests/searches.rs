//! A search answers and says nothing: what identifies one person is said by records alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::{ConnectorError, EntryQuery, IdentifierFile, Server};
use amanat_schema::audit::Action;
use amanat_tests::{Running, story::POLICE};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const CNIC: &str = "0000012345678";

/// What a search printed.
fn find(running: &Running, identifiers: &Value) -> Value {
    let file = running.write(identifiers);
    running.tell_json(POLICE, &["subject", "find", "--file", &file])
}

fn identifiers(json: Value) -> IdentifierFile {
    serde_json::from_value(json).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_ties_nothing_together_and_a_record_does() {
    let running = Running::start(PROGRAM, "info");
    let (card, phone) = (json!({ "cnic": CNIC }), json!({ "phone": "03000000117" }));
    let both = json!({ "cnic": CNIC, "phone": "03000000117" });
    let pseudonym = |told: Value| told["pseudonym"].clone();
    // Somebody wonders whether the card and the phone are one woman's, and asks twice.
    let searched = pseudonym(find(&running, &both));
    assert_eq!(pseudonym(find(&running, &both)), searched);
    assert_eq!(pseudonym(find(&running, &card)), searched);
    let by_phone = pseudonym(find(&running, &phone));
    assert_ne!(by_phone, searched);
    let merges = || running.tell_json(POLICE, &["subject", "merges"]);
    assert_eq!(merges(), json!([]), "nobody is asked about a search");

    let record = json!({
        "subject": { "gender": "FEMALE", "cnic": CNIC, "mobile_phone": "0300-0000118" },
        "case": { "urgency": "URGENT" },
    });
    let record = running.write(&record);
    let told = running.tell_json(POLICE, &["case", "submit", &record]);
    assert_eq!(told["pseudonym"], searched);
    let found = find(&running, &json!({ "phone": "03000000118" }));
    assert_eq!(
        (&found["pseudonym"], &found["own_cases"]),
        (&searched, &json!([told["case"]]))
    );
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cnics_of_one_person_are_refused_before_anything_is_asked() {
    let running = Running::start(PROGRAM, "info");
    let other = json!({ "type": "B_FORM", "number": "00000-1234567-9" });
    let searched = json!({ "cnic": CNIC, "document": other });
    let record = json!({
        "subject": { "gender": "FEMALE", "cnic": CNIC, "identity_document": other },
        "case": { "urgency": "URGENT" },
    });
    for (file, command, field) in [
        (
            searched,
            &["subject", "find", "--file"][..],
            "document.number",
        ),
        (
            record,
            &["case", "submit"],
            "subject.identity_document.number",
        ),
    ] {
        let file = running.write(&file);
        let arguments = [command, &[file.as_str()]].concat();
        let told = running.tell(POLICE, &arguments);
        assert_eq!(told.code, 3, "{}", told.shown());
        assert!(
            told.err.contains("FIELD_INVALID") && told.err.contains(field),
            "{}",
            told.err
        );
        assert!(!told.shown().contains("1234567"), "{}", told.shown());
    }
    // A list that did not come from a file, too; and none of it counts against the budget.
    let police = running.connector(POLICE).await;
    let of = |number: &str| {
        identifiers(json!({ "cnic": number }))
            .identifiers()
            .unwrap()
    };
    let two = [of(CNIC), of("0000012345679")].into_iter().flatten();
    let refused = police.find_subject(&two.collect::<Vec<_>>(), None).await;
    assert!(
        matches!(refused, Err(ConnectorError::Invalid(violations)) if violations[0].path == "identifiers[1]")
    );
    let evaluated = EntryQuery {
        action: Some(Action::EvaluateIdentifiers),
        limit: 1,
        ..EntryQuery::default()
    };
    let evaluated = police.list_entries(Server::Custodian, &evaluated).await;
    assert!(evaluated.unwrap().is_empty());
}

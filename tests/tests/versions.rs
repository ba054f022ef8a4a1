//! Record versions: corrections, who reads which, and a case's history.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::{Acting, Connector, ConnectorError, Profile, ReadRequest, SamePerson};
use amanat_database::Sql;
use amanat_schema::{
    CaseId, RecordId,
    case_file::{self, CaseFile},
    policy::Purpose,
};
use amanat_tests::{
    Running,
    cli::{case_file, grant, share},
    forge::Books,
    story::{NGO, POLICE, SHELTER},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const FIELDS: &str = "needs.needs,subject.given_name";

/// The police's case file with the name corrected.
fn corrected(name: &str) -> Value {
    let mut file = case_file();
    file["subject"]["given_name"] = json!(name);
    file
}

fn parsed(name: &str) -> CaseFile {
    case_file::parse(&corrected(name))
        .map_err(|_| "not valid")
        .unwrap()
}

/// The police hand in the case file; its case and record.
fn submit(running: &Running) -> (String, String) {
    let file = running.write(&case_file());
    let told = running.tell_json(POLICE, &["case", "submit", &file]);
    let text = |key: &str| told[key].as_str().unwrap().to_owned();
    (text("case"), text("record"))
}

/// The Dar-ul-Aman reads; the one record that it was shown.
fn read(running: &Running, case: &str) -> Value {
    let read = [
        "case",
        "read",
        case,
        "--fields",
        FIELDS,
        "--purpose",
        "SHELTER",
    ];
    running.tell_json(SHELTER, &read)
}

/// A connector of the police on another machine: it has an outbox of its own.
async fn elsewhere(running: &Running) -> Connector {
    let mut profile = Profile::load(&running.exchange.agencies[POLICE].folder).unwrap();
    profile.outbox = running.path("elsewhere.sqlite");
    let acting = Acting::Officer("default".to_owned());
    Connector::open(profile, acting, amanat::system_clock())
        .await
        .unwrap()
}

/// As by the gateway's operator.
async fn forget_corrections(running: &Running) {
    let mut database = Books::of(&running.exchange.gateway).tamper().await;
    let gone = Sql::new("DELETE FROM records WHERE version > 1").execute(&mut database);
    assert_eq!(gone.await.unwrap(), 1);
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_is_what_every_reader_gets_under_the_same_consent_and_referral() {
    let running = Running::start(PROGRAM, "info");
    let (case, record) = submit(&running);
    let terms = json!({ "paths": FIELDS.split(',').collect::<Vec<_>>() });
    grant(&running, &case, &terms);
    share(&running, &case, FIELDS);
    let first = read(&running, &case);
    assert_eq!(
        (&first["version"], &first["values"]["subject"]["given_name"]),
        (&json!(1), &json!("Noor"))
    );

    for (version, name) in [(2, "Nur"), (3, "Noor Jahan")] {
        let file = running.write(&corrected(name));
        let told = running.tell_json(POLICE, &["case", "correct", &record, &file]);
        assert_eq!(told["version"], version);
        assert_eq!(
            (&told["case"], &told["record"]),
            (&json!(case), &json!(record))
        );
        assert_eq!(told["own_cases"], json!([]));
        let now = read(&running, &case);
        assert_eq!(now["version"], version);
        assert_eq!(now["values"]["subject"]["given_name"], name);
        assert_eq!(now["values"]["needs"], first["values"]["needs"]);
    }
    let own = [
        "case",
        "read",
        &case,
        "--fields",
        "subject.given_name",
        "--purpose",
        "INVESTIGATION",
    ];
    assert_eq!(running.tell_json(POLICE, &own)["version"], 3);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_corrections_made_at_once_is_told_to_look_again() {
    let mut running = Running::start(PROGRAM, "info");
    let (case, record) = submit(&running);
    let id: RecordId = record.parse().unwrap();
    let other = elsewhere(&running).await;

    // Both correct version 1, and neither reaches the custodian.
    running.custodian.stop();
    let file = running.write(&corrected("Nur"));
    let correct = ["case", "correct", &record, &file, "--person-checked"];
    let told = running.tell(POLICE, &correct);
    assert!(
        told.code == 4 && told.err.contains("version 2"),
        "{}",
        told.err
    );
    let waits = other
        .correct_case(id, parsed("Nour"), SamePerson::Checked)
        .await
        .unwrap();
    assert_eq!(waits.version, 2);
    // A third on top of one that waits is refused at once: it could only lose.
    let told = running.tell(POLICE, &["case", "correct", &record, &file]);
    assert!(
        told.code == 1 && told.err.contains("still in the outbox"),
        "{}",
        told.err
    );
    running.custodian.start();

    assert_eq!(running.tell(POLICE, &["outbox", "deliver"]).code, 0);
    let outcomes = other.deliver_pending().await.unwrap();
    let (_, outcome) = outcomes
        .iter()
        .find(|(job, _)| job.kind == "submission")
        .unwrap();
    let refused = outcome.as_ref().unwrap_err();
    assert_eq!(refused.reason(), "VERSION_MISMATCH");
    assert!(refused.next_step().contains("correct it again"));
    assert_eq!(other.refused().await.unwrap().len(), 1);

    // Having looked, it goes on top of what came first.
    let again = other
        .correct_case(id, parsed("Nour"), SamePerson::Compare)
        .await
        .unwrap();
    assert_eq!(again.delivered().unwrap().version, 3);
    let own = [
        "case",
        "read",
        &case,
        "--fields",
        "subject.given_name",
        "--purpose",
        "INVESTIGATION",
    ];
    let read = running.tell_json(POLICE, &own);
    assert_eq!(
        (&read["version"], &read["values"]["subject"]["given_name"]),
        (&json!(3), &json!("Nour"))
    );
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_source_corrects_a_record() {
    let running = Running::start(PROGRAM, "info");
    let (case, record) = submit(&running);
    grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    share(&running, &case, "needs.needs");
    let file = running.write(&corrected("Nur"));
    for (agency, why) in [
        (SHELTER, "only police-lahore corrects it"),
        (NGO, "put no such record"),
    ] {
        let told = running.tell(agency, &["case", "correct", &record, &file]);
        assert_eq!(told.code, 1);
        assert!(told.err.contains(why), "{}", told.err);
        assert!(!told.err.contains("--help"), "{}", told.err);
    }
    let police = running.connector(POLICE).await;
    assert_eq!(police.list_versions(None).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_handed_in_while_the_custodian_is_away_is_readable_once_it_is_delivered() {
    let mut running = Running::start(PROGRAM, "info");
    let (case, record) = submit(&running);
    running.custodian.stop();
    let file = running.write(&corrected("Nur"));
    let correct = ["case", "correct", &record, &file, "--person-checked"];
    let told = running.tell(POLICE, &correct);
    assert_eq!(told.code, 4);
    for word in [
        case.as_str(),
        &record,
        "version 2",
        "kept in the outbox: UNREACHABLE",
    ] {
        assert!(told.err.contains(word), "{word}: {}", told.err);
    }
    running.custodian.start();
    assert_eq!(running.tell(POLICE, &["outbox", "deliver"]).code, 0);
    let police = running.connector(POLICE).await;
    let request = ReadRequest {
        case: case.parse::<CaseId>().unwrap(),
        record: record.parse().unwrap(),
        source: police.agency(),
        fields: vec!["subject.given_name".to_owned()],
        purpose: Purpose::Investigation,
    };
    let read = police.read_case(&request).await.unwrap();
    assert_eq!(
        (read.version, &read.record["subject"]["given_name"]),
        (2, &json!("Nur"))
    );
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_shows_each_party_what_it_may_know_in_the_order_of_time() {
    let running = Running::start(PROGRAM, "info");
    let (case, record) = submit(&running);
    let consent = grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    share(&running, &case, "needs.needs");
    let file = running.write(&corrected("Nur"));
    running.tell_json(POLICE, &["case", "correct", &record, &file]);

    let history = |agency: &str| running.tell_json(agency, &["case", "history", &case]);
    let events = |told: &Value, hidden: &[&str]| -> Vec<String> {
        let events = told.as_array().unwrap().iter();
        let names = events.map(|event| event["event"].as_str().unwrap().to_owned());
        names
            .filter(|name| !hidden.contains(&name.as_str()))
            .collect()
    };
    let shared = [
        "VERSION",
        "CONSENT",
        "REFERRAL",
        "REFERRAL_STEP",
        "REFERRAL_STEP",
        "VERSION",
    ];
    let own = history(POLICE);
    assert_eq!(events(&own, &["PSEUDONYM"]), shared);
    let theirs = history(SHELTER);
    assert_eq!(
        events(&theirs, &[]),
        shared,
        "the pseudonym is the police's alone"
    );
    let of = |told: &Value, name: &str| -> Vec<Value> {
        let events = told.as_array().unwrap().iter();
        events
            .filter(|event| event["event"] == name)
            .cloned()
            .collect()
    };
    assert_eq!(of(&own, "CONSENT")[0]["consent"], consent);
    let steps = of(&theirs, "REFERRAL_STEP");
    let signed: Vec<_> = steps
        .iter()
        .map(|step| (&step["agency"], &step["state"]))
        .collect();
    let shelter = json!(SHELTER);
    assert_eq!(
        signed,
        [
            (&shelter, &json!("ACKNOWLEDGED")),
            (&shelter, &json!("ACCEPTED"))
        ]
    );
    let versions: Vec<_> = of(&own, "VERSION")
        .iter()
        .map(|put| put["version"].clone())
        .collect();
    assert_eq!(versions, [json!(1), json!(2)]);
    let named = of(&own, "PSEUDONYM");
    assert_eq!(named[0]["pseudonym"], named[1]["pseudonym"]);

    let times: Vec<_> = own
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["time"].to_string())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(history(NGO), json!([]));
    let told = running.tell(NGO, &["case", "history", &case]);
    assert!(told.out.contains("knows of nothing"), "{}", told.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_versions_is_filtered_by_case_record_and_source() {
    let running = Running::start(PROGRAM, "info");
    let (case, record) = submit(&running);
    let (_, other) = submit(&running);
    let file = running.write(&corrected("Nur"));
    running.tell_json(POLICE, &["case", "correct", &record, &file]);

    let list = |filters: &[&str]| -> Vec<(String, u64)> {
        let told = running.tell_json(POLICE, &[&["case", "list"], filters].concat());
        let rows = told.as_array().unwrap().iter();
        rows.map(|row| {
            (
                row["record"].as_str().unwrap().to_owned(),
                row["version"].as_u64().unwrap(),
            )
        })
        .collect()
    };
    let (one, two) = ((record.clone(), 1), (record.clone(), 2));
    assert_eq!(list(&[]), [one.clone(), (other.clone(), 1), two.clone()]);
    assert_eq!(list(&["--case", &case]), [one.clone(), two.clone()]);
    assert_eq!(list(&["--record", &other]), [(other, 1)]);
    assert_eq!(list(&["--source", POLICE]).len(), 3);
    assert_eq!(list(&["--source", NGO]), []);
    assert_eq!(list(&["--record", &record, "--limit", "1"]), [one]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_hides_a_correction_is_not_believed() {
    let mut running = Running::start(PROGRAM, "info");
    let (case, record) = submit(&running);
    let police = running.connector(POLICE).await;
    let (case, record) = (
        case.parse::<CaseId>().unwrap(),
        record.parse::<RecordId>().unwrap(),
    );
    police
        .correct_case(record, parsed("Nur"), SamePerson::Compare)
        .await
        .unwrap()
        .delivered()
        .unwrap();
    running.gateway.kill();
    forget_corrections(&running).await;
    running.gateway.start();

    let told = police
        .correct_case(record, parsed("Nur"), SamePerson::Compare)
        .await;
    assert!(
        matches!(told, Err(ConnectorError::Untrustworthy { .. })),
        "it would follow a version that is not the newest"
    );
    let request = ReadRequest {
        case,
        record,
        source: police.agency(),
        fields: vec!["case.urgency".to_owned()],
        purpose: Purpose::Investigation,
    };
    let told = police.read_case(&request).await;
    assert!(matches!(told, Err(ConnectorError::Untrustworthy { .. })));
}

//! Whose record it is: this agency's own pseudonym of a person, and nobody else's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use amanat_connector::{
    Acting, Connector, ConnectorError, EntryQuery, IdentifierFile, Profile, Server,
};
use amanat_schema::{
    audit::Action,
    case_file,
    directory::{Directory, OprfKey as DirectoryKey},
    subject::IdentifierDomain,
};
use amanat_seal::oprf::OprfKey;
use amanat_tests::{
    Running,
    cli::Told,
    story::{NGO, OVERSIGHT, POLICE},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const CNIC: &str = "0000012345678";
/// The same number as officers write it.
const SPELLINGS: [&str; 4] = [
    CNIC,
    "00000-1234567-8",
    "00000 1234567 8",
    "۰۰۰۰۰-۱۲۳۴۵۶۷-۸",
];

/// A case file of somebody known by her number alone.
fn known_by(cnic: &str) -> Value {
    json!({ "subject": { "gender": "FEMALE", "cnic": cnic }, "case": { "urgency": "URGENT" } })
}

/// A case file of somebody without document, phone or name.
fn nobody_known() -> Value {
    json!({ "subject": { "gender": "FEMALE" }, "case": { "urgency": "URGENT" } })
}

fn identifiers(json: Value) -> IdentifierFile {
    serde_json::from_value(json).unwrap()
}

/// Submits a case file; what the program printed.
fn submit(running: &Running, agency: &str, file: &Value) -> Value {
    let file = running.write(file);
    running.tell_json(agency, &["case", "submit", &file])
}

/// What a search printed.
fn find(running: &Running, agency: &str, identifiers: &Value) -> Value {
    let file = running.write(identifiers);
    running.tell_json(agency, &["subject", "find", "--file", &file])
}

/// What a command printed that could not deliver now.
fn failed(told: &Told) -> Value {
    assert_eq!(told.code, 4, "{}", told.shown());
    serde_json::from_str(&told.err).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_one_person_in_every_spelling_and_another_at_every_agency() {
    let running = Running::start(PROGRAM, "info");
    let mut cases = Vec::new();
    let mut pseudonym = None;
    for spelling in SPELLINGS {
        let told = submit(&running, POLICE, &known_by(spelling));
        assert_eq!(told["own_cases"], json!(cases), "re-entry is recognised");
        cases.push(told["case"].clone());
        let first = pseudonym.get_or_insert_with(|| told["pseudonym"].clone());
        assert_eq!(*first, told["pseudonym"], "{spelling}");
    }
    let pseudonym = pseudonym.unwrap();
    assert_eq!(pseudonym.as_str().unwrap().len(), 27);

    for spelling in SPELLINGS {
        let found = find(&running, POLICE, &json!({ "cnic": spelling }));
        assert_eq!(found["pseudonym"], pseudonym, "{spelling}");
        assert_eq!(found["own_cases"], json!(cases));
    }

    // Another agency gets one of its own, and is told of nobody's cases.
    let theirs = submit(&running, NGO, &known_by(CNIC));
    assert_ne!(theirs["pseudonym"], pseudonym);
    assert_eq!(theirs["own_cases"], json!([]));

    // Again in the same case: nothing is another case of hers.
    let file = running.write(&known_by(CNIC));
    let case = theirs["case"].as_str().unwrap();
    let again = running.tell_json(NGO, &["case", "submit", &file, "--case", case]);
    assert_eq!(again["pseudonym"], theirs["pseudonym"]);
    assert_eq!(again["own_cases"], json!([]));
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_handed_in_while_a_server_is_away_names_its_ids_and_is_delivered_later() {
    let mut running = Running::start(PROGRAM, "info");
    for away in [Server::Custodian, Server::Gateway] {
        let server = match away {
            Server::Custodian => &mut running.custodian,
            Server::Gateway => &mut running.gateway,
        };
        server.stop();
        let file = running.write(&known_by(CNIC));
        let told = failed(&running.tell(POLICE, &["--json", "case", "submit", &file]));
        let (case, record) = (
            told["case"].as_str().unwrap(),
            told["record"].as_str().unwrap(),
        );
        let undelivered = told["undelivered"].as_array().unwrap();
        let kinds: Vec<_> = undelivered
            .iter()
            .map(|part| part["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["submission", "subject"]);
        assert!(
            undelivered
                .iter()
                .all(|part| part["reason"] == "UNREACHABLE")
        );
        assert!(undelivered.iter().all(|part| part["waits"] == true));
        let which = format!("the {} cannot be reached", away.name());
        assert!(undelivered.iter().all(|part| part["message"] == which));
        // A search is asked again; nobody is told that it is kept.
        let searched = running.write(&json!({ "cnic": CNIC }));
        let searched = running.tell(POLICE, &["subject", "find", "--file", &searched]);
        assert!(searched.err.contains(&which), "{}", searched.err);
        let next = "nothing was handed in: run the command again later";
        assert!(searched.err.contains(next), "{}", searched.err);
        assert_eq!(told["pseudonym"], Value::Null);
        let waiting = running.tell_json(POLICE, &["outbox", "list"]);
        let waiting = waiting.as_array().unwrap();
        assert!(waiting.iter().all(|job| job["subject"] == record));
        assert_eq!(waiting.len(), 2);

        match away {
            Server::Custodian => running.custodian.start(),
            Server::Gateway => running.gateway.start(),
        }
        assert_eq!(running.tell(POLICE, &["outbox", "deliver"]).code, 0);
        let found = find(&running, POLICE, &json!({ "cnic": CNIC }));
        let own = found["own_cases"].as_array().unwrap();
        assert_eq!(own.last().unwrap(), case, "{own:?}");
        let listed = running.tell_json(POLICE, &["case", "list", "--case", case]);
        assert_eq!(listed[0]["record"], record);
    }
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_does_not_wait_for_a_pseudonym_that_the_budget_refuses() {
    let running = Running::start(PROGRAM, "info");
    let police = running.connector(POLICE).await;
    let spent = loop {
        let searched = identifiers(json!({ "cnic": CNIC })).identifiers().unwrap();
        match police.find_subject(&searched, None).await {
            Ok(found) => assert_eq!(found.own_cases, []),
            Err(error) => break error,
        }
    };
    assert_eq!(spent.reason(), "QUOTA_EXCEEDED");
    assert!(spent.is_retryable());
    assert_eq!(police.pending().await.unwrap(), [], "a search is not kept");

    let file = running.write(&known_by(CNIC));
    let told = running.tell(POLICE, &["case", "submit", &file]);
    assert_eq!(told.code, 4);
    for word in [
        "case ",
        "record ",
        "gateway entry",
        "subject: kept in the outbox: QUOTA_EXCEEDED",
        "it works again from 20",
    ] {
        assert!(told.err.contains(word), "{word}: {}", told.err);
    }
    assert!(!told.err.contains("pseudonym"), "{}", told.err);
    assert_eq!(told.err.matches("QUOTA_EXCEEDED").count(), 1);
    assert_eq!(police.list_versions(None).await.unwrap().len(), 1);
    let waiting = police.pending().await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].kind, "subject");
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_without_any_identifier_gets_a_pseudonym_and_no_evaluation() {
    let running = Running::start(PROGRAM, "info");
    let first = submit(&running, POLICE, &nobody_known());
    let second = submit(&running, POLICE, &nobody_known());
    assert_ne!(
        first["pseudonym"], second["pseudonym"],
        "nobody can tell that they are one"
    );
    let query = EntryQuery {
        action: Some(Action::EvaluateIdentifiers),
        limit: 1,
        ..EntryQuery::default()
    };
    let police = running.connector(POLICE).await;
    let evaluated = police
        .list_entries(Server::Custodian, &query)
        .await
        .unwrap();
    assert!(evaluated.is_empty());

    // Somebody recognises her; a supervisor says so, and takes it back.
    let [into, from] = [&first, &second].map(|told| told["pseudonym"].as_str().unwrap());
    let history =
        |case: &Value| running.tell_json(POLICE, &["case", "history", case.as_str().unwrap()]);
    assert_eq!(history(&second["case"])[0]["pseudonym"], from);
    let merged = running.tell_json(POLICE, &["subject", "merge", into, from]);
    assert_eq!(merged["status"], "MERGED");
    let listed = running.tell_json(POLICE, &["subject", "merges", "--status", "merged"]);
    assert_eq!(
        (&listed[0]["into"], &listed[0]["from"]),
        (&first["pseudonym"], &second["pseudonym"])
    );
    let split = running.tell_json(POLICE, &["subject", "split", from, into]);
    assert_eq!(split["status"], "SPLIT");
    let listed = running.tell_json(POLICE, &["subject", "merges", "--status", "merged"]);
    assert_eq!(listed, json!([]));
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_brings_a_persons_own_cases_together() {
    let running = Running::start(PROGRAM, "info");
    let phone = json!({
        "subject": { "gender": "FEMALE", "mobile_phone": "0300 0000117" },
        "case": { "urgency": "URGENT" },
    });
    let by_number = submit(&running, POLICE, &known_by(CNIC));
    let by_phone = submit(&running, POLICE, &phone);
    // Whoever comes with that phone may be of her family.
    let shared = running.write(&json!({ "phone": "+923000000117" }));
    let told = running.tell(POLICE, &["subject", "find", "--file", &shared]);
    assert!(told.out.contains("by a phone alone"), "{}", told.out);
    assert_ne!(by_number["pseudonym"], by_phone["pseudonym"]);
    let [into, from] = [&by_number, &by_phone].map(|told| told["pseudonym"].as_str().unwrap());
    running.tell_json(POLICE, &["subject", "merge", into, from]);
    let found = find(&running, POLICE, &json!({ "phone": "+923000000117" }));
    assert_eq!(found["pseudonym"], by_number["pseudonym"]);
    assert_eq!(
        found["own_cases"],
        json!([by_number["case"], by_phone["case"]])
    );

    let merged = &running.tell_json(POLICE, &["subject", "merges"])[0];
    assert_eq!(merged["from_cases"], json!([by_phone["case"]]));

    // Another agency cannot merge what is not its own, and a slip of the pen is caught before it is sent.
    let told = running.tell(NGO, &["subject", "merge", into, from]);
    assert!(
        told.code == 1 && told.err.contains("ACCESS_DENIED"),
        "{}",
        told.err
    );
    let first = if into.starts_with('0') { "1" } else { "0" };
    let slipped = first.to_owned() + &into[1..];
    let told = running.tell(POLICE, &["subject", "split", &slipped, from]);
    assert!(
        told.code == 2 && told.err.contains("mistyped"),
        "{}",
        told.err
    );
    assert!(!told.err.contains(&slipped), "{}", told.err);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_reads_standard_input_and_repeats_no_value() {
    let running = Running::start(PROGRAM, "info");
    let profile = &running.exchange.agencies[POLICE].folder;
    let find = |input: &str| {
        let mut child = Command::new(PROGRAM)
            .arg("--profile")
            .arg(profile)
            .args(["--json", "subject", "find", "--file", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        Told {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    };
    let found = find(&json!({ "cnic": CNIC }).to_string());
    assert_eq!(found.code, 0, "{}", found.err);
    let found: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(found["own_cases"], json!([]));

    for wrong in [
        json!({ "cnic": "77310" }),
        json!({ "cnic": 77310 }),
        json!({ "77310": CNIC }),
        json!({ "phone": "77310", "document": { "type": "77310", "number": "77310" } }),
        json!({ "name": "77310" }),
        json!({ "name": "77310", "father": "77310", "birth_year": "77310" }),
        json!({ "birth_year": 77310 }),
        json!({}),
    ] {
        let told = find(&wrong.to_string());
        assert_eq!(told.code, 3, "{wrong}: {}", told.out);
        assert!(!told.shown().contains("77310"), "{}", told.shown());
    }
    // Not even where none belongs: it would stand in the shell's history too.
    for arguments in [
        &["subject", "find"][..],
        &["subject", "find", "77310"],
        &["subject", "find", "--cnic", "77310"],
        &["subject", "find", "--cnic=77310"],
        &["subject", "find", "--file", "-", "--case", "77310"],
        &["subject", "merges", "--status", "77310"],
        &["case", "read", "77310"],
    ] {
        let told = running.tell(POLICE, arguments);
        assert_eq!(told.code, 2, "{arguments:?}: {}", told.err);
        assert!(!told.shown().contains("77310"), "{}", told.shown());
    }
    let told = running.tell(POLICE, &["subject", "find"]);
    assert!(told.err.contains("--file"), "{}", told.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn oversight_sees_who_asked_for_a_canary_and_what_became_no_record() {
    let running = Running::start(PROGRAM, "info");
    let canary = running.write(&json!({ "cnic": "00000-7654321-0" }));
    let plant = [
        "oversight",
        "canary",
        "--file",
        &canary,
        "--label",
        "ledger 7",
    ];
    let told = running.tell(POLICE, &plant);
    assert!(
        told.code == 1 && told.err.contains("ACCESS_DENIED"),
        "{}",
        told.err
    );
    // A canary takes two of them.
    running.tell_json(OVERSIGHT, &plant);
    let by_another = ["--officer", "junior"].iter().chain(&plant).copied();
    running.tell_json(OVERSIGHT, &by_another.collect::<Vec<_>>());
    assert_eq!(
        running.tell_json(OVERSIGHT, &["oversight", "hits"]),
        json!([])
    );

    let bait = find(&running, POLICE, &json!({ "cnic": "0000076543210" }));
    let other = find(&running, POLICE, &json!({ "cnic": CNIC }));
    let keys = |told: &Value| {
        told.as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&bait), keys(&other), "nothing tells the officer");
    let hits = running.tell_json(OVERSIGHT, &["oversight", "hits"]);
    assert_eq!(hits.as_array().unwrap().len(), 1);
    assert_eq!(
        (&hits[0]["label"], &hits[0]["agency"]),
        (&json!("ledger 7"), &json!(POLICE))
    );

    let running_out = ["oversight", "evaluations", "--running", "--agency", POLICE];
    let unused = running.tell_json(OVERSIGHT, &running_out);
    let counts: Vec<_> = unused
        .as_array()
        .unwrap()
        .iter()
        .map(|seen| &seen["count"])
        .collect();
    assert_eq!(counts, [&json!(1), &json!(1)]);
    assert_eq!(unused[0]["reason"], "SEARCH");
    assert_eq!(
        running.tell_json(OVERSIGHT, &["oversight", "evaluations"]),
        json!([])
    );
    let told = running.tell(OVERSIGHT, &["oversight", "evaluations"]);
    assert_eq!(told.out, "none is overdue; 2 still have time: --running\n");
    // A record in the case of a search accounts for it.
    let file = running.write(&known_by(CNIC));
    let case = other["case"].as_str().unwrap();
    running.tell_json(POLICE, &["case", "submit", &file, "--case", case]);
    let unused = running.tell_json(OVERSIGHT, &running_out);
    assert_eq!(unused.as_array().unwrap().len(), 1, "the canary's is left");
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_for_nobody_or_for_a_crowd_is_not_made() {
    let running = Running::start(PROGRAM, "info");
    let police = running.connector(POLICE).await;
    let crowd = (0..17).map(|at| json!({ "phone": format!("+9230000000{at:02}") }));
    let crowd: Vec<_> = crowd
        .flat_map(|json| identifiers(json).identifiers().unwrap())
        .collect();
    for given in [&crowd[..0], &crowd[..]] {
        let refused = police.find_subject(given, None).await;
        assert!(matches!(refused, Err(ConnectorError::Input { .. })));
    }
    police.find_subject(&crowd[..16], None).await.unwrap();
}

/// What the police believe the custodian's key for victims to be is not what it evaluates with.
#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_by_another_key_than_the_directorys_is_not_believed() {
    let mut running = Running::start(PROGRAM, "info");
    running.gateway.stop();
    running.custodian.stop();
    let exchange = &running.exchange;
    let honest = fs::read(&exchange.directory).unwrap();
    let other_key = OprfKey::from_seed(&[7; 32]).unwrap().public_key();
    let swap = |next: &mut Directory| {
        let victims = |key: &&mut DirectoryKey| key.domain() == IdentifierDomain::Victim;
        let key = next.oprf_keys.iter_mut().find(victims).unwrap();
        key.public_key = other_key.to_vec();
    };
    exchange.publish((amanat::system_clock())(), swap).unwrap();
    let mut profile = Profile::load(&exchange.agencies[POLICE].folder).unwrap();
    profile.directory.file = running.path("other-directory.bin");
    profile.directory.seen = running.path("other-directory.seen");
    fs::rename(&exchange.directory, &profile.directory.file).unwrap();
    fs::write(&exchange.directory, honest).unwrap();
    running.gateway.start();
    running.custodian.start();

    let acting = Acting::Officer("default".to_owned());
    let police = Connector::open(profile, acting, amanat::system_clock());
    let police = police.await.unwrap();
    let file = case_file::parse(&known_by(CNIC))
        .map_err(|_| "valid")
        .unwrap();
    let submitted = police.submit_case(file, None).await.unwrap();
    assert_eq!(submitted.pseudonym, None);
    assert_eq!(
        submitted.undelivered.len(),
        1,
        "the record is not held back"
    );
    assert!(matches!(
        submitted.undelivered[0].error,
        ConnectorError::Untrustworthy {
            server: "custodian",
            ..
        }
    ));
    let asked = EntryQuery {
        action: Some(Action::FindSubject),
        limit: 1,
        ..EntryQuery::default()
    };
    let asked = police.list_entries(Server::Gateway, &asked).await.unwrap();
    assert!(
        asked.is_empty(),
        "no token of such a key goes on to the gateway"
    );
}

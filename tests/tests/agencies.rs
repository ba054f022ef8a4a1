//! The program as the officers of an agency use it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{fs, path::PathBuf, process::Command};

use amanat_connector::Server;
use amanat_identity::{
    Directory,
    token::{Audience, TokenVerifier},
};
use amanat_schema::{CaseId, audit::Receipt, policy::Right};
use amanat_tests::{
    Running,
    cli::Told,
    party::{Party, now, reason},
    pause, story,
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const POLICE: &str = "police-lahore";
const SHELTER: &str = "darul-aman-lahore";
const CASE: &str = include_str!("../../deploy/quickstart/police-case.json");
/// A survivor's identity number, typed where it does not belong.
const CNIC: &str = "0000012345678";

#[test]
fn the_help_of_every_command_of_an_agency_shows_an_example() {
    let mut commands = vec![Vec::new()];
    let mut leaves = 0;
    while let Some(command) = commands.pop() {
        let told = Told::by(Command::new(PROGRAM).args(&command).arg("--help"));
        assert_eq!(told.code, 0, "{command:?}");
        let listed = told.out.split_once("Commands:\n").map(|(_, listed)| listed);
        let names = listed.into_iter().flat_map(str::lines);
        let names = names.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  "));
        let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
        if names.is_empty() {
            leaves += 1;
            assert!(told.out.contains("Example"), "{command:?}:\n{}", told.out);
        }
        for name in names {
            if !["help", "gateway", "custodian"].contains(&name) {
                commands.push([command.as_slice(), &[name.to_owned()]].concat());
            }
        }
    }
    assert!(leaves > 15, "{leaves} commands were found");
}

#[test]
fn a_bad_case_file_is_answered_with_every_violation_and_nothing_is_sent() {
    let mut running = Running::start(PROGRAM, "info");
    // Whoever sent something now would find no server.
    running.gateway.stop();
    running.custodian.stop();
    let file = write(
        &running,
        &json!({
            "subject": {
                "gender": CNIC, "birth_date": CNIC, "cnic": "00000-1234567-8", "giv_name": "Noor",
                CNIC: "Noor", "mobile_phone": 3, "minor_band": "ADULT",
            },
            "journey": [{ "month": "2025-13" }],
            "need": { "needs": ["SAFEHOUSE"] },
            "case": { "offence_sections": ["PTPA_3", CNIC] },
        }),
    );
    let told = running.tell(POLICE, &["case", "submit", &file]);
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    for line in [
        "amanat: FIELD_INVALID: 10 fields are not valid",
        "subject.birth_date: expected a date, YYYY-MM-DD, from 1900 on",
        "subject.cnic: expected 13 digits without separators",
        "subject.giv_name: expected a name of the schema; did you mean given_name?",
        "subject.?: expected a name of the schema",
        "subject.minor_band: expected no value",
        "subject.gender: expected ",
        "subject.mobile_phone: expected ",
        "journey[0].month: expected a month",
        "need: expected a name of the schema; did you mean needs?",
        "case.offence_sections[1]: expected ",
        "nothing was recorded",
    ] {
        assert!(told.err.contains(line), "{line}:\n{}", told.err);
    }
    assert!(!told.err.contains(CNIC) && !told.err.contains("1234567-8"), "{}", told.err);

    let told = running.tell(POLICE, &["--json", "case", "submit", &file]);
    assert_eq!(told.code, 1);
    let answer: Value = serde_json::from_str(&told.err).unwrap();
    assert_eq!(answer["error"], "FIELD_INVALID");
    let violations = answer["violations"].as_array().unwrap();
    assert_eq!(violations.len(), 10);
    assert!(violations.iter().all(|v| v["path"].is_string() && v["expected"].is_string()));
    assert_eq!(running.tell_json(POLICE, &["outbox", "list"]), json!([]));
}

#[test]
fn a_value_in_the_wrong_place_is_never_repeated() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, CASE);
    let consent = json!({
        "recipient": SHELTER, "purpose": "SHELTER", "mode": "WRITTEN", "paths": ["needs.needs"],
    });
    for field in
        ["recipient", "purpose", "mode", "decision", "paths", "classes", "valid_days", "max_reads",
         "minor", "supersedes", "evidence", CNIC]
    {
        for value in [json!(CNIC), json!([CNIC]), json!({ CNIC: CNIC })] {
            if field == "evidence" && value.is_object() {
                continue;
            }
            let mut consent = consent.clone();
            consent[field] = value;
            let file = write(&running, &consent);
            let told = running.tell(POLICE, &["consent", "grant", &file, "--case", &case]);
            assert_eq!(told.code, 1, "{field}: {}", told.err);
            assert!(!told.shown().contains(CNIC), "{field}: {}", told.shown());
        }
    }
    let bad = json!({ "subject": CNIC, "journey": { "month": CNIC }, CNIC: {}, "case": [CNIC] });
    let file = write(&running, &bad);
    let told = running.tell(POLICE, &["case", "submit", &file]);
    assert!(told.code == 1 && !told.shown().contains(CNIC), "{}", told.shown());
    let read = ["case", "read", &case, "--purpose", "INVESTIGATION", "--fields"];
    let told = running.tell(POLICE, &[&read[..], &[CNIC]].concat());
    assert!(told.code == 1 && !told.shown().contains(CNIC), "{}", told.shown());
    assert!(told.err.contains("fields.paths[0]: expected a leaf"), "{}", told.err);
    let told = running.tell(POLICE, &refer(&case, SHELTER, CNIC));
    assert!(told.code == 1 && !told.shown().contains(CNIC), "{}", told.shown());
    for server in [&running.gateway, &running.custodian] {
        assert!(!fs::read_to_string(&server.log).unwrap().contains(CNIC));
    }
}

#[test]
fn an_unknown_agency_is_answered_with_the_names_that_are_known() {
    let running = Running::start(PROGRAM, "info");
    let case = CaseId::parse(&[7; 16]).unwrap().to_string();
    let consent = json!({
        "recipient": "darulaman", "purpose": "SHELTER", "mode": "WRITTEN", "paths": ["needs.needs"],
    });
    let file = write(&running, &consent);
    for arguments in [
        &refer(&case, "darulaman", "needs.needs")[..],
        &["consent", "grant", &file, "--case", &case],
        &["audit", "list", "--agency", "darulaman"],
    ] {
        let told = running.tell(POLICE, arguments);
        assert_eq!(told.code, 1);
        for name in running.exchange.agencies.keys() {
            assert!(told.err.contains(name), "{name}: {}", told.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_source_is_told_that_a_consent_was_withdrawn() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, CASE);
    let consent = grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    let status = |agency| running.tell_json(agency, &["consent", "list"])[0]["status"].clone();
    assert_eq!((status(POLICE), status(SHELTER)), (json!("IN_FORCE"), json!("IN_FORCE")));
    assert_eq!(running.tell(POLICE, &["consent", "withdraw", &consent]).code, 0);
    assert_eq!((status(POLICE), status(SHELTER)), (json!("WITHDRAWN"), json!("NOT_IN_FORCE")));
    let at = |agency| {
        running.tell_json(agency, &["consent", "list", "--at", "custodian", "--case", &case])[0]
            ["status"]
            .clone()
    };
    assert_eq!((at(POLICE), at(SHELTER)), (json!("WITHDRAWN"), json!("NOT_IN_FORCE")));
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_ran_out_releases_nothing_more() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, CASE);
    share(&running, &case, SHELTER, "needs.needs");
    let police = Party::open(&running, POLICE);
    let shelter = running.exchange.agencies[SHELTER].id;
    let until = now() + std::time::Duration::from_secs(3);
    let (_, consent) =
        story::consent(&police, case.parse().unwrap(), shelter, &["needs.needs"], now(), until);
    for server in [Server::Custodian, Server::Gateway] {
        story::record_consent(&police, server, &consent).await.unwrap();
    }
    let read = ["case", "read", &case, "--fields", "needs.needs", "--purpose", "SHELTER"];
    let told = running.tell_json(SHELTER, &read);
    assert_eq!(told["values"]["needs"]["needs"][0], "SAFEHOUSE");
    while now() < until {
        pause().await;
    }
    let told = running.tell(SHELTER, &read);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("needs.needs: CONSENT_NOT_IN_FORCE"), "{}", told.err);
    let status = running.tell_json(SHELTER, &["consent", "list"]);
    assert_eq!(status[0]["status"], "NOT_IN_FORCE");
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_tells_its_sender_why_and_opens_nothing() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, CASE);
    grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    let told = running.tell_json(POLICE, &refer(&case, SHELTER, "needs.needs"));
    let referral = told["referral"].as_str().unwrap();
    assert_eq!(running.tell(SHELTER, &["refer", "acknowledge", referral]).code, 0);
    let told = running.tell(SHELTER, &["refer", "reject", referral, "--reason", "TOO_BUSY"]);
    assert_eq!(told.code, 2, "not one of the reasons");
    assert!(told.err.contains("NO_CAPACITY"), "they are listed: {}", told.err);
    let told = running.tell(SHELTER, &["refer", "reject", referral, "--reason", "NO_CAPACITY"]);
    assert_eq!(told.code, 0, "{}", told.err);

    let sent = running.tell_json(POLICE, &["refer", "list", "--direction", "SENT"]);
    assert_eq!((&sent[0]["state"], &sent[0]["rejection_reason"]), (&json!("REJECTED"), &json!("NO_CAPACITY")));
    let told = running.tell(POLICE, &["refer", "list", "--direction", "SENT"]);
    assert!(told.out.contains("REJECTED (NO_CAPACITY)"), "{}", told.out);
    assert_eq!(running.tell(SHELTER, &["refer", "accept", referral]).code, 1, "it is closed");
    let read = ["case", "read", &case, "--fields", "needs.needs", "--purpose", "SHELTER"];
    let told = running.tell(SHELTER, &read);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("accept its referral first"), "{}", told.err);
    running.verify().await;
}

#[test]
fn every_list_is_a_json_array_whatever_its_length() {
    let running = Running::start(PROGRAM, "info");
    let lists = [
        &["case", "list"][..],
        &["consent", "list"],
        &["refer", "list"],
        &["outbox", "list"],
        &["outbox", "deliver"],
        &["audit", "list", "--from", "1000"],
    ];
    for list in lists {
        assert_eq!(running.tell_json(SHELTER, list), json!([]), "{list:?}");
    }
    let case = submit(&running, CASE);
    grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    share(&running, &case, SHELTER, "needs.needs");
    for list in [&["case", "list"][..], &["consent", "list"], &["refer", "list"]] {
        let listed = running.tell_json(SHELTER, list);
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{list:?}");
        assert_eq!(listed[0]["case"], case, "{list:?}");
    }
    let fields = running.tell_json(SHELTER, &["case", "fields"]);
    assert!(fields.as_array().unwrap().iter().any(|field| field["path"] == "needs.needs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_listed_by_filter_and_each_entry_proves_itself() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, CASE);
    let other = submit(&running, CASE);
    let read = ["case", "read", &case, "--fields", "needs.needs", "--purpose", "SHELTER"];
    assert_eq!(running.tell(POLICE, &read).code, 0);
    let deported = ["case", "read", &case, "--fields", "needs.needs", "--purpose", "IMMIGRATION_ENFORCEMENT"];
    assert_eq!(running.tell(POLICE, &deported).code, 1);

    let list = |agency, filter: &[&str]| {
        let listed = running.tell_json(agency, &[&["audit", "list"], filter].concat());
        listed.as_array().unwrap().clone()
    };
    let denied = list("oversight", &["--decision", "DENY"]);
    assert_eq!(denied.len(), 1);
    assert_eq!((&denied[0]["action"], &denied[0]["agency"]), (&json!("READ_RECORD"), &json!(POLICE)));
    assert_eq!(denied[0]["case"], Value::Null, "an auditor sees no case");
    let put = list("oversight", &["--action", "PUT_RECORD", "--agency", POLICE]);
    assert_eq!(put.len(), 2);
    assert_eq!(list("oversight", &["--agency", SHELTER]), [Value::Null; 0]);
    let of_case = list(POLICE, &["--case", &case, "--action", "PUT_RECORD"]);
    assert_eq!(of_case.len(), 1);
    assert_eq!(of_case[0]["case"], case);
    assert_eq!(list(POLICE, &["--limit", "1"]).len(), 1);
    let released = list(POLICE, &["--log", "custodian", "--action", "RELEASE_KEYS"]);
    assert_eq!(released.len(), 1);
    let last = put[1]["audit_index"].as_u64().unwrap();
    let after = list("oversight", &["--from", &(last + 1).to_string(), "--action", "PUT_RECORD"]);
    assert_eq!(after, [Value::Null; 0]);
    assert!(list(SHELTER, &[]).iter().all(|entry| entry["agency"] == SHELTER), "its own only");

    let index = last.to_string();
    assert_eq!(running.tell_json(POLICE, &["audit", "get", &index])["case"], other);
    let told = running.tell(SHELTER, &["audit", "get", &index]);
    assert!(told.code == 1 && told.err.contains("ACCESS_DENIED"), "{}", told.err);
    let told = running.tell("oversight", &["audit", "get", "100000"]);
    assert!(told.code == 1 && told.err.contains("ACCESS_DENIED"), "{}", told.err);

    let directory = directory(&running);
    for (log, service) in [("gateway", directory.gateway()), ("custodian", directory.custodian())] {
        let proof = running.tell_json("oversight", &["audit", "proof", "2", "--log", log]);
        let receipt = receipt(&proof);
        let proven = amanat_ledger::receipt::verify(&receipt, &service.log).unwrap();
        assert_eq!(proven.body.agency_id, running.exchange.agencies[POLICE].id.as_bytes());
        let moved = Receipt { index: 1, ..receipt };
        assert!(amanat_ledger::receipt::verify(&moved, &service.log).is_err());
    }
    running.verify().await;
}

#[test]
fn an_issued_token_is_the_officers_and_acts_in_a_file() {
    let running = Running::start(PROGRAM, "info");
    let told = running.tell(POLICE, &["token", "issue"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let party = Party::open(&running, POLICE);
    let directory = directory(&running);
    for audience in [Audience::Gateway, Audience::Custodian] {
        let verifier = TokenVerifier::new(audience);
        let verify = |agency, certificate| {
            verifier.verify_presented(told.out.trim(), agency, certificate, &directory, now())
        };
        let officer = verify(party.agency, &party.certificate_sha256).unwrap();
        assert_eq!(officer.id, party.officer.id);
        assert!(officer.has_any(&[Right::CaseWorker]));
        verify(party.agency, &[0; 32]).unwrap_err();
        verify(running.exchange.agencies[SHELTER].id, &party.certificate_sha256).unwrap_err();
    }

    let file = path(&running, "token");
    fs::write(&file, &told.out).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(running.tell_json(POLICE, &["--token-file", file, "case", "list"]), json!([]));
    let told = running.tell(SHELTER, &["--token-file", file, "case", "list"]);
    assert!(told.code == 1 && told.err.contains("CREDENTIAL_INVALID"), "{}", told.err);
    let told = running.tell(POLICE, &["--token-file", "nowhere", "case", "list"]);
    assert!(told.code == 1 && told.err.contains("nowhere"), "{}", told.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minors_record_opens_to_its_source_alone() {
    let running = Running::start(PROGRAM, "info");
    let mut file: Value = serde_json::from_str(CASE).unwrap();
    file["subject"]["birth_date"] = "2012-04-17".into();
    let case = submit(&running, &file.to_string());
    let fields = "subject.given_name,needs.needs,case.urgency";
    let permit = json!({
        "paths": ["subject.given_name", "needs.needs"], "minor": true, "guardian_ok": true,
        "assent_ok": true,
    });
    grant(&running, &case, &permit);
    share(&running, &case, SHELTER, fields);

    let read = ["case", "read", &case, "--fields", fields, "--purpose"];
    let told = running.tell_json(POLICE, &[&read[..], &["INVESTIGATION"]].concat());
    assert_eq!(told["values"]["subject"]["given_name"], "Noor");
    assert_eq!(told["withheld"], json!([]));
    let told = running.tell(SHELTER, &[&read[..], &["SHELTER"]].concat());
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    for path in fields.split(',') {
        assert!(told.err.contains(&format!("{path}: APPROVAL_REQUIRED")), "{}", told.err);
    }
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_is_refused_before_anything_is_asked_of_a_server() {
    let running = Running::start(PROGRAM, "info");
    let told = Told::by(Command::new(PROGRAM).args(["case", "list"]));
    assert!(told.code == 1 && told.err.contains("--profile DIR"), "{}", told.err);
    let nowhere = path(&running, "nowhere");
    let told = Told::by(Command::new(PROGRAM).arg("--profile").arg(&nowhere).args(["case", "list"]));
    assert!(told.code == 1 && told.err.contains("nowhere/profile.toml"), "{}", told.err);
    let told = running.tell(POLICE, &["--officer", "nobody", "case", "list"]);
    assert!(told.code == 1 && told.err.contains("default"), "who there is: {}", told.err);
    let told = running.tell(POLICE, &["case", "submit", "nowhere.json"]);
    assert!(told.code == 1 && told.err.contains("nowhere.json"), "{}", told.err);
    let file = path(&running, "broken.json");
    fs::write(&file, format!("{{ \"subject\": {CNIC}x")).unwrap();
    let told = running.tell(POLICE, &["case", "submit", file.to_str().unwrap()]);
    assert!(told.code == 1 && told.err.contains("line 1"), "{}", told.err);
    assert!(!told.err.contains(CNIC), "{}", told.err);
    let police = running.connector(POLICE).await;
    assert_eq!(reason(police.agency_named("nobody")), "INPUT_INVALID");
}

/// Submits a case file and returns its case.
fn submit(running: &Running, file: &str) -> String {
    let path = path(running, "case.json");
    fs::write(&path, file).unwrap();
    let told = running.tell_json(POLICE, &["case", "submit", path.to_str().unwrap()]);
    told["case"].as_str().unwrap().to_owned()
}

/// The police let the Dar-ul-Aman read, for SHELTER; returns the consent.
fn grant(running: &Running, case: &str, terms: &Value) -> String {
    let mut file = json!({ "recipient": SHELTER, "purpose": "SHELTER", "mode": "WRITTEN" });
    for (key, value) in terms.as_object().unwrap() {
        file[key] = value.clone();
    }
    let file = write(running, &file);
    let told = running.tell_json(POLICE, &["consent", "grant", &file, "--case", case]);
    told["consent"].as_str().unwrap().to_owned()
}

fn refer<'a>(case: &'a str, to: &'a str, fields: &'a str) -> [&'a str; 12] {
    ["refer", "submit", "--case", case, "--to", to, "--purpose", "SHELTER", "--services",
     "SAFEHOUSE", "--fields", fields]
}

/// The police refer a case, and the recipient accepts.
fn share(running: &Running, case: &str, to: &str, fields: &str) {
    let told = running.tell_json(POLICE, &refer(case, to, fields));
    let referral = told["referral"].as_str().unwrap();
    for step in ["acknowledge", "accept"] {
        let told = running.tell(to, &["refer", step, referral]);
        assert_eq!(told.code, 0, "{}", told.err);
    }
}

fn path(running: &Running, name: &str) -> PathBuf {
    running.folder().join(name)
}

fn write(running: &Running, file: &Value) -> String {
    let path = path(running, "written.json");
    fs::write(&path, file.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn directory(running: &Running) -> Directory {
    let (file, seen) = (&running.exchange.directory, path(running, "directory.seen"));
    let (directory, _) =
        Directory::load(file, &seen, &running.exchange.registrars, now()).unwrap();
    directory
}

/// A receipt from what `audit proof --json` prints.
fn receipt(proof: &Value) -> Receipt {
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    Receipt {
        index: proof["audit_index"].as_u64().unwrap(),
        body: bytes(&proof["body"]),
        salt: bytes(&proof["salt"]),
        linkage: None,
        inclusion_proof: proof["inclusion_proof"].as_array().unwrap().iter().map(bytes).collect(),
        checkpoint: proof["checkpoint"].as_str().unwrap().to_owned(),
    }
}

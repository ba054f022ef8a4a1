//! What agencies may do, from the command line: cases, consents, referrals, and what they are told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{fs, time::Duration};

use amanat_connector::Server;
use amanat_schema::CaseId;
use amanat_tests::{
    Running,
    cli::{case_file, grant, refer, share, submit},
    party::{Party, now},
    pause,
    story::{self, POLICE, SHELTER},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
/// A survivor's identity number, typed where it does not belong.
const CNIC: &str = "0000012345678";

#[test]
fn a_bad_case_file_is_answered_with_every_violation_and_nothing_is_sent() {
    let mut running = Running::start(PROGRAM, "info");
    // Whoever sent something now would find no server.
    running.gateway.stop();
    running.custodian.stop();
    let file = running.write(&json!({
        "subject": {
            "gender": CNIC, "birth_date": CNIC, "cnic": "00000-1234567-89", "giv_name": "Noor",
            CNIC: "Noor", "mobile_phone": 3, "minor_band": "ADULT",
        },
        "journey": [{ "month": "2025-13" }],
        "need": { "needs": ["SAFEHOUSE"] },
        "case": { "offence_sections": ["PTPA_3", CNIC] },
    }));
    let told = running.tell(POLICE, &["case", "submit", &file]);
    assert_eq!((told.code, told.out.as_str()), (3, ""));
    for line in [
        "amanat: FIELD_INVALID: 10 fields are not valid",
        "subject.birth_date: expected a date, YYYY-MM-DD, from 1900 on",
        "subject.cnic: expected 13 digits",
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
    assert!(
        !told.err.contains(CNIC) && !told.err.contains("1234567-8"),
        "{}",
        told.err
    );

    let told = running.tell(POLICE, &["--json", "case", "submit", &file]);
    assert_eq!(told.code, 3);
    let answer: Value = serde_json::from_str(&told.err).unwrap();
    assert_eq!(answer["error"], "FIELD_INVALID");
    let violations = answer["violations"].as_array().unwrap();
    assert_eq!(violations.len(), 10);
    assert!(
        violations
            .iter()
            .all(|v| v["path"].is_string() && v["expected"].is_string())
    );
    assert_eq!(running.tell_json(POLICE, &["outbox", "list"]), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_in_the_wrong_place_is_never_repeated() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, &case_file());
    let consent = json!({
        "recipient": SHELTER, "purpose": "SHELTER", "mode": "WRITTEN", "paths": ["needs.needs"],
    });
    for field in [
        "recipient",
        "purpose",
        "mode",
        "decision",
        "paths",
        "classes",
        "valid_days",
        "max_reads",
        "minor",
        "supersedes",
        "evidence",
        CNIC,
    ] {
        for value in [json!(CNIC), json!([CNIC]), json!({ CNIC: CNIC })] {
            if field == "evidence" && value.is_object() {
                continue;
            }
            let mut consent = consent.clone();
            consent[field] = value;
            let file = running.write(&consent);
            let told = running.tell(POLICE, &["consent", "grant", &file, "--case", &case]);
            assert_eq!(told.code, 3, "{field}: {}", told.err);
            assert!(!told.shown().contains(CNIC), "{field}: {}", told.shown());
        }
    }
    let bad = json!({ "subject": CNIC, "journey": { "month": CNIC }, CNIC: {}, "case": [CNIC] });
    let file = running.write(&bad);
    let told = running.tell(POLICE, &["case", "submit", &file]);
    assert!(
        told.code == 3 && !told.shown().contains(CNIC),
        "{}",
        told.shown()
    );
    let read = [
        "case",
        "read",
        &case,
        "--purpose",
        "INVESTIGATION",
        "--fields",
    ];
    let told = running.tell(POLICE, &[&read[..], &[CNIC]].concat());
    assert!(
        told.code == 3 && !told.shown().contains(CNIC),
        "{}",
        told.shown()
    );
    assert!(
        told.err.contains("fields.paths[0]: expected a leaf"),
        "{}",
        told.err
    );
    let told = running.tell(POLICE, &refer(&case, SHELTER, CNIC));
    assert!(
        told.code == 3 && !told.shown().contains(CNIC),
        "{}",
        told.shown()
    );
    for server in [&running.gateway, &running.custodian] {
        assert!(!fs::read_to_string(&server.log).unwrap().contains(CNIC));
    }
    running.verify().await;
}

#[test]
fn an_unknown_agency_is_answered_with_the_names_that_are_known() {
    let running = Running::start(PROGRAM, "info");
    let case = CaseId::parse(&[7; 16]).unwrap().to_string();
    let consent = json!({
        "recipient": "darulaman", "purpose": "SHELTER", "mode": "WRITTEN", "paths": ["needs.needs"],
    });
    let file = running.write(&consent);
    for arguments in [
        &refer(&case, "darulaman", "needs.needs")[..],
        &["consent", "grant", &file, "--case", &case],
        &["audit", "list", "--agency", "darulaman"],
    ] {
        let told = running.tell(POLICE, arguments);
        assert_eq!(told.code, 3);
        for name in running.exchange.agencies.keys() {
            assert!(told.err.contains(name), "{name}: {}", told.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_source_is_told_that_a_consent_was_withdrawn() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, &case_file());
    let consent = grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    let status = |agency| running.tell_json(agency, &["consent", "list"])[0]["status"].clone();
    assert_eq!(
        (status(POLICE), status(SHELTER)),
        (json!("IN_FORCE"), json!("IN_FORCE"))
    );
    assert_eq!(
        running
            .tell(POLICE, &["consent", "withdraw", &consent])
            .code,
        0
    );
    assert_eq!(
        (status(POLICE), status(SHELTER)),
        (json!("WITHDRAWN"), json!("NOT_IN_FORCE"))
    );
    let at = |agency| {
        running.tell_json(
            agency,
            &["consent", "list", "--at", "custodian", "--case", &case],
        )[0]["status"]
            .clone()
    };
    assert_eq!(
        (at(POLICE), at(SHELTER)),
        (json!("WITHDRAWN"), json!("NOT_IN_FORCE"))
    );
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_ran_out_releases_nothing_more() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, &case_file());
    share(&running, &case, "case.urgency");
    let police = Party::open(&running, POLICE);
    let shelter = running.exchange.agencies[SHELTER].id;
    let until = now() + Duration::from_secs(5);
    let (_, consent) = story::consent(
        &police,
        case.parse().unwrap(),
        shelter,
        &["needs.needs"],
        now(),
        until,
    );
    for server in [Server::Custodian, Server::Gateway] {
        story::record_consent(&police, server, &consent)
            .await
            .unwrap();
    }
    let read = [
        "case",
        "read",
        &case,
        "--fields",
        "needs.needs",
        "--purpose",
        "SHELTER",
    ];
    let told = running.tell_json(SHELTER, &read);
    assert_eq!(told["values"]["needs"]["needs"][0], "SAFEHOUSE");
    while now() < until {
        pause().await;
    }
    let told = running.tell(SHELTER, &read);
    assert_eq!(told.code, 1);
    assert!(
        told.err.contains("needs.needs: CONSENT_NOT_IN_FORCE"),
        "{}",
        told.err
    );
    let status = running.tell_json(SHELTER, &["consent", "list"]);
    assert_eq!(status[0]["status"], "NOT_IN_FORCE");
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_tells_its_sender_why_and_opens_nothing() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, &case_file());
    grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    let told = running.tell_json(POLICE, &refer(&case, SHELTER, "needs.needs"));
    let referral = told["referral"].as_str().unwrap();
    assert_eq!(
        running
            .tell(SHELTER, &["refer", "acknowledge", referral])
            .code,
        0
    );
    let told = running.tell(
        SHELTER,
        &["refer", "reject", referral, "--reason", "TOO_BUSY"],
    );
    assert_eq!(told.code, 2, "not one of the reasons");
    assert!(
        told.err.contains("NO_CAPACITY"),
        "they are listed: {}",
        told.err
    );
    let told = running.tell(
        SHELTER,
        &["refer", "reject", referral, "--reason", "NO_CAPACITY"],
    );
    assert_eq!(told.code, 0, "{}", told.err);

    let sent = running.tell_json(POLICE, &["refer", "list", "--sent"]);
    assert_eq!(
        (&sent[0]["state"], &sent[0]["rejection_reason"]),
        (&json!("REJECTED"), &json!("NO_CAPACITY"))
    );
    let told = running.tell(POLICE, &["refer", "list", "--sent"]);
    assert!(told.out.contains("REJECTED (NO_CAPACITY)"), "{}", told.out);
    assert_eq!(
        running.tell(SHELTER, &["refer", "accept", referral]).code,
        1,
        "it is closed"
    );
    let read = [
        "case",
        "read",
        &case,
        "--fields",
        "needs.needs",
        "--purpose",
        "SHELTER",
    ];
    let told = running.tell(SHELTER, &read);
    assert_eq!(told.code, 1);
    assert!(
        told.err.contains("accept its referral first"),
        "{}",
        told.err
    );
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minors_record_opens_to_its_source_alone() {
    let running = Running::start(PROGRAM, "info");
    let mut file = case_file();
    file["subject"]["birth_date"] = "2012-04-17".into();
    let case = submit(&running, &file);
    let sealed = ["subject.given_name", "needs.needs"];
    let permit = json!({
        "paths": sealed, "minor": true, "guardian_ok": true, "assent_ok": true,
    });
    grant(&running, &case, &permit);
    let hidden = sealed.join(",");
    share(&running, &case, &hidden);

    let read = |fields| {
        [
            "case",
            "read",
            &case,
            "--purpose",
            "SHELTER",
            "--fields",
            fields,
        ]
    };
    let all = format!("{hidden},case.urgency");
    let told = running.tell_json(POLICE, &read(&all));
    assert_eq!(told["values"]["subject"]["given_name"], "Noor");
    assert_eq!(told["withheld"], json!([]));
    let told = running.tell(SHELTER, &read(&all));
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    for path in all.split(',') {
        assert!(
            told.err.contains(&format!("{path}: APPROVAL_REQUIRED")),
            "{}",
            told.err
        );
    }
    running.verify().await;
}

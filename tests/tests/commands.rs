//! The program itself: its lists, the log and tokens, and how it says no.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{fs, process::Command};

use amanat_identity::{
    Directory,
    token::{Audience, TokenVerifier},
};
use amanat_schema::{audit::Receipt, policy::Right};
use amanat_tests::{
    Running,
    cli::{Told, case_file, grant, share, submit},
    party::{Party, now},
    story::{POLICE, SHELTER},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
/// A survivor's identity number, typed where it does not belong.
const CNIC: &str = "0000012345678";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_what_to_do_about_it() {
    let mut running = Running::start(PROGRAM, "info");
    let case = submit(&running, &case_file());
    let terms = json!({
        "recipient": SHELTER, "purpose": "SHELTER", "mode": "WRITTEN",
        "paths": ["needs.needs"], "valid_days": 30,
    });
    let consent = running.write(&terms);

    // Not the shelter's to give: it stands in the outbox, and how to be rid of it is said.
    let grant = ["consent", "grant", &consent, "--case", &case];
    let told = running.tell(SHELTER, &grant);
    assert_ne!(told.code, 0, "{}", told.shown());
    let refused = &running.tell_json(SHELTER, &["outbox", "list"])[0];
    assert!(refused["refused"].is_string(), "{refused}");
    let drop = format!("`amanat outbox drop {}` forgets it", refused["job"]);
    assert!(told.err.contains(&drop), "{}", told.err);
    running.tell_json(SHELTER, &["outbox", "drop", &refused["job"].to_string()]);

    let told = running.tell(POLICE, &["case", "submit", &consent]);
    assert_eq!(told.code, 3, "{}", told.shown());
    assert!(
        told.err.contains("looks like a consent file"),
        "{}",
        told.err
    );
    assert!(
        told.err.contains("next: `amanat consent grant FILE"),
        "{}",
        told.err
    );

    let told = running.tell(POLICE, &["case", "list", "--source", "nobody"]);
    assert!(
        told.err.contains("next: take one of these names"),
        "{}",
        told.err
    );
    let broken = running.path("broken.json");
    fs::write(&broken, "{ \"case\": ").unwrap();
    let told = running.tell(POLICE, &["case", "submit", broken.to_str().unwrap()]);
    assert!(
        told.err.contains("next: mend the file at that place"),
        "{}",
        told.err
    );

    running.gateway.stop();
    running.custodian.stop();
    let told = running.tell(POLICE, &grant);
    assert_eq!(told.code, 4, "{}", told.shown());
    for words in [
        "kept in the outbox as job ",
        "`amanat outbox deliver` sends it",
    ] {
        assert!(told.err.contains(words), "{}", told.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_a_json_array_whatever_its_length() {
    let running = Running::start(PROGRAM, "info");
    let lists = [
        &["case", "list"][..],
        &["consent", "list"],
        &["refer", "list"],
        &["outbox", "list"],
        &["outbox", "deliver"],
        &["subject", "merges"],
        &["audit", "list", "--from-index", "1000"],
    ];
    for list in lists {
        assert_eq!(running.tell_json(SHELTER, list), json!([]), "{list:?}");
    }
    let case = submit(&running, &case_file());
    grant(&running, &case, &json!({ "paths": ["needs.needs"] }));
    share(&running, &case, "needs.needs");
    for list in [
        &["case", "list"][..],
        &["consent", "list"],
        &["refer", "list"],
    ] {
        let listed = running.tell_json(SHELTER, list);
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{list:?}");
        assert_eq!(listed[0]["case"], case, "{list:?}");
    }
    let fields = running.tell_json(SHELTER, &["case", "fields"]);
    assert!(
        fields
            .as_array()
            .unwrap()
            .iter()
            .any(|field| field["path"] == "needs.needs")
    );
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_listed_by_filter_and_each_entry_proves_itself() {
    let running = Running::start(PROGRAM, "info");
    let case = submit(&running, &case_file());
    let other = submit(&running, &case_file());
    let read = [
        "case",
        "read",
        &case,
        "--fields",
        "needs.needs",
        "--purpose",
        "SHELTER",
    ];
    assert_eq!(running.tell(POLICE, &read).code, 0);
    let deported = [
        "case",
        "read",
        &case,
        "--fields",
        "needs.needs",
        "--purpose",
        "IMMIGRATION_ENFORCEMENT",
    ];
    assert_eq!(running.tell(POLICE, &deported).code, 1);

    let list = |agency, filter: &[&str]| {
        let listed = running.tell_json(agency, &[&["audit", "list"], filter].concat());
        listed.as_array().unwrap().clone()
    };
    let denied = list("oversight", &["--decision", "DENY"]);
    assert_eq!(denied.len(), 1);
    assert_eq!(
        (&denied[0]["action"], &denied[0]["agency"]),
        (&json!("READ_RECORD"), &json!(POLICE))
    );
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
    let asked = &["--log", "custodian", "--action", "EVALUATE_IDENTIFIERS"];
    assert_eq!(list("oversight", asked)[0]["count"], 3);
    assert_eq!(put[1]["count"], Value::Null);
    let last = put[1]["audit_index"].as_u64().unwrap();
    let after = list(
        "oversight",
        &[
            "--from-index",
            &(last + 1).to_string(),
            "--action",
            "PUT_RECORD",
        ],
    );
    assert_eq!(after, [Value::Null; 0]);
    assert!(
        list(SHELTER, &[])
            .iter()
            .all(|entry| entry["agency"] == SHELTER),
        "its own only"
    );

    let index = last.to_string();
    assert_eq!(
        running.tell_json(POLICE, &["audit", "get", &index])["case"],
        other
    );
    let told = running.tell(SHELTER, &["audit", "get", &index]);
    assert!(
        told.code == 1 && told.err.contains("ACCESS_DENIED"),
        "{}",
        told.err
    );
    let told = running.tell("oversight", &["audit", "get", "100000"]);
    assert!(
        told.code == 1 && told.err.contains("ACCESS_DENIED"),
        "{}",
        told.err
    );

    let directory = directory(&running);
    for (log, service) in [
        ("gateway", directory.gateway()),
        ("custodian", directory.custodian()),
    ] {
        let proof = running.tell_json("oversight", &["audit", "proof", "2", "--log", log]);
        let receipt = receipt(&proof);
        let proven = amanat_ledger::receipt::verify(&receipt, &service.log).unwrap();
        assert_eq!(
            proven.body.agency_id,
            running.exchange.agencies[POLICE].id.as_bytes()
        );
        let moved = Receipt {
            index: 1,
            ..receipt
        };
        assert!(amanat_ledger::receipt::verify(&moved, &service.log).is_err());
    }
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issued_token_is_the_officers_and_acts_in_a_file() {
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
        verify(
            running.exchange.agencies[SHELTER].id,
            &party.certificate_sha256,
        )
        .unwrap_err();
    }

    let file = running.path("token");
    fs::write(&file, &told.out).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        running.tell_json(POLICE, &["--token-file", file, "case", "list"]),
        json!([])
    );
    let told = running.tell(SHELTER, &["--token-file", file, "case", "list"]);
    assert!(
        told.code == 1 && told.err.contains("CREDENTIAL_INVALID"),
        "{}",
        told.err
    );
    let told = running.tell(POLICE, &["--token-file", "nowhere", "case", "list"]);
    assert!(
        told.code == 3 && told.err.contains("nowhere"),
        "{}",
        told.err
    );
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_program_cannot_do_it_says_by_name_before_anything_is_sent() {
    let running = Running::start(PROGRAM, "info");
    let told = Told::by(Command::new(PROGRAM).args(["case", "list"]));
    assert!(
        told.code == 3 && told.err.contains("--profile DIR"),
        "{}",
        told.err
    );
    let nowhere = running.path("nowhere");
    let told = Told::by(
        Command::new(PROGRAM)
            .arg("--profile")
            .arg(&nowhere)
            .args(["case", "list"]),
    );
    assert!(
        told.code == 3 && told.err.contains("nowhere/profile.toml"),
        "{}",
        told.err
    );
    let told = running.tell(POLICE, &["--officer", "nobody", "case", "list"]);
    assert!(
        told.code == 3 && told.err.contains("default"),
        "who there is: {}",
        told.err
    );
    let told = running.tell(POLICE, &["case", "submit", "nowhere.json"]);
    assert!(
        told.code == 3 && told.err.contains("nowhere.json"),
        "{}",
        told.err
    );
    let file = running.path("broken.json");
    fs::write(&file, format!("{{ \"subject\": {CNIC}x")).unwrap();
    let told = running.tell(POLICE, &["case", "submit", file.to_str().unwrap()]);
    assert!(
        told.code == 3 && told.err.contains("line 1"),
        "{}",
        told.err
    );
    assert!(!told.err.contains(CNIC), "{}", told.err);
    running.verify().await;
}
fn directory(running: &Running) -> Directory {
    let (file, seen) = (&running.exchange.directory, running.path("directory.seen"));
    Directory::load(file, &seen, &running.exchange.registrars, now()).unwrap()
}

/// A receipt from what `audit proof --json` prints.
fn receipt(proof: &Value) -> Receipt {
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    Receipt {
        index: proof["audit_index"].as_u64().unwrap(),
        body: bytes(&proof["body"]),
        salt: bytes(&proof["salt"]),
        linkage: None,
        inclusion_proof: proof["inclusion_proof"]
            .as_array()
            .unwrap()
            .iter()
            .map(bytes)
            .collect(),
        checkpoint: proof["checkpoint"].as_str().unwrap().to_owned(),
    }
}

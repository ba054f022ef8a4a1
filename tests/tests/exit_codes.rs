//! How the program ends, and what it says of it: one failure of each exit code, as a script and an operator meet
//! them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use amanat_connector::ConnectorError;
use amanat_schema::Violation;
use amanat_server::Refusal;
use amanat_tests::{
    Running,
    cli::{Told, case_file, submit},
    story::{POLICE, SHELTER},
};
use serde_json::{Value, json};
use tonic::Status;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
/// A survivor's identity number, typed where it does not belong.
const CNIC: &str = "0000012345678";

fn amanat(arguments: &[&str]) -> Told {
    Told::by(Command::new(PROGRAM).args(arguments).stdin(Stdio::null()))
}

/// What a program reads of a failure.
fn failed(told: &Told, code: i32) -> Value {
    assert_eq!(told.code, code, "{}", told.shown());
    assert_eq!(told.out, "", "nothing on standard output");
    let said: Value = serde_json::from_str(&told.err).unwrap();
    for key in ["error", "message", "next"] {
        assert!(!said[key].as_str().unwrap().is_empty(), "{key}: {said}");
    }
    said
}

/// What a person reads of a failure: reason, what happened, what next.
fn says(told: &Told, code: i32, reason: &str) {
    assert_eq!(told.code, code, "{}", told.shown());
    let first = told.err.lines().next().unwrap();
    assert!(first.starts_with(&format!("amanat: {reason}: ")), "{first}");
    let last = told.err.lines().last().unwrap();
    assert!(last.starts_with("  next: "), "{}", told.err);
}

#[test]
fn arguments_that_are_not_understood_end_in_2_and_repeat_no_value() {
    for arguments in [
        &["case", "list", "--of", CNIC][..],
        &["case", "history", CNIC],
        &["case"],
    ] {
        let told = amanat(arguments);
        says(&told, 2, "USAGE_INVALID");
        assert!(!told.shown().contains(CNIC), "{}", told.shown());
        assert!(told.err.contains("next: see `amanat case"), "{}", told.err);
        let said = failed(&amanat(&[&["--json"], arguments].concat()), 2);
        assert_eq!(said["error"], "USAGE_INVALID");
        assert!(!said.to_string().contains(CNIC), "{said}");
    }
    // What can be nobody's is shown.
    for arguments in [
        &["keys", "init", "gateway", "--listen", "nowhere"][..],
        &["config", "check", "--kind", "nowhere", "a.toml"],
    ] {
        let told = amanat(arguments);
        says(&told, 2, "USAGE_INVALID");
        assert!(told.err.contains("'nowhere'"), "{}", told.err);
    }
    let told = amanat(&["case", "lst"]);
    for hint in ["'list'", "Usage: amanat case "] {
        assert!(told.err.contains(hint), "it stays: {}", told.err);
    }
    for asked in ["--help", "--version"] {
        assert_eq!(amanat(&[asked, "--json"]).code, 0, "{asked}");
    }
}

#[test]
fn bad_input_ends_in_3_and_names_what_to_mend() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();

    let told = amanat(&["case", "list"]);
    says(&told, 3, "PROFILE_MISSING");
    let told = amanat(&["--profile", &path("nowhere"), "case", "list"]);
    says(&told, 3, "PROFILE_MISSING");
    assert!(told.err.contains("nowhere/profile.toml"), "{}", told.err);
    assert!(
        told.err.contains("amanat keys init agency"),
        "where profiles come from: {}",
        told.err
    );

    fs::write(
        folder.path().join("profile.toml"),
        "nmae = \"police\"\nagency = 3\n",
    )
    .unwrap();
    let profile = folder.path().display().to_string();
    let said = failed(
        &amanat(&["--json", "--profile", &profile, "case", "list"]),
        3,
    );
    assert_eq!(said["error"], "PROFILE_INVALID");
    assert_named(&said, "agency", 2);
    says(
        &amanat(&["--profile", &profile, "case", "list"]),
        3,
        "PROFILE_INVALID",
    );

    fs::write(
        path("gateway.toml"),
        "[server]\nlisten = \"here\"\nlissen = 1\n",
    )
    .unwrap();
    for verb in ["init", "serve"] {
        let told = amanat(&["--json", "gateway", verb, "--config", &path("gateway.toml")]);
        let said = failed(&told, 3);
        assert_eq!(said["error"], "CONFIG_INVALID");
        assert_named(&said, "server.listen", 2);
        assert!(!said["message"].as_str().unwrap().contains('\n'), "{said}");
    }
    let told = amanat(&["custodian", "serve", "--config", &path("nowhere.toml")]);
    says(&told, 3, "CONFIG_INVALID");
    assert!(told.err.contains("nowhere.toml"), "{}", told.err);
}

fn assert_named(said: &Value, setting: &str, line: u64) {
    let violations = said["violations"].as_array().unwrap();
    let named = violations.iter().find(|v| v["path"] == setting);
    assert_eq!(named.expect(setting)["line"], line, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_ends_in_1_and_a_server_that_cannot_be_reached_in_4() {
    let mut running = Running::start(PROGRAM, "info");
    let case = submit(&running, &case_file());
    let read = [
        "case",
        "read",
        &case,
        "--fields",
        "needs.needs",
        "--purpose",
    ];
    let told = running.tell(POLICE, &[&read[..], &["IMMIGRATION_ENFORCEMENT"]].concat());
    says(&told, 1, "NOTHING_RELEASABLE");
    assert!(told.err.contains("needs.needs: "), "{}", told.err);
    let told = running.tell(SHELTER, &["audit", "get", "0"]);
    says(&told, 1, "ACCESS_DENIED");

    // A part of what was asked for is no failure.
    let fields = [
        "--fields",
        "needs.needs,case.fir_number",
        "--purpose",
        "INVESTIGATION",
    ];
    let told = running.tell(POLICE, &[&["case", "read", &case][..], &fields].concat());
    assert_eq!(told.code, 0, "{}", told.err);

    running.gateway.stop();
    for read in [&["case", "list"][..], &["audit", "verify"]] {
        let told = running.tell(POLICE, read);
        says(&told, 4, "UNREACHABLE");
        assert!(!told.err.contains("outbox"), "{}", told.err);
    }
    let said = failed(&running.tell(POLICE, &["--json", "case", "list"]), 4);
    assert_eq!(said["error"], "UNREACHABLE");
    running.gateway.start();
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_ends_in_4_and_names_it() {
    let running = Running::start(PROGRAM, "info");
    for (name, server) in [
        ("gateway", &running.exchange.gateway),
        ("custodian", &running.exchange.custodian),
    ] {
        let config = server.config.display().to_string();
        let told = amanat(&[name, "serve", "--config", &config]);
        says(&told, 4, "ADDRESS_UNAVAILABLE");
        let address = server.address.to_string();
        assert!(told.err.contains(&address), "{}", told.err);
    }
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_log_ends_in_5_for_who_asks_and_for_the_server_when_it_stops() {
    let mut running = Running::start(PROGRAM, "info");
    submit(&running, &case_file());
    assert!(running.gateway.stop());
    let checkpoint = checkpoint_file(&running.exchange.gateway.config);
    let kept = fs::read(&checkpoint).unwrap();
    fs::remove_file(&checkpoint).unwrap();

    running.gateway.start();
    let told = running.tell(POLICE, &["case", "submit", &running.write(&case_file())]);
    assert_eq!(told.code, 5, "{}", told.shown());
    assert!(told.err.contains("LOG_INCONSISTENT"), "{}", told.err);
    assert!(told.err.contains("duty contact"), "{}", told.err);
    assert!(running.gateway.stop());
    let log = fs::read_to_string(&running.gateway.log).unwrap();
    assert!(log.contains("amanat: LOG_FROZEN: "), "{log}");

    let config = running.exchange.gateway.config.display().to_string();
    assert_eq!(stopped(&["gateway", "serve", "--config", &config]), Some(5));
    fs::write(&checkpoint, kept).unwrap();
    assert_eq!(stopped(&["gateway", "serve", "--config", &config]), Some(0));
}

fn checkpoint_file(config: &Path) -> std::path::PathBuf {
    let settings: toml::Table = toml::from_str(&fs::read_to_string(config).unwrap()).unwrap();
    let file = settings["log"]["checkpoint_file"].as_str().unwrap();
    config.parent().unwrap().join(file)
}

/// Starts a server, stops it as its operator does, and answers its exit code.
fn stopped(arguments: &[&str]) -> Option<i32> {
    let mut server = Command::new(PROGRAM)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("listening"), "{line}");
    let told = Command::new("kill").arg(server.id().to_string()).status();
    assert!(told.unwrap().success());
    server.wait().unwrap().code()
}

/// What a server says with RetryInfo, and only that, is what the catalogue calls worth another try.
#[test]
fn what_the_catalogue_says_of_a_retry_is_what_the_servers_say() {
    let field = || Violation {
        path: "needs.needs".to_owned(),
        expected: "a need".to_owned(),
    };
    let later = Duration::from_secs(9);
    for refusal in [
        Refusal::credential(),
        Refusal::access(),
        Refusal::invalid(vec![field()]),
        Refusal::too_large(),
        Refusal::nothing_releasable(&[]),
        Refusal::state("it is closed"),
        Refusal::request_id_reused(),
        Refusal::version("it is another"),
        Refusal::audit_unavailable(),
        Refusal::out_of_space(),
        Refusal::log_inconsistent(),
        Refusal::ledger_behind(),
        Refusal::rules_changing(),
        Refusal::quota(later),
    ] {
        let error = ConnectorError::from(Status::from(refusal));
        let reason = error.reason();
        assert!(error.known_reason().is_some(), "{reason}");
        let told = amanat(&["--json", "errors", reason]);
        assert_eq!(told.code, 0, "{}", told.err);
        let entry: Value = serde_json::from_str(&told.out).unwrap();
        assert_eq!(entry["retry"], error.is_retryable(), "{reason}");
        assert_eq!(entry["next"], error.next_step(), "{reason}");
    }
}

#[test]
fn a_reason_is_explained_without_profile_or_server() {
    let told = amanat(&["errors", "ledger-behind"]);
    assert_eq!(told.code, 0, "{}", told.err);
    for text in ["LEDGER_BEHIND: ", "exit code 4: ", "next: ", "انتظار کریں"] {
        assert!(told.out.contains(text), "{text}: {}", told.out);
    }
    let told = amanat(&["errors", "CONSENT_NOT_IN_FORCE"]);
    assert!(told.out.contains("رضامندی"), "{}", told.shown());
    says(&amanat(&["errors", "NO_SUCH_REASON"]), 3, "INPUT_INVALID");
    let listed: Value = serde_json::from_str(&amanat(&["--json", "errors"]).out).unwrap();
    let codes: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["exit_code"])
        .collect();
    for code in 1..=5 {
        assert!(codes.contains(&&json!(code)), "{code}");
    }
}

//! The program as an operator runs it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use amanat::{
    development::{Blueprint, Exchange, Server, make},
    system_clock,
};
use tempfile::TempDir;

fn amanat(arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amanat"));
    command.args(arguments).arg("--config").arg(config);
    command
}

fn run(arguments: &[&str], config: &Path) -> Output {
    amanat(arguments, config).output().unwrap()
}

fn standard_error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn exchange(folder: &TempDir) -> Exchange {
    make(folder.path(), &system_clock(), &Blueprint::pilot()).unwrap()
}

/// Kills the process that a failed test leaves behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn serves_and_stops(name: &str, server: &Server) {
    let made = run(&[name, "init"], &server.config);
    assert!(made.status.success(), "{}", standard_error(&made));

    for signal in ["TERM", "INT"] {
        let child = amanat(&[name, "serve"], &server.config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut server_process = Running(child.unwrap());
        let mut output = BufReader::new(server_process.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{{\"listening\":\"{}\"}}\n", server.address));
        TcpStream::connect(server.address).unwrap();

        let id = server_process.0.id().to_string();
        Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .unwrap();
        assert_eq!(
            server_process.0.wait().unwrap().code(),
            Some(0),
            "after SIG{signal}"
        );
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

#[test]
fn the_gateway_says_when_it_listens_and_stops_when_told() {
    let folder = TempDir::new().unwrap();
    serves_and_stops("gateway", &exchange(&folder).gateway);
}

#[test]
fn the_custodian_says_when_it_listens_and_stops_when_told() {
    let folder = TempDir::new().unwrap();
    serves_and_stops("custodian", &exchange(&folder).custodian);
}

#[test]
fn serving_without_a_database_fails_and_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    let exchange = exchange(&folder);
    let refused = run(&["gateway", "serve"], &exchange.gateway.config);
    assert_eq!(refused.status.code(), Some(3));
    assert!(refused.stdout.is_empty());
    let error = standard_error(&refused);
    assert!(
        error.starts_with("amanat: DATABASE_MISSING: ") && error.contains("gateway.sqlite"),
        "{error}"
    );
    assert!(
        error.contains("\n  next: before the first start run `init`"),
        "{error}"
    );
}

#[test]
fn a_database_is_made_once() {
    let folder = TempDir::new().unwrap();
    let exchange = exchange(&folder);
    let first = run(&["--json", "gateway", "init"], &exchange.gateway.config);
    let made: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    assert!(Path::new(made["database"].as_str().unwrap()).exists());

    let second = run(&["gateway", "init", "--json"], &exchange.gateway.config);
    assert_eq!(second.status.code(), Some(3));
    let error: serde_json::Value = serde_json::from_slice(&second.stderr).unwrap();
    assert_eq!(error["error"], "DATABASE_EXISTS");
    assert!(
        error["next"].as_str().unwrap().contains("`serve`"),
        "{error}"
    );
}

#[test]
fn a_server_that_has_run_before_gets_no_new_database() {
    let folder = TempDir::new().unwrap();
    let exchange = exchange(&folder);
    for (name, server) in [
        ("gateway", &exchange.gateway),
        ("custodian", &exchange.custodian),
    ] {
        serves_and_stops(name, server);
        let data = server.folder.join("data");
        std::fs::rename(&data, server.folder.join("moved")).unwrap();
        std::fs::create_dir(&data).unwrap();
        let refused = run(&[name, "init"], &server.config);
        assert_eq!(refused.status.code(), Some(3));
        let error = standard_error(&refused);
        assert!(error.starts_with("amanat: DATABASE_MISSING: "), "{error}");
        for words in [
            "has signed before; restore its database",
            "state/checkpoint",
        ] {
            assert!(error.contains(words), "{error}");
        }
        assert!(!error.contains("run `init`"), "{error}");
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let refused = run(
        &["custodian", "serve"],
        Path::new("/nowhere/custodian.toml"),
    );
    assert_eq!(refused.status.code(), Some(3));
    assert!(standard_error(&refused).contains("/nowhere/custodian.toml"));
}

#[test]
fn every_command_explains_itself() {
    let help = Command::new(env!("CARGO_BIN_EXE_amanat"))
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    for shown in ["gateway", "custodian", "Examples:", "Exit codes:"] {
        assert!(text.contains(shown), "{shown}");
    }
}

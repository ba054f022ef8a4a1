//! The program says what it was built from.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use amanat_seal::sha256;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn said(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_amanat");
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The schema as it is compiled from its files.
fn schema() -> Vec<u8> {
    let proto = root().join("proto");
    let mut files = Vec::new();
    collect(&proto, &mut files);
    files.sort();
    let mut compiler = protox::Compiler::new([&proto]).unwrap();
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(files).unwrap();
    compiler.encode_file_descriptor_set()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
}

#[test]
fn it_says_its_version_its_commit_and_the_hashes_of_schema_and_decision_table() {
    let long = said(&["--version"]);
    let told: Value = serde_json::from_str(&said(&["--json", "--version"])).unwrap();
    let table = fs::read(root().join("deploy/policies/decision-table.txt")).unwrap();
    assert_eq!(told["schema_sha256"], hex::encode(sha256(&schema())));
    assert_eq!(told["decision_table_sha256"], hex::encode(sha256(&table)));
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    let git = Command::new("git")
        .current_dir(root())
        .args(["rev-parse", "HEAD"])
        .output();
    if let Some(git) = git.ok().filter(|git| git.status.success()) {
        let head = String::from_utf8(git.stdout).unwrap();
        // A commit made since the build is another one.
        let commit = told["commit"].as_str().unwrap();
        assert_eq!(commit.len(), head.trim().len());
    } else {
        assert_eq!(told["commit"], "unknown");
    }
    for value in told.as_object().unwrap().values() {
        assert!(
            long.contains(value.as_str().unwrap()),
            "{value} is in {long}"
        );
    }
}

#[test]
fn the_short_form_is_a_line() {
    assert_eq!(
        said(&["-V"]),
        format!("amanat {}\n", env!("CARGO_PKG_VERSION"))
    );
}

//! The operators' page runs as it is written, from an empty folder to an exchange and through its year.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step is a failed test"
)]

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use amanat::development::free_address;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// The commands of a page in order, each block announced by its number on standard output.
fn script(page: &str) -> String {
    let mut script = String::new();
    for (number, part) in page.split("```sh\n").skip(1).enumerate() {
        let (block, _) = part
            .split_once("```")
            .expect("a block that begins also ends");
        script.push_str(&format!("echo '# block {number}'\n{block}"));
    }
    script
}

#[test]
fn the_operators_page_runs_as_it_is_written() {
    let page = fs::read_to_string(Path::new(DEPLOY).join("operators.md")).unwrap();
    let script = script(&page);
    assert!(script.matches("# block").count() > 15, "{script}");
    let folder = TempDir::new().unwrap();
    let [gateway, custodian] = [(), ()].map(|()| free_address().unwrap().port().to_string());
    let (out, err) = (
        folder.path().join("page.out"),
        folder.path().join("page.err"),
    );
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    let mut shell = Command::new("bash")
        .args(["-c", &script])
        .current_dir(&work)
        .env("AMANAT", PROGRAM)
        .env("HOUSE", fs::canonicalize(DEPLOY).unwrap())
        .env("GATEWAY_PORT", gateway)
        .env("CUSTODIAN_PORT", custodian)
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        // With whatever it leaves running.
        .process_group(0)
        .spawn()
        .unwrap();
    let status = shell.wait().unwrap();
    if !status.success() {
        // The servers that the page started and did not come to stop.
        let group = format!("-{}", shell.id());
        Command::new("kill").args(["--", &group]).status().ok();
    }
    let (out, err) = (
        fs::read_to_string(out).unwrap(),
        fs::read_to_string(err).unwrap(),
    );
    assert!(status.success(), "{out}\n{err}");
    for said in [
        "fingerprint of the card: ",
        " \"registrar-a\"\n",
        " \"registrar-b\"\n",
        "SAFEHOUSE",
        "the gateway log holds: ",
        "the custodian log holds: ",
    ] {
        assert!(out.contains(said), "{said} is not in\n{out}");
    }
    // The suspended shelter, then the one that left.
    assert_eq!(err.matches("CREDENTIAL_INVALID").count(), 2, "{err}");
}

#[test]
fn only_blocks_of_shell_are_run() {
    let page = "a\n```sh\none\n```\n```text\ntwo\n```\n```sh\nthree\n```\n";
    assert_eq!(
        script(page),
        "echo '# block 0'\none\necho '# block 1'\nthree\n"
    );
}

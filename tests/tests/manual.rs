//! The manual and the completions, as the shells and readers that they are for take them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed step is a failed test; what is skipped is said"
)]

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use amanat_tests::cli::Told;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");

fn amanat(arguments: &[&str]) -> Told {
    let told = Told::by(Command::new(PROGRAM).args(arguments));
    assert_eq!(told.code, 0, "{arguments:?}: {}", told.err);
    told
}

/// The subcommands that a command's help lists, each with what is said of it.
fn listed(command: &[String]) -> Vec<(String, String)> {
    let mut arguments: Vec<_> = command.iter().map(String::as_str).collect();
    arguments.push("--help");
    let help = amanat(&arguments).out;
    let Some((_, commands)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    let lines = commands.lines().take_while(|line| !line.is_empty());
    let named = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let named = named.map(|line| line.trim().split_once(' ').unwrap_or((line.trim(), "")));
    let named = named.map(|(name, about)| (name.to_owned(), about.trim().to_owned()));
    named.filter(|(name, _)| name != "help").collect()
}

/// Every command, the program first.
fn commands() -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut at = 0;
    while let Some(command) = found.get(at).cloned() {
        for (name, about) in listed(&command) {
            assert!(
                !about.is_empty(),
                "{command:?} {name} says nothing of itself"
            );
            found.push([command.as_slice(), &[name]].concat());
        }
        at += 1;
    }
    found
}

/// A tool that is not on every machine; where CI runs it must be.
fn has(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("SKIPPED: there is no {tool} here");
    }
    found
}

#[test]
fn every_command_has_a_page_that_readers_take_without_a_complaint() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    amanat(&["man", pages.to_str().unwrap()]);
    let commands = commands();
    assert!(commands.len() > 40, "{}", commands.len());
    let reads = has("groff");
    for command in &commands {
        let name = [&["amanat".to_owned()], command.as_slice()]
            .concat()
            .join("-");
        let page = pages.join(format!("{name}.1"));
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{name}: {error}"));
        for heading in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
            assert!(text.contains(heading), "{name}: {heading}");
        }
        if reads {
            let read = Told::by(
                Command::new("groff")
                    .args(["-Kutf8", "-man", "-ww", "-z"])
                    .arg(&page),
            );
            assert_eq!((read.code, read.err.as_str()), (0, ""), "{name}");
        }
        let is_leaf = listed(command).is_empty();
        assert!(
            !is_leaf || text.contains("Example"),
            "{name} shows no example"
        );
    }
    let written = fs::read_dir(&pages).unwrap().count();
    assert_eq!(written, commands.len(), "a page for each, and no others");
}

#[test]
fn the_completions_are_taken_by_their_shells_and_know_every_command() {
    for (shell, check) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["-n"])] {
        let script = amanat(&["completions", shell]).out;
        for command in commands() {
            for name in &command {
                assert!(script.contains(name.as_str()), "{shell}: {name}");
            }
        }
        if has(shell) {
            parses(shell, check, &script);
        }
    }
    let json = amanat(&["--json", "completions", "bash"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["script"].as_str().unwrap().contains("_amanat()"));
}

fn parses(shell: &str, check: &[&str], script: &str) {
    let mut run = Command::new(shell)
        .args(check)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    run.stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let ended = run.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && said.is_empty(), "{shell}: {said}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let below = Path::new(&file).join("man1");
    let told = Told::by(Command::new(PROGRAM).arg("man").arg(&below));
    assert_eq!(told.code, 3, "{}", told.shown());
    assert!(
        told.err.starts_with("amanat: FILE_UNUSABLE: "),
        "{}",
        told.err
    );
    assert!(told.err.contains(below.to_str().unwrap()), "{}", told.err);
    let told = Told::by(Command::new(PROGRAM).arg("man").arg(&file));
    assert_eq!(told.code, 3, "{}", told.shown());
    assert!(
        told.err.contains("is a file; name a folder"),
        "{}",
        told.err
    );
}

//! What the program is made of, and under which licences: `deploy/licences.md` names every crate that is linked
//! into it.
//!
//! `AMANAT_BLESS=1` writes the page anew; read the difference before it is committed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

const HEAD: &str = "\
# Licences

The program `amanat` is Apache-2.0. These crates of others are linked into it on Linux (x86-64); what only builds or
tests it is not listed. `aws-lc-sys` contains AWS-LC, `libsqlite3-sys` contains SQLite, which is in the public
domain. Which licences may come in at all says `.deny.toml`. Whoever gives the program on gives on the licence
texts too: each crate carries its own (`cargo vendor` collects them).

| Crate | Version | Licence |
|---|---|---|
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The page's rows, from what cargo links: features as they are for this one program, no procedural macros.
fn rows() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--package", "amanat"])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .args(["--format", "{p}|{l}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    // A crate whose own imports were told before is marked so.
    let lines = text.lines().map(|line| line.trim_end_matches(" (*)"));
    let (own, others): (BTreeSet<_>, BTreeSet<_>) =
        lines.partition(|line| line.starts_with("amanat"));
    assert!(!own.is_empty());
    others.into_iter().map(row).collect()
}

fn row(line: &str) -> String {
    let (package, licence) = line.split_once('|').unwrap();
    let mut words = package.split(' ');
    let (name, version) = (words.next().unwrap(), words.next().unwrap());
    assert!(!licence.is_empty(), "{name} names no licence");
    let version = version.strip_prefix('v').unwrap();
    format!("| {name} | {version} | {licence} |\n")
}

#[test]
fn the_page_of_licences_names_every_crate_of_the_program() {
    let page: String = [HEAD.to_owned()].into_iter().chain(rows()).collect();
    let path = root().join("deploy/licences.md");
    if std::env::var_os("AMANAT_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    let new: Vec<_> = page
        .lines()
        .filter(|line| !written.lines().any(|w| w == *line))
        .collect();
    assert!(
        page == written,
        "lines that deploy/licences.md does not have:\n{}",
        new.join("\n")
    );
}

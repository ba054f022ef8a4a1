//! Who may import whom: the house as `cargo metadata` sees it. What only tests need is not judged.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const SHARED: &[&str] = &[
    "amanat-schema",
    "amanat-config",
    "amanat-policy",
    "amanat-ledger",
    "amanat-seal",
    "amanat-identity",
];

const SERVERS_ROOMS: &[&str] = &[
    "amanat-schema",
    "amanat-config",
    "amanat-policy",
    "amanat-ledger",
    "amanat-seal",
    "amanat-identity",
    "amanat-telemetry",
    "amanat-database",
    "amanat-journal",
    "amanat-server",
];

const WITH_DESK: &[&str] = &[
    "amanat-schema",
    "amanat-config",
    "amanat-policy",
    "amanat-ledger",
    "amanat-seal",
    "amanat-identity",
    "amanat-telemetry",
    "amanat-database",
    "amanat-journal",
    "amanat-server",
    "amanat-desk",
];

/// Each room, which of ours it may import, and why no others.
const ROOMS: [(&str, &[&str], &str); 15] = [
    (
        "amanat-schema",
        &[],
        "the schema is what all the others agree on",
    ),
    (
        "amanat-config",
        &[],
        "a configuration file is read in the same way by every party",
    ),
    (
        "amanat-telemetry",
        &[],
        "an instrument knows nothing of what it counts",
    ),
    ("amanat-policy", &["amanat-schema"], "decisions are pure"),
    (
        "amanat-policyc",
        &["amanat-schema", "amanat-policy"],
        "the compiler writes the table and knows no server",
    ),
    (
        "amanat-ledger",
        &["amanat-schema"],
        "anyone can verify a log without the rest of us",
    ),
    (
        "amanat-seal",
        &["amanat-schema"],
        "what keeps a record shut knows nothing else",
    ),
    (
        "amanat-identity",
        &[
            "amanat-schema",
            "amanat-config",
            "amanat-policy",
            "amanat-ledger",
            "amanat-seal",
        ],
        "every party checks identities, with no server and no store",
    ),
    (
        "amanat-database",
        &[],
        "both engines are known here, and nothing of what is kept in them",
    ),
    (
        "amanat-journal",
        &[
            "amanat-schema",
            "amanat-telemetry",
            "amanat-ledger",
            "amanat-seal",
            "amanat-database",
        ],
        "the journal serves any service's verbs, and knows none",
    ),
    (
        "amanat-server",
        &[
            "amanat-schema",
            "amanat-config",
            "amanat-telemetry",
            "amanat-identity",
        ],
        "a server process carries requests, and decides and stores nothing",
    ),
    (
        "amanat-desk",
        SERVERS_ROOMS,
        "the desk is what gateway and custodian share, and is neither",
    ),
    (
        "amanat-gateway",
        WITH_DESK,
        "gateway, custodian and connector meet on the wire only",
    ),
    (
        "amanat-custodian",
        WITH_DESK,
        "gateway, custodian and connector meet on the wire only",
    ),
    (
        "amanat-connector",
        SHARED,
        "an agency's side has no part of a server",
    ),
];

/// These put the house together, and may import all of it.
const WHOLE: [&str; 2] = ["amanat", "amanat-tests"];

/// A library, with all whose names begin with its own, who may use it, and why no others.
const LIBRARIES: [(&str, &[&str], &str); 9] = [
    (
        "sqlx",
        &["amanat-database", "amanat-connector", "amanat-tests"],
        "the engines are met in one place, and the connector's own store is no server's",
    ),
    (
        "tonic",
        &[
            "amanat-schema",
            "amanat-server",
            "amanat-desk",
            "amanat-gateway",
            "amanat-custodian",
            "amanat-connector",
            "amanat-tests",
        ],
        "gRPC stays at the edges, beside the generated code",
    ),
    (
        "aws-lc-rs",
        &["amanat-seal", "amanat-ledger", "amanat-identity"],
        "primitives stay where they are reviewed",
    ),
    (
        "cedar-policy",
        &["amanat-policyc"],
        "servers load the table and never run a policy engine",
    ),
    (
        "amanat-policyc",
        &[],
        "the compiler of the table is a program of its own",
    ),
    (
        "voprf",
        &["amanat-seal"],
        "primitives stay where they are reviewed",
    ),
    (
        "rand_core",
        &["amanat-seal"],
        "only the oblivious function asks for this generator",
    ),
    (
        "opentelemetry",
        &["amanat-telemetry", "amanat-server", "amanat-tests"],
        "a span is made where it is written what may stand in it, and sent by the process alone",
    ),
    (
        "unicode-normalization",
        &["amanat-schema"],
        "an identifier has one spelling, decided in one place",
    ),
];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "common", "utils", "util", "helpers", "helper", "manager", "base", "misc",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// What each package of the workspace depends on, but for its tests.
fn imports() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |of: &Value| of["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let all = package["dependencies"].as_array().unwrap().iter();
            (
                name(package),
                all.filter(|on| on["kind"] != "dev").map(name).collect(),
            )
        })
        .collect()
}

#[test]
fn every_package_is_a_room_with_rules() {
    let rooms = ROOMS.iter().map(|(room, ..)| *room).chain(WHOLE);
    let mut known: Vec<_> = rooms.collect();
    known.sort_unstable();
    let packages: Vec<_> = imports().into_keys().collect();
    assert_eq!(packages, known, "a new room needs its line in the table");
}

#[test]
fn rooms_import_only_what_lies_below_them() {
    let imports = imports();
    let mut forbidden = Vec::new();
    for (room, allowed, why) in ROOMS {
        for on in imports[room].iter().filter(|on| imports.contains_key(*on)) {
            if !allowed.contains(&on.as_str()) {
                forbidden.push(format!("{room} must not import {on}: {why}"));
            }
        }
    }
    assert!(forbidden.is_empty(), "{forbidden:#?}");
}

#[test]
fn libraries_stay_in_the_rooms_they_were_chosen_for() {
    let mut forbidden = Vec::new();
    for (room, on) in imports() {
        for (library, allowed, why) in LIBRARIES {
            for on in on.iter().filter(|on| on.starts_with(library)) {
                if !allowed.contains(&room.as_str()) {
                    forbidden.push(format!("{room} must not use {on}: {why}"));
                }
            }
        }
    }
    assert!(forbidden.is_empty(), "{forbidden:#?}");
}

#[test]
fn every_folder_has_a_name_that_says_what_is_inside() {
    let mut folders: Vec<_> = ["services", "proto", "tests", "deploy"]
        .map(|folder| root().join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            !EMPTY_NAMES.contains(&name.as_str()),
            "{} says nothing",
            folder.display()
        );
        let Ok(inside) = folder.read_dir() else {
            continue;
        };
        folders.extend(
            inside
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_dir()),
        );
    }
}

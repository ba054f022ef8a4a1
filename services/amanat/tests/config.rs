//! `amanat config check` finds at once what a start would stumble over one by one, and changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use amanat::{
    development::{Blueprint, Exchange, make},
    system_clock,
};
use serde_json::Value;
use tempfile::TempDir;

const AGENCY: &str = "police-lahore";

struct Made {
    exchange: Exchange,
    _folder: TempDir,
}

fn made() -> Made {
    let folder = TempDir::new().unwrap();
    let exchange = make(folder.path(), &system_clock(), &Blueprint::pilot()).unwrap();
    let made = Made {
        exchange,
        _folder: folder,
    };
    for (name, config) in [
        ("gateway", &made.exchange.gateway.config),
        ("custodian", &made.exchange.custodian.config),
    ] {
        let made = amanat(&[name, "init", "--config", config.to_str().unwrap()]);
        assert!(made.status.success());
    }
    made
}

impl Made {
    /// The three kinds of configurations.
    fn configs(&self) -> [PathBuf; 3] {
        [
            self.exchange.gateway.config.clone(),
            self.exchange.custodian.config.clone(),
            self.exchange.agencies[AGENCY].folder.clone(),
        ]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.exchange.folder.join(name)
    }

    /// Line and setting of all that is told of the three.
    fn faults(&self) -> Vec<(Option<u64>, String)> {
        let checked = check(&self.configs());
        if checked.status.success() {
            return Vec::new();
        }
        assert_eq!(checked.status.code(), Some(3));
        let told: Value = serde_json::from_slice(&checked.stderr).unwrap();
        assert_eq!(told["error"], "CONFIG_INVALID");
        let violations = told["violations"].as_array().unwrap();
        let of = |violation: &Value| {
            assert!(!violation["expected"].as_str().unwrap().is_empty());
            let setting = violation["path"].as_str().unwrap();
            (violation["line"].as_u64(), setting.to_owned())
        };
        violations.iter().map(of).collect()
    }

    fn settings(&self) -> Vec<String> {
        let faults = self.faults().into_iter();
        faults.map(|(_, setting)| setting).collect()
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is in {text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// What they hold, for they may be links.
    fn swap(&self, one: &str, other: &str) {
        let (one, other) = (self.path(one), self.path(other));
        let (first, second) = (fs::read(&one).unwrap(), fs::read(&other).unwrap());
        assert_ne!(first, second);
        fs::write(one, second).unwrap();
        fs::write(other, first).unwrap();
    }
}

fn amanat(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_amanat"))
        .args(arguments)
        .output()
        .unwrap()
}

fn check(files: &[PathBuf]) -> Output {
    let files = files.iter().map(|file| file.to_str().unwrap());
    let arguments: Vec<_> = ["--json", "config", "check"]
        .into_iter()
        .chain(files)
        .collect();
    amanat(&arguments)
}

/// Every file below a folder, with what it holds.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn an_exchange_in_order_is_said_to_be_and_is_left_as_it_is() {
    let made = made();
    let before = contents(&made.exchange.folder);
    let checked = check(&made.configs());
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{told}");
    assert_eq!(contents(&made.exchange.folder), before);

    let told: Value = serde_json::from_slice(&checked.stdout).unwrap();
    for (number, (kind, settings)) in [
        (
            "gateway",
            [
                "directory.file",
                "directory.decision_table",
                "directory.crls",
                "server.certificate",
            ]
            .as_slice(),
        ),
        (
            "custodian",
            [
                "directory.file",
                "directory.decision_table",
                "directory.crls",
                "server.certificate",
            ]
            .as_slice(),
        ),
        (
            "profile",
            ["directory.file", "directory.crls", "tls.certificate"].as_slice(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let told = &told[number];
        assert_eq!(told["kind"], kind);
        let remarks = told["in_order"].as_array().unwrap();
        let named: Vec<_> = remarks
            .iter()
            .map(|remark| remark["path"].as_str().unwrap())
            .collect();
        assert_eq!(named, settings);
        let directory = remarks[0]["text"].as_str().unwrap();
        assert!(
            directory.starts_with("version 1, 29 days left, until "),
            "{directory}"
        );
    }
}

/// Something that somebody does to an exchange, and the settings that it shows up at.
type Spoiling = (fn(&Made), &'static [&'static str]);

/// Found by a look at a file that is then refused at the start too: the server's name stands first.
const FATAL: [(&str, Spoiling); 14] = [
    (
        "gateway",
        (
            |made| {
                fs::set_permissions(
                    made.path("gateway/keys/server.key"),
                    Permissions::from_mode(0o640),
                )
                .unwrap()
            },
            &["server.private_key"],
        ),
    ),
    (
        "gateway",
        (
            |made| {
                fs::set_permissions(made.path("gateway/keys"), Permissions::from_mode(0o777))
                    .unwrap()
            },
            &[
                "log.openings_key",
                "log.signing_key",
                "server.private_key",
                "subjects.peppers",
                "subjects.pseudonym_key",
            ],
        ),
    ),
    (
        "gateway",
        (
            |made| fs::remove_file(made.path("gateway/keys/pepper-1.key")).unwrap(),
            &["subjects.peppers"],
        ),
    ),
    (
        "gateway",
        (
            |made| fs::write(made.path("gateway/keys/pseudonym.key"), "short").unwrap(),
            &["subjects.pseudonym_key"],
        ),
    ),
    (
        "gateway",
        (
            |made| made.swap("gateway/keys/server.pem", "custodian/keys/server.pem"),
            &["server.certificate", "server.certificate"],
        ),
    ),
    (
        "gateway",
        (
            |made| {
                made.swap("gateway/keys/server.pem", "custodian/keys/server.pem");
                made.swap("gateway/keys/server.key", "custodian/keys/server.key");
            },
            &["server.certificate", "server.certificate"],
        ),
    ),
    (
        "gateway",
        (
            |made| made.swap("gateway/keys/log.key", "gateway/keys/statement.key"),
            &["log.signing_key"],
        ),
    ),
    (
        "gateway",
        (
            |made| fs::write(made.path("public/directory.bin"), "none").unwrap(),
            &["directory.file", "directory.file", "directory.file"],
        ),
    ),
    (
        "gateway",
        (
            |made| fs::write(made.path("gateway/state/directory.seen"), "2").unwrap(),
            &["directory.file"],
        ),
    ),
    (
        "gateway",
        (
            |made| fs::write(made.path("gateway/state/directory.seen"), "two").unwrap(),
            &["directory.seen"],
        ),
    ),
    (
        "gateway",
        (
            |made| fs::write(made.path("public/decision-table.txt"), "format 1\n").unwrap(),
            &["directory.decision_table", "directory.decision_table"],
        ),
    ),
    (
        "gateway",
        (
            |made| fs::remove_dir(made.path("public/suspensions")).unwrap(),
            &["directory.suspensions", "directory.suspensions"],
        ),
    ),
    (
        "custodian",
        (
            |made| {
                made.swap(
                    "custodian/keys/oprf-victim-1.key",
                    "custodian/keys/oprf-suspect-1.key",
                )
            },
            &["oprf.keys[0].seed", "oprf.keys[1].seed"],
        ),
    ),
    (
        "custodian",
        (
            |made| made.swap("custodian/keys/statement.key", "custodian/keys/log.key"),
            &["custody.statement_key", "log.signing_key"],
        ),
    ),
];

/// What does not keep a server from its start, but somebody from its service; and what a connector stumbles over.
const OTHERS: [Spoiling; 6] = [
    (
        |made| fs::remove_file(made.path("public/crls/gateway.crl")).unwrap(),
        &["directory.crls", "directory.crls"],
    ),
    (
        |made| made.swap("public/crls/gateway.crl", "public/crls/custodian.crl"),
        &[
            "directory.crls",
            "directory.crls",
            "directory.crls",
            "directory.crls",
            "directory.crls",
        ],
    ),
    (
        |made| fs::write(made.path("public/suspensions/x"), "none").unwrap(),
        &["directory.suspensions", "directory.suspensions"],
    ),
    (
        |made| {
            made.swap(
                "agencies/police-lahore/keys/statement.key",
                "agencies/police-lahore/keys/issuer.key",
            )
        },
        &["statements.signing_key", "tokens.signing_key"],
    ),
    (
        |made| {
            made.swap(
                "agencies/police-lahore/keys/connector.pem",
                "agencies/oversight/keys/connector.pem",
            );
            made.swap(
                "agencies/police-lahore/keys/connector.key",
                "agencies/oversight/keys/connector.key",
            );
        },
        &["tls.certificate"],
    ),
    (
        |made| fs::remove_dir(made.path("agencies/police-lahore/outbox")).unwrap(),
        &["outbox"],
    ),
];

#[test]
fn what_a_server_does_not_start_with_is_found_before() {
    for (server, (spoil, settings)) in FATAL {
        let made = made();
        spoil(&made);
        let mut found = made.settings();
        found.sort();
        assert_eq!(found, settings);
        let config = made.path(&format!("{server}/{server}.toml"));
        let started = amanat(&[server, "serve", "--config", config.to_str().unwrap()]);
        assert!(!started.status.success(), "{settings:?}");
    }
}

#[test]
fn what_closes_somebody_out_is_found_before() {
    for (spoil, settings) in OTHERS {
        let made = made();
        spoil(&made);
        let mut found = made.settings();
        found.sort();
        assert_eq!(found, settings);
    }
}

#[test]
fn all_is_told_at_once_each_with_its_line() {
    let made = made();
    fs::remove_file(made.path("gateway/keys/pepper-1.key")).unwrap();
    fs::write(made.path("gateway/keys/log.key"), "none").unwrap();
    fs::remove_file(made.path("custodian/keys/kek.key")).unwrap();
    let faults = made.faults();
    let settings: Vec<_> = faults.iter().map(|(_, setting)| setting.as_str()).collect();
    assert_eq!(
        settings,
        ["log.signing_key", "subjects.peppers", "custody.kek"]
    );
    let line = |file: &str, setting: &str| {
        let text = fs::read_to_string(made.path(file)).unwrap();
        let line = text.lines().position(|line| line.starts_with(setting));
        line.map(|line| line as u64 + 1)
    };
    assert_eq!(faults[0].0, line("gateway/gateway.toml", "signing_key"));
    assert_eq!(faults[1].0, line("gateway/gateway.toml", "peppers"));
    assert_eq!(faults[2].0, line("custodian/custodian.toml", "kek"));
}

#[test]
fn a_key_that_the_directory_lists_must_be_there() {
    let made = made();
    let path = made.path("custodian/custodian.toml");
    let text = fs::read_to_string(&path).unwrap();
    let last = text.rfind("[[oprf.keys]]").unwrap();
    let rest = text[last..].split_once("\n\n").map_or("", |(_, rest)| rest);
    fs::write(&path, format!("{}{rest}", &text[..last])).unwrap();
    assert_eq!(made.settings(), ["oprf.keys"]);
}

#[test]
fn keys_data_and_state_that_lie_together_are_refused_by_check_init_and_serve() {
    for (from, to, setting) in [
        (
            "keys/pseudonym.key",
            "data/pseudonym.key",
            "subjects.pseudonym_key",
        ),
        ("keys/log.key", "data/deep/../log.key", "log.signing_key"),
        (
            "keys/openings.key",
            "state/openings.key",
            "log.openings_key",
        ),
        ("state/checkpoint", "data/checkpoint", "log.checkpoint_file"),
        ("state/directory.seen", "data/seen", "directory.seen"),
    ] {
        let made = made();
        made.edit("gateway/gateway.toml", from, to);
        let faults = made.faults();
        assert!(
            faults
                .iter()
                .any(|(line, found)| found == setting && line.is_some()),
            "{faults:?}"
        );
        let config = made.path("gateway/gateway.toml");
        for verb in ["init", "serve"] {
            let refused = amanat(&["gateway", verb, "--config", config.to_str().unwrap()]);
            assert_eq!(refused.status.code(), Some(3));
            assert!(String::from_utf8_lossy(&refused.stderr).contains(setting));
        }
    }
    let made = made();
    made.edit(
        "custodian/custodian.toml",
        "state/observed-head",
        "data/observed-head",
    );
    assert_eq!(made.settings(), ["custody.observed_head_file"]);
    made.edit(
        "custodian/custodian.toml",
        "data/observed-head",
        "state/observed-head",
    );
    let profile = format!("agencies/{AGENCY}/profile.toml");
    made.edit(&profile, "outbox/outbox.sqlite", "keys/outbox.sqlite");
    let mut found = made.settings();
    found.sort();
    let keys = [
        "evidence_key",
        "statements.signing_key",
        "tls.private_key",
        "tokens.signing_key",
    ];
    assert_eq!(found, keys);
}

#[test]
fn what_a_file_configures_is_told_by_its_content_or_must_be_said() {
    let made = made();
    let copy = made.path("gateway/copy");
    fs::copy(&made.exchange.gateway.config, &copy).unwrap();
    assert!(check(std::slice::from_ref(&copy)).status.success());
    let other = made.path("other.toml");
    fs::write(&other, "[server]\nlisten = 'nowhere'\n").unwrap();
    let path = other.to_str().unwrap();
    let untold = amanat(&["config", "check", path]);
    assert_eq!(untold.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&untold.stderr).contains("--kind"));
    let told = amanat(&["config", "check", "--kind", "custodian", path]);
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(
        told.contains(&format!("{path}:2: server.listen: ")),
        "{told}"
    );
    assert!(told.contains("oprf"), "{told}");
    let absent = amanat(&["config", "check", "no-such-file"]);
    assert_eq!(absent.status.code(), Some(3));
}

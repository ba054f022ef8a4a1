//! Where the log is: in a file, with nothing else in its folder, or on servers of its own.

use std::{fs, path::Path};

use amanat_config::{ConfigError, FileSetting, read};
use amanat_database::{Engine, Place};
use amanat_desk::settings::{Log, keep_apart};
use tempfile::TempDir;

/// Its settings, read from a file in a folder, with the folders that the last checkpoint and a key lie in.
fn log(folder: &Path, database: &str, [state, keys]: [&str; 2]) -> Result<Log, ConfigError> {
    let text = format!(
        "[log]\ndatabase = '{database}'\ncheckpoint_file = '{state}/checkpoint'\n\
         signing_key = '{keys}/log.key'\nopenings_key = 'keys/openings.key'\n"
    );
    let path = folder.join("server.toml");
    fs::write(&path, text).unwrap();
    read(&path, |top| {
        let log = top.section("log", Log::read)?;
        let state = FileSetting::new("log.checkpoint_file", &log.checkpoint_file);
        keep_apart(top, &log, &[state], &log.key_files())?;
        Some(log)
    })
}

/// The settings that are refused, with what is expected of each.
fn refused(database: &str, folders: [&str; 2]) -> Vec<(String, String)> {
    let folder = TempDir::new().unwrap();
    match log(folder.path(), database, folders) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid { violations, .. }) => violations
            .into_iter()
            .map(|violation| (violation.setting, violation.expected))
            .collect(),
        Err(error) => unreachable!("{error}"),
    }
}

fn names(refused: &[(String, String)]) -> Vec<&str> {
    refused
        .iter()
        .map(|(setting, _)| setting.as_str())
        .collect()
}

const APART: [&str; 2] = ["state", "keys"];

const SERVERS: &str =
    "postgres://amanat_gateway@db1,db2/amanat?sslmode=verify-full&sslrootcert=/etc/ca.pem";

#[test]
fn a_database_is_a_file_or_on_servers() {
    let folder = TempDir::new().unwrap();
    let in_file = log(folder.path(), "data/gateway.db", APART).unwrap();
    let file = folder.path().join("data/gateway.db");
    assert_eq!(in_file.database.file(), Some(file.as_path()));
    let on_servers = log(folder.path(), SERVERS, APART).unwrap();
    assert_eq!(on_servers.database.engine(), Engine::Postgres);
    assert!(matches!(on_servers.database, Place::Postgres(_)));
}

#[test]
fn an_address_that_would_leak_or_trust_anybody_is_refused_without_being_quoted() {
    for (database, why) in [
        ("postgres://amanat:hunter2@localhost/amanat", "password"),
        ("postgres://amanat@hunter2.example/amanat", "verify-full"),
        ("postgres://hunter2", "the form"),
    ] {
        let refused = refused(database, APART);
        assert_eq!(names(&refused), ["log.database"], "{database}");
        let expected = &refused[0].1;
        assert!(
            expected.contains(why) && !expected.contains("hunter2"),
            "{expected}"
        );
    }
}

#[test]
fn nothing_lies_beside_a_file_and_beside_servers_nothing_can() {
    for (folders, beside_a_file, beside_servers) in [
        (APART, &[][..], &[][..]),
        (["data", "keys"], &["log.checkpoint_file"], &[]),
        (["state", "data"], &["log.signing_key"], &[]),
        // Wherever the data is, keys do not lie with the state.
        (
            ["state", "state"],
            &["log.signing_key"],
            &["log.signing_key"],
        ),
    ] {
        assert_eq!(names(&refused("data/gateway.db", folders)), beside_a_file);
        assert_eq!(names(&refused(SERVERS, folders)), beside_servers);
    }
}

//! A disk that fills up: nothing is half done, it is said, and it goes on by itself when there is space.
//!
//! Small disks of their own are mounted, which takes root, or user namespaces. Where neither is to be had these
//! tests say loudly that they were skipped; with `CI` set they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed step is a failed test, and whoever runs it hears what was skipped"
)]

use std::{
    env, fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use amanat_tests::{
    Running,
    cli::case_file,
    party,
    story::POLICE,
    watch::{Disk, HealthAt},
};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
/// Enough for a database with its write-ahead log, and soon full.
const MIB: u32 = 12;
/// Set in the process that a test started for itself where it may mount.
const INSIDE: &str = "AMANAT_MAY_MOUNT";

/// Runs the test here if it may mount, or again in a user namespace of its own.
fn with_disks(name: &str, test: impl FnOnce()) {
    if Disk::is_permitted() {
        return test();
    }
    if env::var_os(INSIDE).is_none() {
        let again = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .status();
        if again.as_ref().is_ok_and(std::process::ExitStatus::success) {
            return;
        }
        // Another code is of the test itself, which has said why.
        let Ok(status) = again else {
            return skipped(name);
        };
        assert_eq!(status.code(), Some(1), "{name} failed in its namespace");
    }
    skipped(name);
}

fn skipped(name: &str) {
    assert!(
        env::var_os("CI").is_none(),
        "{name}: no disk can be mounted here, and nothing is skipped in CI"
    );
    eprintln!(
        "SKIPPED {name}: NO DISK CAN BE MOUNTED HERE. Run it as root, or allow user namespaces."
    );
}

/// An exchange of which one server has small disks for its data and its state.
struct Small {
    running: Running,
    health: HealthAt,
    data: Disk,
    state: Disk,
    // Unmounted and removed after all else.
    _folder: tempfile::TempDir,
}

impl Small {
    fn start(server: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = Disk::mount(folder.path().join("data"), MIB);
        let state = Disk::mount(folder.path().join("state"), 1);
        let mut health = None;
        let running = Running::start_with(PROGRAM, "info", |name, config| {
            if name == server {
                health = Some(HealthAt::configure(config));
                config["log"]["database"] = data.path("log.sqlite").into();
                config["log"]["checkpoint_file"] = state.path("checkpoint").into();
                config["directory"]["seen"] = state.path("seen").into();
                let mut limits = toml::Table::new();
                limits.insert("free_mib".to_owned(), 0.into());
                config.insert("limits".to_owned(), limits.into());
            }
            if name == "custodian" {
                config["oprf"]["officer_per_day"] = 100_000.into();
                config["oprf"]["agency_per_day"] = 100_000.into();
            }
        });
        let health = health.unwrap();
        health.until_ready();
        Self {
            running,
            health,
            data,
            state,
            _folder: folder,
        }
    }

    /// Hands in a case; what the officer is told.
    fn submit(&self) -> amanat_tests::cli::Told {
        let file = self.running.write(&case_file());
        self.running
            .tell(POLICE, &["--json", "case", "submit", &file])
    }

    /// Hands in cases until a server's disk is full; how many were done.
    fn submit_until_full(&self) -> usize {
        for done in 0..200 {
            let told = self.submit();
            if told.code != 0 {
                assert_eq!(told.code, 4, "{}", told.shown());
                assert!(told.err.contains("AUDIT_UNAVAILABLE"), "{}", told.err);
                return done;
            }
        }
        panic!("the disk does not fill up");
    }
}

/// Asynchronous steps of a test that is not.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

fn data_fills_up(server: &str) {
    let mut small = Small::start(server);
    assert_eq!(small.submit().code, 0);
    small.data.fill();
    small.submit_until_full();
    small
        .health
        .until_not_ready("the disk of the log's database is full");
    // A crowd that comes all the same does not fill the log.
    for _ in 0..5 {
        match small.running.tell(POLICE, &["outbox", "deliver"]).code {
            4 => {}
            // The write-ahead log was begun anew meanwhile, and little fits into it once more.
            code => {
                assert_eq!(code, 0);
                small.submit_until_full();
            }
        }
    }
    let process = match server {
        "gateway" => &mut small.running.gateway,
        _ => &mut small.running.custodian,
    };
    // That it was over for a moment is no error, and names what was.
    let errors = process.lines("ERROR");
    assert!(
        errors.iter().all(|line| line.contains("is full")),
        "one word for all: {errors:#?}"
    );
    let times = errors.len();
    assert!((1..=2).contains(&times), "and once a minute: {errors:#?}");

    small.data.clear();
    // Nobody calls: it finds out by itself.
    small.health.until_ready();
    let told = small.running.tell(POLICE, &["outbox", "deliver"]);
    assert_eq!(told.code, 0, "{}", told.shown());
    assert_eq!(
        small.running.tell_json(POLICE, &["outbox", "list"]),
        json!([])
    );
    assert_eq!(small.submit().code, 0);
    wait(small.running.verify());
}

#[test]
fn a_full_disk_of_the_gateways_log_stops_it_cleanly_and_it_goes_on_by_itself() {
    with_disks(
        "a_full_disk_of_the_gateways_log_stops_it_cleanly_and_it_goes_on_by_itself",
        || data_fills_up("gateway"),
    );
}

#[test]
fn a_full_disk_of_the_custodians_log_stops_it_cleanly_and_it_goes_on_by_itself() {
    with_disks(
        "a_full_disk_of_the_custodians_log_stops_it_cleanly_and_it_goes_on_by_itself",
        || data_fills_up("custodian"),
    );
}

#[test]
fn a_server_that_is_killed_on_a_full_disk_starts_again_and_its_log_is_whole() {
    with_disks(
        "a_server_that_is_killed_on_a_full_disk_starts_again_and_its_log_is_whole",
        || {
            let mut small = Small::start("gateway");
            assert_eq!(small.submit().code, 0);
            small.data.fill();
            small.submit_until_full();
            small.running.gateway.kill();
            small.data.clear();
            small.running.gateway.start();
            small.health.until_ready();
            assert_eq!(small.running.tell(POLICE, &["outbox", "deliver"]).code, 0);
            wait(small.running.verify());
        },
    );
}

#[test]
fn a_full_disk_of_the_state_is_told_and_its_files_catch_up_by_themselves() {
    with_disks(
        "a_full_disk_of_the_state_is_told_and_its_files_catch_up_by_themselves",
        || {
            let small = Small::start("gateway");
            assert_eq!(small.submit().code, 0);
            thread::sleep(Duration::from_secs(1));
            small.state.fill();
            let filed = fs::read_to_string(small.state.path("checkpoint")).unwrap();
            assert_eq!(small.submit().code, 0, "the log itself is written");
            small
                .health
                .until_not_ready("the disk of the state is full");
            assert_eq!(
                fs::read_to_string(small.state.path("checkpoint")).unwrap(),
                filed,
                "the old one is whole"
            );

            // A directory that could not be remembered is not taken into use.
            let seen = fs::read_to_string(small.state.path("seen")).unwrap();
            let exchange = &small.running.exchange;
            exchange.publish(party::now(), |_| {}).unwrap();
            let gateway = &small.running.gateway;
            gateway.until_told("is refused, and the directory in use stays", 1);
            assert_eq!(fs::read_to_string(small.state.path("seen")).unwrap(), seen);

            small.state.clear();
            small.health.until_ready();
            let begun = Instant::now();
            while fs::read_to_string(small.state.path("checkpoint")).unwrap() == filed
                || fs::read_to_string(small.state.path("seen")).unwrap() == seen
            {
                assert!(
                    begun.elapsed() < Duration::from_secs(20),
                    "they stay behind"
                );
                thread::sleep(Duration::from_millis(100));
            }
            wait(small.running.verify());
        },
    );
}

#[test]
fn a_connector_whose_disk_is_full_says_so_and_hands_nothing_in() {
    with_disks(
        "a_connector_whose_disk_is_full_says_so_and_hands_nothing_in",
        || {
            let running = Running::start(PROGRAM, "info");
            let folder = tempfile::tempdir().unwrap();
            let disk = Disk::mount(folder.path().join("outbox"), 2);
            let profile = &running.exchange.agencies[POLICE].folder;
            amanat_tests::reconfigure(&profile.join("profile.toml"), |profile| {
                profile["outbox"] = disk.path("outbox.sqlite").into();
            });
            let file = running.write(&case_file());
            let submit = || running.tell(POLICE, &["--json", "case", "submit", &file]);
            assert_eq!(submit().code, 0);
            let known = running.tell_json(POLICE, &["case", "list"]);

            disk.fill();
            for told in [submit(), submit()] {
                assert_eq!(told.code, 4, "{}", told.shown());
                assert!(told.err.contains("\"DISK_FULL\""), "{}", told.err);
                assert!(told.err.contains("make space"), "{}", told.err);
            }
            disk.clear();
            assert_eq!(running.tell_json(POLICE, &["case", "list"]), known);
            assert_eq!(submit().code, 0);
            wait(running.verify());
        },
    );
}

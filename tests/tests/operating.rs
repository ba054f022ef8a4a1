//! Servers as their operator runs them: asked whether they are well, told to look again, told to stop, and
//! crowded by one agency.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    net::TcpStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use amanat_connector::{ConnectorError, EntryQuery, Server};
use amanat_schema::{audit::Action, policy::Decision, record::ListVersionsRequest};
use amanat_tests::{
    Running, cli,
    party::{self, Party, asked},
    raw::RawCodec,
    reconfigure,
    story::{OVERSIGHT, POLICE, SHELTER},
    watch::{HealthAt, PATIENCE},
};
use bytes::Bytes;
use tokio::task::JoinSet;
use tonic::{
    client::Grpc,
    codegen::{http::uri::PathAndQuery, tokio_stream},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const LIST_VERSIONS: &str = "/amanat.record.v1.RecordService/ListVersions";

/// An exchange whose servers tell of their health.
fn watched(filter: &str) -> (Running, [HealthAt; 2]) {
    let mut health = Vec::new();
    let running = Running::start_with(PROGRAM, filter, |_, config| {
        health.push(HealthAt::configure(config));
    });
    (running, health.try_into().unwrap())
}

fn set(config: &mut toml::Table, section: &str, key: &str, value: impl Into<toml::Value>) {
    let section = config
        .entry(section)
        .or_insert_with(|| toml::Table::new().into());
    let section = section.as_table_mut().unwrap();
    section.insert(key.to_owned(), value.into());
}

#[test]
fn servers_at_work_are_live_started_and_ready_and_tell_no_value() {
    let (running, servers) = watched("info");
    for process in [&running.gateway, &running.custodian] {
        for words in [
            "serving program=",
            "directory=1 ",
            "days left, until",
            "log_entries=",
        ] {
            process.until_told(words, 1);
        }
    }
    cli::submit(&running, &cli::case_file());
    for health in servers {
        let ready = health.until_ready();
        assert_eq!(ready["reasons"].as_array().unwrap().len(), 0, "{ready}");
        for path in ["/live", "/started"] {
            assert_eq!(health.ask(path).unwrap().0, 200, "{path}");
        }
    }
}

#[test]
fn a_custodian_without_its_gateway_is_not_ready_and_is_again_when_it_is_back() {
    let (mut running, [_, custodian]) = watched("info");
    custodian.until_ready();
    running.gateway.stop();
    custodian.until_not_ready("the gateway cannot be reached");
    running.gateway.start();
    custodian.until_ready();
    // One that does not answer is as good as none.
    running.gateway.signal("STOP");
    custodian.until_not_ready("the gateway cannot be reached");
    running.gateway.signal("CONT");
    custodian.until_ready();
}

#[test]
fn a_directory_that_runs_out_soon_is_told_and_one_that_has_run_out_stops_everything() {
    let (running, servers) = watched("info");
    let in_force = |for_how_long: Duration| {
        let now = party::now();
        let until = (now + for_how_long).to_timestamp();
        let exchange = &running.exchange;
        exchange
            .publish(now, |next| next.valid_until_time = Some(until))
            .unwrap();
    };
    in_force(Duration::from_secs(3 * 24 * 3600 + 60));
    for health in servers {
        let told = health.until_warned("the directory runs out in 3 days");
        assert_eq!(told["ready"], true);
    }
    in_force(Duration::from_secs(6));
    for health in servers {
        health.until_not_ready("every request is refused");
    }
}

#[test]
fn a_log_that_was_cut_is_frozen_and_not_ready_and_says_why() {
    let (mut running, [gateway, _]) = watched("info");
    let data = running.exchange.gateway.folder.join("data");
    let backup = running.path("backup");
    running.gateway.stop();
    copy(&data, &backup);
    running.gateway.start();
    cli::submit(&running, &cli::case_file());
    running.gateway.stop();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    running.gateway.start();
    let told = gateway.until_not_ready("the log is frozen");
    assert!(told.to_string().contains("rolled back or cut"), "{told}");
    running
        .gateway
        .until_told("serving the log's proofs and nothing else", 1);
    assert_eq!(
        running.gateway.told("canaries"),
        0,
        "of what is plain by that"
    );
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn little_space_is_told_and_stops_nothing() {
    let mut health = None;
    let running = Running::start_with(PROGRAM, "info", |name, config| {
        if name == "gateway" {
            health = Some(HealthAt::configure(config));
            set(config, "limits", "free_mib", 1_i64 << 40);
        }
    });
    let told = health
        .unwrap()
        .until_warned("make space before the log stops");
    assert_eq!(told["ready"], true, "{told}");
    cli::submit(&running, &cli::case_file());
}

#[test]
fn sighup_takes_files_and_filter_into_use_at_once_and_says_so() {
    // Nothing is looked at by itself while this test runs.
    let running = Running::start_with(PROGRAM, "info", |_, config| {
        set(config, "directory", "reload_s", 36_000);
    });
    let servers = [
        (&running.gateway, &running.exchange.gateway),
        (&running.custodian, &running.exchange.custodian),
    ];
    for (process, _) in servers {
        // Without anything new it says so.
        process.signal("HUP");
        process.until_told("SIGHUP: looking at every file again", 1);
        process.until_told("are in use as they are in their files", 1);
        process.until_told("SIGHUP: the log filter is that of the configuration", 1);
    }
    running.exchange.publish(party::now(), |_| {}).unwrap();
    thread::sleep(Duration::from_secs(1));
    for (process, server) in servers {
        assert_eq!(process.told("version=2"), 0, "not by itself");
        reconfigure(&server.config, |config| {
            set(config, "telemetry", "filter", "off,amanat_desk=info");
        });
        process.signal("HUP");
        process.until_told("version=2", 1);
        process.until_told("SIGHUP: looking", 2);
        thread::sleep(Duration::from_millis(500));
        let filtered = process.told("SIGHUP: the log filter");
        assert_eq!(filtered, 1, "by the new filter this is not logged");

        // What is wrong in a file changes nothing, and is told.
        let good = std::fs::read(&running.exchange.directory).unwrap();
        std::fs::write(&running.exchange.directory, "no directory").unwrap();
        process.signal("HUP");
        process.until_told("is refused, and the directory in use stays", 1);
        std::fs::write(&running.exchange.directory, good).unwrap();
    }
    assert_eq!(running.tell(POLICE, &["case", "list"]).code, 0);
}

#[test]
fn a_second_sigterm_and_silent_clients_neither_break_a_stop_nor_hold_it_up() {
    let mut running = Running::start(PROGRAM, "info");
    cli::submit(&running, &cli::case_file());
    let address = running.exchange.gateway.address;
    let silent: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let begun = Instant::now();
    for _ in 0..3 {
        running.gateway.signal("TERM");
        thread::sleep(Duration::from_millis(50));
        if running.gateway.has_ended() {
            break;
        }
    }
    assert!(running.gateway.stop(), "it ends with exit code 0");
    assert!(begun.elapsed() < Duration::from_secs(10), "{begun:?}");
    drop(silent);
    assert_eq!(
        running.gateway.told("every request under way was answered"),
        1
    );
    running.gateway.start();
    assert_eq!(running.tell(POLICE, &["case", "list"]).code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_agency_that_takes_all_its_places_is_told_to_come_back_and_another_is_answered_meanwhile()
 {
    const PLACES: usize = 4;
    let running = Running::start_with(PROGRAM, "info", |_, config| {
        set(config, "limits", "in_flight_per_agency", PLACES as i64);
    });
    let (police, shelter) = (
        Arc::new(running.connector(POLICE).await),
        running.connector(SHELTER).await,
    );
    // A request that never comes to its end holds its place until its caller gives it up.
    let party = Party::open(&running, POLICE);
    let mut held = JoinSet::new();
    for _ in 0..PLACES {
        let (token, channel) = (party.token(), party.channel(Server::Gateway));
        held.spawn(async move {
            loop {
                let mut client = Grpc::new(channel.clone());
                client.ready().await.unwrap();
                let endless = asked(tokio_stream::pending::<Bytes>(), &token);
                let method = PathAndQuery::from_static(LIST_VERSIONS);
                // Refused while someone else has the place, or ended after the time that a request may take.
                client
                    .client_streaming(endless, method, RawCodec)
                    .await
                    .ok();
            }
        });
    }
    let list = || {
        let request = asked(ListVersionsRequest::default(), &party.token());
        let mut records = party.records();
        async move { records.list_versions(request).await }
    };
    let (begun, mut refused) = (Instant::now(), 0);
    while refused < 50 {
        assert!(begun.elapsed() < PATIENCE * 2, "they hold no place");
        if let Err(status) = list().await {
            let error = ConnectorError::from(status);
            assert_eq!(error.reason(), "QUOTA_EXCEEDED", "{error}");
            assert!(error.is_retryable());
            let after = error.refusal().unwrap().retry_after.unwrap();
            assert!(after <= Duration::from_secs(5), "{after:?}");
            refused += 1;
        }
        shelter.list_versions(None).await.unwrap();
    }
    assert!(held.try_join_next().is_none(), "they are still held");

    // Whoever comes back as told is answered when it is over, and many more than there are places for.
    let mut flood = JoinSet::new();
    for _ in 0..PLACES * 4 {
        let police = Arc::clone(&police);
        flood.spawn(async move { police.list_versions(None).await.map(|_| ()) });
    }
    held.shutdown().await;
    while let Some(answer) = flood.join_next().await {
        answer.unwrap().unwrap();
    }

    // What was refused is on the log: counted, and not an entry each.
    let oversight = running.connector(OVERSIGHT).await;
    let query = EntryQuery {
        action: Some(Action::QuotaRefusals),
        limit: 10,
        ..EntryQuery::default()
    };
    let begun = Instant::now();
    let entries = loop {
        let entries = oversight
            .list_entries(Server::Gateway, &query)
            .await
            .unwrap();
        if !entries.is_empty() {
            break entries;
        }
        assert!(begun.elapsed() < PATIENCE * 3, "they are not logged");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert!(entries.len() <= 2, "one a minute");
    let body = &entries[0].body;
    assert_eq!(body.decision(), Decision::Deny);
    assert_eq!(body.public_reason, "QUOTA_EXCEEDED");
    assert_eq!(body.agency_id, police.agency().to_vec());
    running.verify().await;
}

//! Clocks that are wrong, and a custodian that does not answer: what works, what does not, and what is said.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use amanat::development::{self, Blueprint, Exchange};
use amanat_connector::{Acting, Connector, ConnectorError, Profile, ReadRequest};
use amanat_schema::{CaseId, Time, clock::Clock, policy::Purpose};
use amanat_server::Served;
use amanat_tests::{
    Running, cli, reconfigure,
    story::{POLICE, SHELTER, police_case},
    watch::HealthAt,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot, task::block_in_place};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const HOUR_S: i64 = 3600;

/// The system's clock, set wrong by so many seconds.
fn clock(wrong_by_s: i64) -> Clock {
    let right = amanat::system_clock();
    Arc::new(move || Time::from_millis(right().millis() + wrong_by_s * 1000).unwrap())
}

/// Gateway and custodian in this process, each with a clock of its own.
struct Shifted {
    exchange: Exchange,
    gateway: HealthAt,
    custodian: HealthAt,
    stops: [oneshot::Sender<()>; 2],
    served: [thread::JoinHandle<Served>; 2],
    _folder: TempDir,
}

impl Shifted {
    /// In an exchange that has been in force for long enough: nothing is out of time by itself.
    async fn start(gateway_s: i64, custodian_s: i64) -> Self {
        let folder = TempDir::new().unwrap();
        let blueprint = Blueprint::pilot();
        let exchange = development::make(folder.path(), &clock(-2 * HOUR_S), &blueprint).unwrap();
        let (mut health, mut stops, mut served) = (Vec::new(), Vec::new(), Vec::new());
        for (server, wrong_by_s) in [
            (&exchange.gateway, gateway_s),
            (&exchange.custodian, custodian_s),
        ] {
            reconfigure(&server.config, |config| {
                health.push(HealthAt::configure(config));
            });
            let (stop, stopped) = oneshot::channel();
            let (path, clock) = (server.config.clone(), clock(wrong_by_s));
            let (address, is_gateway) = (server.address, stops.is_empty());
            served.push(thread::spawn(move || {
                let serving = async {
                    let listener = TcpListener::bind(address).await.unwrap();
                    let stopped = async { stopped.await.unwrap() };
                    if is_gateway {
                        let config = amanat_gateway::Config::load(&path).unwrap();
                        amanat_gateway::init(&config, None).await.unwrap();
                        let served = amanat_gateway::serve(&config, listener, clock, stopped);
                        served.await.unwrap()
                    } else {
                        let config = amanat_custodian::Config::load(&path).unwrap();
                        amanat_custodian::init(&config, None).await.unwrap();
                        let served = amanat_custodian::serve(&config, listener, clock, stopped);
                        served.await.unwrap()
                    }
                };
                Runtime::new().unwrap().block_on(serving)
            }));
            stops.push(stop);
        }
        let [gateway, custodian] = health.try_into().ok().unwrap();
        block_in_place(|| gateway.until_ready());
        Self {
            exchange,
            gateway,
            custodian,
            stops: stops.try_into().ok().unwrap(),
            served: served.try_into().ok().unwrap(),
            _folder: folder,
        }
    }

    async fn connector(&self, agency: &str, wrong_by_s: i64) -> Connector {
        let profile = Profile::load(&self.exchange.agencies[agency].folder).unwrap();
        let officer = Acting::Officer("default".to_owned());
        Connector::open(profile, officer, clock(wrong_by_s))
            .await
            .unwrap()
    }

    async fn stop(self) {
        for stop in self.stops {
            stop.send(()).unwrap();
        }
        for served in self.served {
            let served = block_in_place(|| served.join().unwrap());
            assert_eq!(served, Served::Drained);
        }
    }
}

/// A refusal of credentials which says how many seconds this machine is before or behind which server.
fn says_apart(error: &ConnectorError, words: &str) {
    assert_eq!(error.reason(), "CREDENTIAL_INVALID", "{error}");
    let told = error.message();
    let (_, rest) = told
        .split_once("this machine's clock is ")
        .unwrap_or_else(|| panic!("{told}"));
    let (seconds, rest) = rest.split_once(" s ").unwrap();
    assert!((3595..=3605).contains(&seconds.parse().unwrap()), "{told}");
    assert!(rest.starts_with(words), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_clock_is_an_hour_off_refuses_and_everybody_hears_why() {
    for (wrong_by_s, words) in [
        (HOUR_S, "behind the gateway's"),
        (-HOUR_S, "ahead of the gateway's"),
    ] {
        let shifted = Shifted::start(wrong_by_s, 0).await;
        let police = shifted.connector(POLICE, 0).await;
        says_apart(&police.list_versions(None).await.unwrap_err(), words);
        // Its operator, and the custodian's.
        let custodian = shifted.custodian;
        let told = block_in_place(|| custodian.until_not_ready("and the gateway's differ by"));
        assert!(told.to_string().contains("check NTP on both"), "{told}");
        shifted.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custodian_whose_clock_is_an_hour_off_refuses_and_everybody_hears_why() {
    for (wrong_by_s, words) in [
        (HOUR_S, "behind the custodian's"),
        (-HOUR_S, "ahead of the custodian's"),
    ] {
        let shifted = Shifted::start(0, wrong_by_s).await;
        let police = shifted.connector(POLICE, 0).await;
        assert!(
            police.list_versions(None).await.is_ok(),
            "the gateway serves"
        );
        // What it hands in first asks the custodian.
        let submitted = police.submit_case(police_case(), None).await;
        let refused = submitted.and_then(|submitted| submitted.delivered());
        says_apart(&refused.unwrap_err(), words);
        let custodian = shifted.custodian;
        block_in_place(|| custodian.until_not_ready("and the gateway's differ by"));
        shifted.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_whose_clock_is_an_hour_off_is_refused_and_told_that_it_is_its_own() {
    let shifted = Shifted::start(0, 0).await;
    for (wrong_by_s, words) in [
        (HOUR_S, "ahead of the gateway's"),
        (-HOUR_S, "behind the gateway's"),
    ] {
        let police = shifted.connector(POLICE, wrong_by_s).await;
        says_apart(&police.list_versions(None).await.unwrap_err(), words);
    }
    block_in_place(|| shifted.custodian.until_ready());
    block_in_place(|| shifted.gateway.until_ready());
    // A refusal with clocks that agree says nothing of clocks.
    let shelter = shifted.connector(SHELTER, 0).await;
    let unknown = ReadRequest {
        case: amanat_schema::CaseId::new([7; 16]),
        record: amanat_schema::RecordId::new([7; 16]),
        source: shifted.exchange.agencies[POLICE].id,
        fields: vec!["needs.needs".to_owned()],
        purpose: Purpose::Shelter,
    };
    let refused = shelter.read_case(&unknown).await.err().unwrap();
    assert!(!refused.message().contains("clock"), "{refused}");
    shifted.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_by_some_seconds_are_told_and_stop_nothing() {
    let shifted = Shifted::start(10, 0).await;
    let police = shifted.connector(POLICE, 5).await;
    let submitted = police.submit_case(police_case(), None).await.unwrap();
    submitted.delivered().unwrap();
    let custodian = shifted.custodian;
    let told = block_in_place(|| custodian.until_warned("and the gateway's differ by"));
    assert_eq!(told["ready"], true, "{told}");
    shifted.stop().await;
}

/// A connector whose servers do not run, and the days that pass for it.
async fn alone(folder: &TempDir) -> (Connector, Arc<AtomicI64>) {
    let exchange = development::make(folder.path(), &clock(0), &Blueprint::pilot()).unwrap();
    let profile = Profile::load(&exchange.agencies[POLICE].folder).unwrap();
    let days = Arc::new(AtomicI64::new(0));
    let passing: Clock = {
        let days = Arc::clone(&days);
        Arc::new(move || clock(days.load(Ordering::Relaxed) * 24 * HOUR_S)())
    };
    let officer = Acting::Officer("default".to_owned());
    let police = Connector::open(profile, officer, passing).await.unwrap();
    (police, days)
}

#[tokio::test]
async fn a_connector_that_outlives_its_directory_does_nothing_until_there_is_a_newer_one() {
    let folder = TempDir::new().unwrap();
    let (police, days) = alone(&folder).await;
    police.token().unwrap();
    days.store(31, Ordering::Relaxed);
    let refused = police.token().unwrap_err();
    assert_eq!(refused.reason(), "DIRECTORY_INVALID", "{refused}");
    days.store(0, Ordering::Relaxed);
    police.token().unwrap();
}

#[tokio::test]
async fn a_withdrawal_is_handed_in_though_the_directory_has_expired() {
    let folder = TempDir::new().unwrap();
    let (police, days) = alone(&folder).await;
    let waiting = async || -> Vec<_> {
        let pending = police.pending().await.unwrap();
        pending
            .into_iter()
            .map(|job| (job.kind, job.subject))
            .collect()
    };
    let file = json!({
        "recipient": SHELTER, "purpose": "SHELTER", "mode": "WRITTEN", "paths": ["needs.needs"],
    });
    let file = serde_json::from_value(file).unwrap();
    let case = CaseId::new([1; 16]);
    let unreachable = police.grant_consent(case, &file).await.unwrap_err();
    assert_eq!(unreachable.reason(), "UNREACHABLE", "{unreachable}");
    let (_, consent) = waiting().await.remove(0);

    days.store(31, Ordering::Relaxed);
    // What opens is not signed by a directory that does not count.
    let refused = police.grant_consent(case, &file).await.unwrap_err();
    assert_eq!(refused.reason(), "DIRECTORY_INVALID", "{refused}");
    let waits = police.withdraw_consent(consent.parse().unwrap()).await;
    let waits = waits.unwrap_err();
    assert!(
        matches!(waits, ConnectorError::Undelivered { .. }),
        "{waits}"
    );
    assert_eq!(waits.reason(), "DIRECTORY_INVALID", "{waits}");
    let kinds = [
        "consent",
        "withdrawal to the custodian",
        "withdrawal to the gateway",
    ];
    let kinds = kinds.map(|kind| (kind.to_owned(), consent.clone()));
    assert_eq!(waiting().await, kinds);

    days.store(0, Ordering::Relaxed);
    for (job, outcome) in police.deliver_pending().await.unwrap() {
        // It is sent: nobody answers.
        let unreachable = outcome.unwrap_err();
        assert_eq!(unreachable.reason(), "UNREACHABLE", "{}", job.kind);
    }
    assert_eq!(waiting().await, kinds);
}

/// What each command says while the custodian is made silent; then what waited is delivered.
fn while_silent(silence: fn(&mut Running), end: fn(&mut Running)) {
    let mut running = Running::start(PROGRAM, "info");
    let case = cli::submit(&running, &cli::case_file());
    let fields = "needs.needs,needs.narrative";
    let paths = json!({ "paths": ["needs.needs", "needs.narrative"] });
    let consent = cli::grant(&running, &case, &paths);
    cli::share(&running, &case, fields);
    let another = running.path("another.json");
    fs::write(&another, cli::case_file().to_string()).unwrap();
    let another = another.to_str().unwrap();
    let terms = json!({
        "recipient": SHELTER, "purpose": "SHELTER", "mode": "WRITTEN", "paths": ["needs.needs"],
    });
    let terms = running.write(&terms);

    silence(&mut running);
    // A read has nothing to keep: it is asked again.
    let read = [
        "case",
        "read",
        &case,
        "--fields",
        fields,
        "--purpose",
        "SHELTER",
    ];
    let told = running.tell(SHELTER, &read);
    assert_eq!(told.code, 4, "{}", told.shown());
    for words in ["UNREACHABLE", "the custodian cannot be reached", "next: "] {
        assert!(told.err.contains(words), "{}", told.err);
    }
    assert!(!told.shown().contains("Afraid"), "nothing is opened");
    // What is handed in is kept, and sent when somebody delivers.
    for arguments in [
        &["case", "submit", another][..],
        &["consent", "grant", &terms, "--case", &case],
        &["consent", "withdraw", &consent],
    ] {
        let told = running.tell(POLICE, arguments);
        assert_eq!(told.code, 4, "{arguments:?}: {}", told.shown());
        for words in ["UNREACHABLE", "kept", "amanat outbox deliver"] {
            assert!(told.err.contains(words), "{arguments:?}: {}", told.err);
        }
    }
    // A withdrawal does not wait for the custodian: the gateway has it, and releases nothing more.
    assert_eq!(running.tell(SHELTER, &read).code, 1);
    // What needs the gateway alone goes on.
    assert_eq!(running.tell(SHELTER, &["case", "list"]).code, 0);
    assert_eq!(running.tell(SHELTER, &["refer", "list"]).code, 0);

    end(&mut running);
    let told = running.tell(POLICE, &["outbox", "deliver"]);
    assert_eq!(told.code, 0, "{}", told.shown());
    let told = running.tell(SHELTER, &read);
    assert_eq!(
        told.code,
        1,
        "her withdrawal was delivered: {}",
        told.shown()
    );
    Runtime::new().unwrap().block_on(running.verify());
}

#[test]
fn while_the_custodian_is_dead_what_is_handed_in_waits_and_a_read_says_whom_it_could_not_reach() {
    while_silent(
        |running| running.custodian.kill(),
        |running| running.custodian.start(),
    );
}

#[test]
fn while_the_custodian_hangs_what_is_handed_in_waits_and_a_read_says_whom_it_could_not_reach() {
    while_silent(
        |running| running.custodian.signal("STOP"),
        |running| {
            running.custodian.signal("CONT");
            thread::sleep(Duration::from_millis(500));
        },
    );
}

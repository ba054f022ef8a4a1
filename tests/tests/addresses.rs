//! A server at several addresses: whoever calls it goes on while one of them answers, and nothing is done twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use amanat::development::free_address;
use amanat_connector::{Connector, EntryQuery, IdentifierFile, ReadRequest, Server, Submitted};
use amanat_schema::{
    audit::Action,
    case_file,
    policy::{Decision, Purpose},
};
use amanat_tests::{
    Running,
    cli::case_file,
    proxy::{Line, Proxy},
    reconfigure,
    story::{OVERSIGHT, POLICE},
};
use serde_json::json;
use tokio::task::block_in_place;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");

/// The police know a server by these addresses.
fn known(running: &Running, server: &str, urls: &[&str]) {
    let profile = running.exchange.agencies[POLICE]
        .folder
        .join("profile.toml");
    reconfigure(&profile, |profile| {
        profile[server] = urls.to_vec().into();
    });
}

/// Where nobody listens.
fn nowhere() -> String {
    format!("https://{}", free_address().unwrap())
}

fn custodian_knows(running: &Running, urls: &[&str]) {
    reconfigure(&running.exchange.custodian.config, |config| {
        config["custody"]["gateway"] = urls.to_vec().into();
    });
}

async fn submit(police: &Connector) -> Submitted {
    let file = case_file::parse(&case_file()).unwrap();
    police.submit_case(file, None).await.unwrap()
}

/// The family name, which the custodian must release.
async fn read(police: &Connector, of: &Submitted) {
    let request = ReadRequest {
        case: of.case,
        record: of.record,
        source: police.agency(),
        fields: vec!["subject.family_name".to_owned()],
        purpose: Purpose::VictimSupport,
    };
    let read = police.read_case(&request).await.unwrap();
    assert_eq!(read.record["subject"]["family_name"], "Mustafa");
}

/// How often the police were allowed an action, by the record that it was of.
async fn logged(police: &Connector, server: Server, action: Action) -> BTreeMap<Vec<u8>, usize> {
    let query = EntryQuery {
        action: Some(action),
        decision: Some(Decision::Allow),
        limit: usize::MAX,
        ..EntryQuery::default()
    };
    let mut logged = BTreeMap::new();
    for entry in police.list_entries(server, &query).await.unwrap() {
        let record = entry.linkage.unwrap().record_id;
        *logged.entry(record).or_default() += 1;
    }
    logged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_address_where_nobody_is_costs_nothing_while_another_answers() {
    let mut running = Running::start(PROGRAM, "info");
    let (gateway, custodian) = (
        format!("https://{}", running.exchange.gateway.address),
        format!("https://{}", running.exchange.custodian.address),
    );
    let (one, other) = (nowhere(), nowhere());
    known(&running, "gateway", &[&one, &gateway]);
    known(&running, "custodian", &[&other, &custodian]);
    running.custodian.stop();
    custodian_knows(&running, &[&one, &gateway, &other]);
    running.custodian.start();
    // Each begins at another address.
    for _ in 0..8 {
        let police = running.connector(POLICE).await;
        let submitted = submit(&police).await.delivered().unwrap();
        read(&police, &submitted).await;
    }
    let checked = running.tell(POLICE, &["case", "list"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    running.verify().await;

    running.gateway.stop();
    let begun = Instant::now();
    let told = running.tell(POLICE, &["case", "list"]);
    assert_eq!(told.code, 4);
    let gateway = "UNREACHABLE: the gateway cannot be reached";
    assert!(told.err.contains(gateway), "{}", told.err);
    assert!(begun.elapsed() < Duration::from_secs(3), "at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_address_of_a_server_that_is_killed_is_left_for_another() {
    let running = Running::start(PROGRAM, "info");
    let mut replicas = [
        Proxy::to(running.exchange.gateway.address).await,
        Proxy::to(running.exchange.gateway.address).await,
    ];
    let urls = replicas.each_ref().map(Proxy::url);
    known(&running, "gateway", &urls.each_ref().map(String::as_str));
    let police = running.connector(POLICE).await;
    let submitted = submit(&police).await.delivered().unwrap();
    for killed in [0, 1, 0, 1] {
        replicas[killed].close();
        read(&police, &submitted).await;
        replicas[killed].open().await;
        read(&police, &submitted).await;
    }
    assert!(replicas.iter().all(|replica| replica.accepted() >= 2));
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_gone_without_a_word_is_left_for_another() {
    let running = Running::start(PROGRAM, "info");
    let replicas = [
        Proxy::to(running.exchange.gateway.address).await,
        Proxy::to(running.exchange.gateway.address).await,
    ];
    let urls = replicas.each_ref().map(Proxy::url);
    known(&running, "gateway", &urls.each_ref().map(String::as_str));
    let police = running.connector(POLICE).await;
    let submitted = submit(&police).await.delivered().unwrap();
    let in_use = replicas.iter().position(|r| r.accepted() > 0).unwrap();
    replicas[in_use].is(Line::Dead);
    read(&police, &submitted).await;
    assert_eq!(replicas[1 - in_use].accepted(), 1);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_break_in_the_middle_of_calls_lose_nothing_and_double_nothing() {
    let running = Running::start_for_load(PROGRAM);
    let proxies = [
        Proxy::to(running.exchange.gateway.address).await,
        Proxy::to(running.exchange.custodian.address).await,
    ];
    for (server, proxy) in ["gateway", "custodian"].into_iter().zip(&proxies) {
        known(&running, server, &[&proxy.url()]);
        proxy.is(Line::CutAfter(6_000));
    }
    let police = running.connector(POLICE).await;
    let mut records = BTreeSet::new();
    for _ in 0..30 {
        let submitted = submit(&police).await;
        // Whose record it is costs a budget, and is not asked again by itself.
        let waits = submitted.undelivered.iter().map(|waits| waits.kind);
        assert!(waits.clone().all(|kind| kind == "subject"), "{submitted:?}");
        read(&police, &submitted).await;
        records.insert(submitted.record.to_vec());
    }
    let cut: usize = proxies.iter().map(Proxy::cut).sum();
    assert!(cut > 20, "{cut} connections were cut");
    for proxy in &proxies {
        proxy.is(Line::Good);
    }
    for (job, outcome) in police.deliver_pending().await.unwrap() {
        assert!(outcome.is_ok(), "{}: {outcome:?}", job.kind);
    }
    for (server, action) in [
        (Server::Custodian, Action::DepositKey),
        (Server::Gateway, Action::PutRecord),
        (Server::Custodian, Action::ActivateKey),
    ] {
        let logged = logged(&police, server, action).await;
        let once: BTreeMap<_, _> = records.iter().map(|record| (record.clone(), 1)).collect();
        assert_eq!(logged, once, "{action:?}");
    }
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_paid_for_is_not_asked_again_when_its_answer_is_lost() {
    let running = Running::start(PROGRAM, "info");
    let custodian = Proxy::to(running.exchange.custodian.address).await;
    known(&running, "custodian", &[&custodian.url()]);
    let police = running.connector(POLICE).await;
    let file: IdentifierFile = serde_json::from_value(json!({ "cnic": "0000012345678" })).unwrap();
    let identifiers = file.identifiers().unwrap();
    // The connection stands.
    police.find_subject(&identifiers, None).await.unwrap();
    let evaluated = async || {
        let oversight = running.connector(OVERSIGHT).await;
        let query = EntryQuery {
            action: Some(Action::EvaluateIdentifiers),
            limit: usize::MAX,
            ..EntryQuery::default()
        };
        let entries = oversight.list_entries(Server::Custodian, &query).await;
        entries.unwrap().len()
    };
    let before = evaluated().await;
    custodian.is(Line::LosesAnswers);
    let error = police.find_subject(&identifiers, None).await.unwrap_err();
    assert_eq!(error.reason(), "UNREACHABLE");
    assert!(error.to_string().contains("custodian"), "{error}");
    assert_eq!(custodian.accepted(), 1, "no other connection was made");
    custodian.is(Line::Good);
    police.find_subject(&identifiers, None).await.unwrap();
    // The lost one may have been cut off before it came to the log.
    let more = evaluated().await - before;
    assert!((1..=2).contains(&more), "{more}");
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stranger_at_one_address_is_an_alarm_though_the_server_answers_at_another() {
    let mut running = Running::start(PROGRAM, "info");
    let gateway = format!("https://{}", running.exchange.gateway.address);
    // The custodian's certificate is not the gateway's.
    let stranger = format!("https://{}", running.exchange.custodian.address);
    let plain = running.connector(POLICE).await;
    let submitted = submit(&plain).await.delivered().unwrap();

    running.custodian.stop();
    custodian_knows(&running, &[&stranger, &gateway]);
    let mut is_told = false;
    for _ in 0..10 {
        block_in_place(|| running.custodian.start());
        read(&plain, &submitted).await;
        let log = fs::read_to_string(&running.custodian.log).unwrap();
        is_told = log.contains("the certificate is not that of the directory's gateway");
        if is_told {
            break;
        }
        running.custodian.stop();
    }
    assert!(is_told, "by whichever connection began there");

    known(&running, "gateway", &[&stranger, &gateway]);
    let mut told = BTreeSet::new();
    for _ in 0..20 {
        let police = running.connector(POLICE).await;
        let listed = police.list_versions(None).await;
        told.insert(listed.map_or_else(|error| error.reason().to_owned(), |_| String::new()));
    }
    let expected = ["", "CREDENTIAL_INVALID"].map(str::to_owned);
    assert_eq!(told, BTreeSet::from(expected));
    running.verify().await;
}

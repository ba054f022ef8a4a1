//! Who is not trusted any more is refused while the servers run: by revocation lists, newer directories and
//! suspensions that are put into their files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    fs,
    time::{Duration, Instant},
};

use amanat::development::{AgencyPlan, Certifier, Registrar};
use amanat_connector::{ConnectorError, Server};
use amanat_identity::Directory;
use amanat_schema::{
    consent::ListConsentsRequest,
    directory::{GetDirectoryRequest, directory_service_client::DirectoryServiceClient},
    policy::AgencyKind,
    record::Province,
};
use amanat_tests::{
    Process, Running,
    attack::alarms,
    party::{Party, asked, honest_ask, now, reason},
    pause,
    story::{self, HOUR, NGO, PERMITTED, POLICE, SHELTER},
};
use tonic_types::StatusExt as _;

const SERVERS: [Server; 2] = [Server::Gateway, Server::Custodian];
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Many times the reload interval.
const PATIENCE: Duration = Duration::from_secs(60);

fn running() -> Running {
    Running::start(env!("CARGO_BIN_EXE_amanat"), "info")
}

/// How a call over a party's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Served,
    /// A server answered, and refused the credentials.
    Refused,
    /// No request reached a server.
    Unheard,
}

async fn call(party: &Party, server: Server) -> Told {
    let request = asked(ListConsentsRequest::default(), &party.token());
    match party.consents(server).list_consents(request).await {
        Ok(_) => Told::Served,
        Err(status) => match status.get_error_details().error_info() {
            Some(info) => {
                assert_eq!(info.reason, "CREDENTIAL_INVALID");
                Told::Refused
            }
            None => Told::Unheard,
        },
    }
}

/// Asks both servers, over the connections that are there, until they tell this.
async fn until_told(party: &Party, expected: Told) {
    for server in SERVERS {
        let begun = Instant::now();
        while call(party, server).await != expected {
            assert!(begun.elapsed() < PATIENCE, "never {expected:?}");
            pause().await;
        }
    }
}

async fn is_served(party: &Party) {
    for server in SERVERS {
        assert_eq!(call(party, server).await, Told::Served);
    }
}

fn log(process: &Process) -> String {
    fs::read_to_string(&process.log).unwrap()
}

/// Until both servers have written it to their logs.
async fn until_logged(running: &Running, text: &str) {
    for process in [&running.gateway, &running.custodian] {
        let begun = Instant::now();
        while !log(process).contains(text) {
            assert!(begun.elapsed() < PATIENCE, "{text}:\n{}", log(process));
            pause().await;
        }
    }
}

/// The version of the directory that the gateway serves.
async fn version(running: &Running, party: &Party) -> u64 {
    let mut client = DirectoryServiceClient::new(party.channel(Server::Gateway));
    let answer = client.get_directory(GetDirectoryRequest {}).await.unwrap();
    let envelope = answer.into_inner().directory.unwrap();
    let directory = Directory::verify(&envelope, &running.exchange.registrars).unwrap();
    directory.version()
}

async fn until_version(running: &Running, party: &Party, expected: u64) {
    let begun = Instant::now();
    while version(running, party).await != expected {
        assert!(begun.elapsed() < PATIENCE, "never version {expected}");
        pause().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_refused_on_live_and_on_new_connections_at_both_servers() {
    let running = running();
    let (police, shelter) = (
        Party::open(&running, POLICE),
        Party::open(&running, SHELTER),
    );
    is_served(&police).await;
    is_served(&shelter).await;

    running
        .exchange
        .revoke(Certifier::Agency(POLICE), now())
        .unwrap();
    until_told(&police, Told::Refused).await;
    let anew = Party::open(&running, POLICE);
    for server in SERVERS {
        assert_eq!(call(&anew, server).await, Told::Unheard, "in the handshake");
    }
    is_served(&shelter).await;
    let told = running.tell(POLICE, &["consent", "list"]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("CREDENTIAL_INVALID"), "{}", told.err);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_in_order_an_agency_is_refused_and_the_operator_told_what_to_do() {
    let running = running();
    let exchange = &running.exchange;
    let (police, shelter) = (
        Party::open(&running, POLICE),
        Party::open(&running, SHELTER),
    );
    let of_police = Certifier::Agency(POLICE);
    let list = exchange.list(of_police).unwrap();
    is_served(&police).await;

    exchange
        .publish_list(of_police, &[], now(), now() - HOUR)
        .unwrap();
    until_told(&police, Told::Refused).await;
    let named = |told: &str| format!("{}: {told}", list.display());
    until_logged(
        &running,
        &named("it is out of date: ask the authority's owner for a newer"),
    )
    .await;

    exchange
        .publish_list(of_police, &[], now(), now() + DAY)
        .unwrap();
    until_told(&police, Told::Served).await;

    fs::write(&list, "this is no list").unwrap();
    until_told(&police, Told::Refused).await;
    until_logged(
        &running,
        &named("it is no revocation list in DER or PEM: ask"),
    )
    .await;
    fs::remove_file(&list).unwrap();
    until_logged(&running, &named("there is no such file: ask")).await;
    is_served(&shelter).await;

    exchange
        .publish_list(of_police, &[], now(), now() + DAY)
        .unwrap();
    until_told(&police, Told::Served).await;
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_does_not_count_is_refused_while_the_old_one_goes_on() {
    let running = running();
    let exchange = &running.exchange;
    let police = Party::open(&running, POLICE);
    assert_eq!(version(&running, &police).await, 1);
    exchange.publish(now() - HOUR, |_| {}).unwrap();
    until_version(&running, &police, 2).await;
    until_logged(&running, "version=2").await;
    let good = exchange.published().unwrap();

    let expired = |directory: &mut amanat_schema::directory::Directory| {
        directory.not_before_time = Some((now() - DAY * 2).to_timestamp());
        directory.valid_until_time = Some((now() - DAY).to_timestamp());
    };
    exchange.publish(now(), expired).unwrap();
    until_logged(&running, "the directory ended at ").await;
    until_logged(&running, "fetch the newest one from your registrars").await;
    is_served(&police).await;

    exchange.publish(now(), |old| old.version = 1).unwrap();
    until_logged(
        &running,
        "the directory is version 1, but version 2 was in use here before",
    )
    .await;
    is_served(&police).await;

    exchange
        .publish(now(), |next| {
            next.version = 4;
            next.table_sha256 = vec![7; 32];
        })
        .unwrap();
    until_logged(
        &running,
        "is not the decision table that the directory names; put",
    )
    .await;

    exchange
        .publish(now(), |next| {
            let table = fs::read(exchange.folder.join("public/decision-table.txt")).unwrap();
            next.table_sha256 = amanat_seal::sha256(&table).to_vec();
            let gateway = next.custodian.as_ref().unwrap().issuing_cas.clone();
            next.custodian.as_mut().unwrap().issuing_cas =
                next.gateway.as_ref().unwrap().issuing_cas.clone();
            next.gateway.as_mut().unwrap().issuing_cas = gateway;
        })
        .unwrap();
    until_logged(
        &running,
        "by it the certificate that this server shows does not count: it is not issued by an authority",
    )
    .await;
    assert_eq!(version(&running, &police).await, 2);
    is_served(&police).await;

    let publish = |next: &mut amanat_schema::directory::Directory| {
        *next = amanat_schema::directory::Directory { version: 6, ..good };
    };
    exchange.publish(now(), publish).unwrap();
    until_logged(&running, "version=6").await;
    assert_eq!(version(&running, &police).await, 6);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_registrar_suspends_an_agency_and_then_one_of_its_keys() {
    let running = running();
    let exchange = &running.exchange;
    let (police, shelter) = (
        Party::open(&running, POLICE),
        Party::open(&running, SHELTER),
    );
    let submitted = story::submit(&running).await;
    is_served(&police).await;

    let whole = exchange
        .suspend(Registrar::One, police.agency, None, now())
        .unwrap();
    until_told(&police, Told::Refused).await;
    is_served(&shelter).await;
    // The operator hears why, though not each time.
    let anew = Party::open(&running, POLICE);
    for server in SERVERS {
        for _ in 0..10 {
            assert_eq!(call(&anew, server).await, Told::Unheard, "in the handshake");
        }
    }
    let id = police.agency;
    let why = format!("agency={id} reason=\"the agency is suspended\"");
    until_logged(&running, &why).await;
    until_logged(&running, &format!("suspended=\"agency {id} until ")).await;
    for process in [&running.gateway, &running.custodian] {
        let times = log(process).matches(&why).count();
        assert!(times <= 2, "{times}: {}", log(process));
    }
    // A file that is gone lifts nothing; a directory that two registrars signed does.
    fs::remove_file(whole).unwrap();
    until_logged(&running, "a suspension without its file stays in force").await;
    until_logged(&running, &format!("without_file=\"agency {id} ")).await;
    exchange
        .publish_list(Certifier::Agency(SHELTER), &[], now(), now() - HOUR)
        .unwrap();
    until_told(&shelter, Told::Refused).await;
    for server in SERVERS {
        assert_ne!(call(&police, server).await, Told::Served);
    }
    exchange
        .publish_list(Certifier::Agency(SHELTER), &[], now(), now() + DAY)
        .unwrap();
    exchange.publish(now() - HOUR, |_| {}).unwrap();
    until_told(&police, Told::Served).await;
    until_told(&shelter, Told::Served).await;

    let recipient = shelter.agency;
    let consent = || {
        let from = now() - HOUR;
        story::consent(
            &police,
            submitted.case,
            recipient,
            &PERMITTED,
            from,
            from + DAY,
        )
    };
    let (recorded, statement) = consent();
    for server in SERVERS {
        story::record_consent(&police, server, &statement)
            .await
            .unwrap();
    }
    let key = police.statements.public_key();
    exchange
        .suspend(Registrar::Two, police.agency, Some(key), now())
        .unwrap();
    for server in SERVERS {
        let begun = Instant::now();
        loop {
            match story::record_consent(&police, server, &consent().1).await {
                Ok(()) => assert!(begun.elapsed() < PATIENCE, "never refused"),
                Err(error) => {
                    assert_eq!(error.reason(), "CREDENTIAL_INVALID");
                    break;
                }
            }
            pause().await;
        }
    }
    is_served(&police).await;
    for server in SERVERS {
        // A withdrawal can only close.
        story::withdraw(&police, server, submitted.case, recorded)
            .await
            .unwrap();
    }
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_does_not_count_keeps_out_no_revocation_and_no_suspension() {
    let running = running();
    let exchange = &running.exchange;
    let [police, shelter, ngo] = [POLICE, SHELTER, NGO].map(|name| Party::open(&running, name));
    for party in [&police, &shelter, &ngo] {
        is_served(party).await;
    }
    let in_force = fs::read(&exchange.directory).unwrap();

    // Staged for tomorrow.
    exchange.publish(now() + DAY, |_| {}).unwrap();
    until_logged(&running, "the directory is not in force before ").await;
    exchange.revoke(Certifier::Agency(POLICE), now()).unwrap();
    until_told(&police, Told::Refused).await;

    is_served(&ngo).await;
    exchange
        .suspend(Registrar::One, shelter.agency, None, now())
        .unwrap();
    fs::write(&exchange.directory, [0xff; 40]).unwrap();
    until_logged(&running, "is not a signed directory; fetch it again").await;
    until_told(&shelter, Told::Refused).await;
    is_served(&ngo).await;
    fs::write(&exchange.directory, in_force).unwrap();
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_that_a_newer_directory_adds_can_call_without_a_restart() {
    let mut running = running();
    let police = Party::open(&running, POLICE);
    is_served(&police).await;
    let plan = AgencyPlan {
        name: "child-protection".to_owned(),
        kind: AgencyKind::ChildProtection,
        province: Province::Punjab,
        display_name: "Child Protection Bureau".to_owned(),
        services: Vec::new(),
    };
    let listed = running.exchange.join(&plan, now()).unwrap();
    let newcomer = Party::open(&running, &plan.name);
    for server in SERVERS {
        assert_eq!(call(&newcomer, server).await, Told::Unheard);
    }
    running
        .exchange
        .publish(now(), |next| next.agencies.push(listed))
        .unwrap();
    until_told(&newcomer, Told::Served).await;
    is_served(&police).await;

    running
        .exchange
        .publish(now(), |next| {
            let newcomer = newcomer.agency.to_vec();
            next.agencies.retain(|agency| agency.agency_id != newcomer);
        })
        .unwrap();
    until_told(&newcomer, Told::Refused).await;
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_refuses_a_revoked_server_and_one_of_which_it_cannot_know() {
    let running = running();
    let exchange = &running.exchange;
    let list = exchange.list(Certifier::Gateway).unwrap();
    let asks = || running.tell(POLICE, &["consent", "list"]);
    assert_eq!(asks().code, 0);

    exchange
        .publish_list(Certifier::Gateway, &[], now(), now() - HOUR)
        .unwrap();
    let told = asks();
    assert_eq!(told.code, 3);
    for text in [
        "REVOCATION_UNKNOWN",
        &format!("{}: it is out of date: ask", list.display()),
        "put the list there",
    ] {
        assert!(told.err.contains(text), "{text}: {}", told.err);
    }
    fs::remove_file(&list).unwrap();
    let told = asks();
    assert!(
        told.err.contains("there is no such file: ask"),
        "{}",
        told.err
    );

    exchange.revoke(Certifier::Gateway, now()).unwrap();
    let told = asks();
    assert_eq!(told.code, 1);
    assert!(told.err.contains("SERVER_REVOKED"), "{}", told.err);
    assert!(told.err.contains("call the duty contact"), "{}", told.err);

    exchange
        .publish_list(Certifier::Gateway, &[], now(), now() + DAY)
        .unwrap();
    assert_eq!(asks().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_custodian_takes_no_word_of_a_revoked_gateway() {
    let mut running = running();
    let story = story::Story::tell(&running).await;
    let shelter = Party::open(&running, SHELTER);
    // So that the custodian makes its connection anew.
    running.custodian.stop();
    running.exchange.revoke(Certifier::Gateway, now()).unwrap();
    running.custodian.start();
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let token = shelter.token();
    let released = shelter.release_once(&token, honest_ask(&answer)).await;
    assert_eq!(reason(released), "AUDIT_UNAVAILABLE");
    assert!(log(&running.custodian).contains("certificate is revoked by its own authority"));

    running
        .exchange
        .publish_list(Certifier::Gateway, &[], now(), now() + DAY)
        .unwrap();
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    shelter.release(&token, honest_ask(&answer)).await.unwrap();
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_across_a_newer_directory() {
    let running = running();
    let story = story::Story::tell(&running).await;
    running.exchange.publish(now(), |_| {}).unwrap();
    let police = Party::open(&running, POLICE);
    until_version(&running, &police, 2).await;
    let shelter = Party::open(&running, SHELTER);
    // The gateway has it; the custodian looks for it before it refuses.
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let ask = honest_ask(&answer);
    let released: Result<_, ConnectorError> = shelter.release(&shelter.token(), ask).await;
    assert_eq!(released.unwrap().keys.len(), PERMITTED.len());
    let oversight = running.connector(story::OVERSIGHT).await;
    assert!(alarms(&oversight).await.is_empty());
    running.verify().await;
}

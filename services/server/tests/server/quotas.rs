//! What one agency, or one address, takes is not taken from the others.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use amanat_server::Limits;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::ServerName;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    running::{Running, ask},
    support::GATEWAY,
};

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// Asks for what does not end, and returns when it is under way.
async fn endless(channel: &Channel) -> tokio::task::JoinHandle<Result<String, Status>> {
    let channel = channel.clone();
    let asking = tokio::spawn(async move { ask(&channel, "endless", None).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    asking
}

#[tokio::test]
async fn what_an_agency_asks_beyond_its_share_is_told_to_come_back_and_another_is_answered() {
    let running = Running::start_within(Limits {
        in_flight_per_agency: count(2),
        ..Limits::default()
    })
    .await;
    let (shelter, police) = (&running.exchange.shelter, &running.exchange.police);
    // Its share is the same over all its connections.
    let one = running.connect(&shelter.client).await;
    let other = running.connect(&shelter.client).await;
    let held = [endless(&one).await, endless(&other).await];

    for _ in 0..3 {
        let refused = ask(&one, "peer", None).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "QUOTA_EXCEEDED");
        let after = details.retry_info().unwrap().retry_delay.unwrap();
        assert!(after > Duration::ZERO && after <= Duration::from_secs(5));
    }
    let police = running.connect(&police.client).await;
    ask(&police, "peer", None).await.unwrap();

    // What it gives up it may ask again.
    for asking in held {
        asking.abort();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    ask(&one, "peer", None).await.unwrap();
    let crowded = running.guard.take_crowded();
    assert_eq!(crowded, [(Some(shelter.id), 3)].into());
    assert!(running.guard.take_refused().is_empty());
}

#[tokio::test]
async fn an_agency_has_as_many_connections_as_its_share_and_another_has_its_own() {
    let running = Running::start_within(Limits {
        connections_per_agency: count(2),
        ..Limits::default()
    })
    .await;
    let (shelter, police) = (&running.exchange.shelter, &running.exchange.police);
    let gateway = &running.exchange.gateway.authority;
    let mut open = Vec::new();
    for _ in 0..2 {
        let channel = running.connect(&shelter.client).await;
        ask(&channel, "peer", None).await.unwrap();
        open.push(channel);
    }
    // In TLS 1.3 a client may learn of it with its first request only.
    if let Ok(third) = running.try_connect(Some(&shelter.client), gateway).await {
        assert!(ask(&third, "peer", None).await.is_err());
    }
    let theirs = running.connect(&police.client).await;
    ask(&theirs, "peer", None).await.unwrap();
    assert!(running.guard.take_crowded()[&Some(shelter.id)] >= 1);

    drop(open.pop());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let again = running.connect(&shelter.client).await;
    ask(&again, "peer", None).await.unwrap();
}

/// What a client says first, of a handshake that it does not go on with.
fn hello() -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(GATEWAY).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test]
async fn one_address_that_begins_handshakes_and_ends_none_keeps_no_other_out() {
    let running = Running::start().await;
    let (shelter, gateway) = (
        &running.exchange.shelter,
        &running.exchange.gateway.authority,
    );
    let (hello, mut held) = (hello(), Vec::new());
    for _ in 0..200 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        held.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let channel = running
        .endpoint(Some(&shelter.client), gateway)
        .local_address(Some(elsewhere))
        .connect()
        .await
        .unwrap();
    ask(&channel, "peer", None).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{began:?}");
}

#[tokio::test]
async fn many_addresses_that_begin_handshakes_and_end_none_keep_no_other_out() {
    let running = Running::start().await;
    let (shelter, gateway) = (
        &running.exchange.shelter,
        &running.exchange.gateway.authority,
    );
    let (hello, mut held) = (hello(), Vec::new());
    for host in 10..40 {
        for _ in 0..16 {
            let socket = TcpSocket::new_v4().unwrap();
            let own = SocketAddr::from(([127, 0, 0, host], 0));
            socket.bind(own).unwrap();
            let mut stream = socket.connect(running.address).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            held.push(stream);
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let channel = running
        .endpoint(Some(&shelter.client), gateway)
        .local_address(Some(elsewhere))
        .connect()
        .await
        .unwrap();
    ask(&channel, "peer", None).await.unwrap();
}

#[tokio::test]
async fn every_answer_tells_the_servers_own_time() {
    let running = Running::start().await;
    let channel = running.connect(&running.exchange.shelter.client).await;
    let hour = Duration::from_secs(3600);
    running.set_time(crate::support::now() + hour);
    let refused = ask(&channel, "caller", None).await.unwrap_err();
    let told = refused.metadata().get("date").unwrap().to_str().unwrap();
    let told = httpdate::parse_http_date(told).unwrap();
    let expected = Duration::from_secs((crate::support::now() + hour).seconds());
    assert_eq!(told, std::time::SystemTime::UNIX_EPOCH + expected);
}

//! What a server says of itself to this machine and to its peers.

use std::{fs, net::SocketAddr, time::Duration};

use amanat_server::{HealthAddress, Signs};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::running::{Running, ask, start_health};

/// The status and the JSON of an answer.
async fn asked(address: SocketAddr, line: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap())
}

async fn status(address: SocketAddr, path: &str) -> u16 {
    asked(address, &format!("GET {path}")).await.0
}

fn signs(reasons: &[&str], warnings: &[&str]) -> Signs {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Signs {
        reasons: owned(reasons),
        warnings: owned(warnings),
    }
}

#[tokio::test]
async fn while_it_starts_it_lives_and_neither_has_started_nor_is_ready() {
    let (_health, address) = start_health().await;
    assert_eq!(status(address, "/live").await, 200);
    assert_eq!(status(address, "/started").await, 503);
    let (status, told) = asked(address, "GET /ready").await;
    assert_eq!(status, 503);
    assert!(told["reasons"][0].as_str().unwrap().contains("starting"));
}

#[tokio::test]
async fn a_reason_makes_it_not_ready_for_everybody_and_a_warning_for_nobody() {
    let running = Running::start().await;
    let address = running.health_address;
    let channel = running.connect(&running.exchange.shelter.client).await;
    let mut peers = HealthClient::new(channel);
    for (shown, serving) in [
        (signs(&[], &[]), true),
        (signs(&[], &["the directory runs out in 3 days"]), true),
        (signs(&["the disk of the state is full"], &[]), false),
        (signs(&[], &[]), true),
    ] {
        running.health.show(shown.clone());
        let (status, told) = asked(address, "GET /ready").await;
        assert_eq!(status, if serving { 200 } else { 503 });
        let expected =
            json!({ "ready": serving, "reasons": shown.reasons, "warnings": shown.warnings });
        assert_eq!(told, expected);
        // The peers hear of it a moment later.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = peers.check(HealthCheckRequest::default()).await.unwrap();
        let is_serving = answer.into_inner().status() == ServingStatus::Serving;
        assert_eq!(is_serving, serving, "{shown:?}");
    }
    assert_eq!(status(address, "/started").await, 200);
}

#[tokio::test]
async fn while_it_stops_it_is_live_and_not_ready() {
    let running = Running::start().await;
    let address = running.health_address;
    let channel = running.connect(&running.exchange.shelter.client).await;
    let slow = tokio::spawn({
        let channel = channel.clone();
        async move { ask(&channel, "slow", None).await }
    });
    ask(&channel, "peer", None).await.unwrap();
    let served = running.stopping();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(status(address, "/live").await, 200);
    let (status, told) = asked(address, "GET /ready").await;
    assert_eq!(status, 503);
    assert!(told["reasons"][0].as_str().unwrap().contains("stopping"));
    assert_eq!(slow.await.unwrap().unwrap(), "at last");
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn it_answers_three_questions_and_no_others() {
    let (_health, address) = start_health().await;
    for line in ["GET /", "GET /metrics", "POST /live"] {
        assert_eq!(asked(address, line).await.0, 404, "{line}");
    }
}

#[tokio::test]
async fn whoever_says_nothing_keeps_nobody_from_asking_for_long() {
    let (_health, address) = start_health().await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let asking = tokio::time::timeout(Duration::from_secs(15), status(address, "/live"));
    assert_eq!(asking.await.unwrap(), 200);
}

#[test]
fn an_address_that_others_can_reach_is_refused_with_its_line() {
    let read = |listen: &str| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("gateway.toml");
        fs::write(&path, format!("[health]\nlisten = \"{listen}\"\n")).unwrap();
        amanat_config::read(&path, |top| top.section("health", HealthAddress::read))
    };
    for loopback in ["127.0.0.1:9443", "[::1]:9443"] {
        assert!(read(loopback).is_ok(), "{loopback}");
    }
    for public in ["0.0.0.0:9443", "192.0.2.7:9443", "[::]:9443"] {
        let told = read(public).unwrap_err().to_string();
        assert!(told.contains("line 2: health.listen"), "{told}");
        assert!(told.contains("loopback"), "{told}");
    }
}

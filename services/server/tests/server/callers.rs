//! Nobody reaches a service whom the directory does not name.

use std::time::Duration;

use amanat_schema::policy::Right;
use amanat_server::Served;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::{
    running::{Running, ask},
    support::{Authority, client_params, now, officer},
};

fn is_credential_refusal(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        && status.get_error_details().error_info().unwrap().reason == "CREDENTIAL_INVALID"
}

#[tokio::test]
async fn a_member_is_served_over_mutual_tls() {
    let running = Running::start().await;
    let channel = running.connect(&running.exchange.shelter.client).await;
    let health = HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    let told = ask(&channel, "agency", None).await.unwrap();
    assert_eq!(told, running.exchange.shelter.id.to_string());
    assert!(running.guard.take_refused().is_empty());
    assert_eq!(running.stop().await, Served::Drained);
}

#[tokio::test]
async fn without_a_certificate_of_the_directory_nobody_is_served() {
    let running = Running::start().await;
    let exchange = &running.exchange;
    let stranger = Authority::new().issue(&client_params(&[&exchange.shelter.uri()]));
    let minted = exchange
        .police
        .authority
        .issue(&client_params(&[&exchange.shelter.uri()]));
    for leaf in [None, Some(&stranger), Some(&minted)] {
        let connected = running.try_connect(leaf, &exchange.gateway.authority).await;
        // In TLS 1.3 a client may learn of the refusal with its first request only.
        if let Ok(channel) = connected {
            assert!(ask(&channel, "peer", None).await.is_err());
        }
    }
    // The servers' side of a broken handshake may end a little later.
    let mut refused = 0;
    while refused < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        refused += running.guard.take_refused().remove(&None).unwrap_or(0);
    }
    assert_eq!(refused, 3, "each is counted");
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let running = Running::start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let connecting = running.connect(&running.exchange.shelter.client);
    let channel = tokio::time::timeout(Duration::from_secs(2), connecting).await;
    ask(&channel.unwrap(), "peer", None).await.unwrap();
}

#[tokio::test]
async fn a_client_does_not_take_another_server_for_the_gateway() {
    let running = Running::start().await;
    let exchange = &running.exchange;
    let leaf = Some(&exchange.shelter.client);
    assert!(
        running
            .try_connect(leaf, &exchange.custodian.authority)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_token_makes_a_caller() {
    let running = Running::start().await;
    let shelter = &running.exchange.shelter;
    let channel = running.connect(&shelter.client).await;
    let token = shelter.token(&officer(&[Right::CaseWorker]), now());
    let told = ask(&channel, "caller", Some(&format!("Bearer {token}")))
        .await
        .unwrap();
    assert_eq!(told, format!("{} NgoShelter officer 7", shelter.id));
}

#[tokio::test]
async fn a_bad_or_missing_token_is_refused_without_a_hint_and_counted_for_its_agency() {
    let running = Running::start().await;
    let (shelter, police) = (&running.exchange.shelter, &running.exchange.police);
    let channel = running.connect(&shelter.client).await;
    let case_worker = officer(&[Right::CaseWorker]);
    let good = shelter.token(&case_worker, now());
    let theirs = police.token(&case_worker, now());
    let old = shelter.token(&case_worker, now() - Duration::from_secs(900));
    let other_connection = running.connect(&police.client).await;
    let mut told = Vec::new();
    for authorization in [
        format!("Bearer {theirs}"),
        format!("Bearer {old}"),
        format!("bearer {good}"),
        format!("Basic {good}"),
        "Bearer".to_owned(),
        String::new(),
    ] {
        told.push(
            ask(&channel, "peer", Some(&authorization))
                .await
                .unwrap_err(),
        );
    }
    let authorization = format!("Bearer {good}");
    told.push(
        ask(&other_connection, "peer", Some(&authorization))
            .await
            .unwrap_err(),
    );
    // It passes the layers, and the service asks for a caller.
    told.push(ask(&channel, "caller", None).await.unwrap_err());
    let (shelter, police) = (Some(shelter.id), Some(police.id));
    let refused = running.guard.take_refused();
    assert_eq!(refused, [(shelter, 7), (police, 1)].into());
    assert!(told.iter().all(is_credential_refusal));
    assert!(
        told.iter()
            .all(|status| status.message() == told[0].message())
    );
}

#[tokio::test]
async fn the_custodian_is_a_peer_and_no_agency() {
    let running = Running::start().await;
    let exchange = &running.exchange;
    let uri = running.guard.directory().custodian_uri();
    let own = exchange.custodian.authority.issue(&client_params(&[&uri]));
    let channel = running.connect(&own).await;
    assert_eq!(ask(&channel, "peer", None).await.unwrap(), "Custodian");
    let refused = ask(&channel, "agency", None).await.unwrap_err();
    assert!(is_credential_refusal(&refused));
    let token = exchange.shelter.token(&officer(&[]), now());
    let refused = ask(&channel, "peer", Some(&format!("Bearer {token}")))
        .await
        .unwrap_err();
    assert!(is_credential_refusal(&refused));
}

#[tokio::test]
async fn when_the_directory_is_not_in_force_nobody_is_served() {
    let running = Running::start().await;
    let channel = running.connect(&running.exchange.shelter.client).await;
    for (time, served) in [
        (now() + Duration::from_secs(8 * 24 * 3600), false),
        (now() - Duration::from_secs(2 * 3600), false),
        (now(), true),
    ] {
        running.set_time(time);
        assert_eq!(ask(&channel, "peer", None).await.is_ok(), served, "{time}");
    }
}

#[tokio::test]
async fn a_refusal_that_names_every_field_reaches_the_caller_whole() {
    let running = Running::start().await;
    let channel = running.connect(&running.exchange.shelter.client).await;
    let status = ask(&channel, "everything withheld", None)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let details = status.get_error_details();
    let told = &details.error_info().unwrap().metadata;
    assert_eq!(told.len(), amanat_schema::catalogue::FIELDS.len() + 1);
}

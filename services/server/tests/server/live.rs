//! A connection that is up is worth what its peer is worth now.

use std::{fs, time::Duration};

use amanat_identity::{Directory, Suspensions};
use amanat_schema::{
    directory::{self, Suspension},
    policy::Right,
};
use prost::Message as _;
use tempfile::TempDir;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    running::{Running, ask},
    support::{Agency, EXCHANGE, now, officer},
};

fn is_credential_refusal(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        && status.get_error_details().error_info().unwrap().reason == "CREDENTIAL_INVALID"
}

async fn is_served(channel: &Channel) -> bool {
    match ask(channel, "peer", None).await {
        Ok(_) => true,
        Err(status) => {
            assert!(is_credential_refusal(&status), "{status}");
            false
        }
    }
}

impl Running {
    fn put_list(&self, agency: &Agency, list: Vec<u8>) {
        let file = self.lists.path().join(format!("{}.crl", agency.id));
        fs::write(file, list).unwrap();
    }

    fn revoke_shelter(&self) {
        let shelter = &self.exchange.shelter;
        self.put_list(shelter, shelter.authority.list(&[&shelter.client]));
        self.swap(self.exchange.directory());
    }

    /// The next directory, changed.
    fn next(&self, change: impl FnOnce(&mut directory::Directory)) -> Directory {
        let mut wire = self.exchange.wire();
        wire.version += 1;
        change(&mut wire);
        Directory::verify(&self.exchange.publish(&wire), &self.exchange.pinned()).unwrap()
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_with_the_next_request_of_its_connection_and_counted() {
    let running = Running::start().await;
    let (shelter, police) = (&running.exchange.shelter, &running.exchange.police);
    let live = running.connect(&shelter.client).await;
    let other = running.connect(&police.client).await;
    assert!(is_served(&live).await && is_served(&other).await);

    running.revoke_shelter();
    assert!(!is_served(&live).await);
    assert!(is_served(&other).await, "the other agency is untouched");
    let refused = running.guard.take_refused();
    assert_eq!(refused.get(&Some(shelter.id)), Some(&1));
    assert_eq!(refused.len(), 1, "{refused:?}");
}

#[tokio::test]
async fn a_token_does_not_save_a_revoked_certificate() {
    let running = Running::start().await;
    let shelter = &running.exchange.shelter;
    let live = running.connect(&shelter.client).await;
    let token = shelter.token(&officer(&[Right::CaseWorker]), now());
    let authorization = format!("Bearer {token}");
    ask(&live, "caller", Some(&authorization)).await.unwrap();
    running.revoke_shelter();
    let refused = ask(&live, "caller", Some(&authorization)).await;
    assert!(is_credential_refusal(&refused.unwrap_err()));
}

#[tokio::test]
async fn a_new_connection_with_a_revoked_certificate_is_refused() {
    let running = Running::start().await;
    running.revoke_shelter();
    let gateway = &running.exchange.gateway.authority;
    let revoked = Some(&running.exchange.shelter.client);
    // In TLS 1.3 a client may learn of the refusal with its first request only.
    if let Ok(channel) = running.try_connect(revoked, gateway).await {
        assert!(ask(&channel, "peer", None).await.is_err());
    }
    assert!(is_served(&running.connect(&running.exchange.police.client).await).await);
}

#[tokio::test]
async fn a_refused_connection_stays_refused_and_ends() {
    let running = Running::start().await;
    let shelter = &running.exchange.shelter;
    let live = running.connect(&shelter.client).await;
    assert!(is_served(&live).await);
    running.revoke_shelter();
    assert!(!is_served(&live).await);
    running.put_list(shelter, shelter.authority.list(&[]));
    running.swap(running.exchange.directory());
    assert!(!is_served(&live).await, "not on this connection any more");

    // The server closes it; the channel then makes a new one, which counts.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while ask(&live, "peer", None).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_idle_connection_that_is_no_longer_admitted_ends_by_itself() {
    let running = Running::start().await;
    let shelter = &running.exchange.shelter;
    let idle = running.connect(&shelter.client).await;
    assert!(is_served(&idle).await);
    running.guard.take_refused();
    running.revoke_shelter();
    // No request is made on it until it has ended; then the channel connects anew, and is refused for that.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(ask(&idle, "peer", None).await.is_err());
    let refused = running.guard.take_refused();
    assert_eq!(
        refused.get(&Some(shelter.id)),
        None,
        "no request reached it"
    );
}

#[tokio::test]
async fn a_list_that_runs_out_ends_what_it_vouched_for() {
    let running = Running::start().await;
    let shelter = &running.exchange.shelter;
    // It is 1 March 2026 here.
    running.put_list(shelter, shelter.authority.list_until(&[], (2026, 3, 3)));
    running.swap(running.exchange.directory());
    let live = running.connect(&shelter.client).await;
    let day = Duration::from_secs(24 * 3600);
    for (time, served) in [(now(), true), (now() + day, true), (now() + day * 2, false)] {
        running.set_time(time);
        assert_eq!(is_served(&live).await, served, "{time}");
    }
    let other = running.connect(&running.exchange.police.client).await;
    assert!(is_served(&other).await);
}

#[tokio::test]
async fn an_agency_that_a_newer_directory_leaves_out_is_refused_and_a_new_one_is_served() {
    let running = Running::start().await;
    let (shelter, police) = (&running.exchange.shelter, &running.exchange.police);
    let without_police = running.next(|directory| {
        let police = police.id.to_vec();
        directory
            .agencies
            .retain(|agency| agency.agency_id != police);
    });
    running.swap(without_police);
    let member = running.connect(&shelter.client).await;
    assert!(is_served(&member).await);
    let gateway = &running.exchange.gateway.authority;
    if let Ok(channel) = running.try_connect(Some(&police.client), gateway).await {
        assert!(ask(&channel, "peer", None).await.is_err());
    }
    running.swap(running.next(|_| {}));
    assert!(is_served(&member).await, "a connection outlives a change");
    assert!(is_served(&running.connect(&police.client).await).await);

    let without_shelter = running.next(|directory| {
        let shelter = shelter.id.to_vec();
        directory
            .agencies
            .retain(|agency| agency.agency_id != shelter);
    });
    running.swap(without_shelter);
    assert!(!is_served(&member).await);
}

#[tokio::test]
async fn a_suspended_agencys_live_connection_is_refused() {
    let running = Running::start().await;
    let exchange = &running.exchange;
    let live = running.connect(&exchange.shelter.client).await;
    let other = running.connect(&exchange.police.client).await;
    assert!(is_served(&live).await);
    let suspension = Suspension {
        exchange_id: EXCHANGE.to_owned(),
        suspension_id: vec![9; 16],
        agency_id: exchange.shelter.id.to_vec(),
        statement_key: Vec::new(),
        directory_version: 7,
        suspend_time: Some(now().to_timestamp()),
    };
    let folder = TempDir::new().unwrap();
    let signed = exchange.registrars[0].sign(&suspension).encode_to_vec();
    fs::write(folder.path().join("1.bin"), signed).unwrap();
    let directory = exchange.directory();
    let pinned = exchange.pinned();
    let (suspensions, errors) = Suspensions::read(folder.path(), &directory, &pinned, now());
    assert_eq!(errors, []);
    running.swap(directory.suspending(suspensions));
    assert!(!is_served(&live).await);
    assert!(is_served(&other).await);
}

//! Certificates, authorities and keys take over from one another while several agencies work, and none of their
//! requests fails; what was given up is refused from then on.

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
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use amanat::development::{Certifier, Registrar};
use amanat_connector::{Profile, Server};
use amanat_schema::{
    AgencyId, consent::ListConsentsRequest, directory, policy::ReferralState, referral::Direction,
};
use amanat_tests::{
    Process, Running,
    attack::alarms,
    load::Load,
    owner::{Authority, change_profile, put, replace_key},
    party::{Party, asked, honest_ask, now},
    pause,
    story::{self, HOUR, OVERSIGHT, PERMITTED, POLICE, SHELTER, Story},
};
use tonic_types::StatusExt as _;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const SERVERS: [Server; 2] = [Server::Gateway, Server::Custodian];
const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const KARACHI: &str = "police-karachi";
const UNINVOLVED: &str = "prosecution-karachi";
/// What both servers say when they show another certificate.
const SHOWN: &str = "the certificate in its file is shown from now on";

async fn is_served(party: &Party, server: Server) -> bool {
    let request = asked(ListConsentsRequest::default(), &party.token());
    match party.consents(server).list_consents(request).await {
        Ok(_) => true,
        Err(status) => {
            let details = status.get_error_details();
            let reason = details.error_info().map(|info| info.reason.clone());
            let expected = reason.is_none_or(|reason| reason == "CREDENTIAL_INVALID");
            assert!(expected, "{status:?}");
            false
        }
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        pause().await;
    }
}

async fn until_refused(party: &Party) {
    for server in SERVERS {
        until("refused", async || !is_served(party, server).await).await;
    }
}

fn said(process: &Process, text: &str) -> usize {
    let log = fs::read_to_string(&process.log).unwrap();
    log.matches(text).count()
}

async fn until_both_say(running: &Running, text: &str, times: usize) {
    for process in [&running.gateway, &running.custodian] {
        until(text, async || said(process, text) >= times).await;
    }
}

/// Publishes the next directory; returns when both servers go by it.
async fn publish(running: &Running, change: impl FnOnce(&mut directory::Directory)) {
    running.exchange.publish(now() - HOUR, change).unwrap();
    let version = running.exchange.published().unwrap().version;
    until_both_say(running, &format!("version={version}"), 1).await;
}

fn listed(next: &mut directory::Directory, id: AgencyId) -> &mut directory::Agency {
    let mut agencies = next.agencies.iter_mut();
    agencies
        .find(|agency| agency.agency_id == id.as_bytes())
        .unwrap()
}

fn put_lists(running: &Running, of: Certifier<'_>, lists: &[String]) {
    put(
        &running.exchange.list(of).unwrap(),
        lists.concat().as_bytes(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_rotates_under_load_and_no_request_fails() {
    let running = Running::start_for_load(PROGRAM);
    let mut load = Load::start(&running).await;

    connector_certificate_is_renewed(&running, &load).await;
    server_certificates_are_renewed(&running, &load).await;
    token_issuer_takes_over(&running, &load).await;
    statement_key_takes_over(&running, &mut load).await;
    agency_authority_takes_over(&running, &load).await;
    server_authorities_take_over(&running, &load).await;
    an_uninvolved_agency_is_suspended_and_let_in_again(&running, &load).await;

    load.turns().await;
    let settled = load.settle().await;
    assert_eq!(settled.done.cut_off, [""; 0], "no request failed");
    let oversight = running.connector(OVERSIGHT).await;
    settled.check(&oversight).await;
    assert!(alarms(&oversight).await.is_empty());
}

async fn connector_certificate_is_renewed(running: &Running, load: &Load) {
    let of = Certifier::Agency(POLICE);
    let authority = Authority::first(&running.exchange, of);
    let old = Party::open(running, POLICE);
    for server in SERVERS {
        assert!(is_served(&old, server).await);
    }
    let serial = authority.renew(&running.exchange, of);
    load.turns().await;
    put_lists(running, of, &[authority.list(&[serial])]);
    until_refused(&old).await;
    let renewed = Party::open(running, POLICE);
    for server in SERVERS {
        assert!(is_served(&renewed, server).await);
    }
    load.turns().await;
}

async fn server_certificates_are_renewed(running: &Running, load: &Load) {
    let live = Party::open(running, SHELTER);
    for server in SERVERS {
        assert!(is_served(&live, server).await);
    }
    for (of, process) in [
        (Certifier::Gateway, &running.gateway),
        (Certifier::Custodian, &running.custodian),
    ] {
        let authority = Authority::first(&running.exchange, of);
        let serial = authority.renew(&running.exchange, of);
        until(SHOWN, async || said(process, SHOWN) == 1).await;
        put_lists(running, of, &[authority.list(&[serial])]);
    }
    load.turns().await;
    // Whoever connects now finds no certificate that is revoked.
    let anew = running.connector(SHELTER).await;
    for server in SERVERS {
        anew.list_consents(server, None).await.unwrap();
        assert!(is_served(&live, server).await, "live connections stay");
    }
    load.turns().await;
}

async fn token_issuer_takes_over(running: &Running, load: &Load) {
    let id = running.exchange.agencies[SHELTER].id;
    let profile = Profile::load(&running.exchange.agencies[SHELTER].folder).unwrap();
    let tokens = profile.tokens.as_ref().unwrap();
    let old = Party::open(running, SHELTER);
    let next_file = tokens.signing_key.with_file_name("issuer-2.key");
    put(&next_file, &fs::read(&tokens.signing_key).unwrap());
    let [_, new] = replace_key(&next_file);
    let issuer = directory::TokenIssuer {
        issuer: tokens.issuer.clone(),
        key_id: "dev-2".to_owned(),
        public_key: new,
    };
    publish(running, |next| {
        listed(next, id).token_issuers.push(issuer.clone());
    })
    .await;
    change_profile(running, SHELTER, |profile| {
        profile["tokens"]["key_id"] = "dev-2".into();
        profile["tokens"]["signing_key"] = next_file.to_str().unwrap().into();
    });
    load.reopen(running, SHELTER).await;
    load.turns().await;
    publish(running, |next| {
        listed(next, id)
            .token_issuers
            .retain(|listed| *listed == issuer);
    })
    .await;
    for server in SERVERS {
        assert!(!is_served(&old, server).await, "a token of the old key");
        assert!(is_served(&Party::open(running, SHELTER), server).await);
    }
    load.turns().await;
}

async fn statement_key_takes_over(running: &Running, load: &mut Load) {
    let id = running.exchange.agencies[POLICE].id;
    let story = Story::tell(running).await;
    load.handed_in_beside(POLICE);
    let old = Party::open(running, POLICE);
    let file = Profile::load(&running.exchange.agencies[POLICE].folder)
        .unwrap()
        .statements
        .signing_key;
    let next_file = file.with_file_name("statement-2.key");
    put(&next_file, &fs::read(&file).unwrap());
    let [retired, new] = replace_key(&next_file);
    publish(running, |next| {
        listed(next, id).statement_keys.push(new.clone())
    })
    .await;
    put(&file, &fs::read(&next_file).unwrap());
    load.turns().await;
    publish(running, |next| {
        let police = listed(next, id);
        police.statement_keys.retain(|key| *key == new);
        police.retired_statement_keys = vec![directory::RetiredKey {
            public_key: retired,
            retired_time: Some(now().to_timestamp()),
            compromised_since_time: None,
        }];
    })
    .await;
    for server in SERVERS {
        let recipient = running.exchange.agencies[SHELTER].id;
        let (_, late) = story::consent(
            &old,
            story.case,
            recipient,
            &PERMITTED,
            now() - HOUR,
            now() + DAY,
        );
        let refused = story::record_consent(&old, server, &late).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason(), "FIELD_INVALID");
        assert!(refused.to_string().contains("sign it anew"), "{refused}");
    }
    // What it signed before still opens, header, referral and consent.
    let shelter = Party::open(running, SHELTER);
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let released = shelter
        .release(&shelter.token(), honest_ask(&answer))
        .await
        .unwrap();
    assert_eq!(released.keys.len(), PERMITTED.len());
    load.turns().await;
}

async fn agency_authority_takes_over(running: &Running, load: &Load) {
    let of = Certifier::Agency(SHELTER);
    let id = running.exchange.agencies[SHELTER].id;
    let (first, next_one) = (Authority::first(&running.exchange, of), Authority::new());
    let old = Party::open(running, SHELTER);
    for server in SERVERS {
        assert!(is_served(&old, server).await);
    }
    put_lists(running, of, &[first.list(&[]), next_one.list(&[])]);
    publish(running, |next| {
        listed(next, id).issuing_cas.push(next_one.der())
    })
    .await;
    next_one.renew(&running.exchange, of);
    load.turns().await;
    publish(running, |next| {
        listed(next, id).issuing_cas = vec![next_one.der()]
    })
    .await;
    for server in SERVERS {
        assert!(!is_served(&old, server).await, "of the old authority");
        assert!(is_served(&Party::open(running, SHELTER), server).await);
    }
    put_lists(running, of, &[next_one.list(&[])]);
    load.turns().await;
}

async fn server_authorities_take_over(running: &Running, load: &Load) {
    let parties = [Certifier::Gateway, Certifier::Custodian];
    let new = parties.map(|_| Authority::new());
    for (of, new) in parties.iter().zip(&new) {
        let first = Authority::first(&running.exchange, *of);
        put_lists(running, *of, &[first.list(&[]), new.list(&[])]);
    }
    let [of_gateway, of_custodian] = new.each_ref().map(Authority::der);
    let authorities = |next: &mut directory::Directory, old: usize| {
        let (gateway, custodian) = (next.gateway.as_mut(), next.custodian.as_mut());
        for (service, new) in [(gateway, &of_gateway), (custodian, &of_custodian)] {
            let listed = &mut service.unwrap().issuing_cas;
            listed.truncate(old);
            listed.push(new.clone());
        }
    };
    publish(running, |next| authorities(next, 1)).await;
    let servers = [&running.exchange.gateway, &running.exchange.custodian];
    for ((of, new), server) in parties.iter().zip(&new).zip(servers) {
        new.renew(&running.exchange, *of);
        // The black-box client goes by this file.
        put(&server.folder.join("ca/ca.pem"), new.pem.as_bytes());
    }
    until_both_say(running, SHOWN, 2).await;
    load.turns().await;
    publish(running, |next| authorities(next, 0)).await;
    for (of, new) in parties.iter().zip(&new) {
        put_lists(running, *of, &[new.list(&[])]);
    }
    load.turns().await;
    let anew = running.connector(SHELTER).await;
    for server in SERVERS {
        anew.list_consents(server, None).await.unwrap();
    }
}

async fn an_uninvolved_agency_is_suspended_and_let_in_again(running: &Running, load: &Load) {
    let other = Party::open(running, UNINVOLVED);
    for server in SERVERS {
        assert!(is_served(&other, server).await);
    }
    let file = running
        .exchange
        .suspend(Registrar::One, other.agency, None, now())
        .unwrap();
    until_refused(&other).await;
    load.turns().await;
    fs::remove_file(file).unwrap();
    publish(running, |_| {}).await;
    let other = Party::open(running, UNINVOLVED);
    for server in SERVERS {
        assert!(is_served(&other, server).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn revoking_one_agency_under_load_stops_its_calls_and_nobody_elses() {
    let running = Running::start_for_load(PROGRAM);
    let load = Load::start(&running).await;
    let revoked = Arc::new(running.connector(KARACHI).await);
    for server in SERVERS {
        revoked.list_consents(server, None).await.unwrap();
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let calls = tokio::spawn({
        let (revoked, stopped) = (Arc::clone(&revoked), Arc::clone(&stopped));
        async move {
            let mut outcomes = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let listed = revoked.list_consents(Server::Gateway, None).await;
                outcomes.push(listed.map(drop).map_err(|error| error.reason().to_owned()));
                tokio::task::yield_now().await;
            }
            outcomes
        }
    });
    let party = Party::open(&running, KARACHI);
    load.turns().await;
    running
        .exchange
        .revoke(Certifier::Agency(KARACHI), now())
        .unwrap();
    until_refused(&party).await;
    load.turns().await;
    stopped.store(true, Ordering::Relaxed);
    let outcomes = calls.await.unwrap();
    let first = outcomes
        .iter()
        .position(Result::is_err)
        .expect("it is refused");
    assert!(first > 0, "it was served before");
    let served = outcomes[first..].iter().filter(|outcome| outcome.is_ok());
    assert_eq!(served.count(), 0, "from then on it is refused");
    for server in SERVERS {
        let refused = revoked.list_consents(server, None).await.unwrap_err();
        assert_eq!(refused.reason(), "CREDENTIAL_INVALID");
    }
    let settled = load.settle().await;
    assert_eq!(settled.done.cut_off, [""; 0], "nobody else's calls failed");
    settled.check(&running.connector(OVERSIGHT).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_certificate_that_does_not_count_is_refused_and_the_old_one_stays() {
    let running = Running::start(PROGRAM, "info");
    let of = Certifier::Gateway;
    let first = Authority::first(&running.exchange, of);
    let shown = amanat_tests::owner::shown(&running.exchange, of);
    let good = fs::read(&shown.certificate).unwrap();
    let key = fs::read(&shown.private_key).unwrap();
    let serves = async || {
        let anew = Party::open(&running, POLICE);
        is_served(&anew, Server::Gateway).await
    };
    let refused = "the certificate in its file is refused, and the one in use stays: ";

    Authority::new().renew(&running.exchange, of);
    let stranger = "it is not issued by an authority that the directory lists";
    until(stranger, async || said(&running.gateway, stranger) > 0).await;
    assert!(said(&running.gateway, refused) > 0);
    assert!(serves().await);

    put(&shown.certificate, &good);
    let unfit = "certificate and key do not fit each other";
    until(unfit, async || said(&running.gateway, unfit) > 0).await;
    assert!(serves().await);

    fs::remove_file(&shown.certificate).unwrap();
    until("gone", async || said(&running.gateway, "server.pem") > 0).await;
    assert!(serves().await);

    put(&shown.certificate, &good);
    put(&shown.private_key, &key);
    first.renew(&running.exchange, of);
    until(SHOWN, async || said(&running.gateway, SHOWN) > 0).await;
    assert!(serves().await);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_compromised_key_only_what_was_recorded_before_opens() {
    let running = Running::start(PROGRAM, "info");
    let id = running.exchange.agencies[POLICE].id;
    let before = Story::tell(&running).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let since = now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let after = Story::tell(&running).await;
    let file = Profile::load(&running.exchange.agencies[POLICE].folder)
        .unwrap()
        .statements
        .signing_key;
    let [old, new] = replace_key(&file);
    publish(&running, |next| {
        let police = listed(next, id);
        police.statement_keys = vec![new];
        police.retired_statement_keys = vec![directory::RetiredKey {
            public_key: old,
            retired_time: Some(now().to_timestamp()),
            compromised_since_time: Some(since.to_timestamp()),
        }];
    })
    .await;
    let shelter = running.connector(SHELTER).await;
    let referrals = shelter.list_referrals(Direction::Received).await.unwrap();
    let verified: Vec<_> = referrals.iter().map(|seen| seen.verified).collect();
    assert_eq!(verified, [true, false]);
    assert!(
        referrals
            .iter()
            .all(|seen| seen.state == ReferralState::Accepted)
    );

    // A referral that may be the thief's brings nothing.
    let party = Party::open(&running, SHELTER);
    let refused = party.read(after.ask(&PERMITTED)).await.unwrap_err();
    assert_eq!(refused.reason(), "ACCESS_DENIED");
    // The referral is shown to the custodian, which cannot tell when it was signed: it is asked for anew.
    let answer = party.read(before.ask(&PERMITTED)).await.unwrap();
    let refused = party.release(&party.token(), honest_ask(&answer)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.reason(), "FIELD_INVALID");
    assert!(refused.to_string().contains("submit the referral again"));
    story::refer(&running, before.case, &PERMITTED).await;
    let read = |story: &Story| amanat_connector::ReadRequest {
        case: story.case,
        record: story.record,
        source: story.source,
        fields: PERMITTED.map(str::to_owned).to_vec(),
        purpose: amanat_schema::policy::Purpose::Shelter,
    };
    shelter.read_case(&read(&before)).await.unwrap();

    // The police themselves read what they put before, and correct the rest.
    let police = running.connector(POLICE).await;
    let own = |story: &Story| amanat_connector::ReadRequest {
        purpose: amanat_schema::policy::Purpose::VictimSupport,
        ..read(story)
    };
    police.read_case(&own(&before)).await.unwrap();
    let refused = police.read_case(&own(&after)).await.err().unwrap();
    assert_eq!(refused.reason(), "ANSWER_UNTRUSTWORTHY", "{refused}");
    assert!(refused.to_string().contains("somebody else may have used"));
    // A directory that forgets the key brings nothing back.
    let forget = |next: &mut directory::Directory| listed(next, id).retired_statement_keys.clear();
    publish(&running, forget).await;
    for (story, reason) in [(&before, "NOTHING_RELEASABLE"), (&after, "ACCESS_DENIED")] {
        let refused = party.read(story.ask(&PERMITTED)).await.unwrap_err();
        assert_eq!(refused.reason(), reason);
    }
    let oversight = running.connector(OVERSIGHT).await;
    assert!(alarms(&oversight).await.is_empty());
    running.verify().await;
}

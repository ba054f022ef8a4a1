//! A development exchange is one that servers and connectors accept as they would a real one.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use amanat::{
    development::{Blueprint, DevelopmentError, Exchange, make},
    system_clock,
};
use amanat_connector::Profile;
use amanat_identity::{
    Directory, Officer, PeerName, Registrars, TokenIssuer, TokenVerifier, tls, token::Audience,
};
use amanat_schema::{
    Time,
    policy::{AgencyKind, Right},
    statement::Envelope,
};
use amanat_server::Served;
use prost::Message as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use tempfile::TempDir;
use webpki::{EndEntityCert, KeyUsage};

struct Made {
    exchange: Exchange,
    _folder: TempDir,
}

fn pilot() -> Made {
    let folder = TempDir::new().unwrap();
    let exchange = make(folder.path(), &system_clock(), &Blueprint::pilot()).unwrap();
    Made {
        exchange,
        _folder: folder,
    }
}

fn envelope(exchange: &Exchange) -> Envelope {
    Envelope::decode(fs::read(&exchange.directory).unwrap().as_slice()).unwrap()
}

fn directory(exchange: &Exchange) -> Directory {
    Directory::verify(&envelope(exchange), &exchange.registrars).unwrap()
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// What links lead to is found where it lies.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let is_public = folder.ends_with("public");
            assert!(is_public || mode == 0o700, "{}", path.display());
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_directory_holds_under_both_registrars_and_under_no_one_of_them() {
    let made = pilot();
    let signed = envelope(&made.exchange);
    let directory = Directory::verify(&signed, &made.exchange.registrars).unwrap();
    assert!(directory.in_force(system_clock()()));
    assert_eq!(directory.agencies().count(), 8);

    let mut by_one = signed.clone();
    by_one.signatures.truncate(1);
    assert!(Directory::verify(&by_one, &made.exchange.registrars).is_err());
    for key in &made.exchange.registrars.keys {
        let one = Registrars {
            keys: vec![*key],
            threshold: 1,
        };
        assert!(Directory::verify(&signed, &one).is_err());
    }
}

#[test]
fn an_agency_that_takes_referrals_offers_something_and_a_shelter_is_not_shown() {
    let made = pilot();
    for agency in directory(&made.exchange).agencies() {
        assert_eq!(
            agency.services.is_empty(),
            agency.kind == AgencyKind::Oversight
        );
        let shelter = matches!(agency.kind, AgencyKind::DarulAman | AgencyKind::NgoShelter);
        assert_eq!(agency.display_name.is_empty(), shelter);
    }
}

#[test]
fn every_private_file_is_its_owners_alone() {
    let made = pilot();
    let mut private = 0;
    for file in files(&made.exchange.folder) {
        let text = fs::read(&file).unwrap();
        let is_key = file.extension().is_some_and(|extension| extension == "key");
        let holds_key = String::from_utf8_lossy(&text).contains("PRIVATE KEY");
        if is_key || holds_key {
            private += 1;
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
    }
    // Two registrars; eight agencies with five files each; gateway with seven, custodian with nine.
    assert_eq!(private, 2 + 8 * 5 + 7 + 9);
}

#[test]
fn each_connectors_certificate_names_its_agency_and_chains_to_that_agencys_authority() {
    let made = pilot();
    let directory = directory(&made.exchange);
    for member in made.exchange.agencies.values() {
        let leaf = certificate(&member.folder.join("keys/connector.pem"));
        let peer = tls::peer(std::slice::from_ref(&leaf), &directory).unwrap();
        assert_eq!(peer.name, PeerName::Agency(member.id));
        for agency in directory.agencies() {
            let chains = chains(&leaf, &agency.authorities[0], KeyUsage::client_auth());
            assert_eq!(chains, agency.id == member.id);
        }
        let own = &directory.agency(member.id).unwrap().authorities[0];
        assert!(!chains(&leaf, own, KeyUsage::server_auth()));
    }
}

#[test]
fn the_servers_certificates_carry_the_names_of_the_directory() {
    let made = pilot();
    let directory = directory(&made.exchange);
    let servers = [
        (&made.exchange.gateway, directory.gateway()),
        (&made.exchange.custodian, directory.custodian()),
    ];
    for (server, listed) in servers {
        let leaf = certificate(&server.folder.join("keys/server.pem"));
        let name = ServerName::try_from(listed.server_name.as_str()).unwrap();
        EndEntityCert::try_from(&leaf)
            .unwrap()
            .verify_is_valid_for_subject_name(&name)
            .unwrap();
        assert!(chains(
            &leaf,
            &listed.authorities[0],
            KeyUsage::server_auth()
        ));
    }
    let gateway = certificate(&made.exchange.gateway.folder.join("keys/server.pem"));
    assert!(tls::peer(std::slice::from_ref(&gateway), &directory).is_none());
    assert!(!chains(
        &gateway,
        &directory.gateway().authorities[0],
        KeyUsage::client_auth()
    ));

    let custodian = certificate(&made.exchange.custodian.folder.join("keys/server.pem"));
    let peer = tls::peer(std::slice::from_ref(&custodian), &directory).unwrap();
    assert_eq!(peer.name, PeerName::Custodian);
    assert!(chains(
        &custodian,
        &directory.custodian().authorities[0],
        KeyUsage::client_auth()
    ));
}

fn chains(leaf: &CertificateDer<'_>, authority: &CertificateDer<'_>, usage: KeyUsage) -> bool {
    let anchor = webpki::anchor_from_trusted_cert(authority).unwrap();
    EndEntityCert::try_from(leaf)
        .unwrap()
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &[],
            UnixTime::now(),
            usage,
            None,
            None,
        )
        .is_ok()
}

#[test]
fn every_profile_is_one_that_the_connector_reads() {
    let made = pilot();
    for (name, member) in &made.exchange.agencies {
        let profile = Profile::load(&member.folder).unwrap();
        assert_eq!((&profile.name, profile.agency), (name, member.id));
        assert_eq!(
            profile.gateway.to_string(),
            format!("https://{}", made.exchange.gateway.address)
        );
        assert_eq!(
            profile.custodian.to_string(),
            format!("https://{}", made.exchange.custodian.address)
        );
        assert_eq!(profile.agencies.len(), 8);
        assert_eq!(profile.directory.registrars.threshold, 2);
        let rights = &profile.officers["default"].rights;
        assert_eq!(rights.contains(&"AUDITOR".to_owned()), name == "oversight");
        for right in rights {
            assert!(
                Right::from_str_name(&format!("RIGHT_{right}")).is_some(),
                "{right}"
            );
        }
    }
}

#[test]
fn a_token_of_the_development_issuer_is_accepted_for_its_own_agency_only() {
    let made = pilot();
    let directory = directory(&made.exchange);
    let now = system_clock()();
    let [shelter, police] =
        ["ngo-shelter", "police-lahore"].map(|name| &made.exchange.agencies[name]);
    let tokens = Profile::load(&shelter.folder).unwrap().tokens.unwrap();
    let key = amanat_config::private_key_pem(&tokens.signing_key).unwrap();
    let issuer = TokenIssuer::new(tokens.issuer, tokens.key_id, key.secret_der());
    let officer = Officer {
        id: "officer-1".to_owned(),
        rights: [Right::CaseWorker].into(),
        station: "desk".to_owned(),
    };
    let certificate = [7; 32];
    let token = issuer.issue(&officer, &certificate, &[1; 16], now).unwrap();

    let verifier = TokenVerifier::new(Audience::Gateway);
    let verify = |agency| verifier.verify_presented(&token, agency, &certificate, &directory, now);
    assert!(*verify(shelter.id).unwrap() == officer);
    assert!(verify(police.id).is_err());
}

#[test]
fn a_folder_that_holds_anything_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("kept"), "kept").unwrap();
    let refused = make(folder.path(), &system_clock(), &Blueprint::pilot());
    assert!(matches!(refused, Err(DevelopmentError::NotEmpty { .. })));
    assert_eq!(files(folder.path()), [folder.path().join("kept")]);
}

#[test]
fn the_clock_that_is_handed_in_decides_when_the_directory_is_in_force() {
    let folder = TempDir::new().unwrap();
    let then = Time::from_millis(1_772_357_400_007).unwrap();
    let exchange = make(
        &folder.path().join("new"),
        &(Arc::new(move || then) as _),
        &Blueprint::pilot(),
    );
    let directory = directory(&exchange.unwrap());
    let days = |n: u64| std::time::Duration::from_secs(n * 24 * 3600);
    assert!(directory.in_force(then) && directory.in_force(then + days(29)));
    assert_eq!(directory.valid_until(), then + days(30));
}

#[tokio::test]
async fn the_gateway_starts_from_what_was_made() {
    let made = pilot();
    let config = amanat_gateway::Config::load(&made.exchange.gateway.config).unwrap();
    assert_eq!(config.server.listen, made.exchange.gateway.address);
    amanat_gateway::init(&config, None).await.unwrap();
    let listener = amanat_server::listen(config.server.listen).await.unwrap();
    let served = amanat_gateway::serve(&config, listener, system_clock(), async {}).await;
    assert_eq!(served.unwrap(), Served::Drained);
}

#[tokio::test]
async fn the_custodian_starts_from_what_was_made() {
    let made = pilot();
    let config = amanat_custodian::Config::load(&made.exchange.custodian.config).unwrap();
    assert_eq!(config.server.listen, made.exchange.custodian.address);
    amanat_custodian::init(&config, None).await.unwrap();
    let listener = amanat_server::listen(config.server.listen).await.unwrap();
    let served = amanat_custodian::serve(&config, listener, system_clock(), async {}).await;
    assert_eq!(served.unwrap(), Served::Drained);
}

//! Real handshakes, in memory.

use std::sync::{Arc, Mutex};

use amanat_identity::{Peer, PeerName, Trusted, tls};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, Error, HandshakeKind, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
    client::{ResolvesClientCert, WantsClientCert},
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::support::{Authority, EXCHANGE, Exchange, GATEWAY, Leaf, client_params, clock};

/// The gateway's side.
fn server(exchange: &Exchange) -> Arc<ServerConfig> {
    let lists = tempfile::tempdir().unwrap();
    exchange.put_lists(lists.path());
    server_with(exchange, Trusted::new(exchange.trust(lists.path())))
}

pub(crate) fn server_with(exchange: &Exchange, trusted: Trusted) -> Arc<ServerConfig> {
    let leaf = &exchange.gateway.leaf;
    Arc::new(tls::server_config(leaf.shown(), trusted, &clock()).unwrap())
}

fn trusting(
    exchange: &Exchange,
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots
        .add(exchange.gateway.authority.certificate().clone())
        .unwrap();
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
}

/// A client that trusts the gateway, with a certificate or none.
pub(crate) fn client(
    exchange: &Exchange,
    leaf: Option<&Leaf>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let builder = trusting(exchange, versions);
    let mut config = match leaf {
        Some(leaf) => builder
            .with_client_auth_cert(leaf.chain(), leaf.key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Carries bytes to and fro until both are done; what either found wrong, if anything.
pub(crate) fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = GATEWAY.try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn tls13(exchange: &Exchange, leaf: &Leaf) -> Result<(ClientConnection, ServerConnection), Error> {
    shake(
        &client(exchange, Some(leaf), &[&rustls::version::TLS13]),
        &server(exchange),
    )
}

fn is_refused(exchange: &Exchange, leaf: &Leaf) {
    let error = tls13(exchange, leaf).expect_err("refused");
    assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
    assert_eq!(
        tls::peer(&leaf.chain(), &exchange.directory()).map(|peer| peer.name),
        None
    );
}

#[test]
fn an_agencys_own_certificate_is_accepted_as_that_agency() {
    let exchange = Exchange::new();
    let directory = exchange.directory();
    for agency in [&exchange.shelter, &exchange.police] {
        let (_, server) = tls13(&exchange, &agency.client).unwrap();
        let chain = server.peer_certificates().unwrap();
        let expected = Peer {
            name: PeerName::Agency(agency.id),
            certificate_sha256: agency.client.sha256(),
        };
        assert_eq!(tls::peer(chain, &directory), Some(expected));
        assert_eq!(server.alpn_protocol(), Some(b"h2".as_slice()));
    }
}

#[test]
fn the_custodian_is_accepted_under_its_own_authority_only() {
    let exchange = Exchange::new();
    let directory = exchange.directory();
    let params = client_params(&[&directory.custodian_uri()]);
    let own = exchange.custodian.authority.issue(&params);
    let (_, server) = tls13(&exchange, &own).unwrap();
    let peer = tls::peer(server.peer_certificates().unwrap(), &directory).unwrap();
    assert_eq!(peer.name, PeerName::Custodian);
    for authority in [&exchange.gateway.authority, &exchange.shelter.authority] {
        assert!(tls13(&exchange, &authority.issue(&params)).is_err());
    }
}

#[test]
fn an_agencys_authority_cannot_issue_another_agencys_name() {
    let exchange = Exchange::new();
    let params = client_params(&[&exchange.shelter.uri()]);
    for authority in [
        &exchange.police.authority,
        &exchange.gateway.authority,
        &Authority::new(),
    ] {
        let error = tls13(&exchange, &authority.issue(&params)).err().unwrap();
        assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
    }
}

#[test]
fn exactly_one_name_of_the_directory_is_accepted() {
    let exchange = Exchange::new();
    let shelter = &exchange.shelter;
    let own = shelter.uri();
    let police = exchange.police.uri();
    let absent = format!("spiffe://{EXCHANGE}/agency/{}", "9".repeat(32));
    let elsewhere = own.replace(EXCHANGE, "other.example");
    let shouted = own.to_uppercase();
    let deeper = format!("{own}/x");
    for uris in [
        &[][..],
        &[own.as_str(), police.as_str()],
        &[own.as_str(), own.as_str()],
        &[absent.as_str()],
        &[elsewhere.as_str()],
        &[shouted.as_str()],
        &[deeper.as_str()],
        &[""],
    ] {
        is_refused(&exchange, &shelter.authority.issue(&client_params(uris)));
    }
    let mut by_host = CertificateParams::default();
    by_host.subject_alt_names = vec![SanType::DnsName(
        own.replace(['/', ':'], "-").try_into().unwrap(),
    )];
    is_refused(&exchange, &shelter.authority.issue(&by_host));
}

#[test]
fn a_certificate_outside_its_time_or_use_is_refused() {
    let exchange = Exchange::new();
    let shelter = &exchange.shelter;
    let good = client_params(&[&shelter.uri()]);
    let mut expired = good.clone();
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut early = good.clone();
    early.not_before = rcgen::date_time_ymd(3000, 1, 1);
    let mut for_servers = good;
    for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for params in [expired, early, for_servers] {
        let error = tls13(&exchange, &shelter.authority.issue(&params))
            .err()
            .unwrap();
        assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let exchange = Exchange::new();
    let nobody = client(&exchange, None, &[&rustls::version::TLS13]);
    let error = shake(&nobody, &server(&exchange)).err().unwrap();
    assert_eq!(error, Error::NoCertificatesPresented);
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let exchange = Exchange::new();
    let (stolen, own) = (&exchange.shelter.client, &exchange.police.client);
    // Put together past the client's own check, which would stop an honest thief.
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(own.key())
        .unwrap();
    let pair = CertifiedKey::new(stolen.chain(), key);
    let config = trusting(&exchange, &[&rustls::version::TLS13])
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    let error = shake(&Arc::new(config), &server(&exchange)).err().unwrap();
    assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
}

#[test]
fn a_client_that_speaks_tls_1_2_only_is_refused() {
    let exchange = Exchange::new();
    let old = client(
        &exchange,
        Some(&exchange.shelter.client),
        &[&rustls::version::TLS12],
    );
    let error = shake(&old, &server(&exchange)).err().unwrap();
    assert!(matches!(error, Error::PeerIncompatible(_)), "{error}");
}

#[test]
fn no_session_is_ever_resumed() {
    let exchange = Exchange::new();
    let server = server(&exchange);
    let client = client(
        &exchange,
        Some(&exchange.shelter.client),
        &[&rustls::version::TLS13],
    );
    for _ in 0..3 {
        let (client, server) = shake(&client, &server).unwrap();
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.tls13_tickets_received(), 0);
    }
}

/// A client that notes which authorities it was offered.
#[derive(Debug, Default)]
struct Curious(Mutex<Vec<usize>>);

impl ResolvesClientCert for Curious {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().push(hints.len());
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn a_stranger_is_not_told_who_takes_part() {
    let exchange = Exchange::new();
    let curious = Arc::new(Curious::default());
    let config =
        trusting(&exchange, &[&rustls::version::TLS13])
            .with_client_cert_resolver(Arc::<Curious>::clone(&curious));
    assert!(shake(&Arc::new(config), &server(&exchange)).is_err());
    assert_eq!(*curious.0.lock().unwrap(), [0]);
}

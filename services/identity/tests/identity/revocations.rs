//! A certificate counts while its authority's own list, in date, does not revoke it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use amanat_identity::{
    CrlError, CrlFault, Peer, PeerName, RevocationFolder, Trusted,
    tls::{TlsError, client_config},
};
use rustls::{CertificateError, Error, version::TLS13};
use tempfile::TempDir;

use crate::{
    support::{Authority, Exchange, Leaf, clock, now},
    tls::{client, server_with, shake},
};

/// An exchange with a folder of lists, none of which revokes anything.
struct Lists {
    exchange: Exchange,
    folder: TempDir,
}

impl Lists {
    fn new() -> Self {
        let (exchange, folder) = (Exchange::new(), TempDir::new().unwrap());
        exchange.put_lists(folder.path());
        Self { exchange, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.crl"))
    }

    fn of_shelter(&self) -> PathBuf {
        self.path(&self.exchange.shelter.id.to_string())
    }

    /// The servers' trust by the files as they are now.
    fn trusted(&self) -> Trusted {
        Trusted::new(self.exchange.trust(self.folder.path()))
    }

    fn shakes(&self, trusted: &Trusted, leaf: &Leaf) -> Result<(), Error> {
        let client = client(&self.exchange, Some(leaf), &[&TLS13]);
        shake(&client, &server_with(&self.exchange, trusted.clone())).map(drop)
    }

    fn is_admitted(&self, leaf: &Leaf) -> bool {
        let trusted = self.trusted();
        let shaken = self.shakes(&trusted, leaf).is_ok();
        let admitted = trusted.current().admit(&leaf.chain(), now()).is_some();
        assert_eq!(shaken, admitted, "a live connection is judged as a new one");
        admitted
    }

    /// The shelter is refused, and nobody else.
    fn shelter_alone_is_refused(&self) {
        assert!(!self.is_admitted(&self.exchange.shelter.client));
        assert!(self.is_admitted(&self.exchange.police.client));
    }

    /// What is wrong with the gateway's list, as a client that connects finds it.
    fn of_gateway(&self) -> Option<CrlError> {
        let shelter = &self.exchange.shelter.client;
        let directory = self.exchange.directory();
        let list = RevocationFolder::new(self.folder.path()).of_gateway();
        let config = client_config(shelter.own(), directory.gateway(), &list, &clock());
        let config = match config {
            Ok(config) => Arc::new(config),
            Err(TlsError::Revocation(error)) => return Some(error),
            Err(other) => panic!("{other}"),
        };
        let server = server_with(&self.exchange, self.trusted());
        let shaken = shake(&config, &server);
        shaken.err().and_then(|error| list.judge(&error))
    }
}

#[test]
fn a_revoked_certificate_is_refused_and_no_other() {
    let lists = Lists::new();
    let shelter = &lists.exchange.shelter;
    assert!(lists.is_admitted(&shelter.client));
    let uri = shelter.uri();
    let renewed = shelter
        .authority
        .issue(&crate::support::client_params(&[&uri]));
    fs::write(
        lists.of_shelter(),
        shelter.authority.list(&[&shelter.client]),
    )
    .unwrap();
    let error = lists.shakes(&lists.trusted(), &shelter.client).unwrap_err();
    assert_eq!(error, Error::InvalidCertificate(CertificateError::Revoked));
    lists.shelter_alone_is_refused();
    assert!(lists.is_admitted(&renewed), "its new one counts");
}

#[test]
fn a_list_counts_in_pem_too() {
    let lists = Lists::new();
    let shelter = &lists.exchange.shelter;
    let pem = |der: &[u8]| {
        let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
        format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n")
    };
    fs::write(lists.of_shelter(), pem(&shelter.authority.list(&[]))).unwrap();
    assert!(lists.is_admitted(&shelter.client));
    let revoked = shelter.authority.list(&[&shelter.client]);
    fs::write(lists.of_shelter(), pem(&revoked)).unwrap();
    lists.shelter_alone_is_refused();
}

#[test]
fn without_a_usable_list_an_authority_vouches_for_nobody() {
    let lists = Lists::new();
    let authority = &lists.exchange.shelter.authority;
    let whole = authority.list(&[]);
    let mut tampered = whole.clone();
    *tampered.last_mut().unwrap() ^= 1;
    let useless: [(&str, Vec<u8>); 6] = [
        ("stale", authority.list_until(&[], (2026, 1, 1))),
        ("a stranger's", Authority::new().list(&[])),
        ("tampered with", tampered),
        ("cut off", whole[..whole.len() - 1].to_vec()),
        ("empty", Vec::new()),
        ("a certificate", authority.certificate().to_vec()),
    ];
    for (what, list) in useless {
        fs::write(lists.of_shelter(), list).unwrap();
        assert!(!lists.is_admitted(&lists.exchange.shelter.client), "{what}");
        lists.shelter_alone_is_refused();
    }
    fs::remove_file(lists.of_shelter()).unwrap();
    lists.shelter_alone_is_refused();
    fs::write(lists.of_shelter(), whole).unwrap();
    assert!(lists.is_admitted(&lists.exchange.shelter.client));
}

#[test]
fn a_list_that_cannot_be_had_is_named_at_once_with_what_to_do() {
    let lists = Lists::new();
    let missing = || lists.trusted().current().missing_lists();
    assert_eq!(missing(), []);
    let path = lists.of_shelter();
    fs::write(&path, "not a list").unwrap();
    let malformed = missing();
    assert_eq!(malformed.len(), 1);
    assert_eq!(malformed[0].fault, CrlFault::Malformed);
    assert_eq!(malformed[0].path, path.display().to_string());
    fs::remove_file(&path).unwrap();
    assert_eq!(missing()[0].fault, CrlFault::Missing);
    assert_eq!(
        missing()[0].to_string(),
        format!(
            "{}: there is no such file: ask the authority's owner for its revocation list (CRL) and put it \
             there; until then no certificate of agency {} is accepted",
            path.display(),
            lists.exchange.shelter.id
        )
    );
}

#[test]
fn every_fault_of_a_list_says_what_to_do() {
    let of = |fault| CrlError {
        path: "crls/gateway.crl".to_owned(),
        of: "the gateway".to_owned(),
        fault,
    };
    for (fault, told) in [
        (
            CrlFault::Missing,
            "ask the authority's owner for its revocation list",
        ),
        (
            CrlFault::Unreadable(std::io::ErrorKind::PermissionDenied),
            "check the file's owner and permissions",
        ),
        (
            CrlFault::Malformed,
            "ask the authority's owner for it again",
        ),
        (CrlFault::Foreign, "ask the authority's owner for its own"),
        (CrlFault::Stale, "ask the authority's owner for a newer"),
    ] {
        let text = of(fault).to_string();
        assert!(text.starts_with("crls/gateway.crl: "), "{text}");
        assert!(text.contains(told), "{text}");
        assert!(text.ends_with("no certificate of the gateway is accepted"));
    }
}

#[test]
fn a_client_refuses_a_server_by_its_authoritys_list_and_knows_why() {
    let lists = Lists::new();
    let gateway = &lists.exchange.gateway;
    assert_eq!(lists.of_gateway(), None);
    let path = lists.path("gateway");
    for (list, fault) in [
        (
            gateway.authority.list_until(&[], (2026, 1, 1)),
            CrlFault::Stale,
        ),
        (Authority::new().list(&[]), CrlFault::Foreign),
        (b"not a list".to_vec(), CrlFault::Malformed),
    ] {
        fs::write(&path, list).unwrap();
        assert_eq!(lists.of_gateway().unwrap().fault, fault);
    }
    fs::remove_file(&path).unwrap();
    let missing = lists.of_gateway().unwrap();
    assert_eq!(missing.fault, CrlFault::Missing);
    assert_eq!(missing.path, path.display().to_string());
}

#[test]
fn a_client_refuses_a_revoked_server() {
    let lists = Lists::new();
    let (gateway, shelter) = (&lists.exchange.gateway, &lists.exchange.shelter.client);
    let revoked = gateway.authority.list(&[&gateway.leaf]);
    fs::write(lists.path("gateway"), revoked).unwrap();
    let list = RevocationFolder::new(lists.folder.path()).of_gateway();
    let directory = lists.exchange.directory();
    let config = client_config(shelter.own(), directory.gateway(), &list, &clock()).unwrap();
    let server = server_with(&lists.exchange, lists.trusted());
    let error = shake(&Arc::new(config), &server).err().unwrap();
    assert_eq!(error, Error::InvalidCertificate(CertificateError::Revoked));
    assert_eq!(list.judge(&error), None, "the list is in order");
}

#[test]
fn a_newer_trust_counts_for_the_next_handshake_of_a_running_server() {
    let lists = Lists::new();
    let shelter = &lists.exchange.shelter;
    let trusted = lists.trusted();
    let server = server_with(&lists.exchange, trusted.clone());
    let client = client(&lists.exchange, Some(&shelter.client), &[&TLS13]);
    assert!(shake(&client, &server).is_ok());
    let before = trusted.current();
    let peer = before.admit(&shelter.client.chain(), now());
    let expected = Peer {
        name: PeerName::Agency(shelter.id),
        certificate_sha256: shelter.client.sha256(),
    };
    assert_eq!(peer, Some(expected));

    fs::write(
        lists.of_shelter(),
        shelter.authority.list(&[&shelter.client]),
    )
    .unwrap();
    assert!(
        shake(&client, &server).is_ok(),
        "a file alone changes nothing"
    );
    trusted.replace(lists.exchange.trust(lists.folder.path()));
    assert!(shake(&client, &server).is_err());
    assert!(trusted.current().generation() > before.generation());
}

#[test]
fn a_file_that_cannot_be_read_is_no_list() {
    let lists = Lists::new();
    let path = lists.of_shelter();
    fs::remove_file(&path).unwrap();
    // Whoever may read everything cannot read a folder as a file either.
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let faults = lists.trusted().current().missing_lists();
    assert!(matches!(faults[0].fault, CrlFault::Unreadable(_)));
    lists.shelter_alone_is_refused();
}

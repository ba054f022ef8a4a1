//! What takes over from what: an authority, a server's certificate, a statement key.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use amanat_identity::{
    CertificateFault, CrlFault, Directory, DirectoryError, OwnCertificate, PeerName,
    RevocationFolder, Signed, SignedError, TokenVerifier, Trust, Trusted, tls::client_config,
    token::Audience,
};
use amanat_schema::{
    Time, directory,
    policy::Right,
    statement::{Consent, Envelope, Statement, Withdrawal},
};
use amanat_seal::statement::SigningKey;
use base64::Engine as _;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{CertificateError, Error, version::TLS13};
use tempfile::TempDir;

use crate::{
    support::{
        Authority, CUSTODIAN, Exchange, GATEWAY, Leaf, client_params, clock, new_key, now, officer,
    },
    tls::{client, server_with, shake},
};

const HOUR: Duration = Duration::from_secs(3600);

/// An exchange in which every authority bears the same name, as a new one often does, with a folder of lists.
struct Overlap {
    exchange: Exchange,
    /// The shelter's or the gateway's next authority.
    new: Authority,
    folder: TempDir,
}

impl Overlap {
    fn new() -> Self {
        let (exchange, folder) = (Exchange::new(), TempDir::new().unwrap());
        exchange.put_lists(folder.path());
        Self {
            exchange,
            new: Authority::new(),
            folder,
        }
    }

    fn put(&self, name: &str, lists: &[Vec<u8>]) {
        let pem = lists.iter().map(|der| {
            let text = base64::prelude::BASE64_STANDARD.encode(der);
            format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n")
        });
        fs::write(self.path(name), pem.collect::<String>()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.crl"))
    }

    fn of_shelter(&self, lists: &[Vec<u8>]) {
        self.put(&self.exchange.shelter.id.to_string(), lists);
    }

    /// The shelter's next client.
    fn client(&self) -> Leaf {
        let uri = self.exchange.shelter.uri();
        self.new.issue(&client_params(&[&uri]))
    }

    /// With the new authority beside the shelter's and the gateway's own.
    fn directory(&self) -> Directory {
        let mut wire = self.exchange.wire();
        let new = self.new.certificate().to_vec();
        wire.agencies[0].issuing_cas.push(new);
        verified(&self.exchange, &wire)
    }

    fn trust(&self) -> Trust {
        let lists = RevocationFolder::new(self.folder.path());
        Trust::new(Arc::new(self.directory()), &lists).unwrap()
    }

    fn admits(&self, leaf: &Leaf) -> bool {
        let admitted = self.trust().admit(&leaf.chain(), now()).is_some();
        let server = server_with(&self.exchange, Trusted::new(self.trust()));
        let client = client(&self.exchange, Some(leaf), &[&TLS13]);
        assert_eq!(shake(&client, &server).is_ok(), admitted);
        admitted
    }
}

fn verified(exchange: &Exchange, wire: &directory::Directory) -> Directory {
    Directory::verify(&exchange.publish(wire), &exchange.pinned()).unwrap()
}

#[test]
fn a_chain_to_either_of_two_authorities_counts_while_its_own_list_is_there() {
    let overlap = Overlap::new();
    let (old, new) = (&overlap.exchange.shelter.client, overlap.client());
    let old_list = || overlap.exchange.shelter.authority.list(&[]);
    assert!(overlap.admits(old));
    assert!(!overlap.admits(&new), "there is no list of its authority");

    for lists in [
        [old_list(), overlap.new.list(&[])],
        [overlap.new.list(&[]), old_list()],
    ] {
        overlap.of_shelter(&lists);
        assert!(overlap.admits(old) && overlap.admits(&new));
    }
    overlap.of_shelter(&[overlap.new.list(&[])]);
    assert!(!overlap.admits(old) && overlap.admits(&new));
    overlap.of_shelter(&[old_list(), overlap.new.list_until(&[], (2026, 1, 1))]);
    assert!(overlap.admits(old));
    assert!(!overlap.admits(&new), "its own list is out of date");
    assert!(overlap.admits(&overlap.exchange.police.client));
}

#[test]
fn each_of_two_authorities_revokes_its_own() {
    let overlap = Overlap::new();
    let (old, new) = (&overlap.exchange.shelter.client, overlap.client());
    let old_authority = &overlap.exchange.shelter.authority;
    overlap.of_shelter(&[old_authority.list(&[old]), overlap.new.list(&[])]);
    assert!(!overlap.admits(old) && overlap.admits(&new));
    overlap.of_shelter(&[old_authority.list(&[]), overlap.new.list(&[&new])]);
    assert!(overlap.admits(old) && !overlap.admits(&new));
}

#[test]
fn an_older_list_beside_a_newer_one_of_its_authority_opens_nothing() {
    let overlap = Overlap::new();
    let shelter = &overlap.exchange.shelter;
    let (older, newer) = (
        shelter.authority.list(&[]),
        shelter.authority.list(&[&shelter.client]),
    );
    for lists in [[older.clone(), newer.clone()], [newer, older]] {
        overlap.of_shelter(&lists);
        assert!(!overlap.admits(&shelter.client));
    }
}

#[test]
fn one_list_of_several_that_is_damaged_closes_the_party() {
    let overlap = Overlap::new();
    let shelter = &overlap.exchange.shelter;
    overlap.of_shelter(&[shelter.authority.list(&[]), b"not a list".to_vec()]);
    assert!(!overlap.admits(&shelter.client));
    let missing = overlap.trust().missing_lists();
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].fault, CrlFault::Malformed);
}

#[test]
fn a_client_believes_a_server_of_either_authority_by_its_own_list() {
    let overlap = Overlap::new();
    let exchange = &overlap.exchange;
    let mut wire = exchange.wire();
    let gateway = wire.gateway.as_mut().unwrap();
    gateway.issuing_cas.push(overlap.new.certificate().to_vec());
    let directory = verified(exchange, &wire);
    let params = CertificateParams::new([GATEWAY.to_owned()]).unwrap();
    let renewed = overlap.new.issue(&params);
    let shakes = |leaf: &Leaf| {
        let list = RevocationFolder::new(overlap.folder.path()).of_gateway();
        let own = exchange.shelter.client.own();
        let config = client_config(own, directory.gateway(), &list, &clock()).unwrap();
        let trusted = Trusted::new(overlap.trust());
        let server = amanat_identity::tls::server_config(leaf.shown(), trusted, &clock()).unwrap();
        let shaken = shake(&Arc::new(config), &Arc::new(server));
        shaken
            .map(drop)
            .map_err(|error| (list.judge(&error), error))
    };
    let old = &exchange.gateway.leaf;
    assert!(shakes(old).is_ok());
    let (list, _) = shakes(&renewed).unwrap_err();
    assert_eq!(list.unwrap().fault, CrlFault::Foreign);

    let of_old = |revoked: &[&Leaf]| exchange.gateway.authority.list(revoked);
    overlap.put("gateway", &[of_old(&[]), overlap.new.list(&[])]);
    assert!(shakes(old).is_ok() && shakes(&renewed).is_ok());
    overlap.put("gateway", &[of_old(&[old]), overlap.new.list(&[])]);
    let (list, error) = shakes(old).unwrap_err();
    assert_eq!(error, Error::InvalidCertificate(CertificateError::Revoked));
    assert_eq!(list, None, "the list is in order");
    assert!(shakes(&renewed).is_ok());
}

#[test]
fn a_handshake_shows_the_certificate_in_use_when_it_begins() {
    let exchange = Exchange::new();
    let shown = exchange.gateway.leaf.shown();
    let lists = TempDir::new().unwrap();
    exchange.put_lists(lists.path());
    let trusted = Trusted::new(exchange.trust(lists.path()));
    let server = amanat_identity::tls::server_config(shown.clone(), trusted, &clock());
    let server = Arc::new(server.unwrap());
    let client = client(&exchange, Some(&exchange.shelter.client), &[&TLS13]);
    let seen = || {
        let (client, _) = shake(&client, &server).unwrap();
        client.peer_certificates().unwrap()[0].clone()
    };
    assert_eq!(seen(), exchange.gateway.leaf.certificate);
    let params = CertificateParams::new([GATEWAY.to_owned()]).unwrap();
    let renewed = exchange.gateway.authority.issue(&params);
    shown.replace(renewed.own());
    assert_eq!(seen(), renewed.certificate);
}

#[test]
fn a_certificate_of_ones_own_is_refused_for_what_is_wrong_with_it() {
    let exchange = Exchange::new();
    let directory = exchange.directory();
    let authority = &exchange.custodian.authority;
    let uri = directory.custodian_uri();
    let params = || {
        let mut params = CertificateParams::new([CUSTODIAN.to_owned()]).unwrap();
        params
            .subject_alt_names
            .extend(client_params(&[&uri]).subject_alt_names);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params
    };
    let check = |leaf: &Leaf| {
        let own = leaf.own();
        own.serves_as(directory.custodian(), now())?;
        own.calls_as(PeerName::Custodian, &directory, now())
    };
    let good = authority.issue(&params());
    assert_eq!(check(&good), Ok(()));

    let mut expired = params();
    expired.not_after = date_time_ymd(2026, 2, 28);
    assert_eq!(
        check(&authority.issue(&expired)),
        Err(CertificateFault::Time)
    );
    for stranger in [&Authority::new(), &exchange.gateway.authority] {
        let fault = check(&stranger.issue(&params()));
        assert_eq!(fault, Err(CertificateFault::Authority));
    }
    let mut other = params();
    other.subject_alt_names.remove(0);
    let nameless = check(&authority.issue(&other));
    assert_eq!(nameless, Err(CertificateFault::Name(CUSTODIAN.to_owned())));
    let mut other = params();
    other.subject_alt_names.pop();
    assert_eq!(
        check(&authority.issue(&other)),
        Err(CertificateFault::Name(uri.clone()))
    );
    let mut server_only = params();
    server_only.extended_key_usages.pop();
    let fault = check(&authority.issue(&server_only));
    assert!(matches!(fault, Err(CertificateFault::Use(_))), "{fault:?}");

    let pair = OwnCertificate::new(good.chain(), exchange.gateway.leaf.key());
    assert_eq!(pair.err(), Some(CertificateFault::OtherKey));
    let none = OwnCertificate::new(Vec::new(), good.key());
    assert_eq!(none.err(), Some(CertificateFault::Unusable));
}

/// The shelter signs with a new key since an hour; its old one was retired then.
struct Retired {
    exchange: Exchange,
    old: SigningKey,
    compromised_since: Option<Time>,
}

impl Retired {
    fn new() -> Self {
        let mut exchange = Exchange::new();
        let old = std::mem::replace(&mut exchange.shelter.statement_key, new_key());
        Self {
            exchange,
            old,
            compromised_since: None,
        }
    }

    fn directory(&self) -> Directory {
        let mut wire = self.exchange.wire();
        wire.agencies[0].retired_statement_keys = vec![directory::RetiredKey {
            public_key: self.old.public_key().to_vec(),
            retired_time: Some((now() - HOUR).to_timestamp()),
            compromised_since_time: self.compromised_since.map(Time::to_timestamp),
        }];
        verified(&self.exchange, &wire)
    }

    fn consent(&self, key: &SigningKey, signed: Time) -> Statement {
        let shelter = &self.exchange.shelter;
        let token = shelter.token(&officer(&[Right::CaseWorker]), signed);
        let consent = Consent {
            head: Some(shelter.head(1, &token, signed)),
            ..Consent::default()
        };
        Statement {
            envelope: Some(key.sign(&consent)),
            officer_token: token,
        }
    }

    /// What the old key signed, an hour before it was retired.
    fn old_consent(&self) -> Envelope {
        self.consent(&self.old, now() - HOUR * 2).envelope.unwrap()
    }
}

#[test]
fn a_retired_key_signs_nothing_new_but_what_can_only_close() {
    let retired = Retired::new();
    let (directory, tokens) = (retired.directory(), TokenVerifier::new(Audience::Gateway));
    for signed in [now() - HOUR * 2, now()] {
        let late = retired.consent(&retired.old, signed);
        let refused = Signed::<Consent>::verify(&late, &directory, &tokens, now());
        assert!(matches!(refused, Err(SignedError::Retired)));
    }
    let shelter = &retired.exchange.shelter;
    let new = retired.consent(&shelter.statement_key, now());
    assert!(Signed::<Consent>::verify(&new, &directory, &tokens, now()).is_ok());

    let token = shelter.token(&officer(&[Right::CaseWorker]), now());
    let withdrawal = Withdrawal {
        head: Some(shelter.head(2, &token, now())),
        consent_id: vec![7; 16],
    };
    let withdrawal = Statement {
        envelope: Some(retired.old.sign(&withdrawal)),
        officer_token: token,
    };
    assert!(Signed::<Withdrawal>::verify(&withdrawal, &directory, &tokens, now()).is_ok());
}

#[test]
fn what_a_key_signed_before_it_was_retired_still_verifies() {
    let retired = Retired::new();
    let directory = retired.directory();
    let before = retired.old_consent();
    assert!(Signed::<Consent>::verify_envelope(&before, &directory).is_ok());
    assert!(Signed::<Consent>::verify_recorded(&before, &directory, now()).is_ok());
    assert!(Signed::<Consent>::verify_shown(&before, &directory, now()).is_ok());

    let after = retired.consent(&retired.old, now()).envelope.unwrap();
    let refused = [
        Signed::<Consent>::verify_envelope(&after, &directory),
        Signed::<Consent>::verify_recorded(&after, &directory, now()),
        Signed::<Consent>::verify_shown(&after, &directory, now()),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(SignedError::Retired)));
    }
    // A key that is listed nowhere is a stranger's.
    let unlisted = retired.exchange.directory();
    assert!(Signed::<Consent>::verify_envelope(&before, &unlisted).is_err());
}

#[test]
fn of_a_compromised_key_only_what_was_recorded_before_counts() {
    let mut retired = Retired::new();
    let since = now() - HOUR * 3 / 2;
    retired.compromised_since = Some(since);
    let (directory, before) = (retired.directory(), retired.old_consent());
    let recorded = |at| Signed::<Consent>::verify_recorded(&before, &directory, at);
    assert!(recorded(since - Duration::from_millis(1)).is_ok());
    assert!(matches!(recorded(since), Err(SignedError::Compromised)));
    // The time that it names is the thief's to choose.
    let shown = [
        Signed::<Consent>::verify_envelope(&before, &directory),
        Signed::<Consent>::verify_shown(&before, &directory, now()),
    ];
    for refused in shown {
        assert!(matches!(refused, Err(SignedError::Compromised)));
    }
    let (shelter, police) = (retired.exchange.shelter.id, retired.exchange.police.id);
    let (old, new) = (
        retired.old.key_id(),
        retired.exchange.shelter.statement_key.key_id(),
    );
    assert!(!directory.is_own_word(shelter, &old, since));
    assert!(directory.is_own_word(shelter, &old, since - Duration::from_millis(1)));
    assert!(directory.is_own_word(shelter, &new, now()));
    assert!(!directory.is_own_word(police, &new, now()));
    // Nor does forgetting the key bring back what a thief signed with it.
    let forgotten = retired.exchange.directory();
    assert!(!forgotten.is_own_word(shelter, &old, since - Duration::from_millis(1)));
    assert!(forgotten.is_own_word(shelter, &new, now()));
}

#[test]
fn nobody_takes_the_id_or_a_key_of_an_agency_that_is_listed_no_more() {
    let exchange = Exchange::new();
    let former = |wire: &directory::Directory, key: &SigningKey| directory::FormerAgency {
        agency_id: wire.agencies[0].agency_id.clone(),
        statement_keys: vec![directory::RetiredKey {
            public_key: key.public_key().to_vec(),
            retired_time: Some(now().to_timestamp()),
            compromised_since_time: None,
        }],
        ..directory::FormerAgency::default()
    };
    let refused = |wire: &directory::Directory| match Directory::check_fields(wire) {
        Err(DirectoryError::Field(told)) => told,
        other => panic!("{other:?}"),
    };
    let mut wire = exchange.wire();
    wire.former_agencies = vec![former(&wire, &new_key())];
    assert!(refused(&wire).contains("former_agencies"), "its id");
    let left = wire.agencies.remove(0);
    assert!(Directory::check_fields(&wire).is_ok());
    let id = exchange.shelter.id;
    assert!(verified(&exchange, &wire).agency(id).is_none());

    wire.former_agencies[0].statement_keys[0].public_key = left.statement_keys[0].clone();
    wire.agencies[0]
        .statement_keys
        .clone_from(&left.statement_keys);
    assert!(refused(&wire).contains("stands twice"), "its key");
}

//! An invented exchange: two agencies, two servers, two registrars, each with keys and an authority of
//! its own. Other rooms' tests take it from here.
#![allow(dead_code, reason = "each room's tests use a part of it")]
#![allow(unreachable_pub, reason = "a module of several test programs")]

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use amanat_identity::{
    Directory, Officer, OwnCertificate, Registrars, RevocationFolder, ShownCertificate,
    TokenIssuer, Trust, Trusted,
};
use amanat_ledger::LogSigner;
use amanat_schema::{
    AgencyId, CaseId, StatementId, Time,
    clock::Clock,
    directory,
    policy::{AgencyKind, Right},
    record::Province,
    statement::{Envelope, Statement, StatementHead},
};
use amanat_seal::statement::SigningKey;
use prost::{Message, Name};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub const EXCHANGE: &str = "exchange.example";
pub const GATEWAY: &str = "gateway.example";
pub const CUSTODIAN: &str = "custodian.example";

/// 2026-03-01T09:30:00Z.
pub fn now() -> Time {
    Time::from_millis(1_772_357_400_000).unwrap()
}

/// A clock that stands at [`now`].
pub fn clock() -> Clock {
    Arc::new(now)
}

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// An end-entity certificate and its key.
pub struct Leaf {
    serial: SerialNumber,
    pub certificate: CertificateDer<'static>,
    pub key: Vec<u8>,
    pub certificate_pem: String,
    pub key_pem: String,
}

/// A leaf before it is issued, to be spoiled.
pub fn client_params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().unwrap()))
        .collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.0.der()
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let serial: [u8; 16] = amanat_seal::random().unwrap();
        let mut params = params.clone();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf {
            serial: SerialNumber::from_slice(&serial),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Authority {
    /// A revocation list, DER, good for centuries.
    pub fn list(&self, revoked: &[&Leaf]) -> Vec<u8> {
        self.list_until(revoked, (3000, 1, 1))
    }

    /// One that is good until a day, as in `(2026, 3, 4)`, begins.
    pub fn list_until(&self, revoked: &[&Leaf], (year, month, day): (i32, u8, u8)) -> Vec<u8> {
        let revoked = revoked.iter().map(|leaf| RevokedCertParams {
            serial_number: leaf.serial.clone(),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(year, month, day),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().der().to_vec()
    }
}

impl Leaf {
    pub fn own(&self) -> OwnCertificate {
        OwnCertificate::new(self.chain(), self.key()).unwrap()
    }

    pub fn shown(&self) -> ShownCertificate {
        self.own().into()
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub fn sha256(&self) -> [u8; 32] {
        amanat_seal::sha256(&self.certificate)
    }
}

pub struct Agency {
    pub id: AgencyId,
    pub kind: AgencyKind,
    pub authority: Authority,
    pub client: Leaf,
    pub statement_key: SigningKey,
    pub issuer_key: Vec<u8>,
}

impl Agency {
    fn new(id: u8, kind: AgencyKind) -> Self {
        let id = AgencyId::new([id; 16]);
        let authority = Authority::new();
        let client = authority.issue(&client_params(&[&agency_uri(id)]));
        Self {
            id,
            kind,
            authority,
            client,
            statement_key: new_key(),
            issuer_key: new_pkcs8(),
        }
    }

    pub fn uri(&self) -> String {
        agency_uri(self.id)
    }

    pub fn issuer_name(&self) -> String {
        format!("https://identity.example/{}", self.id)
    }

    pub fn issuer_public_key(&self) -> [u8; 32] {
        SigningKey::from_pkcs8(&self.issuer_key)
            .unwrap()
            .public_key()
    }

    pub fn issuer(&self) -> TokenIssuer {
        TokenIssuer::new(self.issuer_name(), "key-1".to_owned(), &self.issuer_key)
    }

    /// Good for 15 minutes from `now`, bound to the agency's client certificate.
    pub fn token(&self, officer: &Officer, now: Time) -> String {
        self.issuer()
            .issue(officer, &self.client.sha256(), &[1; 16], now)
            .unwrap()
    }

    /// What every statement begins with: of case c5, its id as given.
    pub fn head(&self, statement: u8, token: &str, signed: Time) -> StatementHead {
        StatementHead {
            exchange_id: EXCHANGE.to_owned(),
            statement_id: StatementId::new([statement; 16]).to_vec(),
            agency_id: self.id.to_vec(),
            case_id: CaseId::new([0xc5; 16]).to_vec(),
            follows: Vec::new(),
            officer_token_sha256: amanat_seal::sha256(token.as_bytes()).to_vec(),
            signed_time: Some(signed.to_timestamp()),
        }
    }

    pub fn sign<M: Message + Name>(&self, message: &M, token: &str) -> Statement {
        Statement {
            envelope: Some(self.statement_key.sign(message)),
            officer_token: token.to_owned(),
        }
    }

    fn wire(&self) -> directory::Agency {
        directory::Agency {
            agency_id: self.id.to_vec(),
            kind: self.kind.into(),
            province: Province::Punjab.into(),
            display_name: String::new(),
            services: Vec::new(),
            issuing_cas: vec![self.authority.certificate().to_vec()],
            statement_keys: vec![self.statement_key.public_key().to_vec()],
            token_issuers: vec![directory::TokenIssuer {
                issuer: self.issuer_name(),
                key_id: "key-1".to_owned(),
                public_key: self.issuer_public_key().to_vec(),
            }],
            ..directory::Agency::default()
        }
    }
}

/// The gateway or the custodian.
pub struct Server {
    pub name: &'static str,
    pub authority: Authority,
    pub leaf: Leaf,
    pub log_key: Vec<u8>,
    pub statement_key: SigningKey,
}

impl Server {
    fn new(name: &'static str) -> Self {
        let authority = Authority::new();
        let leaf = authority.issue(&CertificateParams::new([name.to_owned()]).unwrap());
        Self {
            name,
            authority,
            leaf,
            log_key: new_pkcs8(),
            statement_key: new_key(),
        }
    }

    pub fn log_signer(&self) -> LogSigner {
        LogSigner::from_pkcs8(&format!("{}/log", self.name), &self.log_key).unwrap()
    }

    fn wire(&self) -> directory::Service {
        let log = self.log_signer();
        directory::Service {
            server_name: self.name.to_owned(),
            issuing_cas: vec![self.authority.certificate().to_vec()],
            log_origin: log.origin().to_owned(),
            log_verifier_key: log.verifier_key(),
            statement_keys: vec![self.statement_key.public_key().to_vec()],
            card_time: None,
        }
    }
}

pub struct Exchange {
    pub registrars: [SigningKey; 2],
    pub shelter: Agency,
    pub police: Agency,
    pub oversight: Agency,
    pub gateway: Server,
    pub custodian: Server,
}

impl Exchange {
    pub fn new() -> Self {
        Self {
            registrars: [new_key(), new_key()],
            shelter: Agency::new(0x5e, AgencyKind::NgoShelter),
            police: Agency::new(0xb0, AgencyKind::ProvincialPolice),
            oversight: Agency::new(0x0e, AgencyKind::Oversight),
            gateway: Server::new(GATEWAY),
            custodian: Server::new(CUSTODIAN),
        }
    }

    /// Version 7, in force from an hour ago to a week ahead.
    pub fn wire(&self) -> directory::Directory {
        let time = |seconds: i64| {
            Time::from_millis(now().millis() + seconds * 1000)
                .unwrap()
                .to_timestamp()
        };
        directory::Directory {
            exchange_id: EXCHANGE.to_owned(),
            version: 7,
            not_before_time: Some(time(-3600)),
            valid_until_time: Some(time(7 * 24 * 3600)),
            registrars: Vec::new(),
            threshold: 2,
            agencies: vec![
                self.shelter.wire(),
                self.police.wire(),
                self.oversight.wire(),
            ],
            gateway: Some(self.gateway.wire()),
            custodian: Some(self.custodian.wire()),
            table_sha256: vec![0x7a; 32],
            oprf_keys: Vec::new(),
            former_agencies: Vec::new(),
        }
    }

    pub fn pinned(&self) -> Registrars {
        let keys = self.registrars.iter().map(SigningKey::public_key).collect();
        Registrars { keys, threshold: 2 }
    }

    /// Signed by both registrars.
    pub fn publish(&self, wire: &directory::Directory) -> Envelope {
        let mut envelope = self.registrars[0].sign(wire);
        self.registrars[1].cosign(&mut envelope);
        envelope
    }

    /// A revocation list for each of them, which revokes nothing.
    pub fn put_lists(&self, folder: &Path) {
        for agency in [&self.shelter, &self.police, &self.oversight] {
            let file = folder.join(format!("{}.crl", agency.id));
            fs::write(file, agency.authority.list(&[])).unwrap();
        }
        for (name, server) in [("gateway", &self.gateway), ("custodian", &self.custodian)] {
            let file = folder.join(format!("{name}.crl"));
            fs::write(file, server.authority.list(&[])).unwrap();
        }
    }

    /// What its servers trust, with the lists of a folder.
    pub fn trust(&self, lists: &Path) -> Trust {
        Trust::new(Arc::new(self.directory()), &RevocationFolder::new(lists)).unwrap()
    }

    /// For a server that no connection reaches: there is no list of anyone.
    pub fn trusted_without_lists(&self) -> Trusted {
        Trusted::new(self.trust(Path::new("no such folder")))
    }

    pub fn directory(&self) -> Directory {
        Directory::verify(&self.publish(&self.wire()), &self.pinned()).unwrap()
    }
}

pub fn officer(rights: &[Right]) -> Officer {
    Officer {
        id: "officer 7".to_owned(),
        rights: BTreeSet::from_iter(rights.iter().copied()),
        station: "Lahore 3".to_owned(),
    }
}

pub fn new_key() -> SigningKey {
    SigningKey::from_pkcs8(&new_pkcs8()).unwrap()
}

fn new_pkcs8() -> Vec<u8> {
    SigningKey::generate_pkcs8().unwrap().to_vec()
}

fn agency_uri(id: AgencyId) -> String {
    format!("spiffe://{EXCHANGE}/agency/{id}")
}

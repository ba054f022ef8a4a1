//! One exchange: a shelter whose record it is, a police unit that reads, and a gateway's log. Everything is signed for
//! real; only TLS is left out.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use amanat_database::{Connection, FromColumn, Place, Sql};
use amanat_desk::{Rulebook, Rules};
use amanat_identity::{
    Caller, Directory, Officer, Peer, PeerName, Registrars, TokenIssuer, statement::AgencyStatement,
};
use amanat_ledger::LogSigner;
use amanat_policy::DecisionTable;
use amanat_schema::{
    AgencyId, Time,
    audit::audit_service_client::AuditServiceClient,
    clock::Clock,
    directory,
    policy::{AgencyKind, Right},
    statement::{Envelope, Statement, StatementHead},
    subject::IdentifierDomain,
};
use amanat_seal::{sha256, statement::SigningKey};
use tonic::{Request, transport::Channel};

use super::{
    gateway::{GatewayLog, GatewayServer},
    oprf::{OPRF_KEYS, public_key},
};
use crate::config::Domain;

pub(super) const EXCHANGE: &str = "exchange.test";
pub(super) const TABLE: &str = "format 1\nPROVINCIAL_POLICE INVESTIGATION IDENTITY ffffffff\n";
const START: i64 = 1_772_357_400_000;

pub(super) const SHELTER: AgencyId = AgencyId::new([1; 16]);
pub(super) const POLICE: AgencyId = AgencyId::new([2; 16]);
const HOSPITAL: AgencyId = AgencyId::new([3; 16]);
const COMMISSION: AgencyId = AgencyId::new([4; 16]);
pub(super) const CASE: [u8; 16] = [9; 16];

/// Of every world.
pub(super) static REGISTRARS: LazyLock<[SigningKey; 2]> =
    LazyLock::new(|| [signing_key(), signing_key()]);

/// One agency with one officer at one connector.
pub(super) struct Agency {
    pub(super) id: AgencyId,
    pub(super) kind: AgencyKind,
    pub(super) key: SigningKey,
    issuer_key: [u8; 32],
    issuer: TokenIssuer,
    pub(super) certificate: [u8; 32],
}

/// All but the custodian's replicas, which share it and their database.
pub(super) struct Exchange {
    pub(super) shelter: Agency,
    pub(super) police: Agency,
    /// No party.
    pub(super) hospital: Agency,
    /// The oversight body.
    pub(super) commission: Agency,
    pub(super) gateway: GatewayServer,
    pub(super) client: AuditServiceClient<Channel>,
    pub(super) rules: Rulebook,
    /// Who made the tables.
    pub(super) owner: Place,
    /// The service, which owns none of them.
    pub(super) place: Place,
    services: [directory::Service; 2],
    clock: Arc<AtomicI64>,
    pub(super) statement_key: Arc<SigningKey>,
    custodian_log: Vec<u8>,
}

impl Agency {
    fn new(id: AgencyId, kind: AgencyKind) -> Self {
        let pkcs8 = SigningKey::generate_pkcs8().unwrap();
        Self {
            id,
            kind,
            key: signing_key(),
            issuer_key: SigningKey::from_pkcs8(&pkcs8).unwrap().public_key(),
            issuer: TokenIssuer::new(id.to_string(), "issuer".to_owned(), &pkcs8),
            certificate: sha256(id.as_bytes()),
        }
    }

    pub(super) fn officer(&self, name: &str) -> Officer {
        Officer {
            id: name.to_owned(),
            rights: BTreeSet::from([if self.kind == AgencyKind::Oversight {
                Right::Auditor
            } else {
                Right::CaseWorker
            }]),
            station: "station".to_owned(),
        }
    }

    /// A request over this agency's connection, by an officer with a token.
    pub(super) fn asks<T>(&self, officer: &str, message: T) -> Request<T> {
        self.asks_as(self.officer(officer), message)
    }

    pub(super) fn asks_as<T>(&self, officer: Officer, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(Caller {
            agency: self.id,
            kind: self.kind,
            certificate_sha256: self.certificate,
            officer: Arc::new(officer),
        });
        self.connect(request)
    }

    /// A request over this agency's connection.
    pub(super) fn connect<T>(&self, mut request: Request<T>) -> Request<T> {
        request.extensions_mut().insert(Peer {
            name: PeerName::Agency(self.id),
            certificate_sha256: self.certificate,
        });
        request
    }

    /// What this agency signs, whoever the statement names.
    pub(super) fn sign<M: AgencyStatement>(&self, message: &M) -> Envelope {
        self.key.sign(message)
    }

    /// A statement of this agency, with its officer's token.
    pub(super) fn states<M: AgencyStatement>(
        &self,
        now: Time,
        message: impl FnOnce(StatementHead) -> M,
    ) -> Statement {
        let officer = self.officer("officer 1");
        let token = self.issuer.issue(&officer, &self.certificate, &id(), now);
        let officer_token = token.unwrap();
        let head = StatementHead {
            officer_token_sha256: sha256(officer_token.as_bytes()).to_vec(),
            ..self.head(now)
        };
        Statement {
            envelope: Some(self.sign(&message(head))),
            officer_token,
        }
    }

    pub(super) fn head(&self, now: Time) -> StatementHead {
        StatementHead {
            exchange_id: EXCHANGE.to_owned(),
            statement_id: id().to_vec(),
            agency_id: self.id.to_vec(),
            case_id: CASE.to_vec(),
            signed_time: Some(now.to_timestamp()),
            ..StatementHead::default()
        }
    }

    fn listed(&self) -> directory::Agency {
        directory::Agency {
            agency_id: self.id.to_vec(),
            kind: self.kind.into(),
            issuing_cas: vec![authority()],
            statement_keys: vec![self.key.public_key().to_vec()],
            retired_statement_keys: Vec::new(),
            token_issuers: vec![directory::TokenIssuer {
                issuer: self.id.to_string(),
                key_id: "issuer".to_owned(),
                public_key: self.issuer_key.to_vec(),
            }],
            ..directory::Agency::default()
        }
    }
}

impl Exchange {
    pub(super) fn new(owner: Place, place: Place) -> Self {
        let shelter = Agency::new(SHELTER, AgencyKind::NgoShelter);
        let police = Agency::new(POLICE, AgencyKind::ProvincialPolice);
        let hospital = Agency::new(HOSPITAL, AgencyKind::Health);
        let commission = Agency::new(COMMISSION, AgencyKind::Oversight);
        let gateway_pkcs8 = SigningKey::generate_pkcs8().unwrap();
        let gateway_log = LogSigner::from_pkcs8("gateway.test/log", &gateway_pkcs8).unwrap();
        let custodian_log = SigningKey::generate_pkcs8().unwrap().to_vec();
        let statement_key = signing_key();
        let services = [
            service("gateway.test", &gateway_pkcs8, &signing_key()),
            service("custodian.test", &custodian_log, &statement_key),
        ];
        let agencies = [&shelter, &police, &hospital, &commission];
        let rules = Rulebook::new(rules(&agencies, services.clone(), 1, &OPRF_KEYS));
        let (gateway, client) = GatewayServer::start(GatewayLog::new(Arc::new(gateway_log)));
        Self {
            shelter,
            police,
            hospital,
            commission,
            gateway,
            client,
            rules,
            owner,
            place,
            services,
            clock: Arc::new(AtomicI64::new(START)),
            statement_key: Arc::new(statement_key),
            custodian_log,
        }
    }

    pub(super) fn clock(&self) -> Clock {
        let millis = Arc::clone(&self.clock);
        Arc::new(move || Time::from_millis(millis.load(Ordering::SeqCst)).unwrap())
    }

    pub(super) fn now(&self) -> Time {
        (self.clock())()
    }

    pub(super) fn pass(&self, time: Duration) {
        let time = i64::try_from(time.as_millis()).unwrap();
        self.clock.fetch_add(time, Ordering::SeqCst);
    }

    pub(super) fn set_back(&self, time: Duration) {
        let time = i64::try_from(time.as_millis()).unwrap();
        self.clock.fetch_sub(time, Ordering::SeqCst);
    }

    pub(super) fn custodian_signer(&self) -> LogSigner {
        LogSigner::from_pkcs8("custodian.test/log", &self.custodian_log).unwrap()
    }

    /// The rules of a newer directory, with these OPRF keys.
    pub(super) fn newer(&self, keys: &[(Domain, u32)]) -> Rules {
        let agencies = [
            &self.shelter,
            &self.police,
            &self.hospital,
            &self.commission,
        ];
        rules(&agencies, self.services.clone(), 2, keys)
    }

    /// A newer directory comes, with these OPRF keys.
    pub(super) fn relist(&self, keys: &[(Domain, u32)]) {
        self.rules.replace(self.newer(keys));
    }

    pub(super) fn statement_key(&self) -> [u8; 32] {
        self.statement_key.public_key()
    }

    pub(super) async fn database(&self) -> Connection {
        self.owner.connect().await.unwrap()
    }

    /// The one value that a query asks the custodian's database for.
    pub(super) async fn value<T: FromColumn>(&self, query: &'static str) -> T {
        let row = Sql::new(query).fetch_one(&mut self.database().await).await;
        row.unwrap().get(0).unwrap()
    }
}

pub(super) fn id() -> [u8; 16] {
    amanat_seal::random().unwrap()
}

pub(super) fn signing_key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap()
}

fn authority() -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

fn service(name: &str, log: &[u8], statement_key: &SigningKey) -> directory::Service {
    let origin = format!("{name}/log");
    let signer = LogSigner::from_pkcs8(&origin, log).unwrap();
    directory::Service {
        server_name: name.to_owned(),
        issuing_cas: vec![authority()],
        log_origin: origin,
        log_verifier_key: signer.verifier_key(),
        statement_keys: vec![statement_key.public_key().to_vec()],
        card_time: None,
    }
}

fn rules(
    agencies: &[&Agency],
    services: [directory::Service; 2],
    version: u64,
    oprf_keys: &[(Domain, u32)],
) -> Rules {
    let listed = |(domain, epoch): &(Domain, u32)| directory::OprfKey {
        domain: IdentifierDomain::from(*domain).into(),
        epoch: *epoch,
        public_key: public_key(*domain, *epoch).to_vec(),
    };
    let registrars = &*REGISTRARS;
    let [gateway, custodian] = services;
    let start = Time::from_millis(START).unwrap();
    let mut envelope = registrars[0].sign(&directory::Directory {
        exchange_id: EXCHANGE.to_owned(),
        version,
        not_before_time: Some(start.to_timestamp()),
        valid_until_time: Some((start + Duration::from_hours(24 * 30)).to_timestamp()),
        agencies: agencies.iter().map(|agency| agency.listed()).collect(),
        gateway: Some(gateway),
        custodian: Some(custodian),
        table_sha256: sha256(TABLE.as_bytes()).to_vec(),
        oprf_keys: oprf_keys.iter().map(listed).collect(),
        ..directory::Directory::default()
    });
    registrars[1].cosign(&mut envelope);
    let pinned = Registrars {
        keys: registrars.iter().map(SigningKey::public_key).collect(),
        threshold: 2,
    };
    Rules {
        directory: Arc::new(Directory::verify(&envelope, &pinned).unwrap()),
        table: DecisionTable::parse(TABLE).unwrap(),
        table_sha256: sha256(TABLE.as_bytes()),
        since: start,
        previous: None,
    }
}

//! An agency that keeps to no rule: raw calls to both servers with any token and any certificate, and
//! statements signed by hand.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use amanat::development::Server as Made;
use amanat_connector::{ConnectorError, Profile, Server};
use amanat_identity::{Officer, TokenIssuer};
use amanat_schema::{
    AgencyId, CaseId, StatementId, Time,
    audit::{Opening, Receipt, audit_service_client::AuditServiceClient},
    catalogue,
    consent::consent_service_client::ConsentServiceClient,
    key::{ReleaseKeysRequest, ReleaseKeysResponse, key_service_client::KeyServiceClient},
    policy::Right,
    record::{ReadRecordRequest, ReadRecordResponse, record_service_client::RecordServiceClient},
    referral::referral_service_client::ReferralServiceClient,
    statement::{Envelope, Statement, StatementHead},
};
use amanat_seal::statement::SigningKey;
use prost::{Message, Name};
use prost_types::FieldMask;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{Running, exchange_id, pause};

/// Everything that an agency of the exchange holds.
pub struct Party {
    pub agency: AgencyId,
    pub officer: Officer,
    pub statements: SigningKey,
    pub certificate_sha256: [u8; 32],
    pub issuer: TokenIssuer,
    gateway: Channel,
    custodian: Channel,
}

/// Any 16 random bytes.
pub fn id() -> Vec<u8> {
    amanat_seal::random::<16>().unwrap().to_vec()
}

pub fn now() -> Time {
    (amanat::system_clock())()
}

/// `subject.given_name` and its like, as a mask.
pub fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

impl Party {
    pub fn open(running: &Running, name: &str) -> Self {
        Self::of(
            running,
            &Profile::load(&running.exchange.agencies[name].folder).unwrap(),
        )
    }

    /// The agency of a profile, which may name another certificate than its own.
    pub fn of(running: &Running, profile: &Profile) -> Self {
        let certificate = fs::read(&profile.tls.certificate).unwrap();
        let private_key = fs::read(&profile.tls.private_key).unwrap();
        let identity = Identity::from_pem(&certificate, private_key);
        let tokens = profile.tokens.as_ref().unwrap();
        let officer = &profile.officers["default"];
        Self {
            agency: profile.agency,
            officer: Officer {
                id: officer.id.clone(),
                rights: officer.rights.iter().map(|name| right(name)).collect(),
                station: officer.station.clone(),
            },
            statements: SigningKey::from_pem(&fs::read(&profile.statements.signing_key).unwrap())
                .unwrap(),
            certificate_sha256: amanat_seal::sha256(
                &CertificateDer::from_pem_slice(&certificate).unwrap(),
            ),
            issuer: TokenIssuer::new(
                tokens.issuer.clone(),
                tokens.key_id.clone(),
                private_key_der(&tokens.signing_key).secret_der(),
            ),
            gateway: channel("gateway", &running.exchange.gateway, identity.clone()),
            custodian: channel("custodian", &running.exchange.custodian, identity),
        }
    }

    /// A token of the officer with all the rights that the profile gives.
    pub fn token(&self) -> String {
        self.token_of(&self.officer)
    }

    /// A token of the officer with these rights only.
    pub fn token_with(&self, rights: &[Right]) -> String {
        let rights = rights.iter().copied().collect();
        self.token_of(&Officer {
            rights,
            ..self.officer.clone()
        })
    }

    pub fn token_of(&self, officer: &Officer) -> String {
        self.token_at(officer, now(), &self.certificate_sha256)
    }

    /// A token for 15 minutes from `start`, bound to some certificate.
    pub fn token_at(&self, officer: &Officer, start: Time, certificate: &[u8; 32]) -> String {
        let id = amanat_seal::random().unwrap();
        self.issuer.issue(officer, certificate, &id, start).unwrap()
    }

    /// The officer who is the agency's other one: same rights, another person.
    pub fn colleague(&self) -> Officer {
        Officer {
            id: format!("{}-colleague", self.officer.id),
            ..self.officer.clone()
        }
    }

    /// A statement of the officer's, as honest code would sign it around the body that `build` makes.
    pub fn sign<M: Message + Name>(
        &self,
        case: CaseId,
        follows: &[u8],
        build: impl FnOnce(StatementHead) -> M,
    ) -> Statement {
        self.sign_with(&self.token(), case, follows, build)
    }

    pub fn sign_with<M: Message + Name>(
        &self,
        token: &str,
        case: CaseId,
        follows: &[u8],
        build: impl FnOnce(StatementHead) -> M,
    ) -> Statement {
        let head = StatementHead {
            exchange_id: exchange_id(),
            statement_id: StatementId::new(amanat_seal::random().unwrap()).to_vec(),
            agency_id: self.agency.to_vec(),
            case_id: case.to_vec(),
            follows: follows.to_vec(),
            officer_token_sha256: amanat_seal::sha256(token.as_bytes()).to_vec(),
            signed_time: Some(now().to_timestamp()),
        };
        Statement {
            envelope: Some(self.statements.sign(&build(head))),
            officer_token: token.to_owned(),
        }
    }

    pub fn channel(&self, server: Server) -> Channel {
        match server {
            Server::Gateway => self.gateway.clone(),
            Server::Custodian => self.custodian.clone(),
        }
    }

    pub fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.gateway.clone())
    }

    pub fn referrals(&self) -> ReferralServiceClient<Channel> {
        ReferralServiceClient::new(self.gateway.clone())
    }

    pub fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.custodian.clone())
    }

    pub fn consents(&self, server: Server) -> ConsentServiceClient<Channel> {
        ConsentServiceClient::new(self.channel(server))
    }

    pub fn audit(&self, server: Server) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel(server))
    }

    /// Asks the gateway for a read, and goes no further.
    pub async fn read(
        &self,
        read: ReadRecordRequest,
    ) -> Result<ReadRecordResponse, ConnectorError> {
        let request = ReadRecordRequest {
            request_id: id(),
            ..read
        };
        let answer = self
            .records()
            .read_record(asked(request, &self.token()))
            .await;
        Ok(answer?.into_inner())
    }

    /// Takes a receipt to the custodian. Asks again while the log can only not be checked *now*: a
    /// connection to a gateway that has just been killed takes a moment to be made anew.
    pub async fn release(
        &self,
        token: &str,
        ask: ReleaseKeysRequest,
    ) -> Result<ReleaseKeysResponse, ConnectorError> {
        for _ in 0..50 {
            let answer = self.release_once(token, ask.clone()).await;
            match answer {
                Err(error) if error.reason() == "AUDIT_UNAVAILABLE" => pause().await,
                answer => return answer,
            }
        }
        panic!("the custodian did not get a proof from the gateway");
    }

    pub async fn release_once(
        &self,
        token: &str,
        ask: ReleaseKeysRequest,
    ) -> Result<ReleaseKeysResponse, ConnectorError> {
        let request = ReleaseKeysRequest {
            request_id: id(),
            ..ask
        };
        Ok(self
            .keys()
            .release_keys(asked(request, token))
            .await?
            .into_inner())
    }
}

/// What an honest connector would ask the custodian after this answer of the gateway.
pub fn honest_ask(answer: &ReadRecordResponse) -> ReleaseKeysRequest {
    ask(
        answer.receipt.clone().unwrap(),
        answer.officer.clone().unwrap(),
        answer.referral.clone(),
    )
}

/// Asks for exactly the sealed paths that the receipt's entry released.
pub fn ask(receipt: Receipt, officer: Opening, referral: Option<Envelope>) -> ReleaseKeysRequest {
    let body = amanat_ledger::body::parse(&receipt.body).unwrap();
    let sealed = |path: &String| catalogue::by_path(path).is_some_and(|field| field.is_sealed());
    let paths = body.released.into_iter().map(|released| released.path);
    let paths: BTreeSet<String> = paths.filter(sealed).collect();
    ReleaseKeysRequest {
        request_id: Vec::new(),
        fields: Some(FieldMask {
            paths: paths.into_iter().collect(),
        }),
        read_receipt: Some(receipt),
        officer: Some(officer),
        referral,
    }
}

/// A request with an officer's token.
pub fn asked<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let token = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    request
}

/// The published reason of a refusal.
///
/// # Panics
/// If it was allowed.
pub fn reason<T, E: Into<ConnectorError>>(answer: Result<T, E>) -> String {
    match answer {
        Ok(_) => panic!("it was allowed"),
        Err(error) => error.into().reason().to_owned(),
    }
}

pub fn private_key_der(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).unwrap()
}

/// A server of the exchange, called with any client certificate or none of an agency's.
pub fn channel(name: &str, server: &Made, identity: Identity) -> Channel {
    let authority = fs::read(server.folder.join("ca/ca.pem")).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .identity(identity)
        .domain_name(format!("{name}.{}", exchange_id()));
    Endpoint::from_shared(format!("https://{}", server.address))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect_lazy()
}

/// The profile of `subject`, with a certificate in its name that the authority of `issuer` signed.
pub fn certified_by(running: &Running, issuer: &str, subject: &str) -> Profile {
    let agencies = &running.exchange.agencies;
    let mut profile = Profile::load(&agencies[subject].folder).unwrap();
    let folder = agencies[issuer].folder.join("ca");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let authority_key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let authority = Issuer::from_ca_cert_pem(&read("ca.pem"), authority_key).unwrap();
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://{}/agency/{}", exchange_id(), profile.agency);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let path = |end: &str| {
        running
            .folder()
            .join(format!("{subject}-by-{issuer}.{end}"))
    };
    fs::write(path("pem"), certificate.pem()).unwrap();
    fs::write(path("key"), key.serialize_pem()).unwrap();
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    profile.tls.certificate = path("pem");
    profile.tls.private_key = path("key");
    profile
}

fn right(name: &str) -> Right {
    Right::from_str_name(&format!("RIGHT_{name}")).unwrap()
}

//! A card as its file has it.

use amanat_config::Section;
use amanat_schema::{
    AgencyId, Time,
    directory::{self, card},
};
use pem::{EncodeConfig, LineEnding, Pem};
use prost_types::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::Serialize;

use super::Card;
use crate::{
    agency::codes,
    ceremony::{CeremonyError, verbs::party_name},
};

const KEY: &str = "a public key, 64 hexadecimal digits";
const MADE: &str = "made";
const KEYS: &str = "a list of public keys, 64 hexadecimal digits each";
const AUTHORITIES: &str = "a list with the certificate of one authority or two, in PEM form";

/// What a file says.
pub(super) struct Written {
    pub(super) fingerprint: String,
    pub(super) content: directory::Card,
    pub(super) signatures: Vec<Vec<u8>>,
}

pub(super) fn read(top: &mut Section<'_>) -> Option<Written> {
    let fingerprint = top.required("fingerprint", "eight groups of four digits");
    let name = code(top, "name", party_name);
    let exchange_id = top.or("exchange", String::new(), "the exchange's id");
    const SIGNATURES: &str = "a list of signatures, 128 hexadecimal digits each";
    let signatures: Option<Vec<String>> = top.required("signatures", SIGNATURES);
    let registrar = top.optional_section("registrar", registrar);
    let agency = top.optional_section("agency", agency);
    let gateway = top.optional_section("gateway", service);
    let custodian = top.optional_section("custodian", custodian);
    let signatures: Option<Vec<_>> = signatures?.iter().map(|s| hex::decode(s).ok()).collect();
    let Some(signatures) = signatures else {
        return top.refuse("signatures", SIGNATURES);
    };
    let mut oprf_keys = Vec::new();
    let party = match (registrar?, agency?, gateway?, custodian?) {
        (Some(public_key), None, None, None) => {
            let name: String = name.clone()?;
            card::Party::Registrar(directory::Registrar { name, public_key })
        }
        (None, Some(agency), None, None) => card::Party::Agency(agency),
        (None, None, Some(service), None) => card::Party::Gateway(service),
        (None, None, None, Some((service, keys))) => {
            oprf_keys = keys;
            card::Party::Custodian(service)
        }
        _ => {
            const ONE: &str = "exactly one of [registrar], [agency], [gateway] and [custodian]";
            return top.refuse("registrar", ONE);
        }
    };
    Some(Written {
        fingerprint: fingerprint?,
        content: directory::Card {
            exchange_id: exchange_id?,
            name: name?,
            party: Some(party),
            oprf_keys,
        },
        signatures,
    })
}

fn registrar(section: &mut Section<'_>) -> Option<Vec<u8>> {
    key(section, "public_key")
}

fn agency(section: &mut Section<'_>) -> Option<directory::Agency> {
    let id: Option<AgencyId> = section.required("id", "an id, 32 hexadecimal digits");
    let kind = code(section, "kind", codes::agency_kind);
    let province = code(section, "province", codes::province);
    let display_name = section.or("display_name", String::new(), "a name for everybody");
    let services = services(section);
    let issuing_cas = authorities(section);
    let statement_keys = keys(section, "statement_keys");
    let made = code(section, MADE, codes::time);
    let token_issuers = section.list("token_issuers", |section| {
        let issuer = section.required("issuer", "the tokens' issuer (iss)");
        let key_id = section.required("key_id", "the issuer key's name (kid)");
        let public_key = key(section, "public_key");
        Some(directory::TokenIssuer {
            issuer: issuer?,
            key_id: key_id?,
            public_key: public_key?,
        })
    });
    Some(directory::Agency {
        agency_id: id?.to_vec(),
        kind: kind?.into(),
        province: province?.into(),
        display_name: display_name?,
        services: services?,
        issuing_cas: issuing_cas?,
        statement_keys: statement_keys?,
        token_issuers: token_issuers?,
        retired_statement_keys: Vec::new(),
        card_time: Some(made?.to_timestamp()),
    })
}

fn custodian(section: &mut Section<'_>) -> Option<(directory::Service, Vec<directory::OprfKey>)> {
    let oprf_keys = section.list("oprf_keys", |section| {
        let domain = code(section, "domain", codes::domain);
        let epoch = section.required("epoch", "the number of the key's epoch");
        let public_key = key(section, "public_key");
        Some(directory::OprfKey {
            domain: domain?.into(),
            epoch: epoch?,
            public_key: public_key?,
        })
    });
    let service = service(section);
    Some((service?, oprf_keys?))
}

fn service(section: &mut Section<'_>) -> Option<directory::Service> {
    let server_name = section.required("server_name", "the host name in its certificate");
    let log_origin = section.required("log_origin", "the log's name");
    let log_verifier_key = section.required("log_key", "the log's key, as in name+hash+key");
    let statement_keys = keys(section, "statement_keys");
    let issuing_cas = authorities(section);
    let made = code(section, MADE, codes::time);
    Some(directory::Service {
        server_name: server_name?,
        issuing_cas: issuing_cas?,
        log_origin: log_origin?,
        log_verifier_key: log_verifier_key?,
        statement_keys: statement_keys?,
        card_time: Some(made?.to_timestamp()),
    })
}

fn code<T>(
    section: &mut Section<'_>,
    setting: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Option<T> {
    let text: String = section.required(setting, "a code")?;
    match parse(&text) {
        Ok(code) => Some(code),
        Err(expected) => section.refuse(setting, &expected),
    }
}

fn services(section: &mut Section<'_>) -> Option<Vec<i32>> {
    const SERVICES: &str = "a list of needs, as in [\"SAFEHOUSE\"]";
    let names: Vec<String> = section.required("services", SERVICES)?;
    let needs: Option<_> = names
        .iter()
        .map(|name| codes::need(name).ok().map(i32::from))
        .collect();
    needs.map_or_else(|| section.refuse("services", SERVICES), Some)
}

fn key(section: &mut Section<'_>, setting: &'static str) -> Option<Vec<u8>> {
    let text: String = section.required(setting, KEY)?;
    parse_key(&text).map_or_else(|| section.refuse(setting, KEY), Some)
}

fn keys(section: &mut Section<'_>, setting: &'static str) -> Option<Vec<Vec<u8>>> {
    let texts: Vec<String> = section.required(setting, KEYS)?;
    let keys: Option<Vec<_>> = texts.iter().map(|text| parse_key(text)).collect();
    let keys = keys.filter(|keys| !keys.is_empty());
    keys.map_or_else(|| section.refuse(setting, KEYS), Some)
}

fn parse_key(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok().filter(|key| key.len() == 32)
}

fn authorities(section: &mut Section<'_>) -> Option<Vec<Vec<u8>>> {
    let texts: Vec<String> = section.required("authorities", AUTHORITIES)?;
    let found: Option<Vec<_>> = texts
        .iter()
        .map(|text| {
            let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
            webpki::anchor_from_trusted_cert(&certificate).ok()?;
            Some(certificate.to_vec())
        })
        .collect();
    let found = found.filter(|found| matches!(found.len(), 1 | 2));
    found.map_or_else(|| section.refuse("authorities", AUTHORITIES), Some)
}

#[derive(Serialize)]
struct File<'a> {
    fingerprint: String,
    name: &'a str,
    exchange: Option<&'a str>,
    signatures: Vec<String>,
    registrar: Option<Registrar>,
    agency: Option<Agency<'a>>,
    gateway: Option<Service<'a>>,
    custodian: Option<Custodian<'a>>,
}

#[derive(Serialize)]
struct Registrar {
    public_key: String,
}

#[derive(Serialize)]
struct Agency<'a> {
    id: String,
    made: Option<String>,
    kind: &'static str,
    province: &'static str,
    display_name: &'a str,
    services: Vec<&'static str>,
    statement_keys: Vec<String>,
    authorities: Vec<String>,
    token_issuers: Vec<TokenIssuer<'a>>,
}

#[derive(Serialize)]
struct TokenIssuer<'a> {
    issuer: &'a str,
    key_id: &'a str,
    public_key: String,
}

#[derive(Serialize)]
struct Service<'a> {
    server_name: &'a str,
    made: Option<String>,
    log_origin: &'a str,
    log_key: &'a str,
    statement_keys: Vec<String>,
    authorities: Vec<String>,
}

#[derive(Serialize)]
struct Custodian<'a> {
    #[serde(flatten)]
    service: Service<'a>,
    oprf_keys: Vec<OprfKey>,
}

#[derive(Serialize)]
struct OprfKey {
    domain: &'static str,
    epoch: u32,
    public_key: String,
}

const HEAD: &str = "\
# A card: what this party says of itself to the exchange's registrars. It is public. Whoever takes it over
# compares the fingerprint with its owner, by telephone or face to face: `amanat directory show` prints it.

";

pub(super) fn write(card: &Card) -> Result<String, CeremonyError> {
    let mut file = File {
        fingerprint: card.fingerprint(),
        name: card.name(),
        exchange: Some(card.exchange_id()).filter(|id| !id.is_empty()),
        signatures: card.signatures.iter().map(hex::encode).collect(),
        registrar: None,
        agency: None,
        gateway: None,
        custodian: None,
    };
    match card.party() {
        card::Party::Registrar(registrar) => {
            let public_key = hex::encode(&registrar.public_key);
            file.registrar = Some(Registrar { public_key });
        }
        card::Party::Agency(agency) => file.agency = Some(Agency::of(agency)),
        card::Party::Gateway(service) => file.gateway = Some(Service::of(service)),
        card::Party::Custodian(service) => {
            let keys = card.content().oprf_keys.iter();
            file.custodian = Some(Custodian {
                service: Service::of(service),
                oprf_keys: keys.map(OprfKey::of).collect(),
            });
        }
    }
    toml::to_string_pretty(&file)
        .map(|text| format!("{HEAD}{text}"))
        .map_err(|source| CeremonyError::Toml {
            path: format!("{}.card.toml", card.kind()).into(),
            source,
        })
}

impl<'a> Agency<'a> {
    fn of(agency: &'a directory::Agency) -> Self {
        let issuers = agency.token_issuers.iter().map(|issuer| TokenIssuer {
            issuer: &issuer.issuer,
            key_id: &issuer.key_id,
            public_key: hex::encode(&issuer.public_key),
        });
        Self {
            id: hex::encode(&agency.agency_id),
            made: time(agency.card_time.as_ref()),
            kind: codes::agency_kind_name(agency.kind()),
            province: codes::province_name(agency.province()),
            display_name: &agency.display_name,
            services: agency.services().map(codes::need_name).collect(),
            statement_keys: agency.statement_keys.iter().map(hex::encode).collect(),
            authorities: agency.issuing_cas.iter().map(|der| pem(der)).collect(),
            token_issuers: issuers.collect(),
        }
    }
}

impl<'a> Service<'a> {
    fn of(service: &'a directory::Service) -> Self {
        Self {
            server_name: &service.server_name,
            made: time(service.card_time.as_ref()),
            log_origin: &service.log_origin,
            log_key: &service.log_verifier_key,
            statement_keys: service.statement_keys.iter().map(hex::encode).collect(),
            authorities: service.issuing_cas.iter().map(|der| pem(der)).collect(),
        }
    }
}

impl OprfKey {
    fn of(key: &directory::OprfKey) -> Self {
        Self {
            domain: codes::domain_name(key.domain()),
            epoch: key.epoch,
            public_key: hex::encode(&key.public_key),
        }
    }
}

fn time(made: Option<&Timestamp>) -> Option<String> {
    Time::parse(made).ok().map(|time| time.to_string())
}

fn pem(der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der), config)
}

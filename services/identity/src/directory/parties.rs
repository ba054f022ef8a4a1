//! Whom a directory lists: agencies and servers, each with its own authorities and keys.

use std::collections::{BTreeMap, BTreeSet};

use amanat_ledger::LogVerifier;
use amanat_schema::{
    AgencyId, Time, directory,
    policy::AgencyKind,
    record::{Need, Province},
};
use amanat_seal::statement::key_id;
use rustls_pki_types::CertificateDer;

use super::{DirectoryError, key};

/// A new authority or key of a server takes over from one old one.
const MOST_AT_ONCE: usize = 2;

#[derive(Debug, Clone)]
pub struct Agency {
    pub id: AgencyId,
    pub kind: AgencyKind,
    pub province: Province,
    pub display_name: String,
    /// What it can be asked to do.
    pub services: Vec<Need>,
    /// Its own; two while a new one takes over.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Ed25519 public keys that sign its statements.
    pub statement_keys: Vec<[u8; 32]>,
    /// Those that sign nothing new.
    pub retired_statement_keys: Vec<RetiredKey>,
    pub token_issuers: Vec<TokenIssuerKey>,
    /// Each key that signs or signed its statements, as envelopes name it, and since when it is compromised.
    key_ids: Vec<([u8; 32], Option<Time>)>,
}

/// A statement key that signs nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetiredKey {
    pub public_key: [u8; 32],
    /// What it signed later does not count.
    pub retired: Time,
    /// Since when somebody else may have signed with it.
    pub compromised_since: Option<Time>,
}

/// A key that an agency's identity provider signs officer tokens with.
#[derive(Debug, Clone)]
pub struct TokenIssuerKey {
    pub issuer: String,
    pub key_id: String,
    pub public_key: [u8; 32],
}

/// A server of the exchange.
#[derive(Debug, Clone)]
pub struct Service {
    pub server_name: String,
    /// Its own; two while a new one takes over.
    pub authorities: Vec<CertificateDer<'static>>,
    pub log: LogVerifier,
    /// Two while a new one takes over.
    pub statement_keys: Vec<[u8; 32]>,
}

impl Agency {
    pub(super) fn parse(wire: &directory::Agency) -> Result<Self, DirectoryError> {
        let id = AgencyId::parse(&wire.agency_id)
            .map_err(|_| DirectoryError::Field("agencies.agency_id".to_owned()))?;
        let field = |name: &str| DirectoryError::Field(format!("agencies.{name} of {id}"));
        let kind = AgencyKind::try_from(wire.kind)
            .ok()
            .filter(|kind| *kind != AgencyKind::Unspecified)
            .ok_or_else(|| field("kind"))?;
        let mut services = Vec::new();
        for service in &wire.services {
            let service = Need::try_from(*service)
                .ok()
                .filter(|need| *need != Need::Unspecified);
            services.push(service.ok_or_else(|| field("services"))?);
        }
        let keys: Option<Vec<_>> = wire.statement_keys.iter().map(|k| key(k)).collect();
        let retired = wire.retired_statement_keys.iter().map(RetiredKey::parse);
        let retired: Option<Vec<_>> = retired.collect();
        let (keys, retired) = (
            keys.filter(|keys| !keys.is_empty())
                .ok_or_else(|| field("statement_keys"))?,
            retired.ok_or_else(|| field("retired_statement_keys"))?,
        );
        let issuers: Option<Vec<_>> = wire
            .token_issuers
            .iter()
            .map(|issuer| {
                Some(TokenIssuerKey {
                    issuer: issuer.issuer.clone(),
                    key_id: issuer.key_id.clone(),
                    public_key: key(&issuer.public_key)?,
                })
            })
            .collect();
        Ok(Self {
            id,
            kind,
            province: Province::try_from(wire.province).map_err(|_| field("province"))?,
            display_name: wire.display_name.clone(),
            services,
            authorities: authorities(&wire.issuing_cas).ok_or_else(|| field("issuing_cas"))?,
            key_ids: key_ids(&keys, &retired),
            statement_keys: keys,
            retired_statement_keys: retired,
            token_issuers: issuers.ok_or_else(|| field("token_issuers"))?,
        })
    }

    /// Every key that signs or once signed its statements.
    pub(crate) fn signers(&self) -> Vec<[u8; 32]> {
        let retired = self.retired_statement_keys.iter();
        let retired = retired.map(|retired| retired.public_key);
        self.statement_keys.iter().copied().chain(retired).collect()
    }

    pub(super) fn is_own_word(&self, signed_by: &[u8], recorded: Time) -> bool {
        let mut keys = self.key_ids.iter();
        keys.any(|(id, compromised)| {
            id == signed_by && compromised.is_none_or(|since| recorded < since)
        })
    }
}

fn key_ids(in_force: &[[u8; 32]], retired: &[RetiredKey]) -> Vec<([u8; 32], Option<Time>)> {
    let retired = retired.iter();
    let retired = retired.map(|key| (key_id(&key.public_key), key.compromised_since));
    let in_force = in_force.iter().map(|key| (key_id(key), None));
    in_force.chain(retired).collect()
}

impl RetiredKey {
    fn parse(wire: &directory::RetiredKey) -> Option<Self> {
        let since = wire.compromised_since_time.as_ref();
        Some(Self {
            public_key: key(&wire.public_key)?,
            retired: Time::parse(wire.retired_time.as_ref()).ok()?,
            compromised_since: since
                .map(|since| Time::parse(Some(since)))
                .transpose()
                .ok()?,
        })
    }
}

impl Service {
    pub(super) fn parse(wire: &directory::Service) -> Option<Self> {
        let log = LogVerifier::from_verifier_key(&wire.log_verifier_key).ok()?;
        (log.origin() == wire.log_origin && !wire.server_name.is_empty()).then_some(())?;
        let keys: Option<Vec<_>> = wire.statement_keys.iter().map(|k| key(k)).collect();
        Some(Self {
            server_name: wire.server_name.clone(),
            authorities: authorities(&wire.issuing_cas)?,
            log,
            statement_keys: keys.filter(|keys| (1..=MOST_AT_ONCE).contains(&keys.len()))?,
        })
    }
}

/// The keys of agencies that are listed no more: nobody else takes them.
///
/// # Errors
/// [`DirectoryError::Field`] for one that stands twice or is still listed.
pub(super) fn former(
    wire: &[directory::FormerAgency],
    listed: &BTreeMap<AgencyId, Agency>,
) -> Result<BTreeMap<AgencyId, Vec<RetiredKey>>, DirectoryError> {
    let mut former = BTreeMap::new();
    for agency in wire {
        let id = AgencyId::parse(&agency.agency_id)
            .map_err(|_| DirectoryError::Field("former_agencies.agency_id".to_owned()))?;
        let field = |what: &str| DirectoryError::Field(format!("former_agencies ({id} {what})"));
        let keys: Option<Vec<_>> = agency
            .statement_keys
            .iter()
            .map(RetiredKey::parse)
            .collect();
        let keys = keys.ok_or_else(|| field("has no valid statement_keys"))?;
        if listed.contains_key(&id) || former.insert(id, keys).is_some() {
            return Err(field("stands twice"));
        }
    }
    Ok(former)
}

/// The public keys that prove who someone is, of each authority and those that sign or signed statements, stand
/// for one party each, or one could speak as the other.
///
/// # Errors
/// [`DirectoryError::Field`].
pub(super) fn are_apart(
    agencies: &BTreeMap<AgencyId, Agency>,
    former: &BTreeMap<AgencyId, Vec<RetiredKey>>,
    gateway: &Service,
    custodian: &Service,
) -> Result<(), DirectoryError> {
    let mut keys = BTreeSet::new();
    for (of, key) in proofs(agencies, former, gateway, custodian) {
        if !keys.insert(key) {
            let told = format!("{of} (it stands twice, or is another party's too)");
            return Err(DirectoryError::Field(told));
        }
    }
    Ok(())
}

fn proofs(
    agencies: &BTreeMap<AgencyId, Agency>,
    former: &BTreeMap<AgencyId, Vec<RetiredKey>>,
    gateway: &Service,
    custodian: &Service,
) -> Vec<(String, Vec<u8>)> {
    let mut proofs = Vec::new();
    let mut add = |of: String, authorities: &[CertificateDer<'_>], keys: Vec<[u8; 32]>| {
        let keys = keys.iter().map(|key| key.to_vec());
        proofs.extend(keys.map(|key| (format!("statement_keys of {of}"), key)));
        let authorities = authorities.iter().map(authority_key);
        proofs.extend(authorities.map(|key| (format!("issuing_cas of {of}"), key)));
    };
    for agency in agencies.values() {
        let of = format!("agency {}", agency.id);
        add(of, &agency.authorities, agency.signers());
    }
    for (id, retired) in former {
        let keys = retired.iter().map(|key| key.public_key).collect();
        add(format!("former agency {id}"), &[], keys);
    }
    for (name, service) in [("gateway", gateway), ("custodian", custodian)] {
        let keys = service.statement_keys.clone();
        add(format!("the {name}"), &service.authorities, keys);
    }
    proofs
}

fn authority_key(authority: &CertificateDer<'_>) -> Vec<u8> {
    // It was read before as a trusted certificate.
    webpki::anchor_from_trusted_cert(authority)
        .map(|anchor| anchor.subject_public_key_info.to_vec())
        .unwrap_or_default()
}

fn authorities(ders: &[Vec<u8>]) -> Option<Vec<CertificateDer<'static>>> {
    let authorities: Option<Vec<_>> = ders.iter().map(|der| certificate(der)).collect();
    authorities.filter(|authorities| (1..=MOST_AT_ONCE).contains(&authorities.len()))
}

fn certificate(der: &[u8]) -> Option<CertificateDer<'static>> {
    let der = CertificateDer::from(der.to_vec());
    webpki::anchor_from_trusted_cert(&der).ok()?;
    Some(der)
}

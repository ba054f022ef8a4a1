//! Certificate authorities, one a party or two while a new one takes over, the certificates that they issue
//! and the lists by which they revoke.

use std::{path::Path, time::Duration};

use amanat_config::private_key_pem;
use amanat_schema::Time;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, string::Ia5String,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject as _};
use time::OffsetDateTime;
use webpki::{BorrowedCertRevocationList, EndEntityCert};

use super::{CeremonyError, folder, folder::Folder};

/// A party's folder for its authorities, apart from the keys that its process works with: the process needs none
/// of it, and who holds it can speak as the party.
pub(crate) const AUTHORITIES: &str = "ca";

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A new list is due when a new directory is.
pub(crate) const LIST_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Every certificate outlives the directory that lists its authority.
const LEAF_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
const AUTHORITY_LIFE: Duration = Duration::from_secs(5 * 365 * 24 * 3600);

/// A party's own authority, with ECDSA P-256 keys.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, DER.
    pub(crate) certificate: Vec<u8>,
}

/// What a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    Server,
    Both,
}

/// A certificate that was issued, and its private key; PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) private_key: String,
}

/// A certificate that counts no more.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Revoked {
    pub(crate) serial: Vec<u8>,
    pub(crate) since: Time,
}

impl Authority {
    /// Makes a party's authority with a number, from 1: `ca.pem` and `ca.key`, then `ca-2.pem` and so on.
    pub(crate) fn make(
        folder: &Folder,
        party: &str,
        number: u32,
        now: Time,
    ) -> Result<Self, CeremonyError> {
        // The number keeps the names of two apart: a revocation list is found by its issuer's name.
        let name = match number {
            1 => format!("{party} authority"),
            number => format!("{party} authority {number}"),
        };
        let mut params = params(&name, now, AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let stem = stem(number);
        folder.private(&format!("{stem}.key"), key.serialize_pem().as_bytes())?;
        folder.public(&format!("{stem}.pem"), certificate.pem().as_bytes())?;
        Ok(Self {
            certificate: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority with a number; `None` if there is none.
    pub(crate) fn open(folder: &Path, number: u32) -> Result<Option<Self>, CeremonyError> {
        let stem = stem(number);
        let path = folder.join(format!("{stem}.pem"));
        if !path.exists() {
            return Ok(None);
        }
        let changed = |_| CeremonyError::Changed { path: path.clone() };
        let certificate = CertificateDer::from_pem_slice(&folder::read(&path)?).map_err(changed)?;
        let key = private_key_pem(&folder.join(format!("{stem}.key")))?;
        let key = KeyPair::try_from(key.secret_der())?;
        Ok(Some(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate: certificate.to_vec(),
        }))
    }

    /// Issues a certificate for `names`.
    pub(crate) fn issue(
        &self,
        common_name: &str,
        names: Vec<SanType>,
        usage: Usage,
        now: Time,
    ) -> Result<Pair, CeremonyError> {
        let mut params = params(common_name, now, LEAF_LIFE);
        params.subject_alt_names = names;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Both => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            certificate: certificate.pem(),
            private_key: key.serialize_pem(),
        })
    }

    /// Its revocation list, PEM: all that it revokes, and until when the list is good.
    pub(crate) fn list(
        &self,
        revoked: &[Revoked],
        now: Time,
        until: Time,
    ) -> Result<String, CeremonyError> {
        let params = |revoked: &Revoked| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&revoked.serial),
            revocation_time: date(revoked.since),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date(now - DAY),
            next_update: date(until),
            // Rises with each list.
            crl_number: SerialNumber::from(now.millis().unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(params).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    /// Whether it issued a certificate.
    pub(crate) fn issued(&self, certificate: &CertificateDer<'_>) -> bool {
        let own = CertificateDer::from(self.certificate.as_slice());
        let issuer = webpki::anchor_from_trusted_cert(&own).map(|anchor| anchor.subject.to_vec());
        let leaf = EndEntityCert::try_from(certificate);
        matches!((issuer, leaf), (Ok(issuer), Ok(leaf)) if *leaf.issuer() == *issuer)
    }
}

/// What the lists of a file revoke, whoever signed them; no file revokes nothing.
pub(crate) fn revoked(path: &Path) -> Result<Vec<Revoked>, CeremonyError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let changed = || CeremonyError::Changed {
        path: path.to_owned(),
    };
    let text = folder::read(path)?;
    let mut found = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(&text) {
        let list = list.map_err(|_| changed())?;
        let parsed = BorrowedCertRevocationList::from_der(&list).map_err(|_| changed())?;
        for revoked in &parsed {
            let revoked = revoked.map_err(|_| changed())?;
            let since = i64::try_from(revoked.revocation_date.as_secs() * 1000).ok();
            let since = since.and_then(|millis| Time::from_millis(millis).ok());
            found.push(Revoked {
                serial: revoked.serial_number.to_vec(),
                since: since.ok_or_else(changed)?,
            });
        }
    }
    Ok(found)
}

/// The serial number of a certificate.
pub(crate) fn serial(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    Some(parsed.serial().to_vec())
}

/// The first certificate of a PEM file.
pub(crate) fn certificate(path: &Path) -> Result<CertificateDer<'static>, CeremonyError> {
    CertificateDer::from_pem_slice(&folder::read(path)?).map_err(|_| CeremonyError::Changed {
        path: path.to_owned(),
    })
}

pub(crate) fn host(name: &str) -> Result<SanType, CeremonyError> {
    Ok(SanType::DnsName(Ia5String::try_from(name)?))
}

pub(crate) fn uri(uri: String) -> Result<SanType, CeremonyError> {
    Ok(SanType::URI(Ia5String::try_from(uri)?))
}

fn stem(number: u32) -> String {
    match number {
        1 => "ca".to_owned(),
        number => format!("ca-{number}"),
    }
}

fn params(common_name: &str, now: Time, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    // For people to read; nothing trusts it.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date(now - DAY);
    params.not_after = date(now + life);
    params
}

fn date(time: Time) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH.saturating_add(time::Duration::milliseconds(time.millis()))
}

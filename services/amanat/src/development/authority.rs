//! Certificate authorities, one a party, and the certificates that they issue.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use amanat_schema::Time;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, string::Ia5String,
};
use time::OffsetDateTime;

use super::{
    DevelopmentError,
    folder::{self, Folder},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// As long as a directory may be.
const LIST_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Every certificate outlives the directory that lists its authority.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";

/// A party's own authority, with ECDSA P-256 keys.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, DER.
    pub(super) certificate: Vec<u8>,
    now: Time,
}

/// What a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Client,
    Server,
    Both,
}

/// The files of an issued certificate.
pub(super) struct Issued {
    pub(super) certificate: PathBuf,
    pub(super) private_key: PathBuf,
}

impl Authority {
    /// Makes an authority: `ca.pem` and `ca.key` in `keys`.
    pub(super) fn make(keys: &Folder, party: &str, now: Time) -> Result<Self, DevelopmentError> {
        let mut params = params(&format!("{party} authority"), now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        keys.public(CERTIFICATE, certificate.pem().as_bytes())?;
        keys.private(KEY, key.serialize_pem().as_bytes())?;
        let certificate = certificate.der().to_vec();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
            now,
        })
    }

    /// Says that nothing is revoked yet, in the file of that name in `crls`.
    pub(super) fn empty_list(&self, crls: &Path, name: &str) -> Result<(), DevelopmentError> {
        write_list(
            &self.issuer,
            crls,
            name,
            &[],
            self.now,
            self.now + LIST_LIFE,
        )
    }

    /// Issues a certificate for `names`: `{file}.pem` and `{file}.key` in `keys`.
    pub(super) fn issue(
        &self,
        keys: &Folder,
        file: &str,
        names: Vec<SanType>,
        usage: Usage,
    ) -> Result<Issued, DevelopmentError> {
        let mut params = params(file, self.now);
        params.subject_alt_names = names;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Both => {
                vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ]
            }
        };
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate: keys.public(&format!("{file}.pem"), certificate.pem().as_bytes())?,
            private_key: keys.private(&format!("{file}.key"), key.serialize_pem().as_bytes())?,
        })
    }
}

/// The authority that was made in `keys` revokes certificates, by their serial numbers, until the list is out
/// of date.
pub(super) fn revoke(
    keys: &Path,
    crls: &Path,
    name: &str,
    serials: &[Vec<u8>],
    now: Time,
    until: Time,
) -> Result<(), DevelopmentError> {
    let text = |file: &str| {
        let path = keys.join(file);
        String::from_utf8(folder::read(&path)?).map_err(|_| DevelopmentError::Changed { path })
    };
    let key = KeyPair::from_pem(&text(KEY)?)?;
    let issuer = Issuer::from_ca_cert_pem(&text(CERTIFICATE)?, key)?;
    write_list(&issuer, crls, name, serials, now, until)
}

fn write_list(
    issuer: &Issuer<'_, KeyPair>,
    crls: &Path,
    name: &str,
    serials: &[Vec<u8>],
    now: Time,
    until: Time,
) -> Result<(), DevelopmentError> {
    let revoked = |serial: &Vec<u8>| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: date(now),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date(now - DAY),
        next_update: date(until),
        // Rises with each list.
        crl_number: SerialNumber::from(now.seconds()),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
    .signed_by(issuer)?;
    folder::replace(&crls.join(format!("{name}.crl")), list.der())
}

pub(super) fn host(name: &str) -> Result<SanType, DevelopmentError> {
    Ok(SanType::DnsName(Ia5String::try_from(name)?))
}

pub(super) fn uri(uri: String) -> Result<SanType, DevelopmentError> {
    Ok(SanType::URI(Ia5String::try_from(uri)?))
}

fn params(common_name: &str, now: Time) -> CertificateParams {
    let mut params = CertificateParams::default();
    // For people to read; nothing trusts it.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date(now - DAY);
    params.not_after = date(now + YEAR);
    params
}

fn date(time: Time) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH.saturating_add(time::Duration::milliseconds(time.millis()))
}

//! What the owner of a party does with its certificates and keys while everything runs: files are replaced, and
//! nobody is told.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use amanat::development::{Certifier, Exchange};
use amanat_connector::Profile;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use webpki::EndEntityCert;

use crate::{Running, exchange_id};

/// A party's own authority.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate chain and its key, as a process shows them.
pub struct Shown {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

impl Authority {
    /// The one that the party was made with.
    pub fn first(exchange: &Exchange, of: Certifier<'_>) -> Self {
        let folder = folder(exchange, of).join("ca");
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let (pem, key) = (read("ca.pem"), KeyPair::from_pem(&read("ca.key")).unwrap());
        let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
        Self { pem, issuer }
    }

    /// Another one, under the name that every new one here bears.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    pub fn der(&self) -> Vec<u8> {
        der(self.pem.as_bytes()).to_vec()
    }

    /// Its revocation list, PEM.
    pub fn list(&self, revoked: &[Vec<u8>]) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(3000, 1, 1),
            crl_number: SerialNumber::from(u64::MAX / 2),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Puts a new certificate of this authority in the place of the one that the party's process shows; returns
    /// the old one's serial number. Whoever looks between the two files finds a pair that does not fit.
    pub fn renew(&self, exchange: &Exchange, of: Certifier<'_>) -> Vec<u8> {
        let shown = shown(exchange, of);
        let old = serial(&shown.certificate);
        let mut params = CertificateParams::default();
        let uri = |name: String| {
            let uri = format!("spiffe://{}/{name}", exchange_id());
            SanType::URI(uri.try_into().unwrap())
        };
        let host = |name: &str| {
            let host = format!("{name}.{}", exchange_id());
            SanType::DnsName(host.try_into().unwrap())
        };
        let (client, server) = (
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        (params.subject_alt_names, params.extended_key_usages) = match of {
            Certifier::Agency(name) => {
                let id = exchange.agencies[name].id;
                (vec![uri(format!("agency/{id}"))], vec![client])
            }
            Certifier::Gateway => (vec![host("gateway")], vec![server]),
            Certifier::Custodian => {
                let names = vec![host("custodian"), uri("service/custodian".to_owned())];
                (names, vec![client, server])
            }
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        put(&shown.certificate, certificate.pem().as_bytes());
        put(&shown.private_key, key.serialize_pem().as_bytes());
        old
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// Replaces a file as a whole.
pub fn put(path: &Path, contents: &[u8]) {
    let new = path.with_extension("replacing");
    fs::write(&new, contents).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

/// Another Ed25519 key in the place of the one in a file; returns the old and the new public key.
pub fn replace_key(path: &Path) -> [Vec<u8>; 2] {
    let old = KeyPair::from_pem(&fs::read_to_string(path).unwrap()).unwrap();
    let new = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    put(path, new.serialize_pem().as_bytes());
    [&old, &new].map(|key| key.public_key_raw().to_vec())
}

/// Changes the profile of an agency.
pub fn change_profile(running: &Running, agency: &str, change: impl FnOnce(&mut toml::Table)) {
    let path = running.exchange.agencies[agency]
        .folder
        .join("profile.toml");
    let mut profile: toml::Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut profile);
    put(&path, toml::to_string(&profile).unwrap().as_bytes());
}

fn folder<'a>(exchange: &'a Exchange, of: Certifier<'_>) -> &'a Path {
    match of {
        Certifier::Agency(name) => &exchange.agencies[name].folder,
        Certifier::Gateway => &exchange.gateway.folder,
        Certifier::Custodian => &exchange.custodian.folder,
    }
}

/// Where the party's process looks for what it shows.
pub fn shown(exchange: &Exchange, of: Certifier<'_>) -> Shown {
    if let Certifier::Agency(name) = of {
        let tls = Profile::load(&exchange.agencies[name].folder).unwrap().tls;
        return Shown {
            certificate: tls.certificate,
            private_key: tls.private_key,
        };
    }
    let keys = folder(exchange, of).join("keys");
    Shown {
        certificate: keys.join("server.pem"),
        private_key: keys.join("server.key"),
    }
}

fn serial(certificate: &Path) -> Vec<u8> {
    let certificate = der(&fs::read(certificate).unwrap());
    let parsed = EndEntityCert::try_from(&certificate).unwrap();
    parsed.serial().to_vec()
}

fn der(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

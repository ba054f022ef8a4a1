//! A process's own certificate: what it shows in handshakes, replaced while it runs.

use std::{fmt, sync::Arc};

use amanat_schema::Time;
use arc_swap::ArcSwap;
use rustls::{
    CertificateError, Error, SignatureScheme,
    client::{ResolvesClientCert, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    Directory, PeerName, Service,
    authorities::{Clients, Servers},
    tls::{self, unix},
};

/// Why a process's own certificate is not shown to anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("certificate and key do not fit each other: put both of the same renewal there")]
    OtherKey,
    #[error("the certificate or its key is of a kind that is not used here: have it issued anew")]
    Unusable,
    #[error("it is not in force now: have it renewed, and check the clock")]
    Time,
    #[error(
        "it is not issued by an authority that the directory lists for it: have it issued by that \
         one, or have the new authority listed first"
    )]
    Authority,
    #[error("it does not bear the name {0}, as it must: have it issued for that name")]
    Name(String),
    #[error("it is not issued for this use: have it issued for a {0}")]
    Use(&'static str),
}

/// A certificate chain with its private key, which fit each other.
#[derive(Clone)]
pub struct OwnCertificate(Arc<CertifiedKey>);

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnCertificate")
    }
}

impl OwnCertificate {
    /// # Errors
    /// [`CertificateFault::OtherKey`], [`CertificateFault::Unusable`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateFault> {
        match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
            Ok(pair) if !pair.cert.is_empty() => Ok(Self(Arc::new(pair))),
            Err(Error::InconsistentKeys(_)) => Err(CertificateFault::OtherKey),
            Ok(_) | Err(_) => Err(CertificateFault::Unusable),
        }
    }

    /// Of the end-entity certificate's DER.
    pub fn sha256(&self) -> [u8; 32] {
        amanat_seal::sha256(self.0.cert.first().map_or(&[], |der| der.as_ref()))
    }

    /// The certificate itself, in DER.
    pub(crate) fn end_entity(&self) -> Option<&[u8]> {
        Some(self.0.cert.first()?)
    }

    /// When the end-entity certificate ends.
    pub fn ends(&self) -> Option<Time> {
        let (_, certificate) = X509Certificate::from_der(self.0.cert.first()?).ok()?;
        let seconds = certificate.validity().not_after.timestamp();
        Time::from_millis(seconds.checked_mul(1000)?).ok()
    }

    /// Whether clients that go by the directory believe it of the server.
    ///
    /// # Errors
    /// [`CertificateFault`].
    pub fn serves_as(&self, service: &Service, now: Time) -> Result<(), CertificateFault> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let of = |error: Error| fault(&error, &service.server_name, "server");
        let name = ServerName::try_from(service.server_name.as_str())
            .map_err(|_| CertificateFault::Name(service.server_name.clone()))?;
        let servers = Servers::new(&service.authorities, None, &provider)
            .ok_or(CertificateFault::Authority)?;
        let (end_entity, intermediates) = self
            .0
            .cert
            .split_first()
            .ok_or(CertificateFault::Unusable)?;
        servers
            .verify_server_cert(end_entity, intermediates, &name, &[], unix(now))
            .map(drop)
            .map_err(of)
    }

    /// Whether servers believe by it that a client is who it says it is.
    ///
    /// # Errors
    /// [`CertificateFault`].
    pub fn calls_as(
        &self,
        client: PeerName,
        directory: &Directory,
        now: Time,
    ) -> Result<(), CertificateFault> {
        let (authorities, uri, usage) = match client {
            PeerName::Agency(id) => {
                let agency = directory.agency(id);
                let agency = agency.ok_or(CertificateFault::Authority)?;
                (&agency.authorities, directory.agency_uri(id), "client")
            }
            PeerName::Custodian => (
                &directory.custodian().authorities,
                directory.custodian_uri(),
                "client too, for the custodian calls the gateway",
            ),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = Clients::new(authorities, None, &provider);
        let clients = clients.ok_or(CertificateFault::Authority)?;
        let (end_entity, intermediates) = self
            .0
            .cert
            .split_first()
            .ok_or(CertificateFault::Unusable)?;
        clients
            .verify(end_entity, intermediates, unix(now))
            .map_err(|error| fault(&error, &uri, usage))?;
        match tls::peer(&self.0.cert, directory) {
            Some(peer) if peer.name == client => Ok(()),
            Some(_) | None => Err(CertificateFault::Name(uri)),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add kinds; what is not told apart makes the certificate unusable"
)]
fn fault(error: &Error, name: &str, usage: &'static str) -> CertificateFault {
    let Error::InvalidCertificate(error) = error else {
        return CertificateFault::Unusable;
    };
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => CertificateFault::Time,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            CertificateFault::Authority
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::Name(name.to_owned())
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateFault::Use(usage)
        }
        _ => CertificateFault::Unusable,
    }
}

/// The certificate in use now. A handshake shows what is in use when it begins; live connections stay.
#[derive(Clone)]
pub struct ShownCertificate(Arc<ArcSwap<CertifiedKey>>);

impl fmt::Debug for ShownCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShownCertificate")
    }
}

impl ShownCertificate {
    pub fn current(&self) -> OwnCertificate {
        OwnCertificate(self.0.load_full())
    }

    pub fn replace(&self, own: OwnCertificate) {
        self.0.store(own.0);
    }
}

impl From<OwnCertificate> for ShownCertificate {
    fn from(own: OwnCertificate) -> Self {
        Self(Arc::new(ArcSwap::new(own.0)))
    }
}

impl ResolvesServerCert for ShownCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

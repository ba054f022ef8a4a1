//! Mutual TLS 1.3 by the directory.
//!
//! A client chain counts only if it ends in the authority that the directory lists under the agency that
//! the certificate names: there is no exchange-wide authority for agencies, so the operator of the
//! exchange cannot mint one. Sessions are never resumed: a resumed one would skip these checks.

use std::{collections::HashMap, sync::Arc};

use amanat_schema::AgencyId;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{Resumption, danger::HandshakeSignatureValid},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use webpki::EndEntityCert;

use crate::{Directory, Peer, PeerName, Service};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the directory's authority of {0} cannot verify certificates")]
    Authority(String),
    #[error("the certificate and its key do not fit: {0}")]
    OwnCertificate(#[source] Error),
}

/// The server side: TLS 1.3 only, client certificates demanded, no resumption.
///
/// # Errors
/// [`TlsError`] if a listed authority is unusable, or the server's own key does not fit its certificate.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    directory: &Directory,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = DirectoryVerifier::new(directory, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::OwnCertificate)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)
        .map_err(TlsError::OwnCertificate)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The client side: TLS 1.3 only, no resumption, and no authority but the one that the directory lists for
/// the server.
///
/// # Errors
/// [`TlsError`] if that authority is unusable, or the client's own key does not fit its certificate.
pub fn client_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    server: &Service,
) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(server.issuing_ca.clone())
        .map_err(|_| TlsError::Authority(server.server_name.clone()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::OwnCertificate)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(TlsError::OwnCertificate)?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Who a verified client chain belongs to; `None` if it names nobody of the directory, which the
/// handshake has refused before.
pub fn peer(chain: &[CertificateDer<'_>], directory: &Directory) -> Option<Peer> {
    let certificate = chain.first()?;
    let name = name(certificate, directory)?;
    Some(Peer {
        name,
        certificate_sha256: amanat_seal::sha256(certificate),
    })
}

/// The one URI name of a certificate, looked up in the directory.
fn name(certificate: &CertificateDer<'_>, directory: &Directory) -> Option<PeerName> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_uri_names();
    let uri = names.next()?;
    if names.next().is_some() {
        return None;
    }
    if uri == directory.custodian_uri() {
        return Some(PeerName::Custodian);
    }
    let id: AgencyId = uri.rsplit_once('/')?.1.parse().ok()?;
    (directory.agency(id).is_some() && uri == directory.agency_uri(id))
        .then_some(PeerName::Agency(id))
}

/// Hands each chain to the verifier of the one authority that may have issued it.
#[derive(Debug)]
struct DirectoryVerifier {
    by_uri: HashMap<String, Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl DirectoryVerifier {
    fn new(directory: &Directory, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let agencies = directory
            .agencies()
            .map(|agency| (directory.agency_uri(agency.id), &agency.issuing_ca));
        let custodian = (directory.custodian_uri(), &directory.custodian().issuing_ca);
        let by_uri = agencies
            .chain([custodian])
            .map(|(uri, authority)| {
                let verifier = single_authority(authority, provider)
                    .ok_or_else(|| TlsError::Authority(uri.clone()))?;
                Ok((uri, verifier))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            by_uri,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

fn single_authority(
    authority: &CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).ok()?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .ok()
}

impl ClientCertVerifier for DirectoryVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: the list of authorities would tell a stranger who takes part.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refused = || Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let parsed = EndEntityCert::try_from(end_entity).map_err(|_| refused())?;
        let mut names = parsed.valid_uri_names();
        match (names.next(), names.next()) {
            (Some(uri), None) => self
                .by_uri
                .get(uri)
                .ok_or_else(refused)?
                .verify_client_cert(end_entity, intermediates, now),
            _ => Err(refused()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(
            rustls::PeerIncompatible::Tls12NotOffered,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

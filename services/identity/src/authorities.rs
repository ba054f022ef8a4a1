//! One party's certificate authorities, each with the revocation lists that lie in the party's file: two while a
//! new authority takes over from the old.
//!
//! Each authority is tried with each list by itself. A new authority often has the old one's name, and the
//! library would judge a chain by the first list of that name, whose signature is then another key's.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};

/// One authority with one list, or with none where revocation is not asked.
type Pair = (
    Arc<RootCertStore>,
    Option<CertificateRevocationListDer<'static>>,
);

/// Every authority with every list.
fn pairs(
    authorities: &[CertificateDer<'static>],
    lists: Option<&[CertificateRevocationListDer<'static>]>,
) -> Option<Vec<Pair>> {
    let lists: Vec<_> = match lists {
        Some(lists) => lists.iter().cloned().map(Some).collect(),
        None => vec![None],
    };
    let mut pairs = Vec::new();
    for authority in authorities {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).ok()?;
        let roots = Arc::new(roots);
        pairs.extend(lists.iter().map(|list| (Arc::clone(&roots), list.clone())));
    }
    Some(pairs)
}

/// What clients' chains are held against.
pub(crate) struct Clients(Vec<Arc<dyn ClientCertVerifier>>);

impl Clients {
    /// `None` if an authority or a list is unusable.
    pub(crate) fn new(
        authorities: &[CertificateDer<'static>],
        lists: Option<&[CertificateRevocationListDer<'static>]>,
        provider: &Arc<CryptoProvider>,
    ) -> Option<Self> {
        let verifiers = pairs(authorities, lists)?.into_iter().map(|(roots, list)| {
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
                .with_crls(list)
                .enforce_revocation_expiration()
                .only_check_end_entity_revocation()
                .build()
                .ok()
        });
        verifiers.collect::<Option<_>>().map(Self)
    }

    pub(crate) fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        verdict(
            self.0
                .iter()
                .map(|verifier| verifier.verify_client_cert(end_entity, intermediates, now)),
        )
    }
}

/// What a server's chain is held against.
#[derive(Debug)]
pub(crate) struct Servers(Vec<Arc<WebPkiServerVerifier>>);

impl Servers {
    /// `None` if an authority or a list is unusable.
    pub(crate) fn new(
        authorities: &[CertificateDer<'static>],
        lists: Option<&[CertificateRevocationListDer<'static>]>,
        provider: &Arc<CryptoProvider>,
    ) -> Option<Self> {
        let verifiers = pairs(authorities, lists)?.into_iter().map(|(roots, list)| {
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
                .with_crls(list)
                .enforce_revocation_expiration()
                .only_check_end_entity_revocation()
                .build()
                .ok()
        });
        verifiers.collect::<Option<_>>().map(Self)
    }

    /// They differ in authority and list alone.
    fn any(&self) -> Result<&WebPkiServerVerifier, Error> {
        let none = || Error::General("no authority".to_owned());
        self.0.first().map(Arc::as_ref).ok_or_else(none)
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verdict(self.0.iter().map(|verifier| {
            verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
        }))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any()?
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any()?
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any()
            .map(WebPkiServerVerifier::supported_verify_schemes)
            .unwrap_or_default()
    }
}

/// The verdict that counts of those on one chain. Revoked by any list is revoked, so that an older list beside a
/// newer one of the same authority opens nothing; otherwise one authority and one of its lists are enough.
fn verdict<T>(verdicts: impl Iterator<Item = Result<T, Error>>) -> Result<T, Error> {
    let unknown = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
    verdicts.fold(unknown, |before, verdict| {
        if weight(&verdict) > weight(&before) {
            verdict
        } else {
            before
        }
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add kinds; whatever is not told apart is a fault of the certificate's own"
)]
fn weight<T>(verdict: &Result<T, Error>) -> u8 {
    let Err(error) = verdict else { return 4 };
    match error {
        Error::InvalidCertificate(CertificateError::Revoked) => 5,
        // Of the authority that issued it.
        Error::InvalidCertificate(
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. },
        ) => 3,
        // Another authority's list.
        Error::InvalidCertificate(CertificateError::UnknownRevocationStatus)
        | Error::InvalidCertRevocationList(_) => 1,
        // Another authority's certificate.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => 0,
        _ => 2,
    }
}

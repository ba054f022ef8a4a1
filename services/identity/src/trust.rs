//! What connections are admitted by: the directory with its suspensions and the revocation lists, as one
//! value that is taken into use as a whole.

use std::{fmt, sync::Arc};

use amanat_schema::Time;
use arc_swap::ArcSwap;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{
    CrlError, Directory, Peer, RevocationFolder,
    tls::{self, ClientAuthorities, TlsError},
};

/// A directory and the lists of those whom its authorities have revoked.
pub struct Trust {
    directory: Arc<Directory>,
    authorities: ClientAuthorities,
    /// Rises whenever another one is taken into use.
    generation: u64,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({})", self.generation)
    }
}

impl Trust {
    /// An authority whose list is not usable refuses all its certificates, and no others.
    ///
    /// # Errors
    /// [`TlsError::Authority`] if a listed authority is unusable.
    pub fn new(directory: Arc<Directory>, lists: &RevocationFolder) -> Result<Self, TlsError> {
        Ok(Self {
            authorities: ClientAuthorities::new(&directory, lists)?,
            directory,
            generation: 1,
        })
    }

    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The authorities that have no usable list. One that is not theirs, or out of date, comes to light with
    /// the first certificate that it is asked about.
    pub fn missing_lists(&self) -> Vec<CrlError> {
        self.authorities.missing_lists()
    }

    /// Whose chain this is, verified from its end to its authority: in time, not revoked, not suspended.
    pub fn admit(&self, chain: &[CertificateDer<'_>], now: Time) -> Option<Peer> {
        let (end_entity, intermediates) = chain.split_first()?;
        self.authorities
            .verify(&self.directory, end_entity, intermediates, now)
            .ok()?;
        tls::peer(chain, &self.directory)
    }
}

/// The trust in use now: handshakes and requests go by it from the moment it is replaced.
#[derive(Debug, Clone)]
pub struct Trusted(Arc<ArcSwap<Trust>>);

impl Trusted {
    pub fn new(trust: Trust) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(trust)))
    }

    pub fn current(&self) -> Arc<Trust> {
        self.0.load_full()
    }

    /// Takes another one into use; returns its generation.
    pub fn replace(&self, trust: Trust) -> u64 {
        let generation = self.0.load().generation + 1;
        self.0.store(Arc::new(Trust {
            generation,
            ..trust
        }));
        generation
    }
}

impl ClientCertVerifier for Trusted {
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
        let trust = self.current();
        let millis = i64::try_from(now.as_secs().saturating_mul(1000)).ok();
        let now = millis
            .and_then(|millis| Time::from_millis(millis).ok())
            .ok_or(Error::FailedToGetCurrentTime)?;
        trust
            .authorities
            .verify(&trust.directory, end_entity, intermediates, now)
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
        let trust = self.current();
        let algorithms = &trust.authorities.algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().authorities.algorithms.supported_schemes()
    }
}

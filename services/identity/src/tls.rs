//! Mutual TLS 1.3 by the directory.
//!
//! A client chain counts only if it ends in the authority that the directory lists under the agency that
//! the certificate names: there is no exchange-wide authority for agencies, so the operator of the
//! exchange cannot mint one. Sessions are never resumed: a resumed one would skip these checks.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use amanat_schema::{AgencyId, Time, clock::Clock};
use rustls::{
    CertificateError, ClientConfig, Error, ServerConfig,
    client::Resumption,
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs},
    server::{NoServerSessionStorage, danger::ClientCertVerified},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;

use crate::{
    CrlError, Directory, OwnCertificate, Peer, PeerName, RevocationFolder, RevocationLists,
    Service, ShownCertificate, Trusted,
    authorities::{Clients, Servers},
};

/// Between two words about the same refusal: whoever is refused may well try each second.
const REMIND: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the directory's authority of {0} cannot verify certificates")]
    Authority(String),
    #[error("TLS 1.3 cannot be spoken: {0}")]
    Version(#[source] Error),
    #[error(transparent)]
    Revocation(#[from] CrlError),
}

/// The server side: TLS 1.3 only, client certificates demanded, no resumption. Each handshake goes by the
/// trust and shows the certificate that are in use then.
///
/// # Errors
/// [`TlsError::Version`].
pub fn server_config(
    own: ShownCertificate,
    trusted: Trusted,
    clock: &Clock,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_details(provider, Told::by(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Version)?
        .with_client_cert_verifier(Arc::new(trusted))
        .with_cert_resolver(Arc::new(own));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The client side: TLS 1.3 only, no resumption, no authority but those that the directory lists for the
/// server, and no certificate that they have revoked.
///
/// # Errors
/// [`TlsError`] if an authority or the file of revocation lists is unusable.
pub fn client_config(
    own: OwnCertificate,
    server: &Service,
    revoked: &RevocationLists,
    clock: &Clock,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Servers::new(&server.authorities, Some(revoked.lists()?), &provider)
        .ok_or_else(|| TlsError::Authority(server.server_name.clone()))?;
    let mut config = ClientConfig::builder_with_details(provider, Told::by(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Version)?
        // As strict as the library's own, of which it is made.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(own));
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The process's own clock, as TLS asks for it.
struct Told(Clock);

impl Told {
    fn by(clock: &Clock) -> Arc<dyn TimeProvider> {
        Arc::new(Self(Arc::clone(clock)))
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

impl TimeProvider for Told {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix((self.0)()))
    }
}

pub(crate) fn unix(time: Time) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.seconds()))
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

/// Hands each chain to the authorities of the one party that it may be of.
pub(crate) struct ClientAuthorities {
    by_uri: HashMap<String, ClientAuthority>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

struct ClientAuthority {
    peer: PeerName,
    lists: RevocationLists,
    /// `None` without a list.
    verifier: Option<Clients>,
    /// When the operator last heard that one was refused, by the reason.
    refused: Mutex<BTreeMap<&'static str, Time>>,
}

impl ClientAuthorities {
    pub(crate) fn new(directory: &Directory, lists: &RevocationFolder) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let agencies = directory
            .agencies()
            .map(|agency| (PeerName::Agency(agency.id), &agency.authorities));
        let custodian = (PeerName::Custodian, &directory.custodian().authorities);
        let by_uri = agencies
            .chain([custodian])
            .map(|(peer, authorities)| {
                let uri = match peer {
                    PeerName::Agency(id) => directory.agency_uri(id),
                    PeerName::Custodian => directory.custodian_uri(),
                };
                let lists = lists.of_peer(peer);
                let verifier = match lists.lists() {
                    Ok(lists) => Some(
                        Clients::new(authorities, Some(lists), &provider)
                            .ok_or_else(|| TlsError::Authority(uri.clone()))?,
                    ),
                    Err(_) => None,
                };
                let authority = ClientAuthority {
                    peer,
                    lists,
                    verifier,
                    refused: Mutex::default(),
                };
                Ok((uri, authority))
            })
            .collect::<Result<_, TlsError>>()?;
        Ok(Self {
            by_uri,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    pub(crate) fn missing_lists(&self) -> Vec<CrlError> {
        let authorities = self.by_uri.values();
        authorities
            .filter_map(|authority| authority.lists.lists().err())
            .collect()
    }

    pub(crate) fn verify(
        &self,
        directory: &Directory,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Time,
    ) -> Result<ClientCertVerified, Error> {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let parsed = EndEntityCert::try_from(end_entity).map_err(|_| unknown())?;
        let mut names = parsed.valid_uri_names();
        let (Some(uri), None) = (names.next(), names.next()) else {
            return Err(unknown());
        };
        let authority = self.by_uri.get(uri).ok_or_else(unknown)?;
        let Some(verifier) = &authority.verifier else {
            authority.refuse("its authority has no revocation list here", now);
            return Err(unknown());
        };
        let verified = verifier
            .verify(end_entity, intermediates, unix(now))
            .inspect_err(|error| authority.tell(error, now))?;
        match authority.peer {
            PeerName::Agency(id) if directory.is_suspended(id, now) => {
                authority.refuse("the agency is suspended", now);
                Err(Error::InvalidCertificate(CertificateError::Revoked))
            }
            PeerName::Agency(_) | PeerName::Custodian => Ok(verified),
        }
    }
}

impl ClientAuthority {
    /// A list that turned out to be useless is the operator's business; only a certificate that the
    /// authority did issue brings this to light.
    fn tell(&self, error: &Error, now: Time) {
        if let Some(error) = self.lists.judge_once(error) {
            tracing::error!("{error}");
        }
        self.refuse(why(error), now);
    }

    /// Once a minute for each reason: a certificate that only says it is of this party can be anybody's, and
    /// nobody may fill the operator's log.
    fn refuse(&self, reason: &'static str, now: Time) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let told = refused.get(reason);
        if told.is_none_or(|told| told.distance(now) >= REMIND) {
            refused.insert(reason, now);
            match self.peer {
                PeerName::Agency(agency) => {
                    tracing::warn!(%agency, reason, "a certificate was refused");
                }
                PeerName::Custodian => {
                    tracing::warn!(reason, "a certificate of the custodian was refused");
                }
            }
        }
    }
}

/// Which rule a certificate broke.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add kinds; the rest comes of a certificate that is no client's"
)]
fn why(error: &Error) -> &'static str {
    let Error::InvalidCertificate(error) = error else {
        return "its revocation list does not do";
    };
    match error {
        CertificateError::Revoked => "it is revoked",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has run out",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not in force yet: a clock is wrong"
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not of an authority that the directory lists for it"
        }
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            "its authority has no revocation list of its own here that is in date"
        }
        _ => "it is not one of a client",
    }
}

//! Who is calling: the certificate of the connection joined with the officer's token of the request.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use amanat_identity::{Caller, Directory, Peer, PeerName, TokenVerifier};
use amanat_schema::{AgencyId, clock::Clock};
use tonic::{Request, Status, service::Interceptor};

use crate::Refusal;

/// Authenticates every request; shared with the service, which verifies statements by the same directory.
#[derive(Clone)]
pub struct Guard {
    pub directory: Arc<Directory>,
    pub tokens: Arc<TokenVerifier>,
    pub clock: Clock,
    refused: Arc<AtomicU64>,
}

impl Guard {
    pub fn new(directory: Arc<Directory>, tokens: TokenVerifier, clock: Clock) -> Self {
        Self {
            directory,
            tokens: Arc::new(tokens),
            clock,
            refused: Arc::default(),
        }
    }

    /// How many connections and requests were refused for their credentials since the last call. They
    /// become one log entry a minute, so that nobody can fill the log.
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// One more.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn authenticate(&self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let now = (self.clock)();
        if !self.directory.in_force(now) {
            tracing::error!("the directory is not in force; nothing is served");
            return Err(Refusal::credential().into());
        }
        let peer = *request
            .extensions()
            .get::<Peer>()
            .ok_or_else(Refusal::credential)?;
        let token = match request.metadata().get("authorization") {
            None => return Ok(request),
            Some(value) => value
                .to_str()
                .ok()
                .and_then(|value| value.strip_prefix("Bearer "))
                .ok_or_else(Refusal::credential)?,
        };
        let PeerName::Agency(id) = peer.name else {
            return Err(Refusal::credential().into());
        };
        let agency = self.directory.agency(id).ok_or_else(Refusal::credential)?;
        let officer = self
            .tokens
            .verify_presented(token, id, &peer.certificate_sha256, &self.directory, now)
            .map_err(|why| {
                tracing::info!(%why, agency = %id, "a token was refused");
                Refusal::credential()
            })?;
        let caller = Caller {
            agency: id,
            kind: agency.kind,
            certificate_sha256: peer.certificate_sha256,
            officer,
        };
        request.metadata_mut().remove("authorization");
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let outcome = self.authenticate(request);
        if outcome.is_err() {
            self.count_refused();
        }
        outcome
    }
}

/// The officer who calls.
///
/// # Errors
/// CREDENTIAL_INVALID without a token.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Refusal> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(Refusal::credential)
}

/// The process at the other end of the connection.
///
/// # Errors
/// CREDENTIAL_INVALID without one, which the listener does not let happen.
pub fn peer<T>(request: &Request<T>) -> Result<Peer, Refusal> {
    request
        .extensions()
        .get::<Peer>()
        .copied()
        .ok_or_else(Refusal::credential)
}

/// The agency at the other end, for deliveries of statements, whose officer stands in the statement.
///
/// # Errors
/// CREDENTIAL_INVALID if it is no agency.
pub fn peer_agency<T>(request: &Request<T>) -> Result<(AgencyId, Peer), Refusal> {
    let peer = peer(request)?;
    match peer.name {
        PeerName::Agency(id) => Ok((id, peer)),
        PeerName::Custodian => Err(Refusal::credential()),
    }
}

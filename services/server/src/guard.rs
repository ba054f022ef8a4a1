//! Who is calling: the certificate of the connection joined with the officer's token of the request.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use amanat_identity::{Caller, Directory, Peer, PeerName, TokenVerifier};
use amanat_schema::{AgencyId, clock::Clock};
use arc_swap::ArcSwap;
use tonic::{Request, Status, service::Interceptor};

use crate::Refusal;

/// How many credentials were refused, by the agency that the connection's certificate names; `None` counts
/// those whom no certificate made known.
type Refused = BTreeMap<Option<AgencyId>, u64>;

/// Authenticates every request; shared with the service, which verifies statements by the same directory.
#[derive(Clone)]
pub struct Guard {
    directory: Arc<ArcSwap<Directory>>,
    pub tokens: Arc<TokenVerifier>,
    pub clock: Clock,
    refused: Arc<Mutex<Refused>>,
}

impl Guard {
    pub fn new(directory: Arc<Directory>, tokens: TokenVerifier, clock: Clock) -> Self {
        Self {
            directory: Arc::new(ArcSwap::new(directory)),
            tokens: Arc::new(tokens),
            clock,
            refused: Arc::default(),
        }
    }

    /// The directory in use now.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// How many connections and requests of each agency were refused for their credentials since the last
    /// call. They become one log entry an agency and minute, so that nobody can fill the log.
    pub fn take_refused(&self) -> BTreeMap<Option<AgencyId>, u64> {
        mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts one more, of the agency that the certificate names; the refusal is what it is told.
    pub fn refuse(&self, agency: Option<AgencyId>) -> Refusal {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(agency).or_default() += 1;
        Refusal::credential()
    }

    /// The officer who calls.
    ///
    /// # Errors
    /// CREDENTIAL_INVALID without a token, counted.
    pub fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        let caller = request.extensions().get::<Caller>().cloned();
        caller.ok_or_else(|| self.refuse(agency(request)))
    }

    /// The agency at the other end, for deliveries of statements, whose officer stands in the statement.
    ///
    /// # Errors
    /// CREDENTIAL_INVALID if it is no agency, counted.
    pub fn peer_agency<T>(&self, request: &Request<T>) -> Result<(AgencyId, Peer), Refusal> {
        let peer = peer(request)?;
        match peer.name {
            PeerName::Agency(id) => Ok((id, peer)),
            PeerName::Custodian => Err(self.refuse(None)),
        }
    }

    fn authenticate(&self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let now = (self.clock)();
        let directory = self.directory();
        if !directory.in_force(now) {
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
        let agency = directory.agency(id).ok_or_else(Refusal::credential)?;
        let officer = self
            .tokens
            .verify_presented(token, id, &peer.certificate_sha256, &directory, now)
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
        let agency = agency(&request);
        self.authenticate(request)
            .map_err(|_| self.refuse(agency).into())
    }
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

/// The agency that the connection's certificate names, if it is one's.
fn agency<T>(request: &Request<T>) -> Option<AgencyId> {
    match request.extensions().get::<Peer>()?.name {
        PeerName::Agency(id) => Some(id),
        PeerName::Custodian => None,
    }
}

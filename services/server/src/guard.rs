//! Who is calling: the certificate of the connection joined with the officer's token of the request.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use amanat_identity::{Caller, Directory, Peer, PeerName, TokenVerifier, Trust, Trusted};
use amanat_schema::{AgencyId, clock::Clock};
use amanat_telemetry::Counter;
use tokio::sync::watch;
use tonic::{Request, Status, service::Interceptor};

use crate::{Refusal, admission::Admission, metrics::CREDENTIALS_REFUSED};

/// How many were refused, by the agency that the connection's certificate names; `None` counts those whom no
/// certificate made known.
type Refused = BTreeMap<Option<AgencyId>, u64>;

/// Authenticates every request; shared with the service, which verifies statements by the same directory.
#[derive(Clone)]
pub struct Guard {
    trusted: Trusted,
    /// The generation of the trust in use, for connections to be verified again.
    swaps: Arc<watch::Sender<u64>>,
    pub tokens: Arc<TokenVerifier>,
    pub clock: Clock,
    refused: Arc<Mutex<Refused>>,
    refusals: Counter<u64>,
    crowded: Arc<Mutex<Refused>>,
}

impl Guard {
    pub fn new(trusted: Trusted, tokens: TokenVerifier, clock: Clock) -> Self {
        let generation = trusted.current().generation();
        Self {
            trusted,
            swaps: Arc::new(watch::Sender::new(generation)),
            tokens: Arc::new(tokens),
            clock,
            refused: Arc::default(),
            refusals: CREDENTIALS_REFUSED.counter(),
            crowded: Arc::default(),
        }
    }

    /// The directory in use now.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(self.trusted.current().directory())
    }

    /// The trust in use now.
    pub fn trust(&self) -> Arc<Trust> {
        self.trusted.current()
    }

    /// Takes another trust into use: for every handshake from now on, and for the next request of every
    /// connection. Whoever is no longer admitted loses the connection.
    pub fn replace(&self, trust: Trust) {
        let generation = self.trusted.replace(trust);
        self.swaps.send_replace(generation);
    }

    /// Completes when the peer of a connection is no longer admitted.
    pub(crate) async fn until_refused(self, admission: Admission) {
        let mut swaps = self.swaps.subscribe();
        while admission.holds(&self.trust(), (self.clock)()) {
            tokio::select! {
                // Its sender is held here, so it does not end.
                _ = swaps.changed() => {}
                () = admission.refused() => {}
            }
        }
    }

    /// How many connections and requests of each agency were refused for their credentials since the last
    /// call. They become one log entry an agency and minute, so that nobody can fill the log.
    pub fn take_refused(&self) -> BTreeMap<Option<AgencyId>, u64> {
        mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many requests and connections of each agency were more than its share, since the last call.
    pub fn take_crowded(&self) -> BTreeMap<Option<AgencyId>, u64> {
        mem::take(&mut *self.crowded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts one more, of the agency that the certificate names; the refusal is what it is told.
    pub fn refuse(&self, agency: Option<AgencyId>) -> Refusal {
        count(&self.refused, agency);
        self.refusals.add(1, &[]);
        Refusal::credential()
    }

    /// The same for what is more than the agency's share.
    pub fn crowd(&self, agency: Option<AgencyId>) -> Refusal {
        count(&self.crowded, agency);
        Refusal::crowded()
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
        let agency = agency_of(peer.name);
        Ok((agency.ok_or_else(|| self.refuse(None))?, peer))
    }

    fn authenticate(&self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let now = (self.clock)();
        let trust = self.trust();
        let directory = trust.directory();
        if !directory.in_force(now) {
            tracing::debug!("the directory is not in force; nothing is served");
            return Err(Refusal::credential().into());
        }
        let admission = request.extensions().get::<Admission>();
        if !admission.is_some_and(|admission| admission.holds(&trust, now)) {
            return Err(Refusal::credential().into());
        }
        let peer = peer(&request)?;
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
            .verify_presented(token, id, &peer.certificate_sha256, directory, now)
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
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let admission = request.extensions().get::<Admission>();
        if let Some(peer) = admission.map(Admission::peer) {
            request.extensions_mut().insert(peer);
        }
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
    agency_of(request.extensions().get::<Peer>()?.name)
}

pub(crate) fn agency_of(peer: PeerName) -> Option<AgencyId> {
    match peer {
        PeerName::Agency(id) => Some(id),
        PeerName::Custodian => None,
    }
}

fn count(refused: &Mutex<Refused>, agency: Option<AgencyId>) {
    let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
    *refused.entry(agency).or_default() += 1;
}

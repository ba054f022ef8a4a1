//! A connection's standing: who was admitted, by which trust, and whether that still holds.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use amanat_identity::{Peer, Trust};
use amanat_schema::Time;
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;

/// A certificate or a revocation list that runs out on a live connection is noticed within this.
const AGAIN: Duration = Duration::from_secs(60);

/// What a connection was admitted as; every request on it carries a hold on it.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Admitted>);

struct Admitted {
    /// As the client showed it, to be verified again.
    chain: Vec<CertificateDer<'static>>,
    peer: Peer,
    standing: Mutex<Standing>,
    refused: Notify,
}

enum Standing {
    /// By the trust of a generation, at a time.
    Holds { generation: u64, since: Time },
    /// For the rest of the connection.
    Refused,
}

impl Admission {
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        peer: Peer,
        trust: &Trust,
        now: Time,
    ) -> Self {
        let standing = Standing::Holds {
            generation: trust.generation(),
            since: now,
        };
        Self(Arc::new(Admitted {
            chain,
            peer,
            standing: Mutex::new(standing),
            refused: Notify::new(),
        }))
    }

    pub(crate) fn peer(&self) -> Peer {
        self.0.peer
    }

    /// Whether the peer is still admitted by the trust in use now: under a newer one its whole chain is
    /// verified again. Once refused it stays so.
    pub(crate) fn holds(&self, trust: &Trust, now: Time) -> bool {
        // A panic elsewhere cannot leave a standing half written.
        let mut standing = self
            .0
            .standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Standing::Holds { generation, since } = *standing else {
            return false;
        };
        if generation == trust.generation() && since.distance(now) < AGAIN {
            return true;
        }
        if trust.admit(&self.0.chain, now) == Some(self.0.peer) {
            *standing = Standing::Holds {
                generation: trust.generation(),
                since: now,
            };
            return true;
        }
        tracing::info!(peer = ?self.0.peer.name, "a live connection is no longer admitted");
        *standing = Standing::Refused;
        self.0.refused.notify_one();
        false
    }

    /// Completes when [`Admission::holds`] has refused it.
    pub(crate) async fn refused(&self) {
        self.0.refused.notified().await;
    }
}

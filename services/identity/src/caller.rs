//! The authenticated parties of a request.

use std::{collections::BTreeSet, sync::Arc};

use amanat_schema::{
    AgencyId,
    policy::{AgencyKind, Right},
};

/// Who holds the other end of a connection, as its certificate says and the directory confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub name: PeerName,
    /// Of the end-entity certificate's DER.
    pub certificate_sha256: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerName {
    Agency(AgencyId),
    /// The custodian's own process, which fetches proofs from the gateway.
    Custodian,
}

/// An agency acting through one of its officers.
#[derive(Debug, Clone)]
pub struct Caller {
    pub agency: AgencyId,
    /// From the directory.
    pub kind: AgencyKind,
    pub certificate_sha256: [u8; 32],
    pub officer: Arc<Officer>,
}

/// An officer as a verified token names them. The id is personal: it is committed in the log, never
/// written there.
#[derive(Clone, PartialEq, Eq)]
pub struct Officer {
    pub id: String,
    pub rights: BTreeSet<Right>,
    pub station: String,
}

impl std::fmt::Debug for Officer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Officer({:?})", self.rights)
    }
}

impl Officer {
    /// Whether the token carries any of the rights.
    pub fn has_any(&self, rights: &[Right]) -> bool {
        rights.iter().any(|right| self.rights.contains(right))
    }
}

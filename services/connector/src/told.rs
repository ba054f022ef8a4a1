//! Statements as a server hands them on: checked as far as they can be.

use amanat_identity::{Signed, SignedError, statement::AgencyStatement};
use amanat_schema::{AgencyId, CaseId, Time, statement::Envelope};

use crate::{Connector, ConnectorError, Server};

/// A statement that an agency signed once.
pub(crate) struct Told<M> {
    pub(crate) message: M,
    /// The signer.
    pub(crate) agency: AgencyId,
    pub(crate) case: CaseId,
    /// SHA-256 of the payload that it follows.
    pub(crate) follows: Option<[u8; 32]>,
    pub(crate) signed: Time,
    /// SHA-256 of the payload.
    pub(crate) sha256: [u8; 32],
    /// False if the signer is gone from the directory: its signature can no longer be checked.
    pub(crate) verified: bool,
}

impl<M: AgencyStatement> Told<M> {
    /// Of an agency that left the directory and took its keys along. What it signed must not keep others
    /// from their own lists, so it is read as it stands, and marked.
    fn unverified(envelope: &Envelope) -> Option<Self> {
        let message = M::decode(envelope.payload.as_slice()).ok()?;
        let head = message.head()?;
        Some(Self {
            agency: AgencyId::parse(&head.agency_id).ok()?,
            case: CaseId::parse(&head.case_id).ok()?,
            follows: head.follows.as_slice().try_into().ok(),
            signed: Time::parse(head.signed_time.as_ref()).ok()?,
            sha256: amanat_seal::sha256(&envelope.payload),
            verified: false,
            message,
        })
    }
}

impl Connector {
    /// # Errors
    /// [`ConnectorError::Untrustworthy`] if the signature does not hold, or the statement is no such thing.
    pub(crate) fn told<M: AgencyStatement + Clone>(
        &self,
        server: Server,
        envelope: &Envelope,
    ) -> Result<Told<M>, ConnectorError> {
        let untrustworthy = |why: String| ConnectorError::untrustworthy(server.name(), why);
        match Signed::<M>::verify_envelope(envelope, &self.directory) {
            Ok(signed) => Ok(Told {
                message: signed.message().clone(),
                agency: signed.head().agency,
                case: signed.head().case,
                follows: signed.head().follows,
                signed: signed.head().signed_time,
                sha256: *signed.payload_sha256(),
                verified: true,
            }),
            Err(SignedError::Signer) => Told::unverified(envelope)
                .ok_or_else(|| untrustworthy("a malformed statement".to_owned())),
            Err(error) => Err(untrustworthy(error.to_string())),
        }
    }
}

//! Statements as a server hands them on: checked as far as they can be.

use amanat_identity::{Signed, SignedError, statement::AgencyStatement};
use amanat_schema::{AgencyId, CaseId, Time, statement::Envelope};
use amanat_seal::statement::StatementError;

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
    /// False if the directory lists the signer or its key no more, or somebody else may have used the key: the
    /// signature no longer says who signed.
    pub(crate) verified: bool,
}

impl<M: AgencyStatement> Told<M> {
    /// By a key that the directory does not list, or that counts no more for it: its agency left, or the key was
    /// lost or stolen. What it signed must not keep anybody from their own lists, so it is read as it stands, and marked. Nobody vouches for
    /// it: whoever acts on more than its ids asks for [`Told::verified`] first.
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
    /// `recorded`: when the server says that it recorded it, if it does.
    ///
    /// # Errors
    /// [`ConnectorError::Untrustworthy`] if a listed key's signature does not hold, or the statement is no
    /// such thing: no change of keys explains that.
    pub(crate) fn told<M: AgencyStatement + Clone>(
        &self,
        server: Server,
        envelope: &Envelope,
        recorded: Option<Time>,
    ) -> Result<Told<M>, ConnectorError> {
        let untrustworthy = |why: String| ConnectorError::untrustworthy(server.name(), why);
        let directory = &self.session()?.directory;
        let signed = match recorded {
            Some(recorded) => Signed::<M>::verify_recorded(envelope, directory, recorded),
            None => Signed::<M>::verify_envelope(envelope, directory),
        };
        match signed {
            Ok(signed) => Ok(Told {
                message: signed.message().clone(),
                agency: signed.head().agency,
                case: signed.head().case,
                follows: signed.head().follows,
                signed: signed.head().signed_time,
                sha256: *signed.payload_sha256(),
                verified: true,
            }),
            Err(
                SignedError::Signer
                | SignedError::Signature(StatementError::UnknownSigner)
                | SignedError::Retired
                | SignedError::Compromised,
            ) => Told::unverified(envelope)
                .ok_or_else(|| untrustworthy("a malformed statement".to_owned())),
            Err(error) => Err(untrustworthy(error.to_string())),
        }
    }
}

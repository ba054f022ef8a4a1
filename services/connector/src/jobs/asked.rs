//! Whether an answer is the one to what was asked: its receipt says so.

use amanat_ledger::{LogVerifier, Proven};
use amanat_schema::{
    audit::{Action, Receipt},
    policy::Decision,
};
use prost::{Message, Name};

use crate::{Connector, ConnectorError, Server, keep::Evidence};

/// What was asked of a server: the entry that its receipt proves must be the one of this very request, so
/// that no answer can be spliced to another question.
pub(crate) struct Asked {
    pub(crate) server: Server,
    action: Action,
    request_sha256: [u8; 32],
}

impl Asked {
    pub(crate) fn of<T: Message + Name>(server: Server, action: Action, request: &T) -> Self {
        Self {
            server,
            action,
            request_sha256: amanat_identity::request_sha256(request),
        }
    }
}

impl Connector {
    /// Verifies a receipt and keeps it.
    pub(crate) async fn keep_receipt(
        &self,
        asked: &Asked,
        receipt: Option<&Receipt>,
    ) -> Result<Proven, ConnectorError> {
        let evidence = self.verified(asked, receipt)?;
        self.keep.evidence(&evidence).await?;
        Ok(evidence.proven)
    }

    /// Verifies a receipt, as evidence that what was asked is on the log, allowed.
    pub(crate) fn verified(
        &self,
        asked: &Asked,
        receipt: Option<&Receipt>,
    ) -> Result<Evidence, ConnectorError> {
        let server = asked.server;
        let untrustworthy = |what: &str| ConnectorError::untrustworthy(server.name(), what);
        let receipt = receipt.ok_or_else(|| untrustworthy("there is no receipt"))?;
        let log = self.log(server)?;
        let proven = amanat_ledger::receipt::verify(receipt, &log)
            .map_err(|error| ConnectorError::from((server.name(), error)))?;
        let request = proven
            .linkage
            .as_ref()
            .map(|linkage| linkage.request_sha256.as_slice());
        let is_of_this = proven.body.agency_id == self.profile.agency.as_bytes()
            && proven.body.action() == asked.action
            && proven.body.decision() == Decision::Allow
            && request == Some(asked.request_sha256.as_slice());
        if !is_of_this {
            return Err(untrustworthy("the receipt is not of this request's entry"));
        }
        Ok(Evidence {
            server,
            log,
            receipt: receipt.clone(),
            proven,
            seen: self.now(),
        })
    }

    pub(crate) fn log(&self, server: Server) -> Result<LogVerifier, ConnectorError> {
        let directory = &self.session()?.directory;
        Ok(match server {
            Server::Gateway => directory.gateway().log.clone(),
            Server::Custodian => directory.custodian().log.clone(),
        })
    }
}

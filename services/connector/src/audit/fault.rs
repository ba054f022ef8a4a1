//! A log that does not hold.

use super::Server;
use crate::{ConnectorError, Reason};

/// A log that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {} log does not hold{}: {what}", server.name(),
    index.map_or_else(String::new, |index| format!(" at entry {index}")))]
pub struct VerifyError {
    pub server: Server,
    /// The first bad index, where the fault lies in one entry.
    pub index: Option<u64>,
    pub what: String,
    pub fault: Fault,
}

/// In what way a log does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What is shown is not what the server signed.
    Unproven,
    /// The server signed two things that contradict each other: what is shown, and what was seen before.
    Contradiction,
}

impl VerifyError {
    /// Its place in the catalogue.
    pub const fn reason(&self) -> Reason {
        match self.fault {
            Fault::Unproven => Reason::VerificationFailed,
            Fault::Contradiction => Reason::LogInconsistent,
        }
    }
}

/// What is shown is not what the server signed.
pub(super) fn unproven(server: Server, index: Option<u64>, what: impl ToString) -> ConnectorError {
    fault(Fault::Unproven, server, index, what.to_string())
}

/// What is shown contradicts what the server signed before.
pub(super) fn contradicts(
    server: Server,
    index: Option<u64>,
    what: impl ToString,
) -> ConnectorError {
    fault(Fault::Contradiction, server, index, what.to_string())
}

fn fault(fault: Fault, server: Server, index: Option<u64>, what: String) -> ConnectorError {
    ConnectorError::Verify(VerifyError {
        server,
        index,
        what,
        fault,
    })
}

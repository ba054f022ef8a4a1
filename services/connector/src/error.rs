//! What can go wrong, as an officer reads it: the reason, the field, what to do next.

use std::{collections::BTreeMap, time::Duration};

use amanat_identity::{CrlError, DirectoryError, SignedError, TokenError};
use amanat_ledger::ReceiptError;
use amanat_schema::Violation;
use amanat_seal::{SealError, pseudonym::Pseudonym};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{ProfileError, Server, VerifyError, client::CallError, transport::ConnectError};

#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Without it no identifier of a kind becomes a token.
    #[error("the directory lists no key for identifiers of this kind")]
    NoOprfKey,
    #[error("the outbox cannot be used: {0}")]
    Keep(String),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("{0}")]
    Input(String),
    /// What was asked for is well said, and cannot be done as things stand.
    #[error("{what}")]
    Unfit { what: String, next: &'static str },
    /// A correction with the file of somebody else: her data would open by the first one's consents.
    #[error(
        "the person of this record would change from {known} to {found}; nothing was handed in"
    )]
    AnotherPerson { known: Pseudonym, found: Pseudonym },
    /// Why it is not known whether a correction is of the same person.
    #[error("{}; so whose record it is could not be checked, and nothing was handed in", .0.message())]
    PersonUnchecked(Box<Self>),
    /// A file of the officer's, with every violation.
    #[error("{} fields are not valid", .0.len())]
    Invalid(Vec<Violation>),
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The TLS handshake was refused: no request reached a service.
    #[error("the server refused this agency's certificate, or is not the server of the directory")]
    Credential,
    /// It is not known which of the server's certificates are revoked.
    #[error(transparent)]
    Revocation(CrlError),
    /// By the server's own authority.
    #[error("the certificate of {server} is revoked, so whoever shows it is not that server")]
    ServerRevoked { server: String },
    /// `None` where the connection does not tell which.
    #[error("the {} cannot be reached", .0.map_or("server", Server::name))]
    Unreachable(Option<Server>),
    /// A server's answer does not hold what it must prove.
    #[error("the answer is not what the {server} must prove: {what}")]
    Untrustworthy { server: &'static str, what: String },
    #[error(transparent)]
    Sealing(#[from] SealError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// A server's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// The published reason, as in `FIELD_INVALID`.
    pub reason: String,
    pub message: String,
    pub violations: Vec<Violation>,
    /// The public reason of each field withheld.
    pub withheld: BTreeMap<String, String>,
    /// The entry that the refusal made in the server's log.
    pub audit_index: Option<u64>,
    /// Whether the same call may succeed later.
    pub retry: bool,
    /// How long until then, if the server tells.
    pub retry_after: Option<Duration>,
}

impl ConnectorError {
    pub(crate) fn untrustworthy(server: &'static str, what: impl ToString) -> Self {
        Self::Untrustworthy {
            server,
            what: what.to_string(),
        }
    }

    /// Whether trying again later can help.
    pub fn is_retryable(&self) -> bool {
        if let Self::PersonUnchecked(cause) = self {
            return cause.is_retryable();
        }
        matches!(self, Self::Unreachable(_)) || self.refusal().is_some_and(|refusal| refusal.retry)
    }

    /// The server's refusal that it is, or comes of.
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::PersonUnchecked(cause) = self {
            cause.refusal()
        } else if let Self::Refused(refusal) = self {
            Some(refusal)
        } else {
            None
        }
    }

    /// What happened, without [`ConnectorError::reason`].
    pub fn message(&self) -> String {
        if let Self::Refused(refusal) = self {
            refusal.message.clone()
        } else {
            self.to_string()
        }
    }

    /// The published reason, or a name of the same form.
    pub fn reason(&self) -> &str {
        match self {
            Self::Profile(_) => "PROFILE_INVALID",
            Self::Directory(_) | Self::NoOprfKey => "DIRECTORY_INVALID",
            Self::Keep(_) => "OUTBOX_UNUSABLE",
            Self::Token(_) | Self::Credential => "CREDENTIAL_INVALID",
            Self::Input(_) | Self::Unfit { .. } => "INPUT_INVALID",
            Self::AnotherPerson { .. } => "ANOTHER_PERSON",
            Self::PersonUnchecked(cause) => cause.reason(),
            Self::Invalid(_) => "FIELD_INVALID",
            Self::Refused(refusal) => &refusal.reason,
            Self::Revocation(_) => "REVOCATION_UNKNOWN",
            Self::ServerRevoked { .. } => "SERVER_REVOKED",
            Self::Unreachable(_) => "UNREACHABLE",
            Self::Untrustworthy { .. } | Self::Sealing(_) => "ANSWER_UNTRUSTWORTHY",
            Self::Verify(_) => "LOG_INCONSISTENT",
        }
    }

    /// What to do next.
    pub fn next_step(&self) -> &'static str {
        if let Self::Unfit { next, .. } = self {
            return next;
        }
        if let Self::PersonUnchecked(cause) = self
            && cause.is_retryable()
        {
            return "correct it again later; or, once you have checked yourself that it is the same person, \
                    with --person-checked";
        }
        match self.reason() {
            "PROFILE_INVALID" => "mend the file that is named, or choose another --profile",
            "DIRECTORY_INVALID" => {
                "fetch the newest directory from your registrars; check the clock"
            }
            "OUTBOX_UNUSABLE" => "check the folder's permissions and the disk's free space",
            "CREDENTIAL_INVALID" => {
                "check the certificate, the clock and the officer's token with your administrator"
            }
            "REVOCATION_UNKNOWN" => {
                "put the list there that the message names; then `amanat outbox deliver` sends what \
                 `amanat outbox list` shows; run anything else again"
            }
            "SERVER_REVOKED" => {
                "send nothing to this server; call the duty contact, and ask the registrars for the newest \
                 directory"
            }
            "INPUT_INVALID" => "see --help",
            "ANOTHER_PERSON" => {
                "if she really is one person, merge the two with `amanat subject merge`, or pass \
                 --person-checked once you have checked it yourself; if not, her file is another record's"
            }
            "FIELD_INVALID" => "correct the fields and send it again; nothing was recorded",
            "TOO_LARGE" => "shorten the narratives; 512 KiB is the limit of one submission",
            "ACCESS_DENIED" => {
                "check the id; if it is right, your officer or agency has no right to it"
            }
            "NOTHING_RELEASABLE" => {
                "have the record's source record a consent, and the recipient accept the referral; do not \
                 retry unchanged"
            }
            "STATE_CONFLICT" => "look at the present state with a list command, then decide",
            "REQUEST_ID_REUSED" => "run the command again; it takes a new id",
            "VERSION_MISMATCH" => {
                "another correction came first: see `amanat case list`, read the newest version, then \
                 correct it again"
            }
            "AUDIT_UNAVAILABLE" | "UNREACHABLE" | "QUOTA_EXCEEDED" => {
                "try again later: what `amanat outbox list` shows is kept, and `amanat outbox deliver` sends \
                 it; run anything else again"
            }
            "LEDGER_BEHIND" => "one server is a little behind the other; try again in a moment",
            "LOG_INCONSISTENT" => "stop and call the duty contact: a log contradicts itself",
            "ANSWER_UNTRUSTWORTHY" => "do not use the answer; keep it and call the duty contact",
            _ => "call your administrator with the reason above",
        }
    }
}

impl From<Status> for ConnectorError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            // Every refusal of a service carries its reason, so this comes from below it.
            let is_one_of = |codes: &[Code]| codes.contains(&status.code());
            return if is_one_of(&[Code::OutOfRange, Code::ResourceExhausted]) {
                Self::refused(&status, "TOO_LARGE")
            } else if is_one_of(&[Code::Unimplemented]) {
                Self::refused(&status, "UNEXPECTED")
            } else {
                transport(&status)
            };
        };
        let withheld = info
            .metadata
            .iter()
            .filter_map(|(key, reason)| {
                Some((key.strip_prefix("field.")?.to_owned(), reason.clone()))
            })
            .collect();
        let violations = details.bad_request().map(|bad| {
            let violation = |v: &tonic_types::FieldViolation| Violation {
                path: v.field.clone(),
                expected: v.description.clone(),
            };
            bad.field_violations.iter().map(violation).collect()
        });
        Self::Refused(Box::new(Refusal {
            reason: info.reason.clone(),
            message: status.message().to_owned(),
            violations: violations.unwrap_or_default(),
            withheld,
            audit_index: info
                .metadata
                .get("audit_index")
                .and_then(|index| index.parse().ok()),
            retry: details.retry_info().is_some(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }))
    }
}

impl ConnectorError {
    fn refused(status: &Status, reason: &str) -> Self {
        Self::Refused(Box::new(Refusal {
            reason: reason.to_owned(),
            message: status.message().to_owned(),
            violations: Vec::new(),
            withheld: BTreeMap::new(),
            audit_index: None,
            retry: false,
            retry_after: None,
        }))
    }
}

/// A refused handshake shows as a TLS alert somewhere down the chain of causes.
fn transport(status: &Status) -> ConnectorError {
    let mut cause = std::error::Error::source(status);
    let mut server = None;
    while let Some(error) = cause {
        if let Some(call) = error.downcast_ref::<CallError>() {
            server = Some(call.server);
        }
        match error.downcast_ref() {
            Some(ConnectError::Revocation(error)) => {
                return ConnectorError::Revocation(error.clone());
            }
            Some(ConnectError::Revoked(server)) => {
                return ConnectorError::ServerRevoked {
                    server: server.clone(),
                };
            }
            // Neither its own words nor those of another error say more than their text.
            Some(ConnectError::Io(_) | ConnectError::Tls(_)) | None => {}
        }
        let text = error.to_string();
        if text.contains("alert") || text.contains("invalid peer certificate") {
            return ConnectorError::Credential;
        }
        cause = error.source();
    }
    ConnectorError::Unreachable(server)
}

impl From<SignedError> for ConnectorError {
    fn from(error: SignedError) -> Self {
        Self::untrustworthy("gateway", error)
    }
}

impl From<(&'static str, ReceiptError)> for ConnectorError {
    fn from((server, error): (&'static str, ReceiptError)) -> Self {
        Self::untrustworthy(server, error)
    }
}

impl From<sqlx::Error> for ConnectorError {
    /// Driver errors can quote values; only their kind is kept.
    fn from(error: sqlx::Error) -> Self {
        Self::Keep(if let sqlx::Error::Database(error) = &error {
            error
                .code()
                .map_or_else(|| "refused".to_owned(), |code| format!("code {code}"))
        } else if let sqlx::Error::Io(error) = &error {
            error.kind().to_string()
        } else {
            "the file is not an outbox, or is damaged".to_owned()
        })
    }
}

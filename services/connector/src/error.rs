//! What can go wrong, as an officer reads it: the reason, the field, what to do next.

use std::{collections::BTreeMap, io, time::Duration};

use amanat_config::ConfigError;
use amanat_identity::{CrlError, DirectoryError, SignedError, TokenError};
use amanat_ledger::ReceiptError;
use amanat_schema::Violation;
use amanat_seal::{SealError, pseudonym::Pseudonym};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    ProfileError, Reason, Server, VerifyError, client::CallError, jobs::is_final, skew,
    transport::ConnectError,
};

/// Of SQLite's result codes.
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_FULL: i32 = 13;
/// A full disk too, for the index of the write-ahead log.
const SQLITE_IOERR_SHMSIZE: &str = "4874";

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
    #[error("the outbox is in use by another command of this profile")]
    KeepBusy,
    /// Nothing was handed in.
    #[error("the outbox cannot be written: the disk that it is on is full")]
    KeepFull,
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An argument or a file that does not fit, and what would.
    #[error("{what}")]
    Input { what: String, next: &'static str },
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
    /// Of a delivery, which stands in the outbox under its number: it waits there, or was refused.
    #[error("{}", .cause.message())]
    Undelivered { job: i64, cause: Box<Self> },
    /// A file of the officer's, with every violation.
    #[error("{} fields are not valid", .0.len())]
    Invalid(Vec<Violation>),
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The TLS handshake was refused: no request reached a service.
    #[error(
        "the server refused this agency's certificate, or this agency is suspended, or whoever answers is not \
         the server of the directory"
    )]
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
    /// Whether the entry that was shown counts no more, so that the read has to be asked for again.
    pub superseded: bool,
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
        if let Some(cause) = self.cause() {
            return cause.is_retryable();
        }
        matches!(self, Self::Unreachable(_)) || self.refusal().is_some_and(|refusal| refusal.retry)
    }

    /// Whether a server said no to a delivery once and for all: it waits no more.
    pub fn is_refused_for_good(&self) -> bool {
        is_final(self.cause().unwrap_or(self))
    }

    /// The server's refusal that it is, or comes of.
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Some(cause) = self.cause() {
            cause.refusal()
        } else if let Self::Refused(refusal) = self {
            Some(refusal)
        } else {
            None
        }
    }

    /// What it comes of, whose reason it has.
    fn cause(&self) -> Option<&Self> {
        if let Self::PersonUnchecked(cause) | Self::Undelivered { cause, .. } = self {
            Some(cause)
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
        match self.kind() {
            Ok(reason) => reason.name(),
            Err(newer) => newer,
        }
    }

    /// Its place in the catalogue; `None` if a newer server gave a reason that this connector does not know.
    pub fn known_reason(&self) -> Option<Reason> {
        self.kind().ok()
    }

    fn kind(&self) -> Result<Reason, &str> {
        Ok(match self {
            Self::Profile(error) => of_profile(error),
            Self::Directory(error) => of_directory(error),
            Self::NoOprfKey => Reason::DirectoryInvalid,
            Self::Keep(_) => Reason::OutboxUnusable,
            Self::KeepBusy => Reason::OutboxBusy,
            Self::KeepFull => Reason::DiskFull,
            Self::Token(_) | Self::Credential => Reason::CredentialInvalid,
            Self::Input { .. } => Reason::InputInvalid,
            Self::Unfit { .. } => Reason::StateConflict,
            Self::AnotherPerson { .. } => Reason::AnotherPerson,
            Self::PersonUnchecked(cause) | Self::Undelivered { cause, .. } => return cause.kind(),
            Self::Invalid(_) => Reason::FieldInvalid,
            Self::Refused(refusal) => return refusal.known_reason().ok_or(&refusal.reason),
            Self::Revocation(_) => Reason::RevocationUnknown,
            Self::ServerRevoked { .. } => Reason::ServerRevoked,
            Self::Unreachable(_) => Reason::Unreachable,
            Self::Untrustworthy { .. } | Self::Sealing(_) => Reason::AnswerUntrustworthy,
            Self::Verify(error) => error.reason(),
        })
    }

    /// What to do next.
    pub fn next_step(&self) -> &'static str {
        if let Self::Unfit { next, .. } | Self::Input { next, .. } = self {
            return next;
        }
        if let Self::Unreachable(_) = self {
            return "nothing was handed in: run the command again later";
        }
        self.next_step_of_kept()
    }

    /// The same of what was handed in, and is kept in the outbox.
    pub fn next_step_of_kept(&self) -> &'static str {
        if let Self::PersonUnchecked(cause) = self
            && cause.is_retryable()
        {
            return "correct it again later; or, once you have checked yourself that it is the same person, \
                    with --person-checked";
        }
        self.known_reason().map_or(
            "call your administrator with the reason above",
            Reason::next_step,
        )
    }
}

/// Why a profile does not do.
pub fn of_profile(error: &ProfileError) -> Reason {
    match error {
        ProfileError::Config(ConfigError::File { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            Reason::ProfileMissing
        }
        ProfileError::Config(_) | ProfileError::File(_) | ProfileError::Unusable { .. } => {
            Reason::ProfileInvalid
        }
    }
}

/// Why a directory is not taken into use.
pub fn of_directory(error: &DirectoryError) -> Reason {
    match error {
        DirectoryError::File { source, .. } if Reason::of_io(source) == Reason::DiskFull => {
            Reason::DiskFull
        }
        DirectoryError::RolledBack { .. } | DirectoryError::SameVersion { .. } => {
            Reason::DirectoryRolledBack
        }
        DirectoryError::File { .. }
        | DirectoryError::Malformed { .. }
        | DirectoryError::Seen { .. }
        | DirectoryError::Signatures { .. }
        | DirectoryError::Field(_)
        | DirectoryError::Expired(_)
        | DirectoryError::NotYet(_) => Reason::DirectoryInvalid,
    }
}

impl Refusal {
    /// Its place in the catalogue; `None` for a reason of a newer server.
    pub fn known_reason(&self) -> Option<Reason> {
        Reason::of_name(&self.reason)
    }
}

impl From<Status> for ConnectorError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            // Every refusal of a service carries its reason, so this comes from below it.
            let is_one_of = |codes: &[Code]| codes.contains(&status.code());
            return if is_one_of(&[Code::OutOfRange, Code::ResourceExhausted]) {
                Self::refused(&status, Reason::TooLarge)
            } else if is_one_of(&[Code::Unimplemented]) {
                Self::refused(&status, Reason::CallUnknown)
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
            message: message(&status, &info.reason),
            violations: violations.unwrap_or_default(),
            withheld,
            audit_index: info
                .metadata
                .get("audit_index")
                .and_then(|index| index.parse().ok()),
            retry: details.retry_info().is_some(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            superseded: info.metadata.contains_key("superseded"),
        }))
    }
}

impl ConnectorError {
    fn refused(status: &Status, reason: Reason) -> Self {
        Self::Refused(Box::new(Refusal {
            reason: reason.name().to_owned(),
            message: status.message().to_owned(),
            violations: Vec::new(),
            withheld: BTreeMap::new(),
            audit_index: None,
            retry: false,
            retry_after: None,
            superseded: false,
        }))
    }
}

/// What the server says, and what only this side can know of a credential that was refused.
fn message(status: &Status, reason: &str) -> String {
    let told = status.message();
    let apart = status.metadata().get(skew::APART);
    match apart.and_then(|apart| apart.to_str().ok()) {
        Some(apart) if reason == Reason::CredentialInvalid.name() => {
            format!("{told}: {apart}; set the clock that is wrong")
        }
        Some(_) | None => told.to_owned(),
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
            Some(ConnectError::Refused(_) | ConnectError::Stranger(_)) => {
                return ConnectorError::Credential;
            }
            Some(ConnectError::Silent(_) | ConnectError::Broken(_) | ConnectError::Tls(_))
            | None => {}
        }
        // On a connection that was made, what is no error of ours has only its text.
        if error.to_string().contains("alert") {
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
        Self::Keep(if let sqlx::Error::PoolTimedOut = error {
            // What this process has to write waits for whoever else writes.
            return Self::KeepBusy;
        } else if let sqlx::Error::Database(error) = &error {
            let code = error.code().unwrap_or_default();
            // The extended codes hold the plain ones in their lowest byte.
            if code == SQLITE_IOERR_SHMSIZE {
                return Self::KeepFull;
            }
            match code.parse::<i32>().map(|code| code & 0xff) {
                Ok(SQLITE_FULL) => return Self::KeepFull,
                Ok(SQLITE_BUSY | SQLITE_LOCKED) => return Self::KeepBusy,
                _ => format!("SQLite refused with code {code}"),
            }
        } else if let sqlx::Error::Io(error) = &error {
            error.kind().to_string()
        } else {
            "the file is not an outbox, or is damaged".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, SqliteConnection};

    use super::*;

    #[tokio::test]
    async fn a_full_disk_and_another_writer_are_told_apart_from_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox.sqlite");
        let open = || SqliteConnection::connect(path.to_str().unwrap());
        std::fs::write(&path, "").unwrap();
        let mut one = open().await.unwrap();
        let mut other = open().await.unwrap();
        let told = async |connection: &mut SqliteConnection, statement: &'static str| {
            let done = sqlx::query(statement).execute(connection).await;
            done.err().map(ConnectorError::from)
        };
        assert!(told(&mut one, "CREATE TABLE t (x)").await.is_none());
        for statement in ["PRAGMA busy_timeout = 0", "PRAGMA max_page_count = 3"] {
            assert!(told(&mut other, statement).await.is_none());
        }
        let filling = "INSERT INTO t VALUES (zeroblob(100000))";
        let full = told(&mut other, filling).await.unwrap();
        assert_eq!(full.known_reason(), Some(Reason::DiskFull), "{full}");

        assert!(told(&mut one, "BEGIN IMMEDIATE").await.is_none());
        let busy = told(&mut other, "DELETE FROM t").await.unwrap();
        assert_eq!(busy.known_reason(), Some(Reason::OutboxBusy), "{busy}");

        let damaged = told(&mut one, "SELECT y FROM t").await.unwrap();
        assert_eq!(damaged.reason(), "OUTBOX_UNUSABLE", "{damaged}");
    }

    #[test]
    fn a_reason_of_a_newer_server_is_told_as_it_came() {
        let refusal = Refusal {
            reason: "WITNESS_MISSING".to_owned(),
            message: "the log is not cosigned yet".to_owned(),
            violations: Vec::new(),
            withheld: BTreeMap::new(),
            audit_index: None,
            retry: true,
            retry_after: None,
            superseded: false,
        };
        let error = ConnectorError::from(Box::new(refusal));
        assert_eq!(error.reason(), "WITNESS_MISSING");
        assert_eq!(error.known_reason(), None);
        assert_eq!(error.message(), "the log is not cosigned yet");
        assert!(error.next_step().contains("administrator"));
        assert!(error.is_retryable());
    }
}

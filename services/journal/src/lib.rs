//! The durable half of the log: one writer that lets waiting calls share a transaction.
//!
//! A service hands its verbs in as a [`Book`]: which keys a call touches, how facts are loaded, the pure
//! decision, and how changes are written. The writer owns everything around that, in an order that is the
//! whole promise: facts → decide → state, entries, nodes, head → sign → commit → answer. Nobody is
//! answered before the commit; a checkpoint whose commit failed is never seen.
//!
//! If the stored log and the checkpoint file outside the database disagree, the journal is *frozen*:
//! it signs nothing and decides nothing until a person has looked.

pub mod backup;
mod batch;
mod book;
mod fold;
mod hold;
mod journal;
mod metrics;
pub mod note_file;
mod open;
mod own_key;
mod pages;
mod read;
mod schema;
mod scribe;
mod shares;
mod store;
mod timeline;
mod trouble;
mod watch;
mod writer;

pub use book::{
    Access, Book, Committed, ConflictKey, Draft, Logged, Overtaking, RequestKey, Ruling, Touch,
};
pub use journal::Journal;
pub use metrics::METRICS;
pub use open::{Config, Keys, Opened, init, migrate, open};
pub use pages::EntryFilter;
pub use read::{Reader, StoredEntry};
pub use schema::{ENTRY_INDEX, ENTRY_SPANS, ENTRY_TIMES, OWN_KEYS, REQUESTS_BY_KEY};
pub use trouble::Trouble;
pub use writer::Writer;

use amanat_database::{Error, StepsError, unreachable};

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// Stored log, signed checkpoint and checkpoint file contradict each other.
    #[error("the log is frozen: {0}")]
    Frozen(String),
    /// The transaction could not be committed; nothing was written and nothing answered.
    #[error("the log cannot be written: {0}")]
    Unwritable(String),
    /// The same, for the database's server does not answer, or lets nobody have the turn. Whether the transaction
    /// that was under way was committed is not known.
    #[error("the log cannot be written: {0}")]
    Unreachable(String),
    /// The same, for want of space.
    #[error("the disk of the log's database is full")]
    Full,
    /// Too many calls are waiting.
    #[error("too many requests are waiting for the log")]
    Busy,
    /// Too many of one agency.
    #[error("too many requests of this agency are waiting for the log")]
    Crowded,
    /// A page of entries was not found in time.
    #[error("it takes too long to find these entries")]
    Slow,
    /// The request id was used for another request.
    #[error("the request id was used for another request")]
    RequestIdReused,
    #[error("the database is not one of this service: {0}")]
    Database(String),
    #[error(
        "log.openings_key is not the key that this database was begun with; every replica, at each start, needs that one"
    )]
    OtherOpeningsKey,
    #[error(transparent)]
    Log(#[from] amanat_ledger::LedgerError),
    #[error("cannot read or write {path}: {message}")]
    File { path: String, message: String },
}

impl JournalError {
    /// What a caller of the writer is told: that an entry or a proof could not be made is never about
    /// the index that someone asked for.
    fn of_writer(self) -> Self {
        if let Self::Log(error) = &self {
            tracing::error!(%error, "a call could not be logged");
            return Self::Unwritable(error.to_string());
        }
        self
    }

    /// Why the log is frozen.
    fn into_reason(self) -> String {
        if let Self::Frozen(why) = self {
            why
        } else {
            self.to_string()
        }
    }
}

impl From<Error> for JournalError {
    /// Driver errors can quote values; only their kind is kept.
    fn from(error: Error) -> Self {
        if is_full(&error) {
            // The writer tells it, once a minute.
            return Self::Full;
        }
        if let Some(why) = unreachable(&error) {
            tracing::error!(why, "PostgreSQL cannot be reached");
            return Self::Unreachable(format!("PostgreSQL cannot be reached: {why}"));
        }
        let is_of_a_statement = error
            .as_database_error()
            .is_some_and(|error| !error.code().is_some_and(|code| is_of_the_server(&code)));
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the driver may add kinds; none is told apart"
        )]
        let kind = match &error {
            Error::Database(error) => error.code().map_or_else(
                || "the database refused a statement".to_owned(),
                |code| format!("the database refused a statement (code {code})"),
            ),
            Error::Io(error) => format!("input or output failed ({})", error.kind()),
            Error::RowNotFound => "a row that must be there is not".to_owned(),
            Error::ColumnDecode { .. } | Error::Decode(_) => {
                "a stored value is not in its form".to_owned()
            }
            _ => "the database connection failed".to_owned(),
        };
        tracing::error!(kind, "database error");
        let is_of_a_row = matches!(
            error,
            Error::RowNotFound | Error::ColumnDecode { .. } | Error::Decode(_)
        );
        if is_of_a_statement || is_of_a_row {
            Self::Unwritable(kind)
        } else {
            Self::Unreachable(kind)
        }
    }
}

impl From<StepsError> for JournalError {
    fn from(error: StepsError) -> Self {
        match error {
            StepsError::Database(error) => error.into(),
            error @ (StepsError::NotMade
            | StepsError::Foreign
            | StepsError::Missing(_)
            | StepsError::Step(_)) => Self::Database(error.to_string()),
        }
    }
}

/// PostgreSQL's codes that say nothing of a statement: no connection (08, 53300), its end (57P, 25P03), and a turn that
/// another writer has had for too long (55P03).
fn is_of_the_server(code: &str) -> bool {
    ["08", "57P", "53300", "25P03", "55P03"]
        .iter()
        .any(|start| code.starts_with(start))
}

/// SQLITE_FULL; SQLITE_IOERR_SHMSIZE, which is the same of the file of the write-ahead log's index; and PostgreSQL's
/// disk_full.
fn is_full(error: &Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["13", "4874", "53100"].contains(&code.as_ref()))
}

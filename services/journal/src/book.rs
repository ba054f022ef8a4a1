//! What a service brings to the writer.

use std::future::Future;

use amanat_database::{Connection, Error};
use amanat_schema::{
    AgencyId, RequestId, Time,
    audit::{Action, EntryBody, Linkage, Opening, Receipt},
    policy::Decision,
};

/// A service's verbs over its own tables. Gateway and custodian each have one.
pub trait Book: Send + Sync + 'static {
    /// A verb with its checked arguments.
    type Call: Send + Sync + 'static;
    /// What a caller gets beside the receipt. A refusal is an answer too: as an error it would roll back
    /// its own evidence.
    type Answer: Send + 'static;
    /// What the decisions of one batch rest on, and the changes they make.
    type Facts: Send;

    /// Which keys decide whether two calls may share a batch.
    fn access(&self, call: &Self::Call) -> Access;

    /// Whose call it is, to be counted against that agency's share of the queue; `None` for what nobody asked
    /// for.
    fn agency(&self, call: &Self::Call) -> Option<AgencyId>;

    /// Loads what the calls need, one statement a table.
    ///
    /// # Errors
    /// Of the driver; the batch is then rolled back.
    fn load(
        &self,
        connection: &mut Connection,
        calls: &[&Self::Call],
    ) -> impl Future<Output = Result<Self::Facts, Error>> + Send;

    /// Decides one call. Pure but for the changes it leaves in `facts`; total: a refusal is a ruling.
    fn decide(&self, facts: &mut Self::Facts, call: &Self::Call, now: Time)
    -> Ruling<Self::Answer>;

    /// Writes the changes that the decisions left, one statement a table.
    ///
    /// # Errors
    /// Of the driver; the batch is then rolled back.
    fn write(
        &self,
        connection: &mut Connection,
        facts: Self::Facts,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Forgets what is kept in memory of earlier batches and that others may have changed. Called while the head of
    /// the log is held, so nothing changes between this and the facts that are loaded next.
    fn overtaken(&self, by: Overtaking<'_>);

    /// What a remembered mutation answered, from the bytes that its ruling left.
    fn replay(&self, call: &Self::Call, answer: &[u8]) -> Self::Answer;
}

/// What other writers of the database did since this one's last batch.
#[derive(Debug, Clone, Copy)]
pub enum Overtaking<'a> {
    /// All that they logged: whatever changes, changes with an entry.
    Entries(&'a [Logged]),
    /// It cannot be told.
    Unknown,
}

/// An entry as far as it tells what may have changed.
#[derive(Debug, Clone)]
pub struct Logged {
    pub action: Action,
    pub decision: Decision,
    pub linkage: Linkage,
}

/// What a call touches. A batch holds at most one mutation a key, and nothing after it that shares the key;
/// reads share freely.
#[derive(Debug, Default)]
pub struct Access {
    pub keys: Vec<ConflictKey>,
    pub touch: Touch,
    /// Present for mutations that a caller may repeat.
    pub request: Option<RequestKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Touch {
    #[default]
    Reads,
    Changes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConflictKey {
    /// What kind of thing the id names.
    pub kind: &'static str,
    pub id: [u8; 16],
}

/// Under what a mutation is remembered.
#[derive(Debug, Clone)]
pub struct RequestKey {
    pub agency: AgencyId,
    pub method: &'static str,
    pub request_id: RequestId,
    /// Of the request's bytes. Nothing of the officer is kept here: the hash of a badge number is guessed.
    pub request_sha256: [u8; 32],
}

impl RequestKey {
    /// What the caller named; the hash tells whether it is the same request again.
    pub(crate) fn name(&self) -> (AgencyId, &'static str, RequestId) {
        (self.agency, self.method, self.request_id)
    }
}

/// What was decided about one call.
pub struct Ruling<A> {
    pub answer: A,
    /// The log entry; `None` for what is no act of a caller.
    pub draft: Option<Draft>,
    /// Present if a repeat is to be answered from memory: what to answer beside the receipt.
    pub remember: Option<Vec<u8>>,
}

/// An entry before it has its place. The writer fills in format, ids, counter, time and commitments.
pub struct Draft {
    pub body: EntryBody,
    pub linkage: Linkage,
    /// Committed, never written; empty if no officer acted.
    pub officer: String,
    /// The true reasons of what was withheld or refused, committed.
    pub reasons: String,
}

/// A committed answer.
pub struct Committed<A> {
    pub answer: A,
    /// `None` if the call made no entry.
    pub receipt: Option<Receipt>,
    /// Opens the entry's commitment to the caller's own officer id; `None` on a repeat.
    pub officer: Option<Opening>,
}

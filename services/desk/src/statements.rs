//! Which statements were accepted: a signer's id counts once, for ever. Another agency's same id is
//! another statement, so that nobody can take one away.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use amanat_database::{Column::Bytes, Connection, Error, Insert, Sql};
use amanat_identity::{Signed, statement::AgencyStatement};
use amanat_journal::ConflictKey;
use amanat_schema::{AgencyId, StatementId};
use prost::Message as _;

/// A verified statement in the form in which it is kept.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Who signed it.
    pub agency: AgencyId,
    pub id: StatementId,
    /// The envelope, as it came.
    pub envelope: Vec<u8>,
    pub payload_sha256: [u8; 32],
    /// SHA-256 of the payload that it follows.
    pub follows: Option<[u8; 32]>,
}

impl<M: AgencyStatement> From<&Signed<M>> for Stored {
    fn from(signed: &Signed<M>) -> Self {
        Self {
            agency: signed.head().agency,
            id: signed.head().statement_id,
            envelope: signed.envelope().encode_to_vec(),
            payload_sha256: *signed.payload_sha256(),
            follows: signed.head().follows,
        }
    }
}

/// A statement's name.
type Key = (AgencyId, StatementId);

impl Stored {
    fn key(&self) -> Key {
        (self.agency, self.id)
    }

    /// Statements with the same id never share a batch.
    pub fn conflict_key(&self) -> ConflictKey {
        ConflictKey {
            kind: "statement",
            id: *self.id.as_bytes(),
        }
    }
}

/// What is known of a statement that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    New,
    /// The same bytes were accepted before: a repeated delivery.
    Same,
    /// Other bytes of this signer were accepted under this id.
    Other,
}

/// Of this process. Each is refused with an entry of its own; the operator hears of them together.
static OTHERS: Others = Others(Mutex::new((0, None)));
/// Between two words about them: an agency can send as many as it likes.
const REMIND: Duration = Duration::from_secs(60);

/// How many came again with other bytes that nothing was said of, and when something was.
struct Others(Mutex<(u64, Option<Instant>)>);

impl Others {
    /// How many to speak of now; `None` if not yet.
    fn met(&self, now: Instant) -> Option<u64> {
        // A panic elsewhere leaves at worst a wrong count.
        let mut others = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, said) = &mut *others;
        *count += 1;
        if said.is_some_and(|at| now.duration_since(at) < REMIND) {
            return None;
        }
        *said = Some(now);
        Some(std::mem::take(count))
    }
}

/// The accepted ids that a batch asks about, and those it adds.
#[derive(Default)]
pub struct StatementFacts {
    known: HashMap<Key, [u8; 32]>,
    accepted: Vec<(Key, [u8; 32])>,
}

impl StatementFacts {
    /// # Errors
    /// Of the driver.
    pub async fn load(
        connection: &mut Connection,
        ids: impl Iterator<Item = StatementId>,
    ) -> Result<Self, Error> {
        let ids: Vec<_> = ids.collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let ids = ids.iter().map(StatementId::as_bytes);
        let rows = Sql::new("SELECT agency, statement_id, payload_sha256 FROM statements WHERE ")
            .is_one_of(Bytes("statement_id"), ids)
            .fetch_all(connection)
            .await?;
        let mut known = HashMap::new();
        for row in rows {
            let key = (AgencyId::new(row.get(0)?), StatementId::new(row.get(1)?));
            known.insert(key, row.get(2)?);
        }
        Ok(Self {
            known,
            accepted: Vec::new(),
        })
    }

    pub fn look_up(&self, statement: &Stored) -> Known {
        match self.known.get(&statement.key()) {
            None => Known::New,
            Some(sha256) if *sha256 == statement.payload_sha256 => Known::Same,
            Some(_) => {
                if let Some(count) = OTHERS.met(Instant::now()) {
                    // The last of them is named.
                    let agency = statement.agency;
                    tracing::error!(%agency, count, "ALARM: statement ids came again with other bytes");
                }
                Known::Other
            }
        }
    }

    pub fn accept(&mut self, statement: &Stored) {
        self.accepted
            .push((statement.key(), statement.payload_sha256));
    }

    /// # Errors
    /// Of the driver.
    pub async fn write(self, connection: &mut Connection) -> Result<(), Error> {
        let rows = self.accepted.iter().map(|((agency, id), sha256)| {
            [
                agency.as_bytes().into(),
                id.as_bytes().into(),
                sha256.into(),
            ]
        });
        let columns = [
            Bytes("agency"),
            Bytes("statement_id"),
            Bytes("payload_sha256"),
        ];
        Insert::into("statements", columns, rows)
            .execute(connection)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_come_again_with_other_bytes_are_told_once_a_minute_and_counted() {
        let (others, start) = (Others(Mutex::default()), Instant::now());
        let met = |after_s: u64| others.met(start + Duration::from_secs(after_s));
        assert_eq!(met(0), Some(1));
        for after_s in 0..60 {
            assert_eq!(met(after_s), None);
        }
        assert_eq!(met(60), Some(61));
        assert_eq!(met(61), None);
    }
}

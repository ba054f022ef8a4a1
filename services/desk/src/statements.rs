//! Which statements were accepted: a signer's id counts once, for ever. Another agency's same id is
//! another statement, so that nobody can take one away.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use amanat_identity::{Signed, statement::AgencyStatement};
use amanat_journal::{ConflictKey, id_set};
use amanat_schema::{AgencyId, StatementId};
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

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
    known: HashMap<Key, Vec<u8>>,
    accepted: Vec<(Key, [u8; 32])>,
}

impl StatementFacts {
    /// # Errors
    /// Of the driver.
    pub async fn load(
        connection: &mut SqliteConnection,
        ids: impl Iterator<Item = StatementId>,
    ) -> Result<Self, sqlx::Error> {
        let ids: Vec<_> = ids.collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let rows = sqlx::query(
            "SELECT agency, statement_id, payload_sha256 FROM statements \
             WHERE statement_id IN (SELECT unhex(value) FROM json_each($1))",
        )
        .bind(id_set(ids.iter().map(|id| id.as_bytes().as_slice())))
        .fetch_all(connection)
        .await?;
        let mut known = HashMap::new();
        for row in rows {
            let (agency, id): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            if let (Ok(agency), Ok(id)) = (AgencyId::parse(&agency), StatementId::parse(&id)) {
                known.insert((agency, id), row.try_get(2)?);
            }
        }
        Ok(Self {
            known,
            accepted: Vec::new(),
        })
    }

    pub fn look_up(&self, statement: &Stored) -> Known {
        match self.known.get(&statement.key()) {
            None => Known::New,
            Some(sha256) if sha256.as_slice() == statement.payload_sha256 => Known::Same,
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
    pub async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if self.accepted.is_empty() {
            return Ok(());
        }
        QueryBuilder::<Sqlite>::new(
            "INSERT INTO statements (agency, statement_id, payload_sha256) ",
        )
        .push_values(&self.accepted, |mut row, ((agency, id), sha256)| {
            row.push_bind(agency.to_vec())
                .push_bind(id.to_vec())
                .push_bind(sha256.as_slice());
        })
        .build()
        .execute(connection)
        .await
        .map(drop)
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

//! Which statements were accepted: a signer's id counts once, for ever. Another agency's same id is
//! another statement, so that nobody can take one away.

use std::collections::HashMap;

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
                tracing::error!(id = %statement.id, "ALARM: a statement id came again with other bytes");
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

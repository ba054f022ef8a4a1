//! Receipts and checkpoints: what each log was seen to say, to be held against what it says later.

use amanat_ledger::{LogEntry, LogVerifier, Proven, SignedCheckpoint};
use amanat_schema::{Time, audit::Receipt};
use prost::Message as _;
use sqlx::{Row as _, SqliteConnection};

use super::{
    Keep,
    contradiction::{Contradiction, Kind, TwoWords},
};
use crate::{ConnectorError, Server};

/// A receipt that holds.
pub(crate) struct Evidence {
    pub(crate) server: Server,
    pub(crate) log: LogVerifier,
    pub(crate) receipt: Receipt,
    pub(crate) proven: Proven,
    /// By this machine's clock.
    pub(crate) seen: Time,
}

impl Keep {
    /// Keeps a receipt and the largest checkpoint.
    ///
    /// # Errors
    /// [`ConnectorError::Verify`] if it contradicts what was kept before, or its log was seen to contradict itself.
    pub(crate) async fn evidence(&self, evidence: &Evidence) -> Result<(), ConnectorError> {
        let mut transaction = self.begin().await?;
        let contradiction = evidence.keep(&mut transaction).await?;
        transaction.commit().await?;
        evidence.stands(contradiction)
    }

    /// Keeps a checkpoint if it is the largest seen, and answers what its log contradicts.
    pub(crate) async fn checkpoint(
        &self,
        log: &LogVerifier,
        checkpoint: &SignedCheckpoint,
        seen: Time,
    ) -> Result<Option<Contradiction>, ConnectorError> {
        let mut transaction = self.begin().await?;
        let mut contradiction = Contradiction::standing(&mut transaction, log.origin()).await?;
        if contradiction.is_none() {
            contradiction = keep_checkpoint(&mut transaction, log, checkpoint, seen).await?;
        }
        transaction.commit().await?;
        Ok(contradiction)
    }

    /// The entries of a log that were receipted here, by index.
    pub(crate) async fn receipted(
        &self,
        origin: &str,
    ) -> Result<Vec<(u64, LogEntry)>, ConnectorError> {
        let rows = sqlx::query("SELECT receipt FROM receipts WHERE origin = $1 ORDER BY idx")
            .bind(origin)
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(|row| {
                let receipt: Vec<u8> = row.try_get(0)?;
                let receipt = decoded(&receipt)?;
                let salt = receipt.salt.as_slice().try_into().map_err(|_| damaged())?;
                Ok((receipt.index, LogEntry::new(&salt, &receipt.body)))
            })
            .collect()
    }

    /// The largest checkpoint of a log that this connector was ever shown.
    pub(crate) async fn last_checkpoint(
        &self,
        origin: &str,
    ) -> Result<Option<String>, ConnectorError> {
        let row = sqlx::query("SELECT note FROM checkpoints WHERE origin = $1")
            .bind(origin)
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

impl Evidence {
    pub(crate) fn entry(&self) -> (Server, u64) {
        (self.server, self.proven.index)
    }

    /// Answers what it contradicts: the same place in the log with another entry, or the same size with another
    /// root. What was kept first stays, and both are kept as proof; of a log that was seen to contradict itself
    /// nothing more is.
    pub(super) async fn keep(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Contradiction>, ConnectorError> {
        let Self { log, receipt, .. } = self;
        let standing = Contradiction::standing(connection, log.origin()).await?;
        if standing.is_some() {
            return Ok(standing);
        }
        let encoded = receipt.encode_to_vec();
        let row = sqlx::query(
            "INSERT INTO receipts (origin, idx, receipt) VALUES ($1, $2, $3) \
             ON CONFLICT (origin, idx) DO UPDATE SET origin = excluded.origin RETURNING receipt",
        )
        .bind(log.origin())
        .bind(i64::try_from(receipt.index).unwrap_or(i64::MAX))
        .bind(&encoded)
        .fetch_one(&mut *connection)
        .await?;
        let ours: Vec<u8> = row.try_get(0)?;
        let kept = decoded(&ours)?;
        let contradiction = if (&kept.body, &kept.salt) == (&receipt.body, &receipt.salt) {
            keep_checkpoint(connection, log, &self.proven.checkpoint, self.seen).await?
        } else {
            let words = TwoWords {
                kind: Kind::Receipts,
                ours: &ours,
                theirs: &encoded,
            };
            Some(words.keep(connection, log.origin(), self.seen).await?)
        };
        Ok(contradiction.map(|contradiction| contradiction.at(self.proven.index)))
    }

    pub(super) fn stands(
        &self,
        contradiction: Option<Contradiction>,
    ) -> Result<(), ConnectorError> {
        contradiction.map_or(Ok(()), |contradiction| Err(contradiction.of(self.server)))
    }
}

/// Of a log of which no contradiction stands.
async fn keep_checkpoint(
    connection: &mut SqliteConnection,
    log: &LogVerifier,
    checkpoint: &SignedCheckpoint,
    seen: Time,
) -> Result<Option<Contradiction>, ConnectorError> {
    let row = sqlx::query(
        "INSERT INTO checkpoints (origin, size, note) VALUES ($1, $2, $3) \
         ON CONFLICT (origin) DO UPDATE SET size = max(size, excluded.size), \
         note = CASE WHEN excluded.size > size THEN excluded.note ELSE note END RETURNING note",
    )
    .bind(log.origin())
    .bind(i64::try_from(checkpoint.head.size).unwrap_or(i64::MAX))
    .bind(&checkpoint.text)
    .fetch_one(&mut *connection)
    .await?;
    let kept: String = row.try_get(0)?;
    let is_other = log
        .open(&kept)
        .is_ok_and(|kept| kept.head.size == checkpoint.head.size && kept.head != checkpoint.head);
    if !is_other {
        return Ok(None);
    }
    let words = TwoWords {
        kind: Kind::Checkpoints,
        ours: kept.as_bytes(),
        theirs: checkpoint.text.as_bytes(),
    };
    Ok(Some(words.keep(connection, log.origin(), seen).await?))
}

fn decoded(receipt: &[u8]) -> Result<Receipt, ConnectorError> {
    Receipt::decode(receipt).map_err(|_| damaged())
}

fn damaged() -> ConnectorError {
    ConnectorError::Keep("a kept receipt cannot be read".into())
}

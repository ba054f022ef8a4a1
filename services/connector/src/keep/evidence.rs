//! Receipts and checkpoints: what each log was seen to say, to be held against what it says later.

use amanat_ledger::{LogEntry, LogVerifier, Proven, SignedCheckpoint};
use amanat_schema::audit::Receipt;
use prost::Message as _;
use sqlx::{Row as _, SqliteConnection};

use super::Keep;
use crate::{ConnectorError, Fault, Server, VerifyError};

/// A receipt that holds.
pub(crate) struct Evidence {
    pub(crate) server: Server,
    pub(crate) log: LogVerifier,
    pub(crate) receipt: Receipt,
    pub(crate) proven: Proven,
}

/// What a receipt or a checkpoint contradicts of what was kept before, in words.
pub(crate) type Contradiction = &'static str;

impl Keep {
    /// Keeps a receipt and the largest checkpoint.
    ///
    /// # Errors
    /// [`ConnectorError::Verify`] if it contradicts what was kept before.
    pub(crate) async fn evidence(&self, evidence: &Evidence) -> Result<(), ConnectorError> {
        let mut transaction = self.begin().await?;
        let contradiction = evidence.keep(&mut transaction).await?;
        transaction.commit().await?;
        evidence.stands(contradiction)
    }

    /// Keeps a checkpoint if it is the largest seen.
    pub(crate) async fn checkpoint(
        &self,
        log: &LogVerifier,
        checkpoint: &SignedCheckpoint,
    ) -> Result<Option<Contradiction>, ConnectorError> {
        keep_checkpoint(&mut *self.writer.acquire().await?, log, checkpoint).await
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
        let damaged = || ConnectorError::Keep("a kept receipt cannot be read".into());
        rows.iter()
            .map(|row| {
                let receipt: Vec<u8> = row.try_get(0)?;
                let receipt = Receipt::decode(receipt.as_slice()).map_err(|_| damaged())?;
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
    /// root. What was kept first stays; a receipt at a place of its own is kept even so, as evidence.
    pub(super) async fn keep(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Contradiction>, ConnectorError> {
        let Self { log, receipt, .. } = self;
        let row = sqlx::query(
            "INSERT INTO receipts (origin, idx, receipt) VALUES ($1, $2, $3) \
             ON CONFLICT (origin, idx) DO UPDATE SET origin = excluded.origin RETURNING receipt",
        )
        .bind(log.origin())
        .bind(i64::try_from(receipt.index).unwrap_or(i64::MAX))
        .bind(receipt.encode_to_vec())
        .fetch_one(&mut *connection)
        .await?;
        let kept: Vec<u8> = row.try_get(0)?;
        let kept = Receipt::decode(kept.as_slice()).unwrap_or_default();
        if (&kept.body, &kept.salt) != (&receipt.body, &receipt.salt) {
            return Ok(Some("another entry was receipted at this place before"));
        }
        keep_checkpoint(connection, log, &self.proven.checkpoint).await
    }

    pub(super) fn stands(
        &self,
        contradiction: Option<Contradiction>,
    ) -> Result<(), ConnectorError> {
        let Some(what) = contradiction else {
            return Ok(());
        };
        Err(VerifyError {
            server: self.server,
            index: Some(self.proven.index),
            what: what.to_owned(),
            fault: Fault::Contradiction,
        }
        .into())
    }
}

async fn keep_checkpoint(
    connection: &mut SqliteConnection,
    log: &LogVerifier,
    checkpoint: &SignedCheckpoint,
) -> Result<Option<Contradiction>, ConnectorError> {
    let row = sqlx::query(
        "INSERT INTO checkpoints (origin, size, note) VALUES ($1, $2, $3) \
         ON CONFLICT (origin) DO UPDATE SET size = max(size, excluded.size), \
         note = CASE WHEN excluded.size > size THEN excluded.note ELSE note END RETURNING note",
    )
    .bind(log.origin())
    .bind(i64::try_from(checkpoint.head.size).unwrap_or(i64::MAX))
    .bind(&checkpoint.text)
    .fetch_one(connection)
    .await?;
    let kept: String = row.try_get(0)?;
    let other = log
        .open(&kept)
        .is_ok_and(|kept| kept.head.size == checkpoint.head.size && kept.head != checkpoint.head);
    Ok(other.then_some("another tree of this size was signed before"))
}

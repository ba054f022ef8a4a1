//! What the connector keeps: jobs until they are answered, receipts, checkpoints and versions seen.

use std::path::Path;

use amanat_ledger::{LogEntry, LogVerifier, SignedCheckpoint};
use amanat_schema::{AgencyId, CaseId, ConsentId, RecordId, Time, audit::Receipt};
use prost::Message as _;
use sqlx::{
    Row as _, SqlitePool,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::ConnectorError;

mod backlog;
mod subjects;

pub use backlog::{BACKLOG_JOBS, BACKLOG_OLDEST, Backlog, BacklogMetric};

pub(crate) use subjects::SubjectRow;

const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "outbox", include_str!("../migrations/0001_outbox.sql")),
    (
        2,
        "subjects",
        include_str!("../migrations/0002_subjects.sql"),
    ),
    (
        3,
        "job-times",
        include_str!("../migrations/0003_job_times.sql"),
    ),
];

/// The outbox database.
#[derive(Clone)]
pub(crate) struct Keep {
    pool: SqlitePool,
}

/// A job to keep.
pub(crate) struct SealedJob<'a> {
    pub(crate) kind: &'static str,
    pub(crate) subject: &'a str,
    pub(crate) sealed: Vec<u8>,
    pub(crate) steps: u32,
    /// When it was handed in.
    pub(crate) accepted: Time,
}

/// A job as it waits.
pub(crate) struct JobRow {
    pub(crate) seq: i64,
    pub(crate) kind: String,
    pub(crate) subject: String,
    /// Sealed.
    pub(crate) job: Vec<u8>,
    pub(crate) progress: u32,
    pub(crate) answers: Vec<Vec<u8>>,
}

impl Keep {
    pub(crate) async fn open(path: &Path) -> Result<Self, ConnectorError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON")
            .foreign_keys(true)
            .busy_timeout(std::time::Duration::from_secs(10));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await?;
        let steps = MIGRATIONS.map(|(number, name, text)| {
            let text = sqlx::SqlStr::from_static(text);
            Migration::new(number, name.into(), MigrationType::Simple, text, false)
        });
        Migrator::with_migrations(steps.to_vec())
            .run(&pool)
            .await
            .map_err(unmigrated)?;
        Ok(Self { pool })
    }

    /// All of them durable when it returns, or none; only then may the first call be made.
    pub(crate) async fn add_jobs(
        &self,
        jobs: &[SealedJob<'_>],
    ) -> Result<Vec<i64>, ConnectorError> {
        let mut transaction = self.pool.begin().await?;
        let mut numbers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let row = sqlx::query(
                "INSERT INTO jobs (kind, subject, job, steps, progress, refused, accept_time) \
                 VALUES ($1, $2, $3, $4, 0, '', $5) RETURNING seq",
            )
            .bind(job.kind)
            .bind(job.subject)
            .bind(job.sealed.as_slice())
            .bind(job.steps)
            .bind(job.accepted.millis())
            .fetch_one(&mut *transaction)
            .await?;
            numbers.push(row.try_get(0)?);
        }
        transaction.commit().await?;
        Ok(numbers)
    }

    /// The jobs that are neither done nor refused, oldest first.
    pub(crate) async fn open_jobs(&self) -> Result<Vec<JobRow>, ConnectorError> {
        let rows = sqlx::query(
            "SELECT seq, kind, subject, job, progress FROM jobs \
             WHERE progress < steps AND refused = '' ORDER BY seq",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in rows {
            let seq = row.try_get(0)?;
            let answers = sqlx::query("SELECT answer FROM answers WHERE seq = $1 ORDER BY step")
                .bind(seq)
                .fetch_all(&self.pool)
                .await?;
            jobs.push(JobRow {
                seq,
                kind: row.try_get(1)?,
                subject: row.try_get(2)?,
                job: row.try_get(3)?,
                progress: row.try_get(4)?,
                answers: answers
                    .iter()
                    .map(|row| row.try_get(0))
                    .collect::<Result<_, _>>()?,
            });
        }
        Ok(jobs)
    }

    /// The jobs that a server refused, oldest first: number, kind, subject and reason.
    pub(crate) async fn refused_jobs(
        &self,
    ) -> Result<Vec<(i64, String, String, String)>, ConnectorError> {
        let jobs = sqlx::query_as(
            "SELECT seq, kind, subject, refused FROM jobs WHERE refused <> '' ORDER BY seq",
        );
        Ok(jobs.fetch_all(&self.pool).await?)
    }

    /// Records a step's answer and what is left to send; with the last one the job's contents are erased.
    pub(crate) async fn answered(
        &self,
        seq: i64,
        step: usize,
        answer: &[u8],
        rest: &[u8],
    ) -> Result<(), ConnectorError> {
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        let mut transaction = self.pool.begin().await?;
        sqlx::query("INSERT OR IGNORE INTO answers (seq, step, answer) VALUES ($1, $2, $3)")
            .bind(seq)
            .bind(step)
            .bind(answer)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "UPDATE jobs SET progress = max(progress, $2 + 1), \
             job = CASE WHEN $2 + 1 >= steps THEN x'' ELSE $3 END WHERE seq = $1",
        )
        .bind(seq)
        .bind(step)
        .bind(rest)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Takes a job out of the queue; its contents stay, so that nothing handed in is lost.
    pub(crate) async fn refused(&self, seq: i64, reason: &str) -> Result<(), ConnectorError> {
        sqlx::query("UPDATE jobs SET refused = $2 WHERE seq = $1")
            .bind(seq)
            .bind(reason)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forgets a refused job, and answers whether there was one. Its number stays taken, for a pseudonym may
    /// rest on it.
    pub(crate) async fn drop_refused(&self, seq: i64) -> Result<bool, ConnectorError> {
        let mut transaction = self.pool.begin().await?;
        let dropped = sqlx::query(
            "UPDATE jobs SET job = x'', progress = steps, refused = '' \
             WHERE seq = $1 AND refused <> ''",
        )
        .bind(seq)
        .execute(&mut *transaction)
        .await?;
        let was_refused = dropped.rows_affected() > 0;
        if was_refused {
            sqlx::query("DELETE FROM answers WHERE seq = $1")
                .bind(seq)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(was_refused)
    }

    /// Keeps a verified receipt and the largest checkpoint. Answers what it contradicts of what was kept
    /// before, if anything: the same place in the log with another entry, or the same size with another root.
    pub(crate) async fn receipt(
        &self,
        log: &LogVerifier,
        receipt: &Receipt,
        checkpoint: &SignedCheckpoint,
    ) -> Result<Option<&'static str>, ConnectorError> {
        let idx = i64::try_from(receipt.index).unwrap_or(i64::MAX);
        let row = sqlx::query(
            "INSERT INTO receipts (origin, idx, receipt) VALUES ($1, $2, $3) \
             ON CONFLICT (origin, idx) DO UPDATE SET origin = excluded.origin RETURNING receipt",
        )
        .bind(log.origin())
        .bind(idx)
        .bind(receipt.encode_to_vec())
        .fetch_one(&self.pool)
        .await?;
        let kept: Vec<u8> = row.try_get(0)?;
        let kept = Receipt::decode(kept.as_slice()).unwrap_or_default();
        if (&kept.body, &kept.salt) != (&receipt.body, &receipt.salt) {
            return Ok(Some("another entry was receipted at this place before"));
        }
        self.checkpoint(log, checkpoint).await
    }

    /// Keeps a checkpoint if it is the largest seen. Answers what it contradicts, if anything.
    pub(crate) async fn checkpoint(
        &self,
        log: &LogVerifier,
        checkpoint: &SignedCheckpoint,
    ) -> Result<Option<&'static str>, ConnectorError> {
        let row = sqlx::query(
            "INSERT INTO checkpoints (origin, size, note) VALUES ($1, $2, $3) \
             ON CONFLICT (origin) DO UPDATE SET size = max(size, excluded.size), \
             note = CASE WHEN excluded.size > size THEN excluded.note ELSE note END RETURNING note",
        )
        .bind(log.origin())
        .bind(i64::try_from(checkpoint.head.size).unwrap_or(i64::MAX))
        .bind(&checkpoint.text)
        .fetch_one(&self.pool)
        .await?;
        let kept: String = row.try_get(0)?;
        let other = log.open(&kept).is_ok_and(|kept| {
            kept.head.size == checkpoint.head.size && kept.head != checkpoint.head
        });
        Ok(other.then_some("another tree of this size was signed before"))
    }

    /// The entries of a log that were receipted here, by index.
    pub(crate) async fn receipted(
        &self,
        origin: &str,
    ) -> Result<Vec<(u64, LogEntry)>, ConnectorError> {
        let rows = sqlx::query("SELECT receipt FROM receipts WHERE origin = $1 ORDER BY idx")
            .bind(origin)
            .fetch_all(&self.pool)
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
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Remembers the case of a consent that is granted here.
    pub(crate) async fn granted(
        &self,
        consent: ConsentId,
        case: CaseId,
    ) -> Result<(), ConnectorError> {
        sqlx::query("INSERT INTO consents (consent_id, case_id) VALUES ($1, $2)")
            .bind(consent.to_vec())
            .bind(case.to_vec())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The case of a consent that was granted here.
    pub(crate) async fn case_of(
        &self,
        consent: ConsentId,
    ) -> Result<Option<CaseId>, ConnectorError> {
        let row = sqlx::query("SELECT case_id FROM consents WHERE consent_id = $1")
            .bind(consent.to_vec())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let case: Vec<u8> = row.try_get(0)?;
        Ok(CaseId::parse(&case).ok())
    }

    /// The highest version of a record that this connector has seen.
    pub(crate) async fn version(
        &self,
        source: AgencyId,
        record: RecordId,
    ) -> Result<Option<(u32, Vec<u8>)>, ConnectorError> {
        let row = sqlx::query(
            "SELECT version, header_sha256 FROM versions WHERE source = $1 AND record_id = $2",
        )
        .bind(source.to_vec())
        .bind(record.to_vec())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row
            .map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?)))
            .transpose()?)
    }

    pub(crate) async fn saw_version(
        &self,
        source: AgencyId,
        record: RecordId,
        version: u32,
        header_sha256: &[u8; 32],
    ) -> Result<(), ConnectorError> {
        sqlx::query(
            "INSERT INTO versions (source, record_id, version, header_sha256) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (source, record_id) DO UPDATE \
             SET version = excluded.version, header_sha256 = excluded.header_sha256 \
             WHERE excluded.version > versions.version",
        )
        .bind(source.to_vec())
        .bind(record.to_vec())
        .bind(version)
        .bind(header_sha256.as_slice())
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// A full disk or another command is told as what it is.
fn unmigrated(error: MigrateError) -> ConnectorError {
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        error.into()
    } else {
        ConnectorError::Keep("the file is not an outbox of this version".into())
    }
}

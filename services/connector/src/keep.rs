//! What the connector keeps: jobs until they are answered, receipts, checkpoints and versions seen.

use std::{path::Path, time::Duration};

use amanat_schema::{AgencyId, CaseId, ConsentId, RecordId};
use sqlx::{
    Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::ConnectorError;

mod backlog;
mod contradiction;
mod evidence;
mod outbox;
mod subjects;

pub use backlog::{BACKLOG_JOBS, BACKLOG_OLDEST, Backlog, BacklogMetric};

pub(crate) use evidence::Evidence;
pub(crate) use outbox::{JobRow, Learnt, SealedJob, StepRow};
pub(crate) use subjects::SubjectRow;

const MIGRATIONS: [(i64, &str, &str); 5] = [
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
    (
        4,
        "open-jobs",
        include_str!("../migrations/0004_open_jobs.sql"),
    ),
    (
        5,
        "contradictions",
        include_str!("../migrations/0005_contradictions.sql"),
    ),
];
const READERS: u32 = 2;
/// How long another command of the same profile may write.
const BUSY: Duration = Duration::from_secs(10);

/// The outbox database.
#[derive(Clone)]
pub(crate) struct Keep {
    /// One connection, for which the writers of this process queue: those of two would find out from SQLite that
    /// the other one writes, which has them sleep and try again.
    writer: SqlitePool,
    readers: SqlitePool,
}

/// A version of a record that this connector has seen.
pub(crate) struct VersionRow {
    pub(crate) source: AgencyId,
    pub(crate) record: RecordId,
    pub(crate) version: u32,
    /// Of the signed header's payload.
    pub(crate) header_sha256: [u8; 32],
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
            .busy_timeout(BUSY);
        // A file does not hang up: nothing is asked of a connection before its use.
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .test_before_acquire(false)
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        let steps = MIGRATIONS.map(|(number, name, text)| {
            let text = sqlx::SqlStr::from_static(text);
            Migration::new(number, name.into(), MigrationType::Simple, text, false)
        });
        Migrator::with_migrations(steps.to_vec())
            .run(&writer)
            .await
            .map_err(unmigrated)?;
        // Not opened as a file to read: whichever connection is closed last folds the write-ahead log.
        let readers = pool(READERS).connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { writer, readers })
    }

    /// Begins to write, or waits for another process that does: one that began to read first would be refused.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, ConnectorError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
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
            .execute(&self.writer)
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
            .fetch_optional(&self.readers)
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
        .fetch_optional(&self.readers)
        .await?;
        Ok(row
            .map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?)))
            .transpose()?)
    }

    pub(crate) async fn saw_version(&self, seen: &VersionRow) -> Result<(), ConnectorError> {
        seen.keep(&mut *self.writer.acquire().await?).await
    }
}

impl VersionRow {
    /// Unless a higher one was seen.
    async fn keep(&self, connection: &mut SqliteConnection) -> Result<(), ConnectorError> {
        sqlx::query(
            "INSERT INTO versions (source, record_id, version, header_sha256) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (source, record_id) DO UPDATE \
             SET version = excluded.version, header_sha256 = excluded.header_sha256 \
             WHERE excluded.version > versions.version",
        )
        .bind(self.source.to_vec())
        .bind(self.record.to_vec())
        .bind(self.version)
        .bind(self.header_sha256.as_slice())
        .execute(connection)
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

//! The steps that made a database what it is, in their order.

use std::iter;

use sqlx::{
    Row as _, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::{Config, JournalError};

/// The journal's own tables; a service's follow.
const FIRST: (&str, &str) = ("journal", include_str!("../migrations/0001_journal.sql"));
/// What the journal changed later: each a step of each service's list, which takes it at its own end. A step never
/// changes its place, or databases that exist could not be brought up to date.
pub const ENTRY_TIMES: (&str, &str) = (
    "entry-times",
    include_str!("../migrations/0002_entry_times.sql"),
);
pub const REQUESTS_BY_KEY: (&str, &str) = (
    "requests-by-key",
    include_str!("../migrations/0003_requests_by_key.sql"),
);

/// What a database lacks of the steps known; empty if it is up to date.
///
/// # Errors
/// [`JournalError::Database`] if any other step made it.
pub(crate) async fn missing(
    config: &Config,
    connection: &mut SqliteConnection,
) -> Result<Vec<&'static str>, JournalError> {
    let rows = sqlx::query(
        "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version",
    )
    .fetch_all(connection)
    .await
    .map_err(|_| JournalError::Database("it was not made by `init`".to_owned()))?;
    let applied = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<Vec<(i64, Vec<u8>)>, sqlx::Error>>()?;
    let migrator = migrator(config);
    let known = migrator
        .iter()
        .map(|step| (step.version, step.checksum.to_vec()));
    if !known.take(applied.len()).eq(applied.iter().cloned()) {
        return Err(JournalError::Database(
            "steps made it that this program does not know: it is another service's, or a later version's"
                .to_owned(),
        ));
    }
    let names = steps(config).map(|(name, _)| name);
    Ok(names.skip(applied.len()).collect())
}

/// Serving never migrates: the steps applied must be exactly the steps known.
pub(crate) async fn check(
    config: &Config,
    connection: &mut SqliteConnection,
) -> Result<(), JournalError> {
    let missing = missing(config, connection).await?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(JournalError::Database(format!(
        "an earlier version made it, and it lacks {}: keep a copy of it, then run `migrate`",
        missing.join(", ")
    )))
}

/// Takes the steps that are missing, each whole or not at all.
pub(crate) async fn apply(
    config: &Config,
    connection: &mut SqliteConnection,
) -> Result<(), JournalError> {
    let applied = migrator(config).run(connection).await;
    applied.map_err(|error| JournalError::Database(error.to_string()))
}

fn migrator(config: &Config) -> Migrator {
    let migrations = (1..).zip(steps(config)).map(|(version, (name, sql))| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(sql),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

/// The journal's own tables, then the service's.
fn steps(config: &Config) -> impl Iterator<Item = (&'static str, &'static str)> {
    iter::once(FIRST).chain(config.migrations.iter().copied())
}

//! The steps that made a database what it is, in their order: the same names on both engines.

use sqlx::{
    migrate::{Migration, MigrationType, Migrator},
    raw_sql,
};

use crate::{Connection, Engine, Error, Sql, connection::EngineConnection};

/// One step, in the words of each engine. A step never changes its place or its text, or databases that exist could
/// not be brought up to date.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub name: &'static str,
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum StepsError {
    #[error("it was not made by `init`")]
    NotMade,
    #[error(
        "steps made it that this program does not know: it is another service's, or a later version's"
    )]
    Foreign,
    #[error("an earlier version made it, and it lacks {0}: keep a copy of it, then run `migrate`")]
    Missing(String),
    #[error(transparent)]
    Database(#[from] Error),
    #[error("a step could not be taken: {0}")]
    Step(String),
}

/// What a database lacks of the steps known; empty if it is up to date.
///
/// # Errors
/// [`StepsError`] if any other step made it.
pub async fn missing(
    steps: &[Step],
    connection: &mut Connection,
) -> Result<Vec<&'static str>, StepsError> {
    let rows =
        Sql::new("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(connection)
            .await
            .map_err(|error| {
                // No such table.
                if error.as_database_error().is_some() {
                    StepsError::NotMade
                } else {
                    error.into()
                }
            })?;
    let applied = rows
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect::<Result<Vec<(i64, Vec<u8>)>, Error>>()?;
    let migrator = migrator(steps, connection.engine());
    let known = migrator
        .iter()
        .map(|step| (step.version, step.checksum.to_vec()));
    if !known.take(applied.len()).eq(applied.iter().cloned()) {
        return Err(StepsError::Foreign);
    }
    let names = steps.iter().map(|step| step.name);
    Ok(names.skip(applied.len()).collect())
}

/// Serving never migrates: the steps applied must be exactly the steps known.
///
/// # Errors
/// [`StepsError`].
pub async fn check(steps: &[Step], connection: &mut Connection) -> Result<(), StepsError> {
    let missing = missing(steps, connection).await?;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(StepsError::Missing(missing.join(", ")))
    }
}

/// Takes the steps that are missing, each whole or not at all.
///
/// # Errors
/// [`StepsError::Step`].
pub async fn apply(steps: &[Step], connection: &mut Connection) -> Result<(), StepsError> {
    let migrator = migrator(steps, connection.engine());
    let applied = match connection.engine_mut() {
        EngineConnection::Sqlite(connection) => migrator.run(connection).await,
        EngineConnection::Postgres(connection) => {
            // A step goes through all of a table, however long that takes.
            raw_sql("SET statement_timeout = 0; SET lock_timeout = 0")
                .execute(&mut *connection)
                .await?;
            let applied = migrator.run(&mut *connection).await;
            raw_sql("RESET statement_timeout; RESET lock_timeout")
                .execute(connection)
                .await?;
            applied
        }
    };
    applied.map_err(|error| StepsError::Step(error.to_string()))
}

fn migrator(steps: &[Step], engine: Engine) -> Migrator {
    let migrations = (1..).zip(steps).map(|(version, step)| {
        let sql = match engine {
            Engine::Sqlite => step.sqlite,
            Engine::Postgres => step.postgres,
        };
        let name = step.name.into();
        let sql = sqlx::SqlStr::from_static(sql);
        Migration::new(version, name, MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

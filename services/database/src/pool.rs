//! Connections that only read, shared.

use std::time::{Duration, Instant};

use sqlx::{
    PgPool, SqliteConnection, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::SqlitePoolOptions,
};

use crate::{Connection, Error, Place, Servers, connection::Inner, postgres, sqlite};

/// Of SQLite's machine, between two looks at the clock.
const STEPS: i32 = 10_000;

#[derive(Clone)]
pub struct Pool(Kind);

#[derive(Clone)]
enum Kind {
    Sqlite(SqlitePool),
    Postgres {
        pool: PgPool,
        servers: Servers,
        limit: Option<Duration>,
    },
}

impl Pool {
    /// With a limit, the engine itself ends what takes longer: nobody may wait for the answer any more, and it would
    /// go on.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn open(
        place: &Place,
        connections: u32,
        limit: Option<Duration>,
    ) -> Result<Self, Error> {
        Ok(Self(match place {
            Place::Sqlite(file) => {
                let mut options = SqlitePoolOptions::new().max_connections(connections);
                if let Some(limit) = limit {
                    options = options
                        .acquire_timeout(limit)
                        .after_connect(move |connection, _| Box::pin(end_after(connection, limit)))
                        .before_acquire(move |connection, _| {
                            Box::pin(async move {
                                end_after(connection, limit).await?;
                                Ok(true)
                            })
                        });
                }
                Kind::Sqlite(options.connect_with(sqlite::reading(file)).await?)
            }
            Place::Postgres(servers) => {
                let primary = servers.last_primary().await?;
                let options = PgPoolOptions::new()
                    .max_connections(connections)
                    .acquire_timeout(postgres::ANSWERS);
                Kind::Postgres {
                    pool: options.connect_lazy_with(limited(primary, limit)),
                    servers: servers.clone(),
                    limit,
                }
            }
        }))
    }

    /// # Errors
    /// Of the driver.
    pub async fn acquire(&self) -> Result<Connection, Error> {
        Ok(Connection(match &self.0 {
            Kind::Sqlite(pool) => Inner::PooledSqlite(pool.acquire().await?),
            Kind::Postgres { pool, .. } => Inner::PooledPostgres(pool.acquire().await?),
        }))
    }

    /// Reads from the server that was the primary when one was last connected to.
    pub async fn follow_primary(&self) {
        if let Kind::Postgres {
            pool,
            servers,
            limit,
        } = &self.0
            && let Ok(primary) = servers.last_primary().await
        {
            pool.set_connect_options(limited(primary, *limit));
        }
    }

    pub async fn close(&self) {
        match &self.0 {
            Kind::Sqlite(pool) => pool.close().await,
            Kind::Postgres { pool, .. } => pool.close().await,
        }
    }
}

/// Whether the engine ended a statement, for it took longer than its pool allows.
pub fn is_at_its_limit(error: &Error) -> bool {
    // query_canceled, and SQLITE_INTERRUPT.
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["57014", "9"].contains(&code.as_ref()))
}

fn limited(options: PgConnectOptions, limit: Option<Duration>) -> PgConnectOptions {
    match limit {
        Some(limit) => options.options([
            ("statement_timeout", limit.as_millis().to_string()),
            // What takes long depends on what is asked for: no plan is good for all values.
            ("plan_cache_mode", "force_custom_plan".to_owned()),
        ]),
        None => options,
    }
}

/// From now on.
async fn end_after(connection: &mut SqliteConnection, limit: Duration) -> Result<(), Error> {
    let end = Instant::now() + limit;
    let goes_on = move || Instant::now() < end;
    connection
        .lock_handle()
        .await?
        .set_progress_handler(STEPS, goes_on);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::{Engine, Sql};

    /// Longer than any test waits.
    const ENDLESS: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

    #[tokio::test]
    async fn what_takes_longer_than_the_limit_is_ended_and_the_next_question_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let place = match std::env::var("AMANAT_POSTGRES") {
            Ok(address) => Place::of_address(&address).unwrap().unwrap(),
            Err(_) => Place::Sqlite(folder.path().join("pool.db")),
        };
        place.create().await.unwrap().close().await.unwrap();
        let limit = Duration::from_millis(200);
        let pool = Pool::open(&place, 1, Some(limit)).await.unwrap();
        for _ in 0..2 {
            let mut connection = pool.acquire().await.unwrap();
            let endless = match connection.engine() {
                Engine::Sqlite => ENDLESS,
                Engine::Postgres => "SELECT pg_sleep(60)",
            };
            let asked = Instant::now();
            let ended = Sql::new(endless).fetch_all(&mut connection).await;
            assert!(is_at_its_limit(&ended.err().unwrap()));
            assert!(asked.elapsed() >= limit && asked.elapsed() < Duration::from_secs(20));
            drop(connection);
            let mut connection = pool.acquire().await.unwrap();
            let row = Sql::new("SELECT 1").fetch_one(&mut connection).await;
            row.unwrap();
        }
        pool.close().await;
    }
}

//! One connection to either engine.

use sqlx::{
    Connection as _, PgConnection, Postgres, Sqlite, SqliteConnection, pool::PoolConnection,
};

use crate::{Engine, Error, Row, row::Inner as RowInner};

/// A copy holds no turn that others wait for, and a table can be long.
const AT_LEISURE: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
                          SET LOCAL idle_in_transaction_session_timeout = '10min'";

pub struct Connection(pub(crate) Inner);

pub(crate) enum Inner {
    Sqlite(SqliteConnection),
    Postgres(Box<PgConnection>),
    PooledSqlite(PoolConnection<Sqlite>),
    PooledPostgres(PoolConnection<Postgres>),
}

pub(crate) enum EngineConnection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Connection {
    pub fn engine(&self) -> Engine {
        match self.0 {
            Inner::Sqlite(_) | Inner::PooledSqlite(_) => Engine::Sqlite,
            Inner::Postgres(_) | Inner::PooledPostgres(_) => Engine::Postgres,
        }
    }

    pub(crate) fn engine_mut(&mut self) -> EngineConnection<'_> {
        match &mut self.0 {
            Inner::Sqlite(connection) => EngineConnection::Sqlite(connection),
            Inner::PooledSqlite(connection) => EngineConnection::Sqlite(connection),
            Inner::Postgres(connection) => EngineConnection::Postgres(connection),
            Inner::PooledPostgres(connection) => EngineConnection::Postgres(connection),
        }
    }

    /// Begins a transaction that writes, once nobody else does: SQLite locks the whole database; on PostgreSQL
    /// `turn` takes the row that all writers take in turn, in the same round trip, and what it selects is the
    /// answer.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn begin(&mut self, turn: &'static str) -> Result<Option<Row>, Error> {
        match self.engine_mut() {
            EngineConnection::Sqlite(connection) => {
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(connection).await?;
                Ok(None)
            }
            EngineConnection::Postgres(connection) => {
                let rows = sqlx::raw_sql(turn).fetch_all(connection).await?;
                let row = rows.into_iter().next();
                Ok(row.map(|row| Row(RowInner::Postgres(row))))
            }
        }
    }

    /// Begins a transaction that only reads, all as of one moment, while others go on writing.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn begin_snapshot(&mut self) -> Result<(), Error> {
        match self.engine() {
            Engine::Sqlite => self.run("BEGIN").await,
            Engine::Postgres => {
                self.run("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    .await?;
                self.run(AT_LEISURE).await
            }
        }
    }

    /// Begins a transaction that fills a database which nobody serves from.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn begin_filling(&mut self) -> Result<(), Error> {
        match self.engine() {
            Engine::Sqlite => self.run("BEGIN IMMEDIATE").await,
            Engine::Postgres => {
                self.run("BEGIN").await?;
                self.run(AT_LEISURE).await
            }
        }
    }

    /// # Errors
    /// Of the driver: then nothing is known of what became of the transaction.
    pub async fn commit(&mut self) -> Result<(), Error> {
        self.run("COMMIT").await
    }

    /// # Errors
    /// Of the driver.
    pub async fn rollback(&mut self) -> Result<(), Error> {
        self.run("ROLLBACK").await
    }

    /// Statements without values.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn run(&mut self, sql: &'static str) -> Result<(), Error> {
        match self.engine_mut() {
            EngineConnection::Sqlite(connection) => {
                sqlx::raw_sql(sql).execute(connection).await.map(drop)
            }
            EngineConnection::Postgres(connection) => {
                sqlx::raw_sql(sql).execute(connection).await.map(drop)
            }
        }
    }

    /// # Errors
    /// Of the driver.
    pub async fn close(self) -> Result<(), Error> {
        match self.0 {
            Inner::Sqlite(connection) => connection.close().await,
            Inner::Postgres(connection) => connection.close().await,
            // They go back to their pool.
            Inner::PooledSqlite(_) | Inner::PooledPostgres(_) => Ok(()),
        }
    }
}

//! Connections that only read, shared.

use sqlx::{PgPool, SqlitePool, postgres::PgPoolOptions, sqlite::SqlitePoolOptions};

use crate::{Connection, Error, Place, Servers, connection::Inner, postgres, sqlite};

#[derive(Clone)]
pub struct Pool(Kind);

#[derive(Clone)]
enum Kind {
    Sqlite(SqlitePool),
    Postgres { pool: PgPool, servers: Servers },
}

impl Pool {
    /// # Errors
    /// Of the driver.
    pub async fn open(place: &Place, connections: u32) -> Result<Self, Error> {
        Ok(Self(match place {
            Place::Sqlite(file) => Kind::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(connections)
                    .connect_with(sqlite::reading(file))
                    .await?,
            ),
            Place::Postgres(servers) => {
                let (_, primary) = servers.primary().await?;
                let options = PgPoolOptions::new()
                    .max_connections(connections)
                    .acquire_timeout(postgres::ANSWERS);
                Kind::Postgres {
                    pool: options.connect_lazy_with(primary),
                    servers: servers.clone(),
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

    /// Reads from whichever server is the primary now.
    pub async fn follow_primary(&self) {
        if let Kind::Postgres { pool, servers } = &self.0
            && let Ok((_, primary)) = servers.primary().await
        {
            pool.set_connect_options(primary);
        }
    }

    pub async fn close(&self) {
        match &self.0 {
            Kind::Sqlite(pool) => pool.close().await,
            Kind::Postgres { pool, .. } => pool.close().await,
        }
    }
}

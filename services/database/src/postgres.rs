//! How a PostgreSQL database is found and opened: whichever of its servers is the primary, over a connection whose
//! settings make a commit durable and a hung writer harmless.

use std::{fmt, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, Row as _, postgres::PgConnectOptions,
};
use tokio::time::timeout;

use crate::Error;

/// For one server to answer.
pub(crate) const ANSWERS: Duration = Duration::from_secs(3);
const STATEMENTS: usize = 512;
/// A writer that hangs in its transaction loses its turn: the server ends its session after as long.
const HUNG: &str = "3s";
/// A statement of a batch takes milliseconds.
const STATEMENT: &str = "20s";
/// Of waiting for the turn: longer than a hung writer is suffered.
const TURN: &str = "10s";

/// The servers of one database, as configured.
#[derive(Clone)]
pub struct Servers(pub(crate) Vec<PgConnectOptions>);

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                self.0
                    .iter()
                    .map(|server| format!("{}:{}", server.get_host(), server.get_port())),
            )
            .finish()
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, server) in self.0.iter().enumerate() {
            let and = if at == 0 { "" } else { ", " };
            write!(f, "{and}{}:{}", server.get_host(), server.get_port())?;
        }
        Ok(())
    }
}

impl Servers {
    /// A connection to the primary, with how it was reached.
    ///
    /// # Errors
    /// Of the driver, of the last server tried; or that none is the primary.
    pub(crate) async fn primary(&self) -> Result<(PgConnection, PgConnectOptions), Error> {
        let mut why = no_primary();
        for server in &self.0 {
            let tried = timeout(ANSWERS, connect(server)).await;
            match tried.unwrap_or_else(|_| Err(silent())) {
                Ok(Some(connection)) => return Ok((connection, server.clone())),
                Ok(None) => why = no_primary(),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

/// `None` from a server that only follows another one.
async fn connect(server: &PgConnectOptions) -> Result<Option<PgConnection>, Error> {
    let mut connection = server.connect().await?;
    let row = sqlx::query("SELECT pg_is_in_recovery()")
        .fetch_one(&mut connection)
        .await?;
    if row.try_get(0)? {
        connection.close().await?;
        return Ok(None);
    }
    Ok(Some(connection))
}

/// With the settings of a session that everything rests on.
pub(crate) fn options(server: PgConnectOptions) -> PgConnectOptions {
    server
        .application_name("amanat")
        .options([
            ("synchronous_commit", "on"),
            ("default_transaction_isolation", "read committed"),
            ("idle_in_transaction_session_timeout", HUNG),
            ("statement_timeout", STATEMENT),
            ("lock_timeout", TURN),
            ("jit", "off"),
        ])
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging()
}

fn silent() -> Error {
    Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

fn no_primary() -> Error {
    let why = "none of the servers is the primary";
    Error::Io(std::io::Error::new(std::io::ErrorKind::NotConnected, why))
}

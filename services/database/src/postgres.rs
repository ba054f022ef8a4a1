//! How a PostgreSQL database is found and opened: whichever of its servers is the primary, over a connection whose
//! settings make a commit durable and a hung writer harmless.

use std::{fmt, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, Row as _, postgres::PgConnectOptions,
};
use tokio::{task::JoinSet, time::timeout};

use crate::Error;

/// For the other servers to answer once one is found to be a primary.
const OTHERS: Duration = Duration::from_secs(1);
/// For one server to answer.
pub(crate) const ANSWERS: Duration = Duration::from_secs(3);
const STATEMENTS: usize = 512;
/// A writer that hangs in its transaction loses its turn: the server ends its session after as long.
pub(crate) const HUNG: &str = "3s";
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

/// A server that takes writes, as it was found.
pub(crate) struct Primary {
    pub(crate) connection: PgConnection,
    pub(crate) options: PgConnectOptions,
    timeline: String,
}

impl Servers {
    /// A connection to the primary. An old one that came back after a failover is on an older timeline: the newest
    /// counts.
    ///
    /// # Errors
    /// Of the driver, of one of the servers; that none is the primary; or that two are.
    pub(crate) async fn primary(&self) -> Result<Primary, Error> {
        let mut asked = JoinSet::new();
        for server in &self.0 {
            let server = server.clone();
            asked.spawn(async move { timeout(ANSWERS, look(server)).await });
        }
        let (mut found, mut why): (Option<Primary>, _) = (None, no_primary());
        loop {
            // Who does not answer at once is no primary that anybody could write to.
            let next = match &found {
                None => asked.join_next().await,
                Some(_) => timeout(OTHERS, asked.join_next()).await.unwrap_or(None),
            };
            let Some(looked) = next else {
                return found.ok_or(why);
            };
            match looked
                .map_err(|_| silent())
                .and_then(|looked| looked.unwrap_or_else(|_| Err(silent())))
            {
                Ok(None) => {}
                Ok(Some(other)) => match &found {
                    Some(primary) if primary.timeline == other.timeline => {
                        return Err(two_primaries());
                    }
                    Some(primary) if primary.timeline > other.timeline => {}
                    _ => found = Some(other),
                },
                Err(error) => why = error,
            }
        }
    }
}

/// `None` from a server that only follows another one.
async fn look(options: PgConnectOptions) -> Result<Option<Primary>, Error> {
    let mut connection = options.connect().await?;
    let row = sqlx::query(
        "SELECT CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
    )
    .fetch_one(&mut connection)
    .await?;
    let Some(timeline) = row.try_get(0)? else {
        connection.close().await?;
        return Ok(None);
    };
    Ok(Some(Primary {
        connection,
        options,
        timeline,
    }))
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
            // What is answered as text is read as this.
            ("bytea_output", "hex"),
            // A server notices when its client is gone.
            ("client_connection_check_interval", "5s"),
            ("tcp_user_timeout", "15s"),
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

fn two_primaries() -> Error {
    let why = "two servers say that they are the primary; stop the one that must not be";
    Error::Io(std::io::Error::other(why))
}

//! How a PostgreSQL database is found and opened: whichever of its servers is the primary, over a connection whose
//! settings make a commit durable and a hung writer harmless.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    Error,
    door::{Door, NOT_CONNECTED, Tls, Way},
};

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
pub struct Servers {
    servers: Arc<[Server]>,
    /// Which of them was the primary when it was last asked for.
    primary: Arc<AtomicUsize>,
}

pub(crate) struct Server {
    options: PgConnectOptions,
    /// `None` where the server has a socket of its own on this machine.
    door: Option<Door>,
}

/// A server that takes writes, as it was found.
struct Primary {
    place: usize,
    connection: PgConnection,
    timeline: String,
}

impl Servers {
    /// There is one at least.
    pub(crate) fn new(servers: Vec<Server>) -> Self {
        Self {
            servers: servers.into(),
            primary: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    pub(crate) fn role(&self) -> Option<&str> {
        let first = self.servers.first();
        first.map(|server| server.options.get_username())
    }

    /// A connection to the primary.
    ///
    /// # Errors
    /// Of the driver, of one of the servers; that none is the primary; or that two are.
    pub(crate) async fn connect(&self) -> Result<PgConnection, Error> {
        let primary = self.find().await?;
        self.primary.store(primary.place, Ordering::Relaxed);
        Ok(primary.connection)
    }

    /// How the server is connected to that was the primary when it was last asked for.
    pub(crate) async fn last_primary(&self) -> Result<PgConnectOptions, Error> {
        let server = self.servers.get(self.primary.load(Ordering::Relaxed));
        server.ok_or_else(no_primary)?.options().await
    }

    /// An old primary that came back after a failover is on an older timeline: the newest counts.
    async fn find(&self) -> Result<Primary, Error> {
        let mut asked = JoinSet::new();
        for place in 0..self.servers.len() {
            let servers = Arc::clone(&self.servers);
            asked.spawn(async move { timeout(ANSWERS, look(&servers, place)).await });
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

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Server { options, .. }) in self.servers.iter().enumerate() {
            let and = if at == 0 { "" } else { ", " };
            write!(f, "{and}{}:{}", options.get_host(), options.get_port())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servers({self})")
    }
}

impl Server {
    /// `tls` says how a connection over TCP is verified; `None` within this machine.
    pub(crate) fn new(options: PgConnectOptions, tls: Option<Tls>) -> Self {
        let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
        let door = (!is_socket).then(|| {
            Door::new(Way {
                host: options.get_host().trim_matches(['[', ']']).to_owned(),
                port: options.get_port(),
                tls,
            })
        });
        Self { options, door }
    }

    async fn options(&self) -> Result<PgConnectOptions, Error> {
        let options = self.options.clone().ssl_mode(PgSslMode::Disable);
        Ok(match &self.door {
            None => options,
            Some(door) => options.socket(door.socket().await?),
        })
    }
}

/// `None` from a server that only follows another one.
async fn look(servers: &[Server], place: usize) -> Result<Option<Primary>, Error> {
    let server = servers.get(place).ok_or_else(no_primary)?;
    let mut connection = server.options().await?.connect().await?;
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
        place,
        connection,
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

/// Why no connection could be made, in words for an operator, if that is what the error is about.
pub fn unreachable(error: &Error) -> Option<String> {
    if let Error::Database(error) = error {
        let is_ours = error.code().is_some_and(|code| code == NOT_CONNECTED);
        return is_ours.then(|| error.message().to_owned());
    }
    let Error::Io(error) = error else {
        return None;
    };
    error.get_ref()?.downcast_ref().map(Unreachable::to_string)
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreachable(&'static str);

impl Unreachable {
    fn error(self) -> Error {
        Error::Io(io::Error::other(self))
    }
}

fn silent() -> Error {
    Unreachable("it does not answer").error()
}

fn no_primary() -> Error {
    Unreachable("none of the servers is the primary").error()
}

fn two_primaries() -> Error {
    Unreachable("two servers say that they are the primary; stop the one that must not be").error()
}

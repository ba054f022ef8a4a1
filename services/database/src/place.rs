//! Where a database is, as its setting says.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use crate::{
    Connection, Engine, Error, Servers,
    connection::Inner,
    door::Tls,
    postgres::{self, Server},
    sqlite,
};

/// What the driver reads of its environment. A setting says all that counts: a process that finds one of these set
/// must not connect.
pub const ENVIRONMENT: &[&str] = &[
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGDATABASE",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGAPPNAME",
    "PGOPTIONS",
];
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// A file, or the servers of a PostgreSQL database.
#[derive(Debug, Clone)]
pub enum Place {
    Sqlite(PathBuf),
    Postgres(Servers),
}

/// Why a setting names no database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error(
        "a password has no place in a configuration; use a client certificate (sslcert, sslkey) or a password file"
    )]
    Password,
    #[error(
        "the connection leaves this machine, so it must check whom it reaches: add sslmode=verify-full and sslrootcert"
    )]
    Unverified,
    #[error(
        "a connection is verified or within this machine: sslmode is verify-full, with sslrootcert, or disable"
    )]
    Mode,
    #[error("sslcert and sslkey belong together, and to sslmode=verify-full")]
    Certificate,
    #[error(
        "behind the question mark stand sslmode, sslrootcert, sslcert, sslkey and options, each once, and nothing else"
    )]
    Query,
    #[error(
        "the address is not of the form postgres://role@host[:port][,host[:port]]/database[?sslmode=…]"
    )]
    Form,
}

impl Place {
    /// `None` if the setting is no address: then it is a path.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn of_address(setting: &str) -> Result<Option<Self>, PlaceError> {
        let Some(rest) = SCHEMES
            .iter()
            .find_map(|scheme| setting.strip_prefix(scheme))
        else {
            return Ok(None);
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').ok_or(PlaceError::Form)?;
        let (role, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if role.contains(':') {
            return Err(PlaceError::Password);
        }
        let query = Query::parse(query)?;
        let at = if role.is_empty() { "" } else { "@" };
        let mut servers = Vec::new();
        for host in hosts.split(',') {
            let url = format!("postgres://{role}{at}{host}/{database}{}", query.session);
            let server = PgConnectOptions::from_str(&url).map_err(|_| PlaceError::Form)?;
            if query.tls.is_none() && !is_here(&server) {
                return Err(PlaceError::Unverified);
            }
            if query.tls.is_some() && server.get_socket().is_some() {
                return Err(PlaceError::Mode);
            }
            let tls = query.tls.clone();
            servers.push(Server::new(postgres::options(server), tls));
        }
        Ok(Some(Self::Postgres(Servers::new(servers))))
    }

    pub fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => Some(file),
            Self::Postgres(_) => None,
        }
    }

    /// Whom a PostgreSQL database knows who connects as.
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(servers) => servers.role(),
        }
    }

    /// A connection of one's own, to write.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn connect(&self) -> Result<Connection, Error> {
        Ok(Connection(match self {
            Self::Sqlite(file) => Inner::Sqlite(sqlite::options(file).connect().await?),
            Self::Postgres(servers) => Inner::Postgres(Box::new(servers.connect().await?)),
        }))
    }

    /// Makes the file, if it is one; a PostgreSQL database is made by who runs its servers.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn create(&self) -> Result<Connection, Error> {
        match self {
            Self::Sqlite(file) => {
                let options = sqlite::options(file).create_if_missing(true);
                Ok(Connection(Inner::Sqlite(options.connect().await?)))
            }
            Self::Postgres(_) => self.connect().await,
        }
    }
}

/// What stands behind the question mark of an address.
struct Query {
    tls: Option<Tls>,
    /// What the driver is left to read of it: settings of a session.
    session: String,
}

impl Query {
    fn parse(query: &str) -> Result<Self, PlaceError> {
        let mut given = BTreeMap::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if key.contains("password") {
                return Err(PlaceError::Password);
            }
            if given.insert(key, value).is_some() {
                return Err(PlaceError::Query);
            }
        }
        let mut file = |key: &str| given.remove(key).map(|file| PathBuf::from(&*file));
        let (authority, certificate, key) = (file("sslrootcert"), file("sslcert"), file("sslkey"));
        let own = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(PlaceError::Certificate),
        };
        let tls = match (given.remove("sslmode").as_deref(), authority) {
            (Some("verify-full"), Some(authority)) => Some(Tls { authority, own }),
            (Some("disable") | None, None) if own.is_some() => return Err(PlaceError::Certificate),
            (Some("disable") | None, None) => None,
            (_, _) => return Err(PlaceError::Mode),
        };
        let session = given.remove("options").map_or_else(String::new, |options| {
            let mut query = form_urlencoded::Serializer::for_suffix("?".to_owned(), 1);
            query.append_pair("options", &options).finish()
        });
        match given.is_empty() {
            true => Ok(Self { tls, session }),
            false => Err(PlaceError::Query),
        }
    }
}

fn is_here(server: &PgConnectOptions) -> bool {
    server.get_socket().is_some()
        || ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&server.get_host())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => file.display().fmt(f),
            Self::Postgres(servers) => write!(f, "PostgreSQL at {servers}"),
        }
    }
}

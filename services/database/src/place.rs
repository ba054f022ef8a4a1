//! Where a database is, as its setting says.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{Connection, Engine, Error, Servers, connection::Inner, postgres, sqlite};

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
        let (authority, path) = rest.split_once('/').ok_or(PlaceError::Form)?;
        let (role, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if role.contains(':') || path.contains("password=") {
            return Err(PlaceError::Password);
        }
        let mut servers = Vec::new();
        for host in hosts.split(',') {
            let url = match role {
                "" => format!("postgres://{host}/{path}"),
                role => format!("postgres://{role}@{host}/{path}"),
            };
            let server = PgConnectOptions::from_str(&url).map_err(|_| PlaceError::Form)?;
            let is_here = server.get_socket().is_some()
                || ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&server.get_host());
            let is_verified = matches!(server.get_ssl_mode(), PgSslMode::VerifyFull)
                && path.contains("sslrootcert=");
            if !is_here && !is_verified {
                return Err(PlaceError::Unverified);
            }
            servers.push(postgres::options(server));
        }
        Ok(Some(Self::Postgres(Servers(servers))))
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
            Self::Postgres(servers) => servers.0.first().map(PgConnectOptions::get_username),
        }
    }

    /// A connection of one's own, to write.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn connect(&self) -> Result<Connection, Error> {
        Ok(Connection(match self {
            Self::Sqlite(file) => Inner::Sqlite(sqlite::options(file).connect().await?),
            Self::Postgres(servers) => {
                Inner::Postgres(Box::new(servers.primary().await?.connection))
            }
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => file.display().fmt(f),
            Self::Postgres(servers) => write!(f, "PostgreSQL at {servers}"),
        }
    }
}

//! The two engines behind one connection: SQLite in a file, PostgreSQL for many replicas.
//!
//! A statement is written once. What differs is how a *set of rows* is bound — one JSON array on SQLite, one typed
//! array a column on PostgreSQL — and [`Sql`] and [`Insert`] know that, so that no store has to. Where the engines
//! differ beyond that, [`Sql::per`] says so in the statement itself.
//!
//! Integers are 64 bits on both, ids and hashes are bytes, times are milliseconds since 1970.

mod connection;
pub mod copy;
mod door;
mod grants;
mod place;
mod pool;
mod postgres;
mod rendered;
mod row;
mod settings;
mod sqlite;
mod statement;
mod steps;
mod value;

pub use connection::Connection;
pub use grants::{Changing, grant};
pub use place::{ENVIRONMENT, Place, PlaceError};
pub use pool::{Pool, is_at_its_limit};
pub use postgres::{Servers, unreachable};
pub use row::{FromColumn, Row};
pub use settings::unfit;
pub use statement::{Insert, Sql};
pub use steps::{Step, StepsError, apply, check, missing};
pub use value::{Column, Value};

/// What the driver says. It can quote values: only its kind may be told.
pub use sqlx::Error;

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// The error of a stored value that no longer parses: it fails the batch, and so the call that needs it.
pub fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Decode(Box::new(error))
}

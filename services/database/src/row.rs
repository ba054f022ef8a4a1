//! What a statement answers.

use sqlx::{Decode, Postgres, Row as _, Sqlite, Type, postgres::PgRow, sqlite::SqliteRow};

use crate::{Error, damaged};

/// One row of an answer; columns are counted from 0.
pub struct Row(pub(crate) Inner);

pub(crate) enum Inner {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// What a column can be read as.
pub trait FromColumn: Sized {
    /// # Errors
    /// [`Error`] if the column is not there or is something else.
    fn from_column(row: &Row, column: usize) -> Result<Self, Error>;
}

impl Row {
    /// The value of a column.
    ///
    /// # Errors
    /// [`Error`] if the column is not there or is something else.
    pub fn get<T: FromColumn>(&self, column: usize) -> Result<T, Error> {
        T::from_column(self, column)
    }

    fn decode<'r, T>(&'r self, column: usize) -> Result<T, Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match &self.0 {
            Inner::Sqlite(row) => row.try_get(column),
            Inner::Postgres(row) => row.try_get(column),
        }
    }
}

macro_rules! decoded {
    ($($type:ty),+) => {$(
        impl FromColumn for $type {
            fn from_column(row: &Row, column: usize) -> Result<Self, Error> {
                row.decode(column)
            }
        }

        impl FromColumn for Option<$type> {
            fn from_column(row: &Row, column: usize) -> Result<Self, Error> {
                row.decode(column)
            }
        }
    )+};
}

decoded!(Vec<u8>, String, i64, bool);

/// Numbers that are kept in 64 bits and mean less.
macro_rules! narrowed {
    ($($type:ty),+) => {$(
        impl FromColumn for $type {
            fn from_column(row: &Row, column: usize) -> Result<Self, Error> {
                let number: i64 = row.get(column)?;
                number.try_into().map_err(damaged)
            }
        }
    )+};
}

narrowed!(i32, u32, u64, usize);

impl<const N: usize> FromColumn for [u8; N] {
    fn from_column(row: &Row, column: usize) -> Result<Self, Error> {
        // Not borrowed: what a statement without values answers, PostgreSQL sends as text.
        let bytes: Vec<u8> = row.decode(column)?;
        bytes.as_slice().try_into().map_err(damaged)
    }
}

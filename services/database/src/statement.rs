//! A statement, written once for both engines.

use std::{borrow::Cow, ops::ControlFlow};

use serde_json::Value as Json;
use tokio_stream::StreamExt as _;

use crate::{
    Column, Connection, Engine, Error, Row, Value,
    connection::EngineConnection,
    rendered::{Bind, Rendered, from_json, json},
    row::Inner,
};

/// Rows of one INSERT on SQLite: each number of rows is a statement of its own there, which stays prepared.
const AT_ONCE: usize = 64;

/// A statement put together from text and values.
#[derive(Default)]
pub struct Sql<'a>(Vec<Piece<'a>>);

enum Piece<'a> {
    Text(Cow<'static, str>),
    Per {
        sqlite: &'static str,
        postgres: &'static str,
    },
    Bind(Value<'a>),
    OneOf(Column<'a>, Vec<Value<'a>>),
    Inserting {
        table: &'a str,
        columns: Vec<Column<'a>>,
        numbers: Numbers,
        rows: Vec<Vec<Value<'a>>>,
    },
    Rows {
        name: &'static str,
        columns: Vec<Column<'a>>,
        rows: Vec<Vec<Value<'a>>>,
    },
}

/// Who numbers the rows of a table that PostgreSQL numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    New,
    AsGiven,
}

impl<'a> Sql<'a> {
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self::default().push(text)
    }

    /// More text. Never a value: that is bound.
    #[must_use]
    pub fn push(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.0.push(Piece::Text(text.into()));
        self
    }

    /// Text that the engines want in their own words.
    #[must_use]
    pub fn per(mut self, sqlite: &'static str, postgres: &'static str) -> Self {
        self.0.push(Piece::Per { sqlite, postgres });
        self
    }

    /// `JOIN` in the order in which it is written: the few first. SQLite needs to be told, PostgreSQL counts.
    #[must_use]
    pub fn led_join(self) -> Self {
        self.per(" CROSS JOIN ", " JOIN ")
    }

    /// The place of one value.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value<'a>>) -> Self {
        self.0.push(Piece::Bind(value.into()));
        self
    }

    /// The condition that a column is one of some values.
    #[must_use]
    pub fn is_one_of<V: Into<Value<'a>>>(
        mut self,
        column: Column<'a>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.0.push(Piece::OneOf(column, values));
        self
    }

    /// Rows as a table of this name, to select from or to join.
    #[must_use]
    pub fn rows<const N: usize>(
        mut self,
        name: &'static str,
        columns: [Column<'a>; N],
        rows: impl IntoIterator<Item = [Value<'a>; N]>,
    ) -> Self {
        self.0.push(Piece::Rows {
            name,
            columns: columns.to_vec(),
            rows: rows.into_iter().map(Vec::from).collect(),
        });
        self
    }

    /// `INSERT INTO` of all these rows.
    #[must_use]
    pub fn inserting<const N: usize>(
        mut self,
        table: &'a str,
        columns: [Column<'a>; N],
        rows: impl IntoIterator<Item = [Value<'a>; N]>,
    ) -> Self {
        self.0.push(Piece::Inserting {
            table,
            columns: columns.to_vec(),
            numbers: Numbers::New,
            rows: rows.into_iter().map(Vec::from).collect(),
        });
        self
    }

    /// # Errors
    /// Of the driver.
    pub async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<Row>, Error> {
        let rendered = self.render(connection.engine())?;
        Ok(match connection.engine_mut() {
            EngineConnection::Sqlite(connection) => {
                let rows = rendered.for_sqlite().fetch_all(connection).await?;
                rows.into_iter()
                    .map(|row| Row(Inner::Sqlite(row)))
                    .collect()
            }
            EngineConnection::Postgres(connection) => {
                let rows = rendered.for_postgres().fetch_all(connection).await?;
                let row = |row| Row(Inner::Postgres(row));
                rows.into_iter().map(row).collect()
            }
        })
    }

    /// The first row, if there is any.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn fetch_optional(self, connection: &mut Connection) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(connection).await?.into_iter().next())
    }

    /// The first row.
    ///
    /// # Errors
    /// Of the driver, or that there is none.
    pub async fn fetch_one(self, connection: &mut Connection) -> Result<Row, Error> {
        let row = self.fetch_optional(connection).await?;
        row.ok_or(Error::RowNotFound)
    }

    /// Hands on the rows as they come, until one is the last that is wanted.
    pub(crate) async fn fetch_while(
        self,
        connection: &mut Connection,
        mut take: impl FnMut(&Row) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let rendered = self.render(connection.engine())?;
        match connection.engine_mut() {
            EngineConnection::Sqlite(connection) => {
                let mut rows = rendered.for_sqlite().fetch(connection);
                while let Some(row) = rows.next().await {
                    if take(&Row(Inner::Sqlite(row?)))?.is_break() {
                        return Ok(());
                    }
                }
            }
            EngineConnection::Postgres(connection) => {
                let mut rows = rendered.for_postgres().fetch(connection);
                while let Some(row) = rows.next().await {
                    if take(&Row(Inner::Postgres(row?)))?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// How many rows it changed.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn execute(self, connection: &mut Connection) -> Result<u64, Error> {
        let rendered = self.render(connection.engine())?;
        Ok(match connection.engine_mut() {
            EngineConnection::Sqlite(connection) => {
                let done = rendered.for_sqlite().execute(connection).await?;
                done.rows_affected()
            }
            EngineConnection::Postgres(connection) => {
                let done = rendered.for_postgres().execute(connection).await?;
                done.rows_affected()
            }
        })
    }

    /// The text alone, as an engine gets it: for whoever asks how it would be run.
    ///
    /// # Errors
    /// That a value cannot be bound.
    pub fn text(self, engine: Engine) -> Result<String, Error> {
        Ok(self.render(engine)?.text)
    }

    fn render(self, engine: Engine) -> Result<Rendered<'a>, Error> {
        let mut rendered = Rendered::new(engine);
        for piece in self.0 {
            match (piece, engine) {
                (Piece::Text(text), _) => rendered.text.push_str(&text),
                (Piece::Per { sqlite, .. }, Engine::Sqlite) => rendered.text.push_str(sqlite),
                (Piece::Per { postgres, .. }, Engine::Postgres) => rendered.text.push_str(postgres),
                (Piece::Bind(value), _) => rendered.bind(Bind::One(value)),
                (Piece::OneOf(column, values), Engine::Sqlite) => {
                    rendered.text.push_str(column.name());
                    rendered.text.push_str(" IN (SELECT ");
                    rendered.text.push_str(from_json(column));
                    rendered.text.push_str(" FROM json_each(");
                    let values = values.iter().map(json).collect();
                    rendered.bind_json(&Json::Array(values))?;
                    rendered.text.push_str("))");
                }
                (Piece::OneOf(column, values), Engine::Postgres) => {
                    rendered.text.push_str(column.name());
                    rendered.text.push_str(" = ANY (");
                    rendered.bind_array(column, values.into_iter());
                    rendered.text.push(')');
                }
                (
                    Piece::Inserting {
                        table,
                        columns,
                        numbers,
                        rows,
                    },
                    _,
                ) => rendered.inserting(table, &columns, numbers, rows),
                (
                    Piece::Rows {
                        name,
                        columns,
                        rows,
                    },
                    Engine::Sqlite,
                ) => rendered.json_table(name, &columns, &rows)?,
                (
                    Piece::Rows {
                        name,
                        columns,
                        rows,
                    },
                    Engine::Postgres,
                ) => rendered.array_table(name, &columns, rows),
            }
        }
        Ok(rendered)
    }
}

/// New rows of a table.
pub struct Insert<'a> {
    table: &'a str,
    columns: Vec<Column<'a>>,
    numbers: Numbers,
    rows: Vec<Vec<Value<'a>>>,
    then: (&'static str, &'static str),
}

impl<'a> Insert<'a> {
    pub fn into<const N: usize>(
        table: &'a str,
        columns: [Column<'a>; N],
        rows: impl IntoIterator<Item = [Value<'a>; N]>,
    ) -> Self {
        let rows = rows.into_iter().map(Vec::from).collect();
        Self {
            numbers: Numbers::New,
            ..Self::as_given(table, columns.to_vec(), rows)
        }
    }

    /// With the numbers that the rows had before, where PostgreSQL would give them new ones.
    pub(crate) fn as_given(
        table: &'a str,
        columns: Vec<Column<'a>>,
        rows: Vec<Vec<Value<'a>>>,
    ) -> Self {
        Self {
            table,
            columns,
            numbers: Numbers::AsGiven,
            rows,
            then: ("", ""),
        }
    }

    /// What to do with a row that is there already: `ON CONFLICT …`.
    #[must_use]
    pub fn or(self, on_conflict: &'static str) -> Self {
        self.or_per(on_conflict, on_conflict)
    }

    /// The same, where the engines want it in their own words.
    #[must_use]
    pub fn or_per(mut self, sqlite: &'static str, postgres: &'static str) -> Self {
        self.then = (sqlite, postgres);
        self
    }

    /// Nothing to insert is nothing to do.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn execute(self, connection: &mut Connection) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let at_once = match connection.engine() {
            Engine::Sqlite => AT_ONCE,
            Engine::Postgres => self.rows.len(),
        };
        let mut rows = self.rows.into_iter().peekable();
        while rows.peek().is_some() {
            let inserting = Piece::Inserting {
                table: self.table,
                columns: self.columns.clone(),
                numbers: self.numbers,
                rows: rows.by_ref().take(at_once).collect(),
            };
            let (sqlite, postgres) = self.then;
            Sql(vec![inserting, Piece::Per { sqlite, postgres }])
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}

//! A statement as an engine gets it: its text and what is bound to it.

use std::fmt::Write as _;

use serde_json::Value as Json;
use sqlx::{
    AssertSqlSafe, Postgres, Sqlite, postgres::PgArguments, query::Query, sqlite::SqliteArguments,
};

use crate::{Column, Engine, Error, Value, statement::Numbers};

/// As an engine gets it.
pub(crate) struct Rendered<'a> {
    engine: Engine,
    pub(crate) text: String,
    binds: Vec<Bind<'a>>,
}

pub(crate) enum Bind<'a> {
    One(Value<'a>),
    /// One value of each row, of this column.
    Array(Column<'a>, Vec<Value<'a>>),
}

impl<'a> Rendered<'a> {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            text: String::new(),
            binds: Vec::new(),
        }
    }

    pub(crate) fn inserting(
        &mut self,
        table: &str,
        columns: &[Column<'a>],
        numbers: Numbers,
        rows: Vec<Vec<Value<'a>>>,
    ) {
        let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
        write!(self.text, "INSERT INTO {table} ({}) ", names.join(", ")).ok();
        if self.engine == Engine::Postgres {
            if numbers == Numbers::AsGiven {
                self.text.push_str("OVERRIDING SYSTEM VALUE ");
            }
            self.text.push_str("SELECT * FROM ");
            self.array_table("new", columns, rows);
        } else {
            self.text.push_str("VALUES ");
            for (at, row) in rows.into_iter().enumerate() {
                self.text.push_str(if at == 0 { "(" } else { ", (" });
                for (at, value) in row.into_iter().enumerate() {
                    if at > 0 {
                        self.text.push_str(", ");
                    }
                    self.bind(Bind::One(value));
                }
                self.text.push(')');
            }
        }
        self.text.push(' ');
    }

    pub(crate) fn bind(&mut self, bind: Bind<'a>) {
        self.binds.push(bind);
        match self.engine {
            // Each is bound once, in order; SQLite would look a number up among all that are numbered.
            Engine::Sqlite => self.text.push('?'),
            // Writing to a string cannot fail.
            Engine::Postgres => {
                write!(self.text, "${}", self.binds.len()).ok();
            }
        }
    }

    pub(crate) fn bind_json(&mut self, rows: &Json) -> Result<(), Error> {
        let text = serde_json::to_string(rows).map_err(crate::damaged)?;
        self.bind(Bind::One(text.into()));
        Ok(())
    }

    pub(crate) fn bind_array(
        &mut self,
        column: Column<'a>,
        values: impl Iterator<Item = Value<'a>>,
    ) {
        self.bind(Bind::Array(column, values.collect()));
        self.text.push_str(match column {
            Column::Bytes(_) => "::bytea[]",
            Column::Text(_) => "::text[]",
            Column::Number(_) => "::bigint[]",
        });
    }

    /// SQLite: `(SELECT … FROM json_each($1)) AS name`.
    pub(crate) fn json_table(
        &mut self,
        name: &str,
        columns: &[Column<'a>],
        rows: &[Vec<Value<'a>>],
    ) -> Result<(), Error> {
        self.text.push_str("(SELECT ");
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                self.text.push_str(", ");
            }
            let name = column.name();
            match column {
                Column::Bytes(_) => write!(self.text, "unhex(value ->> {at}) AS {name}"),
                Column::Text(_) | Column::Number(_) => {
                    write!(self.text, "value ->> {at} AS {name}")
                }
            }
            .ok();
        }
        self.text.push_str(" FROM json_each(");
        let rows = rows
            .iter()
            .map(|row| Json::Array(row.iter().map(json).collect()));
        self.bind_json(&Json::Array(rows.collect()))?;
        self.text.push_str(")) AS ");
        self.text.push_str(name);
        Ok(())
    }

    /// PostgreSQL: `unnest($1::bytea[], …) AS name (…)`.
    pub(crate) fn array_table(
        &mut self,
        name: &str,
        columns: &[Column<'a>],
        rows: Vec<Vec<Value<'a>>>,
    ) {
        let mut values: Vec<_> = columns
            .iter()
            .map(|_| Vec::with_capacity(rows.len()))
            .collect();
        for row in rows {
            for (column, value) in values.iter_mut().zip(row) {
                column.push(value);
            }
        }
        self.text.push_str("unnest(");
        for (at, (column, values)) in columns.iter().zip(values).enumerate() {
            if at > 0 {
                self.text.push_str(", ");
            }
            self.bind_array(*column, values.into_iter());
        }
        let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
        write!(self.text, ") AS {name} ({})", names.join(", ")).ok();
    }

    pub(crate) fn for_sqlite(self) -> Query<'static, Sqlite, SqliteArguments> {
        let mut query = sqlx::query(AssertSqlSafe(self.text));
        for bind in self.binds {
            query = match bind {
                Bind::One(Value::Null) => query.bind(None::<i64>),
                Bind::One(Value::Number(number)) => query.bind(number),
                Bind::One(Value::Bytes(bytes)) => query.bind(bytes.into_owned()),
                Bind::One(Value::Text(text)) => query.bind(text.into_owned()),
                // INVARIANT: arrays are rendered for PostgreSQL only.
                Bind::Array(..) => query,
            };
        }
        query
    }

    pub(crate) fn for_postgres(self) -> Query<'static, Postgres, PgArguments> {
        let mut query = sqlx::query(AssertSqlSafe(self.text));
        for bind in &self.binds {
            query = match bind {
                Bind::One(Value::Null) => query.bind(None::<i64>),
                Bind::One(Value::Number(number)) => query.bind(*number),
                Bind::One(Value::Bytes(bytes)) => query.bind(bytes.as_ref()),
                Bind::One(Value::Text(text)) => query.bind(text.as_ref()),
                Bind::Array(Column::Bytes(_), values) => {
                    query.bind(values.iter().map(Value::bytes).collect::<Vec<_>>())
                }
                Bind::Array(Column::Text(_), values) => {
                    query.bind(values.iter().map(Value::text).collect::<Vec<_>>())
                }
                Bind::Array(Column::Number(_), values) => {
                    query.bind(values.iter().map(Value::number).collect::<Vec<_>>())
                }
            };
        }
        query
    }
}

pub(crate) fn from_json(column: Column<'_>) -> &'static str {
    match column {
        Column::Bytes(_) => "unhex(value)",
        Column::Text(_) | Column::Number(_) => "value",
    }
}

pub(crate) fn json(value: &Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bytes(bytes) => hex::encode(bytes).into(),
        Value::Text(text) => text.as_ref().into(),
        Value::Number(number) => (*number).into(),
    }
}

//! Every table of a database, read and filled without knowing any: for backups, and for the move from one engine to
//! the other. What there is, the engine's own catalogue says.

use std::{borrow::Cow, ops::ControlFlow};

use crate::{Column, Connection, Engine, Error, Row, Sql, Value, statement::Insert};

/// The steps' own table; the program keeps it.
const STEPS: &str = "_sqlx_migrations";
/// Of one page, whichever is reached first.
const PAGE_ROWS: usize = 4096;
const PAGE_BYTES: usize = 1 << 20;
const FIRST_PAGE: usize = 64;

/// A table of the current schema; its columns are in the order of their names, which both engines share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub columns: Vec<TableColumn>,
    /// Which columns are the primary key, in its order.
    key: Vec<usize>,
    /// The column that PostgreSQL numbers.
    numbered: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    pub name: String,
    pub kind: Kind,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bytes,
    Text,
    Number,
}

/// One row, in the order of the columns.
pub type Cells = Vec<Value<'static>>;

/// Why the tables of a database cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Database(#[from] Error),
    #[error("the table {0} has no primary key; it is none of the service's")]
    Keyless(String),
    #[error("the table {table} has a column {column} of a type that no table of the service has")]
    Type { table: String, column: String },
}

/// The tables of the current schema, by name.
///
/// # Errors
/// [`CopyError`], also of a table that no step made.
pub async fn tables(connection: &mut Connection) -> Result<Vec<Table>, CopyError> {
    let rows = catalogue().fetch_all(connection).await?;
    let mut tables: Vec<Table> = Vec::new();
    let mut keys: Vec<(usize, usize)> = Vec::new();
    for row in &rows {
        let (name, column): (String, String) = (row.get(0)?, row.get(1)?);
        let (declared, key, numbered): (String, usize, i64) =
            (row.get(2)?, row.get(3)?, row.get(4)?);
        if tables.last().is_none_or(|last| last.name != name) {
            finish(tables.last_mut(), &mut keys)?;
            tables.push(Table {
                name: name.clone(),
                columns: Vec::new(),
                key: Vec::new(),
                numbered: None,
            });
        }
        let Some(table) = tables.last_mut() else {
            continue;
        };
        if key > 0 {
            keys.push((key, table.columns.len()));
        }
        if numbered == 1 {
            table.numbered = Some(column.clone());
        }
        let Some(kind) = Kind::of(&declared) else {
            return Err(CopyError::Type {
                table: name,
                column,
            });
        };
        table.columns.push(TableColumn { name: column, kind });
    }
    finish(tables.last_mut(), &mut keys)?;
    Ok(tables)
}

/// The columns of all tables, ordered by their bytes: table, column, type, place in the primary key from 1, whether
/// PostgreSQL numbers it.
fn catalogue() -> Sql<'static> {
    Sql::default()
        .per(
            "SELECT t.name, c.name, lower(c.type), c.pk, 0 FROM sqlite_schema t, pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite~_%' ESCAPE '~' AND t.name <> ",
            "SELECT t.relname::text, c.attname::text, format_type(c.atttypid, -1), \
             coalesce(array_position(k.indkey::int2[], c.attnum) + 1, 0)::bigint, (c.attidentity <> '')::int::bigint \
             FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped \
             LEFT JOIN pg_index k ON k.indrelid = t.oid AND k.indisprimary \
             WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p') AND t.relname <> ",
        )
        .bind(STEPS)
        .per(
            " ORDER BY t.name, c.name",
            "::text ORDER BY t.relname::text COLLATE \"C\", c.attname::text COLLATE \"C\"",
        )
}

/// Puts the columns of the primary key into its order.
fn finish(table: Option<&mut Table>, keys: &mut Vec<(usize, usize)>) -> Result<(), CopyError> {
    let Some(table) = table else { return Ok(()) };
    keys.sort_unstable();
    table.key = keys.drain(..).map(|(_, column)| column).collect();
    if table.key.is_empty() {
        return Err(CopyError::Keyless(table.name.clone()));
    }
    Ok(())
}

impl Kind {
    fn of(declared: &str) -> Option<Self> {
        match declared {
            "blob" | "bytea" => Some(Self::Bytes),
            "text" => Some(Self::Text),
            "integer" | "bigint" => Some(Self::Number),
            _ => None,
        }
    }

    fn read(self, row: &Row, column: usize) -> Result<Value<'static>, Error> {
        Ok(match self {
            Self::Bytes => row.get::<Option<Vec<u8>>>(column)?.into(),
            Self::Text => row.get::<Option<String>>(column)?.into(),
            Self::Number => row.get::<Option<i64>>(column)?.into(),
        })
    }
}

impl Table {
    /// Empties it, as whoever owns it may: a step may have put rows into it.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn empty(&self, connection: &mut Connection) -> Result<(), Error> {
        let table = quoted(&self.name);
        let delete = format!("DELETE FROM {table}");
        match connection.engine() {
            Engine::Sqlite => run(connection, delete).await,
            Engine::Postgres => {
                run(
                    connection,
                    format!("ALTER TABLE {table} DISABLE TRIGGER USER"),
                )
                .await?;
                run(connection, delete).await?;
                run(
                    connection,
                    format!("ALTER TABLE {table} ENABLE TRIGGER USER"),
                )
                .await
            }
        }
    }

    /// Adds rows as they were, with their numbers.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn add(&self, connection: &mut Connection, rows: Vec<Cells>) -> Result<(), Error> {
        let table = quoted(&self.name);
        let names: Vec<_> = self.columns.iter().map(|c| quoted(&c.name)).collect();
        let columns = self.columns.iter().zip(&names);
        let columns = columns.map(|(column, name)| match column.kind {
            Kind::Bytes => Column::Bytes(name),
            Kind::Text => Column::Text(name),
            Kind::Number => Column::Number(name),
        });
        Insert::as_given(&table, columns.collect(), rows)
            .execute(connection)
            .await
    }

    /// Has PostgreSQL go on numbering after the largest number there is.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn number_on(&self, connection: &mut Connection) -> Result<(), Error> {
        let (Some(column), Engine::Postgres) = (&self.numbered, connection.engine()) else {
            return Ok(());
        };
        let (table, numbered) = (quoted(&self.name), quoted(column));
        Sql::new("SELECT setval(pg_get_serial_sequence(")
            .bind(table.as_str())
            .push("::text, ")
            .bind(column.as_str())
            .push(format!(
                "::text), (SELECT coalesce(max({numbered}), 0) + 1 FROM {table}), false)"
            ))
            .fetch_one(connection)
            .await
            .map(drop)
    }
}

/// A table's rows, page after page in the order of its primary key.
pub struct Pages<'t> {
    table: &'t Table,
    /// The key of the last row read.
    after: Option<Cells>,
    at_once: usize,
    is_over: bool,
}

impl<'t> Pages<'t> {
    pub const fn of(table: &'t Table) -> Self {
        Self {
            table,
            after: None,
            at_once: FIRST_PAGE,
            is_over: false,
        }
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn next(&mut self, connection: &mut Connection) -> Result<Option<Vec<Cells>>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let (columns, at_once) = (&self.table.columns, self.at_once);
        let mut rows: Vec<Cells> = Vec::new();
        let mut bytes = 0;
        self.query()
            .fetch_while(connection, |row| {
                let cells = columns.iter().enumerate();
                let cells = cells.map(|(at, column)| column.kind.read(row, at));
                let cells = cells.collect::<Result<Cells, _>>()?;
                bytes += cells.iter().map(Value::size).sum::<usize>();
                rows.push(cells);
                Ok(if bytes < PAGE_BYTES {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })
            .await?;
        let is_full = bytes >= PAGE_BYTES;
        self.is_over = !is_full && rows.len() < at_once;
        // What is asked for beyond a page is read in vain.
        self.at_once = if is_full { rows.len() } else { at_once * 2 }.clamp(1, PAGE_ROWS);
        self.after = rows.last().map(|last| {
            let key = self.table.key.iter().filter_map(|at| last.get(*at));
            key.cloned().collect()
        });
        Ok((!rows.is_empty()).then_some(rows))
    }

    fn query(&self) -> Sql<'static> {
        let columns = self.table.columns.iter().map(|c| quoted(&c.name));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let table = quoted(&self.table.name);
        let key = self.table.key.iter();
        let key = key.filter_map(|at| self.table.columns.get(*at));
        let key = key.map(|c| quoted(&c.name)).collect::<Vec<_>>().join(", ");
        let mut sql = Sql::new(format!("SELECT {columns} FROM {table}"));
        if let Some(after) = self.after.clone() {
            sql = sql.push(format!(" WHERE ({key}) > ("));
            for (at, value) in after.into_iter().enumerate() {
                sql = sql.push(if at == 0 { "" } else { ", " }).bind(value);
            }
            sql = sql.push(")");
        }
        sql.push(format!(" ORDER BY {key} LIMIT {}", self.at_once))
    }
}

async fn run(connection: &mut Connection, statement: String) -> Result<(), Error> {
    Sql::new(Cow::<'static, str>::Owned(statement))
        .execute(connection)
        .await
        .map(drop)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

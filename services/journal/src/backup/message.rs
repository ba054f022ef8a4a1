//! What stands in a backup, as protobuf.

use amanat_database::{
    Value,
    copy::{Cells, Kind, Table},
};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) backup_id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) exchange_id: String,
    #[prost(string, tag = "3")]
    pub(super) server: String,
    #[prost(string, tag = "4")]
    pub(super) origin: String,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "5")]
    pub(super) time: i64,
    /// Empty while the log is.
    #[prost(string, tag = "6")]
    pub(super) checkpoint: String,
    #[prost(string, repeated, tag = "7")]
    pub(super) steps: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    pub(super) tables: Vec<Shape>,
}

/// A table.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Shape {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) columns: Vec<String>,
    /// Of each column, 1 bytes, 2 text, 3 number.
    #[prost(uint32, repeated, tag = "3")]
    pub(super) kinds: Vec<u32>,
}

/// Rows of one table.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Part {
    /// Its place among the header's.
    #[prost(uint32, tag = "1")]
    pub(super) table: u32,
    #[prost(message, repeated, tag = "2")]
    pub(super) rows: Vec<Row>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Row {
    #[prost(message, repeated, tag = "1")]
    pub(super) cells: Vec<Cell>,
}

/// NULL is no value.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Cell {
    #[prost(oneof = "Content", tags = "1, 2, 3")]
    pub(super) content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Content {
    #[prost(bytes, tag = "1")]
    Bytes(Vec<u8>),
    #[prost(string, tag = "2")]
    Text(String),
    #[prost(sint64, tag = "3")]
    Number(i64),
}

impl Shape {
    pub(super) fn of(table: &Table) -> Self {
        let columns = table.columns.iter();
        Self {
            name: table.name.clone(),
            columns: columns.clone().map(|column| column.name.clone()).collect(),
            kinds: columns.map(|column| number(column.kind)).collect(),
        }
    }

    /// Whether it is this table's.
    pub(super) fn is_of(&self, table: &Table) -> bool {
        *self == Self::of(table)
    }

    /// Where a column stands in its rows.
    pub(super) fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|name| name == column)
    }

    /// The row's values, if they are as the columns want them.
    pub(super) fn cells(&self, row: Row) -> Option<Cells> {
        if row.cells.len() != self.kinds.len() {
            return None;
        }
        let fits = |(cell, kind): (&Cell, &u32)| {
            let content = cell.content.as_ref();
            content.is_none_or(|content| number(content.kind()) == *kind)
        };
        let all_fit = row.cells.iter().zip(&self.kinds).all(fits);
        all_fit.then(|| row.cells.into_iter().map(Value::from).collect())
    }
}

fn number(kind: Kind) -> u32 {
    match kind {
        Kind::Bytes => 1,
        Kind::Text => 2,
        Kind::Number => 3,
    }
}

impl Content {
    fn kind(&self) -> Kind {
        match self {
            Self::Bytes(_) => Kind::Bytes,
            Self::Text(_) => Kind::Text,
            Self::Number(_) => Kind::Number,
        }
    }
}

impl From<Cells> for Row {
    fn from(cells: Cells) -> Self {
        let cells = cells.into_iter().map(|value| Cell {
            content: match value {
                Value::Null => None,
                Value::Bytes(bytes) => Some(Content::Bytes(bytes.into_owned())),
                Value::Text(text) => Some(Content::Text(text.into_owned())),
                Value::Number(number) => Some(Content::Number(number)),
            },
        });
        Self {
            cells: cells.collect(),
        }
    }
}

impl From<Cell> for Value<'static> {
    fn from(cell: Cell) -> Self {
        match cell.content {
            None => Self::Null,
            Some(Content::Bytes(bytes)) => bytes.into(),
            Some(Content::Text(text)) => text.into(),
            Some(Content::Number(number)) => number.into(),
        }
    }
}

//! A database as a thief reads it: every value of every column.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use amanat_database::{
    Place, Value,
    copy::{self, Pages},
};

/// A column of a table.
pub type Column = (String, String);

pub fn column(table: &str, name: &str) -> Column {
    (table.to_owned(), name.to_owned())
}

/// Everything in a database but the record of its migrations: each column's values in the order of the rows,
/// numbers as their digits, NULL as nothing.
pub async fn columns(database: &Place) -> BTreeMap<Column, Vec<Vec<u8>>> {
    let mut connection = database.connect().await.unwrap();
    let mut columns: BTreeMap<Column, Vec<Vec<u8>>> = BTreeMap::new();
    for table in copy::tables(&mut connection).await.unwrap() {
        let names = table.columns.iter();
        let names: Vec<_> = names
            .map(|named| column(&table.name, &named.name))
            .collect();
        for name in &names {
            columns.insert(name.clone(), Vec::new());
        }
        let mut pages = Pages::of(&table);
        while let Some(rows) = pages.next(&mut connection).await.unwrap() {
            for (name, value) in rows.into_iter().flat_map(|row| names.iter().zip(row)) {
                columns.get_mut(name).unwrap().push(bytes(value));
            }
        }
    }
    connection.close().await.unwrap();
    columns
}

/// Each column of a PostgreSQL database as if it were a file of this folder; nothing of one that is a file, which can
/// be searched itself.
pub async fn as_files(database: &Place, folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    if database.file().is_some() {
        return Vec::new();
    }
    let columns = columns(database).await.into_iter();
    let file = |((table, name), values): (Column, Vec<Vec<u8>>)| {
        let path = folder.join(table).join(name);
        (path, values.join(&b"\n"[..]))
    };
    columns.map(file).collect()
}

fn bytes(value: Value<'_>) -> Vec<u8> {
    match value {
        Value::Null => Vec::new(),
        Value::Bytes(bytes) => bytes.into_owned(),
        Value::Text(text) => text.into_owned().into_bytes(),
        Value::Number(number) => number.to_string().into_bytes(),
    }
}

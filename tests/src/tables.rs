//! A database as a thief reads it: every value of every column.

use std::{collections::BTreeMap, path::Path};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Row as _,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

/// A column of a table.
pub type Column = (String, String);

pub fn column(table: &str, name: &str) -> Column {
    (table.to_owned(), name.to_owned())
}

/// Everything in a database but the record of its migrations: each column's values in the order of the rows,
/// numbers as their digits, NULL as nothing.
pub async fn columns(database: &Path) -> BTreeMap<Column, Vec<Vec<u8>>> {
    let mut connection = SqliteConnectOptions::new()
        .filename(database)
        .read_only(true)
        .connect()
        .await
        .unwrap();
    let named = sqlx::query(
        "SELECT m.name, c.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!' \
         AND m.name != '_sqlx_migrations'",
    );
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in named.fetch_all(&mut connection).await.unwrap() {
        tables.entry(row.get(0)).or_default().push(row.get(1));
    }
    let mut columns = BTreeMap::new();
    for (table, names) in tables {
        let casts = names.iter().map(|name| format!("CAST({name} AS BLOB)"));
        let casts = casts.collect::<Vec<_>>().join(", ");
        // One statement a table: each column by itself could come in the order of an index.
        let rows = sqlx::query(AssertSqlSafe(format!("SELECT {casts} FROM {table}")))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        for (at, name) in names.into_iter().enumerate() {
            let value = |row: &SqliteRow| row.get::<Option<Vec<u8>>, _>(at).unwrap_or_default();
            columns.insert((table.clone(), name), rows.iter().map(value).collect());
        }
    }
    columns
}

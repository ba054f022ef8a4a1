//! How a database in a file is opened: the settings that durability rests on.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

/// Statements that stay prepared: those that write rows have one for each number of them.
const STATEMENTS: usize = 1024;
/// Pages in memory, in KiB as SQLite wants it: negative. More costs more: in a file below 1 GiB most commits walk all
/// of them, for a page that moves within its tree takes a number past the file's end meanwhile.
const CACHE_KIB: &str = "-65536";
const READERS_CACHE_KIB: &str = "-4096";
/// Pages of the write-ahead log, 4 KiB each, after which the writer folds what is left of it and begins it anew:
/// without that it could grow for ever under load.
const WAL_PAGES: &str = "8192";
const BUSY: Duration = Duration::from_secs(5);

/// Opened without CREATE: an absent file is a lost database, not a new one.
pub(crate) fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // What is deleted, a key say, does not stay behind in free pages.
        .pragma("secure_delete", "ON")
        .pragma("cache_size", CACHE_KIB)
        .pragma("wal_autocheckpoint", WAL_PAGES)
        // What a statement would need to undo its own rows is small.
        .pragma("temp_store", "MEMORY")
        .busy_timeout(BUSY)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging()
}

pub(crate) fn reading(file: &Path) -> SqliteConnectOptions {
    options(file)
        .read_only(true)
        .pragma("cache_size", READERS_CACHE_KIB)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use sqlx::Row as _;

    use super::*;

    #[tokio::test]
    async fn what_is_deleted_is_overwritten() {
        let mut connection = options(Path::new(":memory:")).connect().await.unwrap();
        let row = sqlx::query("PRAGMA secure_delete")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(row.get::<i64, _>(0), 1);
    }
}

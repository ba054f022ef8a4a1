//! What the disk and the database alone allow, on the folder that the servers' databases are in.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions as _, Connection as _, QueryBuilder, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{cpu::Used, load::Measured, report::Row, servers::Servers};

/// About what an entry of the log takes.
pub(crate) const ROW: [u8; 700] = [0xa5; 700];
const PAGE: [u8; 4096] = [0xa5; 4096];
pub(crate) const MANY: usize = 64;

/// One commit, or one write made durable, after the other.
pub(crate) async fn measure(folder: &Path, longest: Duration) -> Vec<Row> {
    vec![
        commits(folder, 1, longest).await,
        commits(folder, MANY, longest).await,
        appends(folder, longest),
    ]
}

/// Through the driver, with the settings and the transaction of the servers' journals.
async fn commits(folder: &Path, rows: usize, longest: Duration) -> Row {
    let mut database = SqliteConnectOptions::new()
        .filename(folder.join(format!("bare-{rows}.sqlite")))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .disable_statement_logging()
        .connect()
        .await
        .unwrap();
    sqlx::query("CREATE TABLE rows (idx INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        .execute(&mut database)
        .await
        .unwrap();
    let (before, begin) = (used(), Instant::now());
    let mut latencies = Vec::new();
    while begin.elapsed() < longest {
        let from = Instant::now();
        commit(&mut database, rows).await.unwrap();
        latencies.push(from.elapsed());
    }
    let measured = Measured::new(begin.elapsed(), latencies, used().since(before), None);
    let name = format!("SQLite alone, commits of {rows}");
    Row::new(&name, 1, &measured)
}

async fn commit(database: &mut SqliteConnection, rows: usize) -> Result<(), sqlx::Error> {
    let mut transaction = database.begin_with("BEGIN IMMEDIATE").await?;
    QueryBuilder::<Sqlite>::new("INSERT INTO rows (body) ")
        .push_values(0..rows, |mut row, _| {
            row.push_bind(ROW.as_slice());
        })
        .build()
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

fn appends(folder: &Path, longest: Duration) -> Row {
    let mut file = File::create(folder.join("bare.append")).unwrap();
    let (before, begin) = (used(), Instant::now());
    let mut latencies = Vec::new();
    while begin.elapsed() < longest {
        let from = Instant::now();
        file.write_all(&PAGE).unwrap();
        file.sync_data().unwrap();
        latencies.push(from.elapsed());
    }
    let measured = Measured::new(begin.elapsed(), latencies, used().since(before), None);
    Row::new("disk alone, append of 4 KiB and fdatasync", 1, &measured)
}

/// Of this process, which does it all.
fn used() -> Used {
    Used::now(&Servers::default())
}

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use sqlx::Connection as _;

use super::{
    canaries::{PLANTED, WAITING},
    *,
};

#[tokio::test]
async fn no_lookup_walks_a_whole_table() {
    let mut database = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let tables = include_str!("../../../../migrations/0004_subjects.sql");
    sqlx::raw_sql(tables).execute(&mut database).await.unwrap();
    let page = format!("{PAIRS} WHERE agency = $1 AND seq > $2 ORDER BY seq LIMIT $3");
    for sql in [
        KNOWN,
        NAMED,
        FAMILIES,
        PAIRS_AMONG,
        CARRIED,
        PLANTED,
        WAITING,
        &page,
    ] {
        let plan = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let rows = sqlx::query(plan).fetch_all(&mut database).await.unwrap();
        for row in rows {
            let step: String = row.get("detail");
            // What was asked for, and what waits for an alarm, is walked; nothing else.
            let walks = step.starts_with("SCAN")
                && !["VIRTUAL TABLE", "family", "canary_hits_waiting"]
                    .iter()
                    .any(|small| step.contains(small));
            assert!(!walks && !step.contains("ORDER BY"), "{step}: {sql}");
        }
    }
}

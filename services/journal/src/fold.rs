//! SQLite's write-ahead log, folded into the database beside the writer: within a commit it would make everyone wait
//! who is in that batch.

use std::time::Duration;

use amanat_database::Connection;
use amanat_ledger::SignedCheckpoint;
use tokio::{sync::watch, time::sleep};

/// Between two folds: a page that changes often is then written once for many commits.
const EVERY: Duration = Duration::from_millis(100);

/// Folds while the log grows, until its writer is gone. The fold waits for nobody and nobody waits for it; what was
/// written meanwhile is left to the next, or to the writer, who folds the rest when the file is long enough to be
/// begun anew.
pub(crate) async fn follow(
    mut connection: Connection,
    mut newest: watch::Receiver<Option<SignedCheckpoint>>,
) {
    while newest.changed().await.is_ok() {
        newest.mark_unchanged();
        // PASSIVE: neither waits for readers nor holds up the writer.
        let folded = connection.run("PRAGMA wal_checkpoint(PASSIVE)").await;
        if let Err(error) = folded {
            // The log is durable all the same; a disk that is full is the writer's to tell.
            tracing::debug!(%error, "the write-ahead log was not folded");
        }
        sleep(EVERY).await;
    }
    connection.close().await.ok();
}

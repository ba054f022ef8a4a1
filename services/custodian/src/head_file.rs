//! The last observed head, kept in a file outside the database: a restored or truncated database cannot
//! take it along, so the difference shows at the next start.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use amanat_server::{FileError, read_file, write_private};
use tokio::sync::watch;

use crate::store::head::Observation;

/// How far the file may be behind the database.
const WITHIN: Duration = Duration::from_millis(500);

/// Makes the file of a custodian that has seen nothing yet. One that is there stays: a new database behind
/// it starts frozen.
pub(crate) fn init(path: &Path) -> Result<(), FileError> {
    if path.exists() {
        Ok(())
    } else {
        write_private(path, b"")
    }
}

/// The note in the file, empty before the first; `None` if the file is gone.
pub(crate) fn read(path: &Path) -> Result<Option<String>, FileError> {
    if !path.exists() {
        return Ok(None);
    }
    // What is no text is no note either, and is found to be none.
    let bytes = read_file(path)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Follows the observed head until the follower is gone and its last note is written. What was there when it
/// began is not written: a rolled-back database must not replace the note that it contradicts.
pub(crate) async fn follow(path: PathBuf, mut newest: watch::Receiver<Option<Observation>>) {
    // The last note is still seen after the follower is gone.
    while newest.changed().await.is_ok() {
        let note = newest
            .borrow_and_update()
            .as_ref()
            .map(|seen| seen.note.clone());
        if let Some(note) = note {
            let target = path.clone();
            let written = tokio::task::spawn_blocking(move || replace(&target, &note)).await;
            if !matches!(written, Ok(Ok(()))) {
                tracing::error!(path = %path.display(), "the observed-head file cannot be written");
            }
        }
        tokio::time::sleep(WITHIN).await;
    }
}

/// Temporary file, fsync, rename, fsync of the folder: the file is the old note or the new one.
fn replace(path: &Path, note: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

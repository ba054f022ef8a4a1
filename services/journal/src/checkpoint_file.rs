//! The last signed checkpoint, kept in a file outside the database: a restored or truncated database
//! cannot take it along, so the difference shows at the next start.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use amanat_ledger::SignedCheckpoint;
use tokio::sync::watch;

use crate::JournalError;

/// How far the file may be behind the log.
const WITHIN: Duration = Duration::from_millis(500);

/// The note in the file; `None` if there is no file yet.
pub(crate) fn read(path: &Path) -> Result<Option<String>, JournalError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

/// Writes the first note, of the empty log: from then on an absent file is a lost one.
pub(crate) fn begin(path: &Path, note: &str) -> Result<(), JournalError> {
    replace(path, note).map_err(|error| failed(path, &error))
}

/// Follows the log until the writer is gone and its last note is written. What was there when it began is
/// not written: a frozen log must not replace the note that it contradicts.
pub(crate) async fn follow(path: PathBuf, mut newest: watch::Receiver<Option<SignedCheckpoint>>) {
    // The last note is still seen after the writer is gone.
    while newest.changed().await.is_ok() {
        let note = newest
            .borrow_and_update()
            .as_ref()
            .map(|checkpoint| checkpoint.text.clone());
        if let Some(note) = note {
            let target = path.clone();
            let written = tokio::task::spawn_blocking(move || replace(&target, &note)).await;
            if !matches!(written, Ok(Ok(()))) {
                tracing::error!(path = %path.display(), "the checkpoint file cannot be written");
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

fn failed(path: &Path, error: &io::Error) -> JournalError {
    JournalError::File {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}

//! The last signed note, kept in a file outside the database: a restored or truncated database cannot take
//! it along, so the difference shows at the next start.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::watch;

use crate::{JournalError, Trouble};

/// How far the file may be behind the database.
const WITHIN: Duration = Duration::from_millis(500);

/// The note in the file; `None` if there is no file.
///
/// # Errors
/// [`JournalError::File`] if it cannot be read. What is no text is no note either, and is found to be none.
pub fn read(path: &Path) -> Result<Option<String>, JournalError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

/// Writes the first note: from then on an absent file is a lost one.
///
/// # Errors
/// [`JournalError::File`].
pub fn begin(path: &Path, note: &str) -> Result<(), JournalError> {
    replace(path, note).map_err(|error| failed(path, &error))
}

/// Follows what is newest until its sender is gone and its last note is written, or cannot be. What was there
/// when it began is not written: a rolled-back database must not replace the note that it contradicts.
pub async fn follow<T: Send + Sync>(
    path: PathBuf,
    mut newest: watch::Receiver<Option<T>>,
    note_of: fn(&T) -> &str,
    trouble: Trouble,
) {
    // The last note is still seen after the sender is gone.
    while newest.changed().await.is_ok() {
        let note = newest
            .borrow_and_update()
            .as_ref()
            .map(|newest| note_of(newest).to_owned());
        if let Some(note) = note {
            let target = path.clone();
            let written = tokio::task::spawn_blocking(move || replace(&target, &note)).await;
            match written.map_err(io::Error::other).flatten() {
                Ok(()) => trouble.over(),
                Err(error) => {
                    trouble.met(unwritten(&path, &error));
                    // A log at rest must not leave its file behind.
                    newest.mark_changed();
                    if newest.has_changed().is_err() {
                        return;
                    }
                }
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

fn unwritten(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    if error.kind() == io::ErrorKind::StorageFull {
        format!("the disk of the state is full: {path} falls behind")
    } else {
        format!("{path} cannot be written and falls behind: {error}")
    }
}

pub(crate) fn failed(path: &Path, error: &io::Error) -> JournalError {
    JournalError::File {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}

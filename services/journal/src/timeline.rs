//! Which of its histories a PostgreSQL database is on: each failover begins a new one. The newest that was ever seen
//! stands in a file beside the last checkpoint's, so that an old primary that comes back is never written to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use amanat_database::{Connection, Engine, Sql};

use crate::{JournalError, note_file};

pub(crate) struct Seen {
    file: PathBuf,
    /// Eight hexadecimal digits; empty before the first.
    newest: String,
}

impl Seen {
    /// # Errors
    /// [`JournalError::File`].
    pub(crate) fn read(checkpoint_file: &Path) -> Result<Self, JournalError> {
        let file = checkpoint_file.with_extension("timeline");
        match fs::read_to_string(&file) {
            Ok(newest) => Ok(Self { file, newest }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self {
                file,
                newest: String::new(),
            }),
            Err(error) => Err(note_file::failed(&file, &error)),
        }
    }

    /// Whether it is a newer one than was seen here before: there was a failover.
    ///
    /// # Errors
    /// [`JournalError::Unreachable`] if it is an older one; [`JournalError::File`].
    pub(crate) fn advance(&mut self, now: &str) -> Result<bool, JournalError> {
        if now < self.newest.as_str() {
            return Err(JournalError::Unreachable(format!(
                "the database's server is on timeline {now}, and {} was seen: it is an old primary, so stop it; if the \
                 database was moved to other servers, remove {}",
                self.newest,
                self.file.display()
            )));
        }
        if now == self.newest {
            return Ok(false);
        }
        note_file::begin(&self.file, now)?;
        let before = std::mem::replace(&mut self.newest, now.to_owned());
        Ok(!before.is_empty())
    }
}

/// That of the server at the other end; SQLite has one history.
pub(crate) async fn of(connection: &mut Connection) -> Result<Option<String>, JournalError> {
    if connection.engine() == Engine::Sqlite {
        return Ok(None);
    }
    let row = Sql::new("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)")
        .fetch_one(connection)
        .await?;
    Ok(Some(row.get(0)?))
}

//! The file that remembers which directory was in use here last, outside every database: one line with its
//! version and the SHA-256 of its signed bytes. A version alone is read too, as a person writes it.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use super::{DirectoryError, failed};

pub(super) struct Seen {
    pub(super) version: u64,
    /// `None` if the version stands alone.
    pub(super) sha256: Option<[u8; 32]>,
}

/// `None` before the first.
pub(super) fn read(path: &Path) -> Result<Option<Seen>, DirectoryError> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| DirectoryError::Seen {
            path: path.display().to_string(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

fn parse(text: &str) -> Option<Seen> {
    let mut words = text.split_whitespace();
    let version = words.next()?.parse().ok()?;
    let sha256 = match words.next() {
        None => None,
        Some(digits) => Some(hex::decode(digits).ok()?.try_into().ok()?),
    };
    words.next().is_none().then_some(Seen { version, sha256 })
}

/// Temporary file, fsync, rename, fsync of the folder: the file holds the old line or the new one, and what is
/// taken into use after this returns is not forgotten.
pub(super) fn write(path: &Path, version: u64, sha256: &[u8; 32]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    writeln!(file, "{version} {}", hex::encode(sha256))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().filter(|parent| *parent != Path::new(""));
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

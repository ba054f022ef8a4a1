//! Folders that only their owner enters, and the files in them. Nothing that is there is overwritten but by
//! [`replace`], which is asked for by name.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::CeremonyError;

/// An absolute folder of a party.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A party's outermost folder, made if it is not there; otherwise it must be empty.
    pub(crate) fn outermost(path: &Path) -> Result<Self, CeremonyError> {
        let failed = |source| not_made(path, source);
        private_folders()
            .recursive(true)
            .create(path)
            .map_err(failed)?;
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            let path = path.to_owned();
            let is_partys = ["keys", "registrar.key"].map(|name| path.join(name).exists());
            return Err(match is_partys {
                [false, false] => CeremonyError::NotEmpty { path },
                _ => CeremonyError::HoldsKeys { path },
            });
        }
        fs::canonicalize(path).map(Self).map_err(failed)
    }

    /// A folder that is there.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A folder that is made if it is not there.
    pub(crate) fn made(path: &Path) -> Result<Self, CeremonyError> {
        private_folders()
            .recursive(true)
            .create(path)
            .map_err(|source| not_made(path, source))?;
        absolute(path).map(Self)
    }

    /// Makes a folder in this one.
    pub(crate) fn folder(&self, name: &str) -> Result<Self, CeremonyError> {
        let path = self.path(name);
        private_folders()
            .create(&path)
            .map_err(|source| failed(&path, source))?;
        Ok(Self(path))
    }

    /// Where a file of this folder is, or will be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that anyone may read.
    pub(crate) fn public(&self, name: &str, contents: &[u8]) -> Result<PathBuf, CeremonyError> {
        let path = self.path(name);
        write_new(&path, contents)?;
        Ok(path)
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn private(&self, name: &str, contents: &[u8]) -> Result<PathBuf, CeremonyError> {
        let path = self.path(name);
        amanat_config::write_private(&path, contents)?;
        Ok(path)
    }
}

/// Every file below a folder, in order; what a link leads to is not followed.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, CeremonyError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|source| failed(&folder, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| failed(&folder, source))?;
            let kind = entry.file_type();
            match kind.map_err(|source| failed(&folder, source))?.is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a new file that anyone may read.
pub(crate) fn write_new(path: &Path, contents: &[u8]) -> Result<(), CeremonyError> {
    File::create_new(path)
        .and_then(|mut file| file.write_all(contents))
        .map_err(|source| not_made(path, source))
}

/// Puts a file in the place of the one that is there, if any: readers find the one or the other, also after a
/// crash. Who could not read the old one cannot read the new one. The name it is written under first is hidden,
/// for servers read folders whatever their files are called.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), CeremonyError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    let written = || {
        let old = match fs::metadata(path) {
            Ok(old) => Some(old.permissions()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mode = old.as_ref().map_or(0o644, Permissions::mode);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(mode);
        let mut file = options.open(&new)?;
        // Also for what a run that broke off left behind.
        if let Some(old) = old {
            file.set_permissions(old)?;
        }
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().map_err(|source| failed(path, source))
}

/// The contents of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CeremonyError> {
    fs::read(path).map_err(|source| failed(path, source))
}

/// The text of a file.
pub(crate) fn text(path: &Path) -> Result<String, CeremonyError> {
    fs::read_to_string(path).map_err(|source| failed(path, source))
}

/// The path from the root, whether anything is there or not.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CeremonyError> {
    std::path::absolute(path).map_err(|source| failed(path, source))
}

pub(crate) fn failed(path: &Path, source: io::Error) -> CeremonyError {
    CeremonyError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Why something new is not there.
fn not_made(path: &Path, source: io::Error) -> CeremonyError {
    if source.kind() == io::ErrorKind::AlreadyExists {
        let path = path.to_owned();
        return CeremonyError::FileThere { path };
    }
    failed(path, source)
}

fn private_folders() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

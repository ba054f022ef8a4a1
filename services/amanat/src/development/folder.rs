//! Folders that only their owner enters, and the files in them. Nothing is overwritten while an exchange is
//! made.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::DevelopmentError;

/// An absolute folder of the exchange that is being made.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The outermost folder, made if it is not there; otherwise it must be empty.
    pub(super) fn outermost(path: &Path) -> Result<Self, DevelopmentError> {
        let failed = |source| failed(path, source);
        private_folders()
            .recursive(true)
            .create(path)
            .map_err(failed)?;
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(DevelopmentError::NotEmpty {
                path: path.to_owned(),
            });
        }
        fs::canonicalize(path).map(Self).map_err(failed)
    }

    /// A folder that is there.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes a folder in this one.
    pub(super) fn folder(&self, name: &str) -> Result<Self, DevelopmentError> {
        let path = self.path(name);
        private_folders()
            .create(&path)
            .map_err(|source| failed(&path, source))?;
        Ok(Self(path))
    }

    /// Where a file of this folder is, or will be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn into_path(self) -> PathBuf {
        self.0
    }

    /// Writes a file that anyone may read.
    pub(super) fn public(&self, name: &str, contents: &[u8]) -> Result<PathBuf, DevelopmentError> {
        let path = self.path(name);
        File::create_new(&path)
            .and_then(|mut file| file.write_all(contents))
            .map_err(|source| failed(&path, source))?;
        Ok(path)
    }

    /// Writes a file that only its owner can read.
    pub(super) fn private(&self, name: &str, contents: &[u8]) -> Result<PathBuf, DevelopmentError> {
        let path = self.path(name);
        amanat_config::write_private(&path, contents)?;
        Ok(path)
    }
}

/// Puts a file in the place of the one that is there, if any: readers find the one or the other.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<(), DevelopmentError> {
    let new = path.with_extension("new");
    fs::write(&new, contents)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|source| failed(path, source))
}

/// The contents of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DevelopmentError> {
    fs::read(path).map_err(|source| failed(path, source))
}

fn private_folders() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn failed(path: &Path, source: io::Error) -> DevelopmentError {
    DevelopmentError::Folder {
        path: path.to_owned(),
        source,
    }
}

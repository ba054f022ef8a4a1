//! Where files lie, to keep apart what must not be copied or restored together.

use std::path::{Component, Path, PathBuf};

/// A file, and the setting that names it.
#[derive(Debug, Clone)]
pub struct FileSetting<'a> {
    /// As in `log.signing_key`.
    pub setting: String,
    pub path: &'a Path,
}

impl<'a> FileSetting<'a> {
    pub fn new(setting: impl Into<String>, path: &'a Path) -> Self {
        Self {
            setting: setting.into(),
            path,
        }
    }

    /// Whether it lies in the folder of the other one, or below it, or only points there.
    pub(crate) fn lies_beside(&self, other: &Self) -> bool {
        let places = places(self.path);
        places_of_folder(other.path)
            .any(|folder| places.iter().any(|file| file.starts_with(&folder)))
    }
}

fn places_of_folder(path: &Path) -> impl Iterator<Item = PathBuf> {
    let places = places(path).into_iter();
    places.filter_map(|place| place.parent().map(Path::to_owned))
}

/// Where its name stands, and where the file is that it leads to.
fn places(path: &Path) -> [PathBuf; 2] {
    let named = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => resolved(folder).join(name),
        _ => resolved(path),
    };
    [named, resolved(path)]
}

/// Without links as far as it is there: a file may be made later.
fn resolved(path: &Path) -> PathBuf {
    let path = if path == Path::new("") {
        Path::new(".")
    } else {
        path
    };
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(found), _, _) => found,
        (Err(_), Some(folder), Some(name)) => resolved(folder).join(name),
        (Err(_), _, _) => plain(path),
    }
}

/// By its words alone: nothing is there that could be followed.
fn plain(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in std::path::absolute(path)
        .as_deref()
        .unwrap_or(path)
        .components()
    {
        if part == Component::ParentDir {
            found.pop();
        } else {
            found.push(part);
        }
    }
    found
}

//! Files that must not be copied or restored together are refused where they lie together.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, os::unix::fs::symlink, path::Path};

use amanat_config::{ConfigError, FileSetting, read};
use tempfile::TempDir;

/// The lines at which files are refused beside `data/store`.
fn refused(folder: &Path, files: &[&str]) -> Vec<usize> {
    let lines = NAMES.iter().zip(files);
    let text: String = lines
        .map(|(name, file)| format!("{name} = '{file}'\n"))
        .collect();
    let path = folder.join("places.toml");
    fs::write(&path, text).unwrap();
    let read = read(&path, |top| {
        let found: Vec<_> = NAMES
            .iter()
            .take(files.len())
            .map(|name| top.path(name).unwrap())
            .collect();
        let settings = NAMES.iter().zip(&found);
        let settings: Vec<_> = settings
            .map(|(name, path)| FileSetting::new(*name, path))
            .collect();
        let store = folder.join("data/store");
        top.keep_out(
            &FileSetting::new("store", &store),
            &settings,
            "for a reason",
        )
    });
    match read {
        Ok(()) => Vec::new(),
        Err(ConfigError::Invalid { violations, .. }) => {
            violations.iter().map(|violation| violation.line).collect()
        }
        Err(error) => unreachable!("{error}"),
    }
}

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

#[test]
fn a_file_beside_another_or_below_it_is_refused_and_one_above_is_not() {
    for is_there in [false, true] {
        let folder = TempDir::new().unwrap();
        if is_there {
            fs::create_dir_all(folder.path().join("data/deep")).unwrap();
            fs::write(folder.path().join("data/key"), "").unwrap();
        }
        let files = ["data/key", "keys/key", "data/deep/key", "key"];
        assert_eq!(refused(folder.path(), &files), [1, 3]);
        let files = [
            "data2/key",
            "keys/../data/key",
            "./data/./key",
            "data/../keys/key",
        ];
        assert_eq!(refused(folder.path(), &files), [2, 3]);
    }
}

#[test]
fn links_hide_nothing() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["data", "keys"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("key"), "").unwrap();
    }
    symlink(at("data"), at("alias")).unwrap();
    symlink(at("data/key"), at("keys/elsewhere")).unwrap();
    symlink(at("keys/key"), at("data/pointer")).unwrap();
    let files = ["alias/key", "keys/elsewhere", "data/pointer", "keys/key"];
    assert_eq!(refused(folder.path(), &files), [1, 2, 3]);
}

//! Settings and secrets come from files alone: no room reads the environment, where they would show in process
//! lists and crash reports.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_room_reads_the_environment() {
    let rooms = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for room in fs::read_dir(rooms).unwrap() {
        sources(&room.unwrap().path().join("src"), &mut found);
    }
    assert!(found.len() > 100, "the rooms are there");
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        // Tests do, to be told that what they expect has changed.
        let text = text.split("#[cfg(test)]").next().unwrap();
        let is_test = path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        let reads = text.contains("env::var") || text.contains("env::{var");
        // It looks for what must not be there, and reads none of it.
        let refuses = path.ends_with("amanat/src/unswayed.rs");
        assert!(
            is_test || refuses || !reads,
            "{} reads the environment",
            path.display()
        );
    }
}

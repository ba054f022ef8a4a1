//! Tells the program which commit it is built from: `unknown` outside its own repository, as from an archive
//! of the sources.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = if is_own_repository() {
        git(&["rev-parse", "HEAD"])
    } else {
        None
    };
    // HEAD names the branch, its log grows with each commit and checkout.
    for name in ["HEAD", "logs/HEAD"] {
        let path = commit
            .as_ref()
            .and_then(|_| git(&["rev-parse", "--git-path", name]));
        // What is not there would count as changed each time.
        if let Some(path) = path
            .map(|path| Path::new(ROOT).join(path))
            .filter(|path| path.exists())
        {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let commit = commit.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=AMANAT_COMMIT={commit}");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=AMANAT_TARGET={target}");
}

/// An archive may lie inside of another project's repository, whose commit says nothing.
fn is_own_repository() -> bool {
    let top = git(&["rev-parse", "--show-toplevel"]);
    let top = top.and_then(|top| PathBuf::from(top).canonicalize().ok());
    top.is_some() && top == Path::new(ROOT).canonicalize().ok()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(ROOT)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

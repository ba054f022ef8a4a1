//! The certificate that a party's process shows, and its key. The pair lies in a folder of its own, and the
//! names in `keys/` lead there by way of one link:
//!
//! ```text
//! keys/server.pem -> ../tls/current/server.pem     tls/current -> 2     tls/1/     tls/2/
//! ```
//!
//! Renewing changes that link alone, so no crash leaves a certificate beside another one's key.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{
    CeremonyError,
    authority::Pair,
    folder::{Folder, failed},
};

const FOLDER: &str = "tls";
const CURRENT: &str = "current";

/// Puts a party's first pair in place; `name` is `server` or `connector`.
pub(crate) fn first(
    party: &Folder,
    keys: &Folder,
    name: &str,
    pair: &Pair,
) -> Result<(), CeremonyError> {
    party.folder(FOLDER)?;
    put(party.as_path(), name, pair)?;
    for file in [certificate(name), private_key(name)] {
        let target = Path::new("..").join(FOLDER).join(CURRENT).join(&file);
        let link = keys.path(&file);
        symlink(target, &link).map_err(|source| failed(&link, source))?;
    }
    Ok(())
}

/// Puts a pair in the place of the one that is there, which stays in its own folder; returns the new folder.
pub(crate) fn put(party: &Path, name: &str, pair: &Pair) -> Result<PathBuf, CeremonyError> {
    let parent = Folder::at(party.join(FOLDER));
    let mut number = 1;
    while parent.path(&number.to_string()).exists() {
        number += 1;
    }
    let folder = parent.folder(&number.to_string())?;
    folder.private(&private_key(name), pair.private_key.as_bytes())?;
    folder.public(&certificate(name), pair.certificate.as_bytes())?;
    let (current, new) = (parent.path(CURRENT), parent.path(".current.new"));
    // What a run that broke off left behind.
    if new.is_symlink() {
        fs::remove_file(&new).map_err(|source| failed(&new, source))?;
    }
    symlink(number.to_string(), &new)
        .and_then(|()| fs::rename(&new, &current))
        .map_err(|source| failed(&current, source))?;
    Ok(folder.as_path().to_owned())
}

pub(crate) fn certificate(name: &str) -> String {
    format!("{name}.pem")
}

pub(crate) fn private_key(name: &str) -> String {
    format!("{name}.key")
}

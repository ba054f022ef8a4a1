//! A look at what a party would start with, told for its operator.

use std::path::Path;

use amanat_config::Inspection;
use amanat_schema::Time;

use rustls_pki_types::CertificateDer;

use crate::{Directory, DirectoryError, OwnCertificate, Registrars, RevocationLists};

/// The directory that `[directory]` names, if it counts at `now`. It is not remembered.
pub fn directory(
    file: &Path,
    seen: &Path,
    registrars: &Registrars,
    now: Time,
    found: &mut Inspection,
) -> Option<Directory> {
    found.folder_of("directory.seen", seen);
    match Directory::check(file, seen, registrars, now) {
        Ok(directory) => {
            let (version, lasts) = (directory.version(), lasts(directory.valid_until(), now));
            found.in_order("directory.file", format!("version {version}, {lasts}"));
            Some(directory)
        }
        Err(error) => {
            found.fault(setting_of(&error, seen), error);
            None
        }
    }
}

/// Whether a party's own certificate is revoked by its own authority: it alone would not know.
pub fn revocation(
    setting: &str,
    own: &OwnCertificate,
    authorities: &[CertificateDer<'_>],
    lists: &RevocationLists,
    found: &mut Inspection,
) {
    match lists.revoke(authorities, own) {
        Ok(false) => {}
        Ok(true) => found.fault(
            setting,
            "it is revoked by its own authority, and nobody accepts it: make a new one with `amanat keys renew`",
        ),
        Err(error) => found.in_order(
            setting,
            format!(
                "whether it is revoked is not known here: its own authority has no list at {}",
                error.path
            ),
        ),
    }
}

/// As in `29 days left, until 2026-04-01T09:30:00.000Z`.
pub fn lasts(end: Time, now: Time) -> String {
    const DAY_S: u64 = 24 * 3600;
    match end.distance(now).as_secs() / DAY_S {
        1 => format!("1 day left, until {end}"),
        days => format!("{days} days left, until {end}"),
    }
}

fn setting_of(error: &DirectoryError, seen: &Path) -> &'static str {
    let is_seen = match error {
        DirectoryError::Seen { .. } => true,
        DirectoryError::File { path, .. } => *path == seen.display().to_string(),
        DirectoryError::Malformed { .. }
        | DirectoryError::SameVersion { .. }
        | DirectoryError::Signatures { .. }
        | DirectoryError::Field(_)
        | DirectoryError::RolledBack { .. }
        | DirectoryError::Expired(_)
        | DirectoryError::NotYet(_) => false,
    };
    if is_seen {
        "directory.seen"
    } else {
        "directory.file"
    }
}

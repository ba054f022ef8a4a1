//! Certificates renewed and revoked by the party's own authority, in the party's own folder.

use std::path::PathBuf;

use amanat_schema::Time;

use super::{
    CeremonyError, Party,
    authority::{self, LIST_LIFE, Revoked},
    error::RotationFault,
    folder, leaf,
};

/// What a revocation list is to say beside what it says already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// Nothing: it only lives on.
    None,
    Serial(Vec<u8>),
    /// The first certificate of a PEM file.
    Certificate(PathBuf),
}

/// A certificate in the place of another.
pub struct Renewed {
    /// Of the one before, which still counts until it is revoked or ends.
    pub old_serial: Vec<u8>,
    pub old_certificate: PathBuf,
    pub certificate: PathBuf,
}

/// Gives the party's process a new key and a certificate for it.
///
/// # Errors
/// [`CeremonyError`], naming the file or folder.
pub fn renew(party: &Party, now: Time) -> Result<Renewed, CeremonyError> {
    let shown = party.shown()?;
    let name = leaf::certificate(shown.file);
    let current = party.keys().join(&name);
    let old = authority::certificate(&current)?;
    let old_serial = authority::serial(&old).ok_or_else(|| CeremonyError::Changed {
        path: current.clone(),
    })?;
    let old_certificate = current.canonicalize().unwrap_or(current);
    let pair = party
        .issuing()?
        .issue(shown.file, shown.names, shown.usage, now)?;
    let folder = leaf::put(&party.folder, shown.file, &pair)?;
    Ok(Renewed {
        old_serial,
        old_certificate,
        certificate: folder.join(name),
    })
}

/// Writes the party's revocation list anew, with what it revoked before; returns its file.
///
/// # Errors
/// [`CeremonyError::Rotation`] for a certificate of somebody else.
pub fn revoke(party: &Party, what: &Revocation, now: Time) -> Result<PathBuf, CeremonyError> {
    let mut revoked = authority::revoked(&party.list()?)?;
    let serial = match what {
        Revocation::None => None,
        Revocation::Serial(serial) => Some(serial.clone()),
        Revocation::Certificate(path) => {
            let certificate = authority::certificate(path)?;
            let mut authorities = party.authorities()?.into_iter();
            if !authorities.any(|authority| authority.issued(&certificate)) {
                return Err(party.refused(RotationFault::Foreign));
            }
            authority::serial(&certificate)
        }
    };
    let serial = serial.filter(|serial| revoked.iter().all(|known| known.serial != *serial));
    revoked.extend(serial.map(|serial| Revoked { serial, since: now }));
    revoke_all(party, &revoked, now, now + LIST_LIFE)
}

/// Writes the party's revocation list with just these serial numbers, good until a time.
///
/// # Errors
/// [`CeremonyError`], naming the file.
pub fn revoke_until(
    party: &Party,
    serials: &[Vec<u8>],
    now: Time,
    until: Time,
) -> Result<PathBuf, CeremonyError> {
    let revoked: Vec<_> = serials
        .iter()
        .map(|serial| Revoked {
            serial: serial.clone(),
            since: now,
        })
        .collect();
    revoke_all(party, &revoked, now, until)
}

/// Each authority signs a list of its own. Serial numbers are random, so those of the other do no harm in it.
fn revoke_all(
    party: &Party,
    revoked: &[Revoked],
    now: Time,
    until: Time,
) -> Result<PathBuf, CeremonyError> {
    let mut lists = String::new();
    for authority in party.authorities()? {
        lists.push_str(&authority.list(revoked, now, until)?);
    }
    let path = party.list()?;
    folder::replace(&path, lists.as_bytes())?;
    Ok(path)
}

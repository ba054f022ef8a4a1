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

/// Whether the certificate that the party's process shows may be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// Its party would be refused everywhere, so a new one takes its place first.
    Keep,
    Revoke,
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
/// [`CeremonyError::Rotation`] for a certificate of somebody else, or the one that is in use.
pub fn revoke(
    party: &Party,
    what: &Revocation,
    in_use: InUse,
    now: Time,
) -> Result<PathBuf, CeremonyError> {
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
    if in_use == InUse::Keep && serial.is_some() && serial == serial_in_use(party)? {
        return Err(party.refused(RotationFault::InUse));
    }
    let serial = serial.filter(|serial| revoked.iter().all(|known| known.serial != *serial));
    revoked.extend(serial.map(|serial| Revoked { serial, since: now }));
    revoke_all(party, &revoked, now, now + LIST_LIFE)
}

/// The serial number of the certificate that the party's process shows, if it has one here.
fn serial_in_use(party: &Party) -> Result<Option<Vec<u8>>, CeremonyError> {
    let path = party.keys().join(leaf::certificate(party.shown()?.file));
    if !path.exists() {
        return Ok(None);
    }
    Ok(authority::serial(&authority::certificate(&path)?))
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

//! Suspensions: one registrar's word that an agency, or one of its statement keys, is not to be trusted. It
//! counts at once, for a week, and can only close; two registrars are needed for anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::Path,
    time::Duration,
};

use amanat_schema::{AgencyId, Time, directory::Suspension, statement::Envelope};
use amanat_seal::statement::key_id;
use prost::Message as _;

use crate::{Directory, Registrars};

/// How long a suspension lasts.
const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far a registrar's clock may be ahead.
const CLOCK_AHEAD: Duration = Duration::from_secs(5 * 60);

/// Why a suspension file does not count. The others in the folder do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct SuspensionError {
    pub path: String,
    pub fault: SuspensionFault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuspensionFault {
    #[error("it cannot be read ({0}): check that it is there, its owner and permissions")]
    Unreadable(io::ErrorKind),
    #[error("it is not a signed suspension: ask the registrar for it again")]
    Malformed,
    #[error("it is not signed by exactly one of the registrars pinned here: do not heed it")]
    Signature,
    #[error("it is of another exchange: remove it")]
    Exchange,
    #[error("it names agency {0}, which is not in the directory: if it has left, remove the file")]
    UnknownAgency(AgencyId),
    #[error(
        "it names a statement key that the directory does not list for agency {0}: if the key was \
         replaced, remove the file"
    )]
    UnknownKey(AgencyId),
    #[error(
        "it is dated {0}, which has not come yet: it does not count before; ask the registrar to check the \
         clock"
    )]
    Ahead(Time),
}

/// What is suspended: an agency, or one of its statement keys.
type Target = (AgencyId, Option<[u8; 32]>);

/// The suspensions that were found for a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspensions {
    found: BTreeSet<Found>,
    /// What was closed here before and stands in no file any more.
    unfiled: BTreeSet<Target>,
    /// From when to when, by what is closed.
    closed: BTreeMap<Target, Vec<Period>>,
}

/// A suspension that counts, as its operator reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    pub agency: AgencyId,
    /// The statement key, where it is not the whole agency.
    pub key: Option<[u8; 32]>,
    pub until: Time,
    /// Whether its file is still there; if not, only a newer directory lifts it.
    pub is_filed: bool,
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = self.key {
            write!(f, "statement key {} of ", hex::encode(key))?;
        }
        write!(f, "agency {} until {}", self.agency, self.until)
    }
}

/// A suspension that its registrar signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    registrar: Vec<u8>,
    target: Target,
    begins: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Period {
    begins: Time,
    ends: Time,
}

impl SuspensionError {
    /// Whether there may be a suspension that nobody here could see.
    pub fn is_unread(&self) -> bool {
        matches!(self.fault, SuspensionFault::Unreadable(_))
    }
}

impl Suspensions {
    /// Reads every file of a folder, for one directory, whatever it is called: one that was saved under
    /// another name must not go unheeded. What does not count is told, and so is a folder that is gone.
    pub fn read(
        folder: &Path,
        directory: &Directory,
        registrars: &Registrars,
        now: Time,
    ) -> (Self, Vec<SuspensionError>) {
        let (mut found, mut errors) = (BTreeSet::new(), Vec::new());
        for (path, bytes) in files(folder) {
            let read = bytes
                .map_err(SuspensionFault::Unreadable)
                .and_then(|bytes| Found::parse(&bytes, directory, registrars));
            let fault = match read {
                Ok(suspension) => {
                    let begins = suspension.begins;
                    found.insert(suspension);
                    (begins > now + CLOCK_AHEAD).then_some(SuspensionFault::Ahead(begins))
                }
                Err(fault) => Some(fault),
            };
            errors.extend(fault.map(|fault| SuspensionError { path, fault }));
        }
        (Self::count(found, directory), errors)
    }

    /// The same in a process that works by `in_use`. What counts there is not lifted by a file that is gone or
    /// changed: that takes a newer directory, which two registrars signed. Where something cannot be read, a
    /// newer directory does not lift it either.
    pub fn read_again(
        folder: &Path,
        directory: &Directory,
        registrars: &Registrars,
        in_use: &Directory,
        now: Time,
    ) -> (Self, Vec<SuspensionError>) {
        let (read, errors) = Self::read(folder, directory, registrars, now);
        let is_newer = directory.version() > in_use.version();
        if is_newer && !errors.iter().any(SuspensionError::is_unread) {
            return (read, errors);
        }
        let kept = in_use.suspensions().found.iter().cloned();
        let filed: BTreeSet<_> = read.found.iter().map(|found| found.target).collect();
        let found: BTreeSet<_> = kept.chain(read.found).collect();
        let targets = found.iter().map(|found| found.target);
        let unfiled = targets.filter(|target| !filed.contains(target)).collect();
        let counted = Self::count(found, directory);
        (Self { unfiled, ..counted }, errors)
    }

    /// Those that count at `now`.
    pub fn in_force(&self, now: Time) -> impl Iterator<Item = InForce> {
        self.closed.iter().filter_map(move |(target, periods)| {
            let ends = periods.iter().filter(|period| period.holds(now));
            Some(InForce {
                agency: target.0,
                key: target.1,
                until: ends.map(|period| period.ends).max()?,
                is_filed: !self.unfiled.contains(target),
            })
        })
    }

    /// In a directory's time one registrar alone closes a target for [`LIFE`] in all, or it could be closed
    /// for ever by another suspension each week. What overlaps or touches an earlier one adds nothing to it;
    /// what begins later gets what is left of [`LIFE`].
    fn count(found: BTreeSet<Found>, directory: &Directory) -> Self {
        let mut closed: BTreeMap<Target, Vec<Period>> = BTreeMap::new();
        let mut last: Option<(&Found, Time)> = None;
        let mut left = LIFE;
        // By registrar, target and time.
        for suspension in &found {
            let Found { target, begins, .. } = suspension;
            let before = last.filter(|(other, _)| other.is_alike(suspension));
            if before.is_some_and(|(_, ends)| *begins <= ends) {
                continue;
            }
            if before.is_none() {
                left = LIFE;
            }
            // Of its days those under older directories are not of this one's.
            let counted = (*begins).max(directory.not_before());
            let ends = (*begins + LIFE).min(counted + left);
            last = Some((suspension, ends));
            if ends > counted {
                left -= ends.distance(counted);
                let period = Period {
                    begins: *begins,
                    ends,
                };
                closed.entry(*target).or_default().push(period);
            }
        }
        Self {
            found,
            unfiled: BTreeSet::new(),
            closed,
        }
    }

    pub(crate) fn closes_agency(&self, agency: AgencyId, now: Time) -> bool {
        self.closes(&(agency, None), now)
    }

    /// Whether the key, named as envelopes name it, is suspended. An agency's own suspension is another
    /// question.
    pub(crate) fn closes_key(&self, agency: AgencyId, id: &[u8], now: Time) -> bool {
        self.closed.keys().any(|target| {
            target.0 == agency
                && target.1.is_some_and(|key| key_id(&key) == *id)
                && self.closes(target, now)
        })
    }

    fn closes(&self, target: &Target, now: Time) -> bool {
        let mut periods = self.closed.get(target).into_iter().flatten();
        periods.any(|period| period.holds(now))
    }
}

impl Period {
    fn holds(self, now: Time) -> bool {
        self.begins <= now + CLOCK_AHEAD && now < self.ends
    }
}

impl Found {
    /// Whether it is the same registrar's of the same target.
    fn is_alike(&self, other: &Self) -> bool {
        (&self.registrar, &self.target) == (&other.registrar, &other.target)
    }

    fn parse(
        bytes: &[u8],
        directory: &Directory,
        registrars: &Registrars,
    ) -> Result<Self, SuspensionFault> {
        let envelope = Envelope::decode(bytes).map_err(|_| SuspensionFault::Malformed)?;
        let verified = amanat_seal::statement::verify::<Suspension>(&envelope, &registrars.keys)
            .map_err(|_| SuspensionFault::Signature)?;
        let wire = verified.message();
        if wire.exchange_id != directory.exchange_id() {
            return Err(SuspensionFault::Exchange);
        }
        let malformed = |_| SuspensionFault::Malformed;
        if wire.suspension_id.len() != 16 || wire.directory_version == 0 {
            return Err(SuspensionFault::Malformed);
        }
        let id = AgencyId::parse(&wire.agency_id).map_err(malformed)?;
        let begins =
            Time::parse(wire.suspend_time.as_ref()).map_err(|_| SuspensionFault::Malformed)?;
        let agency = directory.agency(id);
        let agency = agency.ok_or(SuspensionFault::UnknownAgency(id))?;
        let key = match wire.statement_key.as_slice() {
            [] => None,
            key => {
                let mut keys = agency.signers().into_iter();
                Some(
                    keys.find(|listed| listed == key)
                        .ok_or(SuspensionFault::UnknownKey(id))?,
                )
            }
        };
        let signature = envelope.signatures.into_iter().next();
        Ok(Self {
            registrar: signature.map(|s| s.key_id).unwrap_or_default(),
            target: (id, key),
            begins,
        })
    }
}

/// The folder's files by name, each with its bytes or why there are none. What is listed and is not there has
/// not been read.
fn files(folder: &Path) -> Vec<(String, Result<Vec<u8>, io::ErrorKind>)> {
    let unread = |error: io::Error| (folder.display().to_string(), Err(error.kind()));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return vec![unread(error)],
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry.map(|entry| entry.path()) {
            Ok(path) if is_hidden(&path) => {}
            Ok(path) => {
                let read = fs::read(&path).map_err(|error| error.kind());
                files.push((path.display().to_string(), read));
            }
            Err(error) => files.push(unread(error)),
        }
    }
    files.sort();
    files
}

/// As editors and copying programs name what they have not finished.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with('.'))
}

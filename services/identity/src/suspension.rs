//! Suspensions: one registrar's word that an agency, or one of its statement keys, is not to be trusted. It
//! counts at once, for a week, and can only close; two registrars are needed for anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
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
    #[error("it cannot be read ({0}): check the file's owner and permissions")]
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
        "it was made under directory version {0}, which is not in use here yet: fetch the newest directory"
    )]
    Version(u64),
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
    /// When each begins, by what it closes.
    begin: BTreeMap<Target, BTreeSet<Time>>,
}

/// A suspension that its registrar signed.
struct Found {
    registrar: Vec<u8>,
    target: Target,
    /// The directory that it is counted under.
    version: u64,
    begins: Time,
}

impl Suspensions {
    /// Reads every `*.bin` of a folder, for one directory; an absent folder is an empty one. What does not
    /// count is told.
    pub fn read(
        folder: &Path,
        directory: &Directory,
        registrars: &Registrars,
        now: Time,
    ) -> (Self, Vec<SuspensionError>) {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for (path, bytes) in files(folder) {
            let read = bytes
                .map_err(SuspensionFault::Unreadable)
                .and_then(|bytes| Found::parse(&bytes, directory, registrars));
            let fault = match read {
                Ok(suspension) => {
                    let begins = suspension.begins;
                    found.push(suspension);
                    (begins > now + CLOCK_AHEAD).then_some(SuspensionFault::Ahead(begins))
                }
                Err(fault) => Some(fault),
            };
            errors.extend(fault.map(|fault| SuspensionError { path, fault }));
        }
        (Self::count(found), errors)
    }

    /// Of one registrar's suspensions of a target under one directory only the earliest counts, or it could
    /// be prolonged for ever by another one each week.
    fn count(found: Vec<Found>) -> Self {
        let mut earliest = BTreeMap::new();
        for suspension in found {
            let key = (suspension.registrar, suspension.target, suspension.version);
            let begins = earliest.entry(key).or_insert(suspension.begins);
            *begins = suspension.begins.min(*begins);
        }
        let mut begin: BTreeMap<Target, BTreeSet<Time>> = BTreeMap::new();
        for ((_, target, _), begins) in earliest {
            begin.entry(target).or_default().insert(begins);
        }
        Self { begin }
    }

    pub(crate) fn closes_agency(&self, agency: AgencyId, now: Time) -> bool {
        self.closes(&(agency, None), now)
    }

    /// Whether the key, named as envelopes name it, is suspended. An agency's own suspension is another
    /// question.
    pub(crate) fn closes_key(&self, agency: AgencyId, id: &[u8], now: Time) -> bool {
        self.begin.keys().any(|target| {
            target.0 == agency
                && target.1.is_some_and(|key| key_id(&key) == *id)
                && self.closes(target, now)
        })
    }

    fn closes(&self, target: &Target, now: Time) -> bool {
        let mut begin = self.begin.get(target).into_iter().flatten();
        begin.any(|begins| *begins <= now + CLOCK_AHEAD && now < *begins + LIFE)
    }
}

impl Found {
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
        if wire.directory_version > directory.version() {
            return Err(SuspensionFault::Version(wire.directory_version));
        }
        let agency = directory.agency(id);
        let agency = agency.ok_or(SuspensionFault::UnknownAgency(id))?;
        let key = match wire.statement_key.as_slice() {
            [] => None,
            key => {
                let mut keys = agency.statement_keys.iter();
                Some(
                    *keys
                        .find(|listed| *listed == key)
                        .ok_or(SuspensionFault::UnknownKey(id))?,
                )
            }
        };
        // Dated after this directory began, it is this directory's, whichever it names: one that was left
        // unused under an older directory prolongs nothing now, and one that was made just before this
        // directory came is not lost.
        let version = if begins >= directory.not_before() {
            directory.version()
        } else {
            wire.directory_version
        };
        let signature = envelope.signatures.into_iter().next();
        Ok(Self {
            registrar: signature.map(|s| s.key_id).unwrap_or_default(),
            target: (id, key),
            version,
            begins,
        })
    }
}

/// The folder's files by name, each with its bytes or why there are none.
fn files(folder: &Path) -> Vec<(String, Result<Vec<u8>, io::ErrorKind>)> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![(folder.display().to_string(), Err(error.kind()))],
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "bin"))
        .collect();
    paths.sort();
    let read = |path: &Path| fs::read(path).map_err(|error| error.kind());
    paths
        .iter()
        .map(|path| (path.display().to_string(), read(path)))
        .collect()
}

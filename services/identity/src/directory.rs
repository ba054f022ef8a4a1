//! The directory: checked once when it is loaded, then only looked up.

mod parties;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    time::Duration,
};

use amanat_config::Section;
use amanat_schema::{AgencyId, Time, directory, statement::Envelope, subject::IdentifierDomain};
use prost::Message as _;

use crate::Suspensions;

pub use parties::{Agency, RetiredKey, Service, TokenIssuerKey};

/// The longest life that registrars may give a directory.
pub const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The registrars whose signatures make a directory: pinned by each party in its own configuration. A directory
/// names them too, and cannot change them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrars {
    /// Ed25519 public keys.
    pub keys: Vec<[u8; 32]>,
    /// How many must sign; never under 2.
    pub threshold: usize,
}

impl Registrars {
    /// The settings `registrars`, public keys in hexadecimal, and `threshold`.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        const KEYS: &str = "the registrars' public keys, each once, 64 hexadecimal digits each";
        let keys: Option<Vec<String>> = section.required("registrars", KEYS);
        let threshold = section.required("threshold", "how many registrars must have signed");
        let (keys, threshold): (_, usize) = (keys?, threshold?);
        let parsed: Option<BTreeSet<[u8; 32]>> = keys
            .iter()
            .map(|text| hex::decode(text).ok()?.try_into().ok())
            .collect();
        let Some(parsed) = parsed.filter(|parsed| parsed.len() == keys.len()) else {
            return section.refuse("registrars", KEYS);
        };
        if !(2..=parsed.len()).contains(&threshold) {
            return section.refuse(
                "threshold",
                "a number of registrars, at least 2 and at most as many as there are",
            );
        }
        Some(Self {
            keys: parsed.into_iter().collect(),
            threshold,
        })
    }
}

/// A directory whose registrars' signatures hold, with the suspensions that stand beside it.
#[derive(Debug, Clone)]
pub struct Directory {
    exchange_id: String,
    version: u64,
    not_before: Time,
    valid_until: Time,
    agencies: BTreeMap<AgencyId, Agency>,
    gateway: Service,
    custodian: Service,
    table_sha256: [u8; 32],
    oprf_keys: BTreeMap<(IdentifierDomain, u32), [u8; 32]>,
    sha256: [u8; 32],
    envelope: Envelope,
    suspensions: Suspensions,
}

#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("cannot read or write {path}: {source}")]
    File { path: String, source: io::Error },
    #[error("{path} is not a signed directory; fetch it again from your registrars")]
    Malformed { path: String },
    #[error(
        "{path} does not hold the version of the directory that was in use here, as it must: ask your \
         registrars for the newest version, and write its number into the file"
    )]
    Seen { path: String },
    #[error(
        "the directory is version {version}, as was the one in use here, but says something else; ask your \
         registrars which of the two they published"
    )]
    SameVersion { version: u64 },
    #[error(
        "the directory needs the signatures of {threshold} of the registrars pinned here and of nobody else, and \
         has not; is it another exchange's? Fetch it from these registrars, and trust no other source"
    )]
    Signatures { threshold: usize },
    #[error("the directory's {0} is not valid; ask your registrars for a corrected one")]
    Field(String),
    #[error(
        "the directory is version {found}, but version {seen} was in use here before; fetch the newest one \
         from your registrars, and find out who put the old one back"
    )]
    RolledBack { found: u64, seen: u64 },
    #[error(
        "the directory ended at {0}, so nothing is served or disclosed by it; fetch the newest one from your \
         registrars, and check the clock"
    )]
    Expired(Time),
    #[error(
        "the directory is not in force before {0}; keep the one in use until then, and check the clock"
    )]
    NotYet(Time),
}

impl Directory {
    /// Checks the registrars' signatures and every field of a signed directory.
    ///
    /// # Errors
    /// [`DirectoryError::Signatures`] without enough of them; otherwise the first field that is not valid.
    pub fn verify(envelope: &Envelope, registrars: &Registrars) -> Result<Self, DirectoryError> {
        let threshold = registrars.threshold.max(2);
        let verified = amanat_seal::statement::verify_threshold::<directory::Directory>(
            envelope,
            &registrars.keys,
            threshold,
        )
        .map_err(|_| DirectoryError::Signatures { threshold })?;
        Self::parse(verified.message(), *verified.payload_sha256(), envelope)
    }

    /// Whether what it says would count once its registrars have signed it: every field, and no signature.
    ///
    /// # Errors
    /// [`DirectoryError::Field`], the first that is not valid.
    pub fn check_fields(wire: &directory::Directory) -> Result<(), DirectoryError> {
        Self::parse(wire, [0; 32], &Envelope::default()).map(drop)
    }

    fn parse(
        wire: &directory::Directory,
        sha256: [u8; 32],
        envelope: &Envelope,
    ) -> Result<Self, DirectoryError> {
        let field = |name: &str| DirectoryError::Field(name.to_owned());
        let time = |t, name| Time::parse(t).map_err(|_| field(name));
        let not_before = time(wire.not_before_time.as_ref(), "not_before_time")?;
        let valid_until = time(wire.valid_until_time.as_ref(), "valid_until_time")?;
        if valid_until <= not_before || valid_until > not_before + LONGEST_LIFE {
            return Err(field("valid_until_time"));
        }
        if wire.exchange_id.is_empty() || wire.version == 0 {
            return Err(field("exchange_id or version"));
        }
        let mut agencies = BTreeMap::new();
        for agency in &wire.agencies {
            let agency = Agency::parse(agency)?;
            let id = agency.id;
            if agencies.insert(id, agency).is_some() {
                return Err(field(&format!("agencies ({id} stands twice)")));
            }
        }
        let service = |service: Option<&directory::Service>, name| {
            service.and_then(Service::parse).ok_or_else(|| field(name))
        };
        let gateway = service(wire.gateway.as_ref(), "gateway")?;
        let custodian = service(wire.custodian.as_ref(), "custodian")?;
        let former = parties::former(&wire.former_agencies, &agencies)?;
        parties::are_apart(&agencies, &former, &gateway, &custodian)?;
        let mut oprf_keys = BTreeMap::new();
        for listed in &wire.oprf_keys {
            let domain = Some(listed.domain()).filter(|d| *d != IdentifierDomain::Unspecified);
            let parsed = (listed.epoch > 0).then_some(listed.epoch);
            let parsed = domain.zip(parsed).zip(key(&listed.public_key));
            let (name, key) = parsed.ok_or_else(|| field("oprf_keys"))?;
            let is_new = !oprf_keys.values().any(|other| *other == key);
            if !is_new || oprf_keys.insert(name, key).is_some() {
                return Err(field("oprf_keys (one stands twice)"));
            }
        }
        Ok(Self {
            oprf_keys,
            exchange_id: wire.exchange_id.clone(),
            version: wire.version,
            not_before,
            valid_until,
            agencies,
            gateway,
            custodian,
            table_sha256: key(&wire.table_sha256).ok_or_else(|| field("table_sha256"))?,
            sha256,
            envelope: envelope.clone(),
            suspensions: Suspensions::default(),
        })
    }

    /// Loads a signed directory file, refuses one older than `seen` remembers, and remembers this one.
    ///
    /// # Errors
    /// As [`Directory::check`] and [`Directory::remember`].
    pub fn load(
        file: &Path,
        seen: &Path,
        registrars: &Registrars,
        now: Time,
    ) -> Result<Self, DirectoryError> {
        let directory = Self::check(file, seen, registrars, now)?;
        directory.remember(seen)?;
        Ok(directory)
    }

    /// Loads a signed directory file and refuses one older than `seen` remembers, or other words under the same
    /// version. That file lies outside every database, so that restoring one cannot roll the directory back.
    /// It is not remembered yet: whoever
    /// takes it into use does that when all that belongs to it is in order too.
    ///
    /// # Errors
    /// As [`Directory::verify`], and for files, roll-back and a directory not in force at `now`.
    pub fn check(
        file: &Path,
        seen: &Path,
        registrars: &Registrars,
        now: Time,
    ) -> Result<Self, DirectoryError> {
        let bytes = fs::read(file).map_err(failed(file))?;
        let envelope =
            Envelope::decode(bytes.as_slice()).map_err(|_| DirectoryError::Malformed {
                path: file.display().to_string(),
            })?;
        let directory = Self::verify(&envelope, registrars)?;
        if let Some(newest) = seen::read(seen)? {
            directory.follows(newest.version, newest.sha256.as_ref())?;
        }
        directory.counts(now)?;
        Ok(directory)
    }

    /// Whether it may take the place of a version, whose signed bytes had this hash if that is known.
    ///
    /// # Errors
    /// [`DirectoryError::RolledBack`], [`DirectoryError::SameVersion`].
    pub fn follows(&self, version: u64, sha256: Option<&[u8; 32]>) -> Result<(), DirectoryError> {
        if self.version < version {
            Err(DirectoryError::RolledBack {
                found: self.version,
                seen: version,
            })
        } else if self.version == version && sha256.is_some_and(|known| *known != self.sha256) {
            Err(DirectoryError::SameVersion { version })
        } else {
            Ok(())
        }
    }

    /// Writes version and hash into `seen`, unless a higher version stands there.
    ///
    /// # Errors
    /// [`DirectoryError::File`], [`DirectoryError::Seen`].
    pub fn remember(&self, seen: &Path) -> Result<(), DirectoryError> {
        let is_known = |known: seen::Seen| {
            known.version > self.version
                || (known.version == self.version && known.sha256.is_some())
        };
        if !seen::read(seen)?.is_some_and(is_known) {
            seen::write(seen, self.version, &self.sha256).map_err(failed(seen))?;
        }
        Ok(())
    }

    /// What single registrars said since it was signed, as far as it counts here.
    pub fn suspensions(&self) -> &Suspensions {
        &self.suspensions
    }

    /// Adds what single registrars said since it was signed.
    #[must_use]
    pub fn suspending(self, suspensions: Suspensions) -> Self {
        Self {
            suspensions,
            ..self
        }
    }

    /// Whether an agency is suspended as a whole.
    pub fn is_suspended(&self, agency: AgencyId, now: Time) -> bool {
        self.suspensions.closes_agency(agency, now)
    }

    /// Whether the statement key that envelopes name by `key_id` is suspended.
    pub fn is_key_suspended(&self, agency: AgencyId, key_id: &[u8], now: Time) -> bool {
        self.suspensions.closes_key(agency, key_id, now)
    }

    /// Whether what was recorded then under a key, named as envelopes name it, is an agency's own word: the key is
    /// listed for it, in force or retired, and nobody else may have used it before. A key that is not listed
    /// vouches for nothing: it may have been left out because it was stolen.
    pub fn is_own_word(&self, agency: AgencyId, signed_by: &[u8], recorded: Time) -> bool {
        let agency = self.agencies.get(&agency);
        agency.is_some_and(|agency| agency.is_own_word(signed_by, recorded))
    }

    /// As its registrars signed it.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    pub fn exchange_id(&self) -> &str {
        &self.exchange_id
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// Outside its time nothing is disclosed.
    pub fn in_force(&self, now: Time) -> bool {
        (self.not_before..self.valid_until).contains(&now)
    }

    /// # Errors
    /// [`DirectoryError::NotYet`], [`DirectoryError::Expired`]: outside its time nothing is disclosed.
    pub fn counts(&self, now: Time) -> Result<(), DirectoryError> {
        if now < self.not_before {
            Err(DirectoryError::NotYet(self.not_before))
        } else if now >= self.valid_until {
            Err(DirectoryError::Expired(self.valid_until))
        } else {
            Ok(())
        }
    }

    pub fn not_before(&self) -> Time {
        self.not_before
    }

    pub fn valid_until(&self) -> Time {
        self.valid_until
    }

    pub fn agency(&self, id: AgencyId) -> Option<&Agency> {
        self.agencies.get(&id)
    }

    pub fn agencies(&self) -> impl Iterator<Item = &Agency> {
        self.agencies.values()
    }

    pub fn gateway(&self) -> &Service {
        &self.gateway
    }

    pub fn custodian(&self) -> &Service {
        &self.custodian
    }

    /// Of the decision table's file.
    pub fn table_sha256(&self) -> &[u8; 32] {
        &self.table_sha256
    }

    /// The custodian's public OPRF keys of a domain, by epoch, oldest first; two while a new one takes over.
    pub fn oprf_keys(&self, domain: IdentifierDomain) -> impl Iterator<Item = (u32, &[u8; 32])> {
        let keys = self.oprf_keys.iter();
        keys.filter(move |((of, _), _)| *of == domain)
            .map(|((_, epoch), key)| (*epoch, key))
    }

    /// Of the signed bytes.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The URI that names an agency in its certificates.
    pub fn agency_uri(&self, id: AgencyId) -> String {
        format!("spiffe://{}/agency/{id}", self.exchange_id)
    }

    /// The URI that names the custodian when it calls the gateway.
    pub fn custodian_uri(&self) -> String {
        format!("spiffe://{}/service/custodian", self.exchange_id)
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.display().to_string();
    move |source| DirectoryError::File { path, source }
}

fn key(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}

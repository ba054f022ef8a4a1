//! Newer files taken into use while the server runs: directory, decision table, revocation lists and
//! suspensions. All of them count together or none does: what is refused leaves the ones in use as they are.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use amanat_identity::{
    Directory, DirectoryError, Registrars, RevocationFolder, Suspensions, Trust,
};
use amanat_policy::DecisionTable;
use amanat_schema::Time;
use amanat_server::{Guard, read_file};
use tokio::time::MissedTickBehavior;

use crate::{
    Rulebook, Rules,
    setup::{DirectoryFiles, SetupError},
};

/// Between two words about a directory that has run out.
const REMIND: Duration = Duration::from_secs(60);

/// What a directory must list for the server that works by it.
type Fits = Box<dyn Fn(&Directory) -> Result<(), SetupError> + Send + Sync>;

/// Looks at the files of `[directory]`, and takes what is new in them into use.
pub struct Reload {
    files: DirectoryFiles,
    registrars: Registrars,
    guard: Guard,
    rules: Rulebook,
    fits: Fits,
    /// Held while it looks, so that two never take something into use at once.
    last: Mutex<Last>,
}

/// What the last look came to.
#[derive(Default)]
struct Last {
    fingerprint: Fingerprint,
    /// Why the files were refused; `None` if they are in use.
    refused: Option<String>,
    /// When it was last said that the directory in use has run out.
    reminded: Option<Time>,
}

impl Reload {
    pub fn new(
        files: DirectoryFiles,
        registrars: Registrars,
        guard: Guard,
        rules: Rulebook,
    ) -> Self {
        Self {
            files,
            registrars,
            guard,
            rules,
            fits: Box::new(|_| Ok(())),
            last: Mutex::default(),
        }
    }

    /// The files with this fingerprint are in use.
    pub(crate) fn knowing(mut self, fingerprint: Fingerprint) -> Self {
        self.last = Mutex::new(Last {
            fingerprint,
            ..Last::default()
        });
        self
    }

    /// Refuses a directory that does not list what this server works with.
    #[must_use]
    pub fn fitting(
        self,
        fits: impl Fn(&Directory) -> Result<(), SetupError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            fits: Box::new(fits),
            ..self
        }
    }

    /// Looks again and again, until it is aborted.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_secs(self.files.reload_s.get()));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.now().await;
        }
    }

    /// Looks at once; returns when what it found is in use, or refused.
    pub async fn now(self: &Arc<Self>) {
        let reload = Arc::clone(self);
        if tokio::task::spawn_blocking(move || reload.look())
            .await
            .is_err()
        {
            tracing::error!("the directory's files could not be looked at");
        }
    }

    fn look(&self) {
        // A panic elsewhere leaves at worst a look that is made again.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.guard.clock)();
        let fingerprint = Fingerprint::of(&self.files);
        let is_new = fingerprint != last.fingerprint;
        // What was refused may count by now: a directory has its time.
        if is_new || last.refused.is_some() {
            last.fingerprint = fingerprint;
            let refused = self.take(now).err().map(|error| error.to_string());
            match &refused {
                Some(why) if is_new || last.refused.as_ref() != Some(why) => tracing::error!(
                    in_use = self.rules.current().directory.version(),
                    "what is in the directory's files is refused, and what is in use stays: {why}"
                ),
                Some(_) => {}
                None => tracing::info!(
                    version = self.rules.current().directory.version(),
                    "directory, revocation lists and suspensions are in use as they are in their files"
                ),
            }
            last.refused = refused;
        }
        self.remind(&mut last, now);
    }

    /// Everything or nothing; the rules last, so that nobody is decided about who is not admitted any more.
    fn take(&self, now: Time) -> Result<(), SetupError> {
        let in_use = self.rules.current();
        let Loaded { rules, trust } = Loaded::check(&self.files, &self.registrars, now)?;
        let (old, new) = (&in_use.directory, &rules.directory);
        if new.exchange_id() != old.exchange_id() {
            return Err(SetupError::OtherExchange);
        }
        // The file that remembers the version could be lost while this process still knows it.
        if new.version() < old.version() {
            return Err(DirectoryError::RolledBack {
                found: new.version(),
                seen: old.version(),
            }
            .into());
        }
        let is_same = new.sha256() == old.sha256();
        if new.version() == old.version() && !is_same {
            return Err(SetupError::SameVersion {
                version: new.version(),
            });
        }
        (self.fits)(new)?;
        new.remember(&self.files.seen)?;
        let rules = if is_same {
            Rules {
                since: in_use.since,
                previous: in_use.previous,
                ..rules
            }
        } else {
            Rules {
                previous: Some(in_use.superseded()),
                ..rules
            }
        };
        self.guard.replace(trust);
        self.rules.replace(rules);
        Ok(())
    }

    /// The operator hears, again and again, why nobody is served.
    fn remind(&self, last: &mut Last, now: Time) {
        let Err(why) = self.rules.current().directory.counts(now) else {
            last.reminded = None;
            return;
        };
        if last.reminded.is_none_or(|at| at.distance(now) >= REMIND) {
            tracing::error!("every request is refused: {why}");
            last.reminded = Some(now);
        }
    }
}

/// What the files come to when all of them are in order.
pub(crate) struct Loaded {
    pub(crate) rules: Rules,
    pub(crate) trust: Trust,
}

impl Loaded {
    /// Revocation lists and suspensions that do not count are told; they refuse nobody but those they are of.
    ///
    /// # Errors
    /// [`SetupError`], naming the file.
    pub(crate) fn check(
        files: &DirectoryFiles,
        registrars: &Registrars,
        now: Time,
    ) -> Result<Self, SetupError> {
        let directory = Directory::check(&files.file, &files.seen, registrars, now)?;
        let table = table(&files.decision_table, &directory)?;
        let (suspensions, faults) =
            Suspensions::read(&files.suspensions, &directory, registrars, now);
        let directory = Arc::new(directory.suspending(suspensions));
        let lists = RevocationFolder::new(&files.crls);
        let trust = Trust::new(Arc::clone(&directory), &lists)?;
        for fault in faults {
            tracing::error!("a suspension does not count: {fault}");
        }
        for missing in trust.missing_lists() {
            tracing::error!("{missing}");
        }
        let rules = Rules {
            table_sha256: *directory.table_sha256(),
            directory,
            table,
            since: now,
            previous: None,
        };
        Ok(Self { rules, trust })
    }
}

fn table(path: &Path, directory: &Directory) -> Result<DecisionTable, SetupError> {
    let name = || path.display().to_string();
    let bytes = read_file(path)?;
    if amanat_seal::sha256(&bytes) != *directory.table_sha256() {
        return Err(SetupError::OtherTable { path: name() });
    }
    let text = String::from_utf8(bytes).map_err(|_| SetupError::Table {
        path: name(),
        message: "not UTF-8".to_owned(),
    })?;
    DecisionTable::parse(&text).map_err(|error| SetupError::Table {
        path: name(),
        message: error.to_string(),
    })
}

/// What the files hold, to tell whether anything has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(BTreeMap<PathBuf, Result<[u8; 32], io::ErrorKind>>);

impl Fingerprint {
    pub(crate) fn of(files: &DirectoryFiles) -> Self {
        let mut found = BTreeMap::new();
        let mut add = |path: PathBuf| {
            let sha256 = fs::read(&path).map(|bytes| amanat_seal::sha256(&bytes));
            found.insert(path, sha256.map_err(|error| error.kind()));
        };
        add(files.file.clone());
        add(files.decision_table.clone());
        for folder in [&files.crls, &files.suspensions] {
            // An absent folder is as good as an empty one.
            let Ok(entries) = fs::read_dir(folder) else {
                continue;
            };
            for entry in entries.filter_map(Result::ok) {
                add(entry.path());
            }
        }
        Self(found)
    }
}

//! Newer files taken into use while the server runs: directory, decision table, revocation lists, suspensions
//! and the server's own certificate. Directory and table count together or not at all, as do certificate and
//! key: what is refused leaves the ones in use as they are. What closes, lists and suspensions, counts under
//! them all the same.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use amanat_config::read_file;
use amanat_identity::{
    Directory, Registrars, RevocationFolder, SuspensionError, Suspensions, Trust,
};
use amanat_policy::DecisionTable;
use amanat_schema::Time;
use amanat_server::Guard;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    Rulebook, Rules,
    own::Own,
    settings::{DirectoryFiles, Listen},
    setup::error::SetupError,
};

/// Between two words about a directory that has run out.
const REMIND: Duration = Duration::from_secs(60);
/// Between two looks for the sake of requests.
const APART: Duration = Duration::from_secs(1);

/// What a directory must list for the server that works by it.
type Fits = Box<dyn Fn(&Directory) -> Result<(), SetupError> + Send + Sync>;

/// Looks at the files of `[directory]`, and at the server's own certificate, and takes what is new in them into
/// use.
pub struct Reload {
    files: DirectoryFiles,
    /// `None` where nothing is shown to anybody.
    own: Option<Own>,
    registrars: Registrars,
    guard: Guard,
    rules: Rulebook,
    fits: Fits,
    /// Held while it looks, so that two never take something into use at once.
    last: Mutex<Last>,
    /// When it looked last for the sake of a request; held while it does.
    looked: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// What the last look came to.
#[derive(Default)]
struct Last {
    fingerprint: Fingerprint,
    /// Revocation lists or suspensions have changed and are not in use yet.
    is_closing_due: bool,
    /// Of the suspensions that do not count.
    faults: Vec<SuspensionError>,
    /// Why the directory was refused; `None` if it is in use.
    refused: Option<String>,
    /// When it was last said that the directory in use has run out.
    reminded: Option<Time>,
    /// Why the certificate in its files was refused; `None` if it is in use.
    own_refused: Option<String>,
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
            own: None,
            registrars,
            guard,
            rules,
            fits: Box::new(|_| Ok(())),
            last: Mutex::default(),
            looked: Arc::default(),
        }
    }

    /// Renews what the server shows of itself, too.
    pub(crate) fn showing(self, own: Own) -> Self {
        Self {
            own: Some(own),
            ..self
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
        let mut hangups = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::error!(%error, "SIGHUP is not heard"))
            .ok();
        loop {
            tokio::select! {
                _ = ticks.tick() => self.now().await,
                () = next(&mut hangups) => self.asked().await,
            }
        }
    }

    /// As its operator asks: at once, and told whatever it comes to, also if nothing is new.
    async fn asked(self: &Arc<Self>) {
        tracing::info!("SIGHUP: looking at every file again");
        let reload = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            reload.forget();
            reload.look();
        });
        if looked.await.is_err() {
            tracing::error!("the directory's files could not be looked at");
        }
    }

    /// What it was when it looked last counts as changed.
    fn forget(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.fingerprint = Fingerprint::default();
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

    /// Looks within a second; returns when what lay in the files before it was called is in use, or refused.
    /// For requests: however many ask, it looks at most once a second for them.
    pub async fn soon(self: &Arc<Self>) {
        let asked = Instant::now();
        let mut looked = Arc::clone(&self.looked).lock_owned().await;
        match *looked {
            // Begun for another one while this one waited.
            Some(last) if last >= asked => return,
            Some(last) => tokio::time::sleep_until(last + APART).await,
            None => {}
        }
        *looked = Some(Instant::now());
        // On its own task, which holds the lock to its end: whoever waits must not go on when the request that
        // this look was begun for is given up.
        let reload = Arc::clone(self);
        let look = tokio::spawn(async move {
            reload.now().await;
            drop(looked);
        });
        if look.await.is_err() {
            tracing::error!("the directory's files could not be looked at");
        }
    }

    fn look(&self) {
        // A panic elsewhere leaves at worst a look that is made again.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.guard.clock)();
        let fingerprint = Fingerprint::of(&self.files, self.own.as_ref().map(Own::settings));
        // Before the directory: one that no longer lists the authority of the old certificate may come with
        // the new one.
        let is_own_new = fingerprint.own != last.fingerprint.own;
        if is_own_new || last.own_refused.is_some() {
            self.take_own(&mut last, is_own_new, now);
        }
        let is_new = fingerprint.listing != last.fingerprint.listing
            || fingerprint.closing != last.fingerprint.closing;
        last.is_closing_due |= fingerprint.closing != last.fingerprint.closing;
        // What was refused may count by now: a directory has its time. What could not be read may be again.
        let is_open = last.refused.is_some() || last.is_closing_due;
        if is_new || is_open || last.faults.iter().any(SuspensionError::is_unread) {
            let refused = self.take(&mut last, is_new, now);
            match &refused {
                Some(why) if is_new || last.refused.as_ref() != Some(why) => tracing::error!(
                    in_use = self.rules.current().directory.version(),
                    suspended = self.rules.current().suspended(now),
                    "what is in the directory's files is refused, and the directory in use stays: {why}"
                ),
                None if is_new || last.refused.is_some() => self.rules.current().tell(now),
                Some(_) | None => {}
            }
            last.refused = refused;
            // It may be of an authority that is listed only now.
            if last.own_refused.is_some() {
                self.take_own(&mut last, false, now);
            }
        }
        // Only now: a look that did not come to its end is made again.
        last.fingerprint = fingerprint;
        self.remind(&mut last, now);
    }

    /// The server's own certificate as it is in its files, if it counts by the directory in use.
    fn take_own(&self, last: &mut Last, is_new: bool, now: Time) {
        let Some(own) = &self.own else { return };
        let refused = match own.take(&self.rules.current().directory, now) {
            Ok(is_another) => {
                if is_another {
                    tracing::info!("the certificate in its file is shown from now on");
                }
                None
            }
            Err(why) => Some(why.to_string()),
        };
        if let Some(why) = &refused
            && (is_new || last.own_refused.as_ref() != Some(why))
        {
            tracing::error!(
                "the certificate in its file is refused, and the one in use stays: {why}"
            );
        }
        last.own_refused = refused;
    }

    /// The directory in its file if it is in order, or else the one in use; with revocation lists and
    /// suspensions as they are now in either case, for what closes does not wait for a directory. Returns why
    /// something was refused.
    fn take(&self, last: &mut Last, is_new: bool, now: Time) -> Option<String> {
        let in_use = self.rules.current();
        let newer = self.newer(&in_use, now);
        let mut refused = newer.as_ref().err().map(ToString::to_string);
        match newer.or_else(|_| self.closed_again(&in_use, now)) {
            Ok(loaded) => {
                if is_new || loaded.faults != last.faults {
                    loaded.tell();
                }
                let is_same = loaded.rules.directory.sha256() == in_use.directory.sha256()
                    && loaded.rules.directory.suspensions() == in_use.directory.suspensions();
                if last.is_closing_due || !is_same {
                    // The rules last, so that nobody is decided about who is not admitted any more.
                    self.guard.replace(loaded.trust);
                    self.rules.replace(loaded.rules);
                    last.is_closing_due = false;
                }
                last.faults = loaded.faults;
            }
            Err(why) => refused = Some(why.to_string()),
        }
        refused
    }

    /// What the files come to if their directory is in order, be it the one in use.
    fn newer(&self, in_use: &Rules, now: Time) -> Result<Loaded, SetupError> {
        let (directory, table) = listed(&self.files, &self.registrars, now)?;
        let old = &in_use.directory;
        if directory.exchange_id() != old.exchange_id() {
            return Err(SetupError::OtherExchange);
        }
        // The file that remembers the version could be lost while this process still knows it.
        directory.follows(old.version(), Some(old.sha256()))?;
        if let Some(own) = &self.own {
            own.fits(&directory, now)?;
        }
        (self.fits)(&directory)?;
        let (since, previous) = if directory.version() == old.version() {
            (in_use.since, in_use.previous)
        } else {
            (now, Some(in_use.superseded()))
        };
        let rules = Rules {
            table_sha256: *directory.table_sha256(),
            directory: Arc::new(directory),
            table,
            since,
            previous,
        };
        let loaded = self.close(rules, in_use, now)?;
        loaded.rules.directory.remember(&self.files.seen)?;
        Ok(loaded)
    }

    /// The directory in use, with what closes as it is in its files.
    fn closed_again(&self, in_use: &Rules, now: Time) -> Result<Loaded, SetupError> {
        let rules = Rules {
            directory: Arc::clone(&in_use.directory),
            table: in_use.table.clone(),
            ..*in_use
        };
        self.close(rules, in_use, now)
    }

    fn close(&self, rules: Rules, in_use: &Rules, now: Time) -> Result<Loaded, SetupError> {
        let (suspensions, faults) = Suspensions::read_again(
            &self.files.suspensions,
            &rules.directory,
            &self.registrars,
            &in_use.directory,
            now,
        );
        Loaded::new(rules, suspensions, faults, &self.files)
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

/// Completes with the next signal; never, if there can be none.
async fn next(signals: &mut Option<Signal>) {
    if let Some(signals) = signals
        && signals.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// What the files come to.
pub(crate) struct Loaded {
    pub(crate) rules: Rules,
    pub(crate) trust: Trust,
    /// Of the suspensions that do not count.
    faults: Vec<SuspensionError>,
}

impl Loaded {
    /// # Errors
    /// [`SetupError`], naming the file; also if a suspension cannot be read, for nothing is known yet that
    /// could stay.
    pub(crate) fn at_start(
        files: &DirectoryFiles,
        registrars: &Registrars,
        now: Time,
    ) -> Result<Self, SetupError> {
        let (directory, table) = listed(files, registrars, now)?;
        let (suspensions, faults) =
            Suspensions::read(&files.suspensions, &directory, registrars, now);
        if let Some(unread) = faults.iter().find(|fault| fault.is_unread()) {
            return Err(SetupError::Suspension(unread.clone()));
        }
        let rules = Rules {
            table_sha256: *directory.table_sha256(),
            directory: Arc::new(directory),
            table,
            since: now,
            previous: None,
        };
        let loaded = Self::new(rules, suspensions, faults, files)?;
        loaded.tell();
        Ok(loaded)
    }

    fn new(
        rules: Rules,
        suspensions: Suspensions,
        faults: Vec<SuspensionError>,
        files: &DirectoryFiles,
    ) -> Result<Self, SetupError> {
        let directory = Directory::clone(&rules.directory).suspending(suspensions);
        let directory = Arc::new(directory);
        let trust = Trust::new(Arc::clone(&directory), &RevocationFolder::new(&files.crls))?;
        Ok(Self {
            rules: Rules { directory, ..rules },
            trust,
            faults,
        })
    }

    /// Revocation lists and suspensions that do not count refuse nobody but those they are of; the operator
    /// hears of them.
    fn tell(&self) {
        for fault in &self.faults {
            tracing::error!("a suspension does not count: {fault}");
        }
        for missing in self.trust.missing_lists() {
            tracing::error!("{missing}");
        }
    }
}

/// Directory and table, both in order.
fn listed(
    files: &DirectoryFiles,
    registrars: &Registrars,
    now: Time,
) -> Result<(Directory, DecisionTable), SetupError> {
    let directory = Directory::check(&files.file, &files.seen, registrars, now)?;
    let table = table(&files.decision_table, &directory)?;
    Ok((directory, table))
}

pub(crate) fn table(path: &Path, directory: &Directory) -> Result<DecisionTable, SetupError> {
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
pub(crate) struct Fingerprint {
    /// Directory and decision table.
    listing: Contents,
    /// Revocation lists and suspensions.
    closing: Contents,
    /// The server's own certificate and key.
    own: Contents,
}

type Contents = BTreeMap<PathBuf, Result<[u8; 32], io::ErrorKind>>;

impl Fingerprint {
    pub(crate) fn of(files: &DirectoryFiles, own: Option<&Listen>) -> Self {
        let listing = [&files.file, &files.decision_table];
        let own = own.map(|listen| [&listen.certificate, &listen.private_key]);
        let mut closing = BTreeMap::new();
        for folder in [&files.crls, &files.suspensions] {
            match fs::read_dir(folder) {
                Ok(entries) => {
                    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
                    closing.extend(paths.map(|path| content(&path)));
                }
                Err(error) => {
                    closing.insert(folder.clone(), Err(error.kind()));
                }
            }
        }
        Self {
            listing: listing.into_iter().map(|path| content(path)).collect(),
            closing,
            own: own
                .into_iter()
                .flatten()
                .map(|path| content(path))
                .collect(),
        }
    }
}

fn content(path: &Path) -> (PathBuf, Result<[u8; 32], io::ErrorKind>) {
    let sha256 = fs::read(path).map(|bytes| amanat_seal::sha256(&bytes));
    (path.to_owned(), sha256.map_err(|error| error.kind()))
}

//! Once a second a server looks at itself: can it log, does its directory count, is there space, does its
//! clock run evenly. What it finds is its readiness, in words for its operator.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use amanat_journal::Book;
use amanat_schema::{Time, clock::Clock};
use amanat_server::{Health, Signs};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{Desk, settings::Log};

const EACH_SECOND: Duration = Duration::from_secs(1);
/// From when on it is told that the directory runs out.
const LAST_DAYS: Duration = Duration::from_hours(7 * 24);
const DAY: Duration = Duration::from_hours(24);
/// A clock that is set by as much as this has jumped; less is corrected by whoever keeps it.
const JUMP_MS: i64 = 5_000;
/// How long a jump is told.
const REMEMBERED: Duration = Duration::from_hours(1);
const MIB: u64 = 1024 * 1024;

/// The folders whose disks must not fill up.
#[derive(Debug)]
pub struct Disks {
    free_mib: u64,
    folders: Vec<(&'static str, PathBuf)>,
}

impl Disks {
    /// Those of the log's database, if it is a file, and of its checkpoint file; less than `free_mib` is told.
    pub fn new(log: &Log, free_mib: u64) -> Self {
        let data = log.database.file().map(|file| ("data", folder(file)));
        let state = ("state", folder(&log.checkpoint_file));
        Self {
            free_mib,
            folders: data.into_iter().chain([state]).collect(),
        }
    }

    fn look(&self, signs: &mut Signs) {
        for (name, folder) in &self.folders {
            // One that cannot be asked is told when it cannot be written.
            let Ok(disk) = rustix::fs::statvfs(folder) else {
                continue;
            };
            if disk.f_bavail.saturating_mul(disk.f_frsize) / MIB < self.free_mib {
                signs.warnings.push(format!(
                    "the disk of {name} has less than {} MiB left; make space before the log stops",
                    self.free_mib
                ));
            }
        }
    }
}

fn folder(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new(".")).to_owned()
}

impl<B: Book> Desk<B> {
    /// Looks, and looks again each second, until it is aborted. `more` adds what only this server knows.
    pub async fn watch_health(
        self,
        health: Health,
        disks: Disks,
        more: impl Fn(&mut Signs) + Send + Sync,
    ) {
        let mut steady = Steady::new(self.guard.clock.clone());
        let mut ticks = tokio::time::interval(EACH_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut signs = Signs::default();
            self.look(&mut signs);
            disks.look(&mut signs);
            signs.warnings.extend(steady.look(Instant::now()));
            more(&mut signs);
            health.show(signs);
        }
    }

    fn look(&self, signs: &mut Signs) {
        if let Some(why) = self.journal.frozen() {
            signs.reasons.push(format!(
                "the log is frozen, so nothing is signed or disclosed until a person has looked: {why}"
            ));
        }
        signs.reasons.extend(self.journal.troubles());
        let directory = self.guard.directory();
        let now = (self.guard.clock)();
        if let Err(why) = directory.counts(now) {
            signs
                .reasons
                .push(format!("every request is refused: {why}"));
            return;
        }
        let left = directory.valid_until().distance(now);
        if left < LAST_DAYS {
            let days = left.as_secs() / DAY.as_secs();
            signs.warnings.push(format!(
                "the directory runs out in {days} days; have its registrars publish the next"
            ));
        }
    }
}

/// The system's clock beside one that nobody sets.
struct Steady {
    clock: Clock,
    last: (Time, Instant),
    jumped: Option<(String, Instant)>,
}

impl Steady {
    fn new(clock: Clock) -> Self {
        let last = (clock(), Instant::now());
        Self {
            clock,
            last,
            jumped: None,
        }
    }

    /// Whether it jumped, in words; `at` is now by the other one.
    fn look(&mut self, at: Instant) -> Option<String> {
        let (then, last) = self.last;
        let now = (self.clock)();
        self.last = (now, at);
        let jump_ms = now.millis() - (then + (at - last)).millis();
        if jump_ms.abs() > JUMP_MS {
            let way = if jump_ms > 0 { "ahead" } else { "back" };
            let by = jump_ms.abs() / 1000;
            let told = format!("this machine's clock jumped {by} s {way}; check NTP on it");
            self.jumped = Some((told, at));
        }
        self.jumped
            .take_if(|(_, jumped)| at - *jumped >= REMEMBERED);
        self.jumped.as_ref().map(|(told, _)| told.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    use amanat_database::Place;

    use super::*;

    #[test]
    fn a_full_disk_is_told_of_the_folders_that_this_server_writes_to() {
        let told = |database| {
            let log = Log {
                database,
                checkpoint_file: "/checkpoint".into(),
                signing_key: PathBuf::new(),
                openings_key: PathBuf::new(),
            };
            let mut signs = Signs::default();
            Disks::new(&log, u64::MAX).look(&mut signs);
            let warnings = signs.warnings.iter();
            let names = warnings.map(|warning| warning.split(' ').nth(3).unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(told(Place::Sqlite("/data.db".into())), ["data", "state"]);
        let servers = Place::of_address("postgres://localhost/amanat");
        assert_eq!(told(servers.unwrap().unwrap()), ["state"]);
    }

    #[test]
    fn a_clock_that_jumps_is_told_for_an_hour_and_one_that_runs_is_not() {
        let time_ms = Arc::new(AtomicI64::new(1_772_357_400_000));
        let clock: Clock = {
            let time_ms = Arc::clone(&time_ms);
            Arc::new(move || Time::from_millis(time_ms.load(Ordering::Relaxed)).unwrap())
        };
        let mut steady = Steady::new(clock);
        let mut at = steady.last.1;
        let mut after = |seconds: u64, set_by_ms: i64| {
            at += Duration::from_secs(seconds);
            let passed_ms = i64::try_from(seconds * 1000).unwrap();
            time_ms.fetch_add(passed_ms + set_by_ms, Ordering::Relaxed);
            steady.look(at)
        };
        for _ in 0..100 {
            assert_eq!(after(1, 0), None);
        }
        assert_eq!(after(1, 4_000), None, "what is corrected in passing");
        assert_eq!(after(7200, 0), None, "a look that came late");
        assert!(after(1, 3_600_000).unwrap().contains("3600 s ahead"));
        assert!(after(1, -3_600_000).unwrap().contains("3600 s back"));
        assert!(after(3599, 0).is_some());
        assert_eq!(after(1, 0), None);
    }
}

//! Shows each minute what the server stands on and when it ends: certificate, directory, revocation lists.

use std::{path::Path, time::Duration};

use amanat_identity::{Directory, PeerName, RevocationFolder, ShownCertificate};
use amanat_schema::Time;
use amanat_server::Guard;
use amanat_telemetry::Gauge;

use crate::metrics::{
    CERTIFICATE_EXPIRES, DIRECTORY_EXPIRES, DIRECTORY_VERSION, LISTS_EXPIRE, LISTS_MISSING,
    TOKENS_CACHED,
};

const EACH_MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Lifetimes {
    guard: Guard,
    certificate: ShownCertificate,
    lists: RevocationFolder,
    certificate_expires: Gauge<i64>,
    directory_expires: Gauge<i64>,
    directory_version: Gauge<i64>,
    lists_expire: Gauge<i64>,
    lists_missing: Gauge<i64>,
    tokens_cached: Gauge<i64>,
}

impl Lifetimes {
    /// Of the certificate that is shown, and the lists in a folder.
    pub fn new(guard: Guard, certificate: ShownCertificate, lists: &Path) -> Self {
        Self {
            guard,
            certificate,
            lists: RevocationFolder::new(lists),
            certificate_expires: CERTIFICATE_EXPIRES.gauge(),
            directory_expires: DIRECTORY_EXPIRES.gauge(),
            directory_version: DIRECTORY_VERSION.gauge(),
            lists_expire: LISTS_EXPIRE.gauge(),
            lists_missing: LISTS_MISSING.gauge(),
            tokens_cached: TOKENS_CACHED.gauge(),
        }
    }

    /// Until it is aborted.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(EACH_MINUTE);
        loop {
            ticks.tick().await;
            // It reads files, and verifies who signed them.
            let these = self.clone();
            let shown = tokio::task::spawn_blocking(move || these.show()).await;
            if shown.is_err() {
                tracing::error!("what runs out could not be looked at");
            }
        }
    }

    fn show(&self) {
        let now = (self.guard.clock)();
        let directory = self.guard.directory();
        if let Some(ends) = self.certificate.current().ends() {
            self.certificate_expires.record(seconds(ends), &[]);
        }
        self.directory_expires
            .record(seconds(directory.valid_until()), &[]);
        self.directory_version
            .record(number(directory.version()), &[]);
        let ends = self.ends_of_lists(&directory, now);
        let missing = ends.iter().filter(|ends| ends.is_none()).count();
        self.lists_missing.record(number(missing), &[]);
        if let Some(first) = ends.into_iter().flatten().min() {
            self.lists_expire.record(seconds(first), &[]);
        }
        self.tokens_cached
            .record(number(self.guard.tokens.cached()), &[]);
    }

    /// Of each party that may connect; `None` where none counts.
    fn ends_of_lists(&self, directory: &Directory, now: Time) -> Vec<Option<Time>> {
        let agencies = directory
            .agencies()
            .map(|agency| (PeerName::Agency(agency.id), &agency.authorities));
        let custodian = (PeerName::Custodian, &directory.custodian().authorities);
        agencies
            .chain([custodian])
            .map(|(peer, authorities)| self.lists.of_peer(peer).end(authorities, now).ok())
            .collect()
    }
}

fn seconds(time: Time) -> i64 {
    number(time.seconds())
}

fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

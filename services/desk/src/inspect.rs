//! A look at everything that a server's settings name, before it serves: with the loaders that it starts with,
//! all faults at once. Nothing is made or changed.

use amanat_config::{Inspection, private_key_pem, read_file};
use amanat_database::Place;
use amanat_identity::{
    Directory, PeerName, RevocationFolder, Suspensions, Trust,
    inspect::{directory, lasts, revocation},
    token::Audience,
};
use amanat_schema::Time;

use crate::{
    own,
    reload::table,
    settings::{DirectoryFiles, Listen, Log},
};

/// What both servers have.
#[derive(Clone, Copy)]
pub struct Inspected<'a> {
    pub listen: &'a Listen,
    pub directory: &'a DirectoryFiles,
    pub log: &'a Log,
    pub audience: Audience,
    pub now: Time,
}

impl Inspected<'_> {
    /// Returns the directory, if it counts.
    pub fn look(self, found: &mut Inspection) -> Option<Directory> {
        let files = self.directory;
        let directory = directory(&files.file, &files.seen, &files.registrars, self.now, found);
        self.rules(directory.as_ref(), found);
        self.certificate(directory.as_ref(), found);
        self.log(directory.as_ref(), found);
        directory
    }

    fn rules(self, directory: Option<&Directory>, found: &mut Inspection) {
        let files = self.directory;
        let Some(directory) = directory else {
            found.take("directory.decision_table", read_file(&files.decision_table));
            return;
        };
        let read = table(&files.decision_table, directory);
        if found.take("directory.decision_table", read).is_some() {
            let sha256 = hex::encode(directory.table_sha256());
            found.in_order("directory.decision_table", format!("SHA-256 {sha256}"));
        }
        let (suspensions, faults) =
            Suspensions::read(&files.suspensions, directory, &files.registrars, self.now);
        for suspended in suspensions.in_force(self.now) {
            found.in_order("directory.suspensions", format!("suspended: {suspended}"));
        }
        for fault in faults {
            found.fault("directory.suspensions", fault);
        }
        self.lists(directory, found);
    }

    /// The lists of those who may call.
    fn lists(self, directory: &Directory, found: &mut Inspection) {
        let folder = RevocationFolder::new(&self.directory.crls);
        let trust = Trust::new(directory.clone().into(), &folder);
        if found.take("directory.crls", trust).is_none() {
            return;
        }
        let agencies = directory
            .agencies()
            .map(|agency| (PeerName::Agency(agency.id), &agency.authorities));
        let custodian = (PeerName::Custodian, &directory.custodian().authorities);
        let ends = agencies
            .chain([custodian])
            .filter_map(|(peer, authorities)| {
                let end = folder.of_peer(peer).end(authorities, self.now);
                found.take("directory.crls", end)
            });
        let first = ends.min();
        if let Some(first) = first {
            let lasts = lasts(first, self.now);
            found.in_order("directory.crls", format!("the first one to end: {lasts}"));
        }
    }

    fn certificate(self, directory: Option<&Directory>, found: &mut Inspection) {
        let key = found.take(
            "server.private_key",
            private_key_pem(&self.listen.private_key),
        );
        let (Some(_), Some(directory)) = (key, directory) else {
            found.take("server.certificate", own::chain(self.listen));
            return;
        };
        let own = own::certificate(self.listen, self.audience, directory, self.now);
        let Some(own) = found.take("server.certificate", own) else {
            return;
        };
        if let Some(end) = own.ends() {
            found.in_order("server.certificate", lasts(end, self.now));
        }
        let folder = RevocationFolder::new(&self.directory.crls);
        let lists = match self.audience {
            Audience::Gateway => folder.of_gateway(),
            Audience::Custodian => folder.of_custodian(),
        };
        let authorities = &own::service(self.audience, directory).authorities;
        revocation("server.certificate", &own, authorities, &lists, found);
    }

    fn log(self, directory: Option<&Directory>, found: &mut Inspection) {
        let log = self.log;
        match directory.map(|directory| own::service(self.audience, directory)) {
            Some(service) => {
                found.take("log.signing_key", log.signer(&service.log));
            }
            None => {
                found.take("log.signing_key", private_key_pem(&log.signing_key));
            }
        }
        found.take("log.openings_key", log.openings());
        found.folder_of("log.checkpoint_file", &log.checkpoint_file);
        match &log.database {
            Place::Sqlite(file) => {
                found.folder_of("log.database", file);
                if !file.exists() {
                    found.in_order(
                        "log.database",
                        "not made yet; run `init` before the first start",
                    );
                }
            }
            Place::Postgres(_) => found.in_order(
                "log.database",
                format!("{}; it is not asked here", log.database),
            ),
        }
    }
}

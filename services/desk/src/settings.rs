//! The parts of a server's configuration that gateway and custodian share.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf};

use amanat_config::{FileSetting, Section};
use amanat_database::Place;
use amanat_identity::Registrars;

/// `[server]`: where it listens and with which certificate.
#[derive(Debug, Clone)]
pub struct Listen {
    pub listen: SocketAddr,
    /// PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// PEM, PKCS#8; readable by its owner only.
    pub private_key: PathBuf,
}

impl Listen {
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let listen = section.required("listen", "an address with its port, as in 127.0.0.1:8443");
        let certificate = section.path("certificate");
        let private_key = section.path("private_key");
        Some(Self {
            listen: listen?,
            certificate: certificate?,
            private_key: private_key?,
        })
    }

    pub fn key_files(&self) -> [FileSetting<'_>; 1] {
        [FileSetting::new("server.private_key", &self.private_key)]
    }
}

/// `[directory]`: the signed directory and who must have signed it.
#[derive(Debug, Clone)]
pub struct DirectoryFiles {
    pub file: PathBuf,
    /// Remembers the highest version in use here; outside the data folder.
    pub seen: PathBuf,
    /// `registrars`: their Ed25519 public keys, hexadecimal; `threshold`: how many of them must have signed, at
    /// least 2.
    pub registrars: Registrars,
    /// The decision table whose hash the directory names.
    pub decision_table: PathBuf,
    /// A folder of revocation lists, a file for each party: `<agency id>.crl`, `custodian.crl`, `gateway.crl`, in
    /// DER or PEM. Where the directory lists two authorities, both lists in PEM, one after the other.
    pub crls: PathBuf,
    /// A folder of registrars' suspensions, one a file. What a running server has taken into use stays when its
    /// file goes: for its 7 days, or until the next directory.
    pub suspensions: PathBuf,
    /// How often the files named here are looked at, in seconds.
    pub reload_s: NonZeroU64,
}

impl DirectoryFiles {
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let (file, seen) = (section.path("file"), section.path("seen"));
        let registrars = Registrars::read(section);
        let decision_table = section.path("decision_table");
        let (crls, suspensions) = (section.path("crls"), section.path("suspensions"));
        let reload_s = section.required("reload_s", "a number of seconds, at least 1");
        Some(Self {
            file: file?,
            seen: seen?,
            registrars: registrars?,
            decision_table: decision_table?,
            crls: crls?,
            suspensions: suspensions?,
            reload_s: reload_s?,
        })
    }
}

/// What says how far this server had come, and would not be believed if it were restored with the database.
pub fn state_files<'a>(directory: &'a DirectoryFiles, log: &'a Log) -> [FileSetting<'a>; 2] {
    [
        FileSetting::new("directory.seen", &directory.seen),
        FileSetting::new("log.checkpoint_file", &log.checkpoint_file),
    ]
}

/// `[log]`: the append-only log.
#[derive(Debug, Clone)]
pub struct Log {
    /// SQLite in a file, or the address of a PostgreSQL database; made by `init`.
    pub database: Place,
    /// The last signed checkpoint; outside the folder that is backed up with the database.
    pub checkpoint_file: PathBuf,
    /// PEM, PKCS#8, Ed25519.
    pub signing_key: PathBuf,
    /// 32 bytes, hexadecimal: seals the officers' openings beside the log.
    pub openings_key: PathBuf,
}

impl Log {
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let database = place(section, "database");
        let checkpoint_file = section.path("checkpoint_file");
        let (signing_key, openings_key) =
            (section.path("signing_key"), section.path("openings_key"));
        Some(Self {
            database: database?,
            checkpoint_file: checkpoint_file?,
            signing_key: signing_key?,
            openings_key: openings_key?,
        })
    }

    pub fn key_files(&self) -> [FileSetting<'_>; 2] {
        [
            FileSetting::new("log.signing_key", &self.signing_key),
            FileSetting::new("log.openings_key", &self.openings_key),
        ]
    }
}

/// `[backup]`: how backups of the database are sealed.
#[derive(Debug, Clone)]
pub struct Backups {
    /// 32 bytes, hexadecimal. Whoever restores needs it: a copy is kept where neither the backups nor the database are.
    pub key: PathBuf,
}

impl Backups {
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        Some(Self {
            key: section.path("key")?,
        })
    }

    pub fn key_files(&self) -> [FileSetting<'_>; 1] {
        [FileSetting::new("backup.key", &self.key)]
    }
}

fn place(section: &mut Section<'_>, key: &'static str) -> Option<Place> {
    let expected = "the path of a file, or an address as in postgres://role@host/database";
    let setting: String = section.required(key, expected)?;
    match Place::of_address(&setting) {
        Ok(Some(servers)) => Some(servers),
        Ok(None) => Some(Place::Sqlite(section.beside(&setting))),
        Err(why) => section.refuse(key, &why.to_string()),
    }
}

/// Keys, data and state lie apart: who copies or restores one of them does not take another along. `top` is
/// the configuration as a whole. Returns `None` if one lies with another.
pub fn keep_apart(
    top: &Section<'_>,
    log: &Log,
    state: &[FileSetting<'_>],
    keys: &[FileSetting<'_>],
) -> Option<()> {
    let from_data = keep_out_of_data(top, log, state, keys);
    let from_state: Vec<_> = state
        .iter()
        .map(|file| {
            top.keep_out(
                file,
                keys,
                "whoever copies the state must not get the keys with it",
            )
        })
        .collect();
    from_data.and(from_state.into_iter().collect())
}

/// Where the data is on servers of its own, nothing lies beside it.
fn keep_out_of_data(
    top: &Section<'_>,
    log: &Log,
    state: &[FileSetting<'_>],
    keys: &[FileSetting<'_>],
) -> Option<()> {
    let Some(file) = log.database.file() else {
        return Some(());
    };
    let database = FileSetting::new("log.database", file);
    let copied = top.keep_out(
        &database,
        keys,
        "whoever copies the data must not get the keys with it",
    );
    let restored = top.keep_out(
        &database,
        state,
        "restoring the database would take it along, and nobody would see that the log was rolled back",
    );
    copied.and(restored)
}

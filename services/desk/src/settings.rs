//! The parts of a server's configuration that gateway and custodian share.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf};

use amanat_config::Section;
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
    /// A folder of revocation lists, one an authority: `<agency id>.crl`, `custodian.crl`, `gateway.crl`, in
    /// DER or PEM.
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

/// `[log]`: the append-only log.
#[derive(Debug, Clone)]
pub struct Log {
    /// SQLite, made by `init`.
    pub database: PathBuf,
    /// The last signed checkpoint; outside the folder that is backed up with the database.
    pub checkpoint_file: PathBuf,
    /// PEM, PKCS#8, Ed25519.
    pub signing_key: PathBuf,
    /// 32 bytes, hexadecimal: seals the officers' openings beside the log.
    pub openings_key: PathBuf,
}

impl Log {
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let (database, checkpoint_file) =
            (section.path("database"), section.path("checkpoint_file"));
        let (signing_key, openings_key) =
            (section.path("signing_key"), section.path("openings_key"));
        Some(Self {
            database: database?,
            checkpoint_file: checkpoint_file?,
            signing_key: signing_key?,
            openings_key: openings_key?,
        })
    }
}

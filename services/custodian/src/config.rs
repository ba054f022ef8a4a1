//! The custodian's configuration: one TOML file, unknown keys refused.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use amanat_desk::setup::{self, ConfigError, DirectoryFiles, Listen, Log, Telemetry};
use amanat_schema::subject::IdentifierDomain;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Listen,
    pub directory: DirectoryFiles,
    pub log: Log,
    pub custody: Custody,
    pub oprf: Oprf,
    pub telemetry: Telemetry,
}

/// `[custody]`: the keys that keep keys, and the gateway whose log is followed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custody {
    /// As in `https://gateway.example:7443`; its certificate must be the one of the directory.
    pub gateway: String,
    /// 32 bytes, hexadecimal: wraps the record keys.
    pub kek: PathBuf,
    /// PEM, PKCS#8, Ed25519: signs deposit receipts and observed heads.
    pub statement_key: PathBuf,
    /// The last observed head of the gateway's log; outside the folder that is backed up with the database.
    pub observed_head_file: PathBuf,
}

/// `[oprf]`: the keys that turn identifiers into tokens, and how many identifiers a day.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oprf {
    /// Every key that the directory lists, and no other.
    pub keys: Vec<OprfKeyFile>,
    /// How many identifiers one officer may have evaluated on one day (UTC), for each domain.
    pub officer_per_day: NonZeroU32,
    /// The same for all officers of an agency together.
    pub agency_per_day: NonZeroU32,
    /// Hours after which an evaluation without a new record in its case is told to oversight.
    pub deposit_within_h: NonZeroU32,
}

/// As in `{ domain = "VICTIM", epoch = 1, seed = "keys/oprf-victim-1.key" }`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OprfKeyFile {
    pub domain: Domain,
    /// As the directory lists it.
    pub epoch: u32,
    /// 32 bytes, hexadecimal.
    pub seed: PathBuf,
}

/// What a key's identifiers are used for.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Domain {
    Victim,
    Suspect,
    Composite,
}

impl From<Domain> for IdentifierDomain {
    fn from(domain: Domain) -> Self {
        match domain {
            Domain::Victim => Self::Victim,
            Domain::Suspect => Self::Suspect,
            Domain::Composite => Self::Composite,
        }
    }
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with the file, and the line where it is not valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        setup::read_config(path)
    }
}

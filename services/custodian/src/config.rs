//! The custodian's configuration: one TOML file, unknown keys refused.

use std::path::{Path, PathBuf};

use amanat_desk::setup::{self, ConfigError, DirectoryFiles, Listen, Log, Telemetry};
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Listen,
    pub directory: DirectoryFiles,
    pub log: Log,
    pub custody: Custody,
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

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with the file, and the line where it is not valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        setup::read_config(path)
    }
}

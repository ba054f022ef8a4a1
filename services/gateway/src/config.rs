//! The gateway's configuration: one TOML file, unknown keys refused.

use std::path::{Path, PathBuf};

use amanat_desk::setup::{self, ConfigError, DirectoryFiles, Listen, Log, Telemetry};
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Listen,
    pub directory: DirectoryFiles,
    pub log: Log,
    pub subjects: Subjects,
    pub telemetry: Telemetry,
}

/// `[subjects]`: what stands between a token and a pseudonym. With a file lost, nobody is found again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subjects {
    /// 32 bytes each, hexadecimal; the oldest first. One that is added at the end is put on top of all that
    /// is stored when the gateway starts.
    pub peppers: Vec<PathBuf>,
    /// 32 bytes, hexadecimal: makes the pseudonyms.
    pub pseudonym_key: PathBuf,
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

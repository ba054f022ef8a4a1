//! The gateway's configuration: one TOML file, unknown keys refused.

use std::path::Path;

use amanat_desk::setup::{self, ConfigError, DirectoryFiles, Listen, Log, Telemetry};
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Listen,
    pub directory: DirectoryFiles,
    pub log: Log,
    pub telemetry: Telemetry,
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

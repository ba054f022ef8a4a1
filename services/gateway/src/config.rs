//! The gateway's configuration: one TOML file, unknown keys refused.

use std::{fs, path::Path};

use amanat_desk::setup::{DirectoryFiles, Listen, Log, Telemetry};
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Listen,
    pub directory: DirectoryFiles,
    pub log: Log,
    pub telemetry: Telemetry,
}

#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    path: String,
    message: String,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with the file, and the line where it is not valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let error = |message: String| ConfigError {
            path: path.display().to_string(),
            message,
        };
        let text = fs::read_to_string(path).map_err(|source| error(source.to_string()))?;
        toml::from_str(&text).map_err(|source| error(source.to_string()))
    }
}

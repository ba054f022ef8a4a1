//! The gateway's configuration: one TOML file, unknown keys refused.

use std::path::{Path, PathBuf};

use amanat_config::{ConfigError, Section};
use amanat_desk::settings::{DirectoryFiles, Listen, Log};
use amanat_server::Telemetry;

#[derive(Debug, Clone)]
pub struct Config {
    pub server: Listen,
    pub directory: DirectoryFiles,
    pub log: Log,
    pub subjects: Subjects,
    pub telemetry: Telemetry,
}

/// `[subjects]`: what stands between a token and a pseudonym. With a file lost, nobody is found again.
#[derive(Debug, Clone)]
pub struct Subjects {
    /// 32 bytes each, hexadecimal; the oldest first. One that is added at the end is put on top of all that
    /// is stored when the gateway starts.
    pub peppers: Vec<PathBuf>,
    /// 32 bytes, hexadecimal: makes the pseudonyms.
    pub pseudonym_key: PathBuf,
}

impl Subjects {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let (peppers, pseudonym_key) = (section.paths("peppers"), section.path("pseudonym_key"));
        Some(Self {
            peppers: peppers?,
            pseudonym_key: pseudonym_key?,
        })
    }
}

impl Config {
    fn read(top: &mut Section<'_>) -> Option<Self> {
        let server = top.section("server", Listen::read);
        let directory = top.section("directory", DirectoryFiles::read);
        let log = top.section("log", Log::read);
        let subjects = top.section("subjects", Subjects::read);
        let telemetry = top.section("telemetry", Telemetry::read);
        Some(Self {
            server: server?,
            directory: directory?,
            log: log?,
            subjects: subjects?,
            telemetry: telemetry?,
        })
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is not valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        amanat_config::read(path, Self::read)
    }
}

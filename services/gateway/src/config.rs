//! The gateway's configuration: one TOML file, unknown keys refused.

use std::path::{Path, PathBuf};

use amanat_config::{ConfigError, FileSetting, Section, Settings};
use amanat_desk::settings::{Backups, DirectoryFiles, Listen, Log, keep_apart, state_files};
use amanat_server::{HealthAddress, Limits, Telemetry};

#[derive(Debug, Clone)]
pub struct Config {
    pub server: Listen,
    pub directory: DirectoryFiles,
    pub log: Log,
    pub subjects: Subjects,
    /// Absent: backups name their key.
    pub backup: Option<Backups>,
    /// Absent: nobody is told.
    pub health: Option<HealthAddress>,
    pub limits: Limits,
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
        let backup = top.optional_section("backup", Backups::read);
        let health = top.optional_section("health", HealthAddress::read);
        let limits = top.section_or_default("limits", Limits::read);
        let telemetry = top.section("telemetry", Telemetry::read);
        let config = Self {
            server: server?,
            directory: directory?,
            log: log?,
            subjects: subjects?,
            backup: backup?,
            health: health?,
            limits: limits?,
            telemetry: telemetry?,
        };
        let state = state_files(&config.directory, &config.log);
        keep_apart(top, &config.log, &state, &config.key_files())?;
        Some(config)
    }

    /// The files that nobody else may read.
    fn key_files(&self) -> Vec<FileSetting<'_>> {
        let subjects = &self.subjects;
        let peppers = subjects.peppers.iter();
        let mut files: Vec<_> = peppers
            .map(|file| FileSetting::new("subjects.peppers", file))
            .collect();
        files.push(FileSetting::new(
            "subjects.pseudonym_key",
            &subjects.pseudonym_key,
        ));
        files.extend(self.server.key_files());
        files.extend(self.log.key_files());
        files.extend(self.backup.iter().flat_map(Backups::key_files));
        files
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is not valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        amanat_config::read(path, Self::read)
    }

    /// The same, with the lines of its settings.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is not valid.
    pub fn load_with_settings(path: &Path) -> Result<(Self, Settings), ConfigError> {
        amanat_config::read_with_settings(path, Self::read)
    }
}

//! The custodian's configuration: one TOML file, unknown keys refused.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use amanat_config::{ConfigError, FileSetting, Section, ServerAddresses, Settings};
use amanat_desk::settings::{Backups, DirectoryFiles, Listen, Log, keep_apart, state_files};
use amanat_schema::subject::IdentifierDomain;
use amanat_server::{HealthAddress, Limits, Telemetry};
use serde::Deserialize;

#[derive(Debug, Clone)]
pub struct Config {
    pub server: Listen,
    pub directory: DirectoryFiles,
    pub log: Log,
    pub custody: Custody,
    pub oprf: Oprf,
    /// Absent: backups name their key.
    pub backup: Option<Backups>,
    /// Absent: nobody is told.
    pub health: Option<HealthAddress>,
    pub limits: Limits,
    pub telemetry: Telemetry,
}

/// `[custody]`: the keys that keep keys, and the gateway whose log is followed.
#[derive(Debug, Clone)]
pub struct Custody {
    /// As in `https://gateway.example:8443`, of each of its replicas; their certificate must be the one of the
    /// directory.
    pub gateway: ServerAddresses,
    /// 32 bytes, hexadecimal: wraps the record keys.
    pub kek: PathBuf,
    /// PEM, PKCS#8, Ed25519: signs deposit receipts and observed heads.
    pub statement_key: PathBuf,
    /// The last observed head of the gateway's log; outside the folder that is backed up with the database.
    pub observed_head_file: PathBuf,
}

/// `[oprf]`: the keys that turn identifiers into tokens, and how many identifiers a day.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
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

impl Custody {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let gateway = section.server_addresses(
            "gateway",
            "the gateway's address, as in https://gateway.example:8443",
        );
        let (kek, statement_key) = (section.path("kek"), section.path("statement_key"));
        let observed_head_file = section.path("observed_head_file");
        Some(Self {
            gateway: gateway?,
            kek: kek?,
            statement_key: statement_key?,
            observed_head_file: observed_head_file?,
        })
    }
}

impl Oprf {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        const COUNT: &str = "a number, at least 1";
        let keys = section.list("keys", OprfKeyFile::read);
        let officer_per_day = section.required("officer_per_day", COUNT);
        let agency_per_day = section.required("agency_per_day", COUNT);
        let deposit_within_h = section.required("deposit_within_h", COUNT);
        Some(Self {
            keys: keys?,
            officer_per_day: officer_per_day?,
            agency_per_day: agency_per_day?,
            deposit_within_h: deposit_within_h?,
        })
    }
}

impl OprfKeyFile {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let domain = section.required("domain", "VICTIM, SUSPECT or COMPOSITE");
        let epoch = section.required("epoch", "the number of the key's epoch in the directory");
        let seed = section.path("seed");
        Some(Self {
            domain: domain?,
            epoch: epoch?,
            seed: seed?,
        })
    }
}

impl Config {
    fn read(top: &mut Section<'_>) -> Option<Self> {
        let server = top.section("server", Listen::read);
        let directory = top.section("directory", DirectoryFiles::read);
        let log = top.section("log", Log::read);
        let custody = top.section("custody", Custody::read);
        let oprf = top.section("oprf", Oprf::read);
        let backup = top.optional_section("backup", Backups::read);
        let health = top.optional_section("health", HealthAddress::read);
        let limits = top.section_or_default("limits", Limits::read);
        let telemetry = top.section("telemetry", Telemetry::read);
        let config = Self {
            server: server?,
            directory: directory?,
            log: log?,
            custody: custody?,
            oprf: oprf?,
            backup: backup?,
            health: health?,
            limits: limits?,
            telemetry: telemetry?,
        };
        let mut state = state_files(&config.directory, &config.log).to_vec();
        let head = &config.custody.observed_head_file;
        state.push(FileSetting::new("custody.observed_head_file", head));
        keep_apart(top, &config.log, &state, &config.key_files())?;
        Some(config)
    }

    /// The files that nobody else may read.
    fn key_files(&self) -> Vec<FileSetting<'_>> {
        let custody = &self.custody;
        let mut files = vec![
            FileSetting::new("custody.kek", &custody.kek),
            FileSetting::new("custody.statement_key", &custody.statement_key),
        ];
        let seeds = self.oprf.keys.iter().enumerate();
        files.extend(seeds.map(|(number, key)| FileSetting::new(seed_setting(number), &key.seed)));
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

/// The setting of a key's seed, by its place in the list.
pub(crate) fn seed_setting(number: usize) -> String {
    format!("oprf.keys[{number}].seed")
}

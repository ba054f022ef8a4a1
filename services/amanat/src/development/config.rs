//! The configuration files, in the shapes that the servers and the connector read.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use amanat_schema::AgencyId;
use serde::Serialize;

use super::{DevelopmentError, Ground, folder::Folder};

/// `gateway.toml`.
#[derive(Serialize)]
pub(super) struct Gateway<'a> {
    pub(super) server: Listen,
    pub(super) directory: ServerDirectory<'a>,
    pub(super) log: Log,
    pub(super) subjects: Subjects,
    pub(super) telemetry: Telemetry,
}

/// `custodian.toml`.
#[derive(Serialize)]
pub(super) struct Custodian<'a> {
    pub(super) server: Listen,
    pub(super) directory: ServerDirectory<'a>,
    pub(super) log: Log,
    pub(super) custody: Custody,
    pub(super) oprf: Oprf,
    pub(super) telemetry: Telemetry,
}

#[derive(Serialize)]
pub(super) struct Listen {
    pub(super) listen: SocketAddr,
    pub(super) certificate: PathBuf,
    pub(super) private_key: PathBuf,
}

/// The signed directory and who must have signed it.
#[derive(Serialize)]
pub(super) struct Directory<'a> {
    pub(super) file: &'a PathBuf,
    pub(super) seen: PathBuf,
    /// Hexadecimal.
    pub(super) registrars: &'a [String],
    pub(super) threshold: usize,
    pub(super) crls: &'a PathBuf,
}

impl<'a> Directory<'a> {
    pub(super) fn new(ground: &'a Ground<'_>, seen: PathBuf) -> Self {
        Self {
            file: &ground.directory,
            seen,
            registrars: &ground.registrars,
            threshold: ground.threshold,
            crls: &ground.crls,
        }
    }
}

#[derive(Serialize)]
pub(super) struct ServerDirectory<'a> {
    #[serde(flatten)]
    pub(super) directory: Directory<'a>,
    pub(super) decision_table: &'a PathBuf,
    pub(super) suspensions: &'a PathBuf,
    pub(super) reload_s: u64,
}

#[derive(Serialize)]
pub(super) struct Log {
    pub(super) database: PathBuf,
    pub(super) checkpoint_file: PathBuf,
    pub(super) signing_key: PathBuf,
    pub(super) openings_key: PathBuf,
}

#[derive(Serialize)]
pub(super) struct Subjects {
    /// The oldest first.
    pub(super) peppers: Vec<PathBuf>,
    pub(super) pseudonym_key: PathBuf,
}

#[derive(Serialize)]
pub(super) struct Custody {
    /// Where it fetches proofs.
    pub(super) gateway: String,
    pub(super) kek: PathBuf,
    pub(super) statement_key: PathBuf,
    pub(super) observed_head_file: PathBuf,
}

#[derive(Serialize)]
pub(super) struct Oprf {
    pub(super) officer_per_day: u32,
    pub(super) agency_per_day: u32,
    pub(super) deposit_within_h: u32,
    pub(super) keys: Vec<OprfKey>,
}

#[derive(Serialize)]
pub(super) struct OprfKey {
    /// As the directory names it, without `IDENTIFIER_DOMAIN_`.
    pub(super) domain: &'static str,
    pub(super) epoch: u32,
    pub(super) seed: PathBuf,
}

#[derive(Serialize)]
pub(super) struct Telemetry {
    filter: &'static str,
    format: &'static str,
}

/// What a person at a terminal wants to see.
pub(super) const TELEMETRY: Telemetry = Telemetry {
    filter: "info",
    format: "text",
};

/// `profile.toml` of an agency.
#[derive(Serialize)]
pub(super) struct Profile<'a> {
    pub(super) name: &'a str,
    pub(super) agency: AgencyId,
    pub(super) gateway: String,
    pub(super) custodian: String,
    pub(super) outbox: PathBuf,
    pub(super) evidence_key: PathBuf,
    pub(super) directory: Directory<'a>,
    pub(super) tls: Tls,
    pub(super) statements: Statements,
    pub(super) tokens: Tokens,
    pub(super) officers: BTreeMap<&'static str, Officer>,
    /// Every agency, this one too, by its name.
    pub(super) agencies: &'a BTreeMap<String, AgencyId>,
}

#[derive(Serialize)]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) private_key: PathBuf,
}

#[derive(Serialize)]
pub(super) struct Statements {
    pub(super) signing_key: PathBuf,
}

/// The development issuer of officers' tokens.
#[derive(Serialize)]
pub(super) struct Tokens {
    pub(super) issuer: String,
    pub(super) key_id: &'static str,
    pub(super) signing_key: PathBuf,
}

#[derive(Serialize)]
pub(super) struct Officer {
    pub(super) id: String,
    /// As tokens name them, without `RIGHT_`.
    pub(super) rights: Vec<&'static str>,
    pub(super) station: String,
}

/// Writes a configuration file.
pub(super) fn write(
    folder: &Folder,
    name: &str,
    config: &impl Serialize,
) -> Result<PathBuf, DevelopmentError> {
    let text = toml::to_string(config).map_err(|source| DevelopmentError::Config {
        path: folder.path(name),
        source,
    })?;
    folder.public(name, text.as_bytes())
}

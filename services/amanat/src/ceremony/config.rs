//! The configuration files, in the shapes that the servers and the connector read. What lies below the file's
//! own folder is named from there, so that the folder can be moved.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use amanat_config::ServerAddresses;
use amanat_schema::AgencyId;
use serde::Serialize;

use super::{CeremonyError, Ground, folder::Folder};

/// In the public folder.
pub(crate) const DIRECTORY: &str = "directory.bin";
pub(crate) const TABLE: &str = "decision-table.txt";
pub(crate) const CRLS: &str = "crls";
pub(crate) const SUSPENSIONS: &str = "suspensions";

/// `gateway.toml`.
#[derive(Serialize)]
pub(super) struct Gateway {
    pub(super) server: Listen,
    pub(super) directory: ServerDirectory,
    pub(super) log: Log,
    pub(super) subjects: Subjects,
    pub(super) telemetry: Telemetry,
}

/// `custodian.toml`.
#[derive(Serialize)]
pub(super) struct Custodian {
    pub(super) server: Listen,
    pub(super) directory: ServerDirectory,
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
pub(super) struct Directory {
    file: PathBuf,
    seen: PathBuf,
    /// Hexadecimal.
    registrars: Vec<String>,
    threshold: usize,
    crls: PathBuf,
}

impl Directory {
    pub(super) fn new(ground: &Ground<'_>, home: &Home<'_>, seen: &Path) -> Self {
        Self {
            file: home.named(&ground.public.join(DIRECTORY)),
            seen: home.named(seen),
            registrars: ground.registrars.keys.iter().map(hex::encode).collect(),
            threshold: ground.registrars.threshold,
            crls: home.named(&ground.public.join(CRLS)),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ServerDirectory {
    #[serde(flatten)]
    pub(super) directory: Directory,
    pub(super) decision_table: PathBuf,
    pub(super) suspensions: PathBuf,
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
    pub(super) gateway: ServerAddresses,
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
    pub(super) gateway: &'a ServerAddresses,
    pub(super) custodian: &'a ServerAddresses,
    pub(super) outbox: PathBuf,
    pub(super) evidence_key: PathBuf,
    pub(super) directory: Directory,
    pub(super) tls: Tls,
    pub(super) statements: Statements,
    pub(super) tokens: Option<Tokens>,
    pub(super) officers: BTreeMap<&'a str, Officer<'a>>,
    /// Those it knows by a name of its own.
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
    pub(super) key_id: String,
    pub(super) signing_key: PathBuf,
}

#[derive(Serialize)]
pub(super) struct Officer<'a> {
    pub(super) id: String,
    /// As tokens name them, without `RIGHT_`.
    pub(super) rights: Vec<&'static str>,
    pub(super) station: &'a str,
}

/// The folder of a configuration file.
pub(super) struct Home<'a>(pub(super) &'a Folder);

impl Home<'_> {
    /// How the file names what lies at a path.
    pub(super) fn named(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(self.0.as_path());
        below.unwrap_or(path).to_owned()
    }

    pub(super) fn write(
        &self,
        name: &str,
        config: &impl Serialize,
    ) -> Result<PathBuf, CeremonyError> {
        let text = toml::to_string(config).map_err(|source| CeremonyError::Toml {
            path: self.0.path(name),
            source,
        })?;
        self.0.public(name, text.as_bytes())
    }
}

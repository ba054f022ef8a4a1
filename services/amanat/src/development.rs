//! A whole development exchange in one folder: registrars, gateway, custodian and agencies, every key
//! and configuration file, and the signed directory. For trying out and for tests.
//!
//! Never for real records: whoever can read the folder holds every party's keys at once, which is what
//! an exchange exists to prevent. Everything is made anew each time and nothing is overwritten. The
//! directory and the revocation lists are in force for 30 days; [`Exchange::publish`] and
//! [`Exchange::publish_list`] renew them.
//!
//! ```text
//! registrars/     one.pem two.pem
//! public/         directory.bin decision-table.txt crls/ suspensions/
//! gateway/        gateway.toml    keys/ data/ state/
//! custodian/      custodian.toml  keys/ data/ state/
//! agencies/NAME/  profile.toml    keys/ outbox/
//! ```
//!
//! `data/` holds the database, which `init` makes; `state/` what must not be restored along with it.

mod agency;
mod authority;
mod blueprint;
mod change;
mod config;
mod folder;
mod keys;
mod server;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use amanat_identity::Registrars;
use amanat_schema::{AgencyId, Time, clock::Clock, directory};
use prost::Message as _;

pub use blueprint::{AgencyPlan, Blueprint};
pub use change::{Certifier, Registrar};

use folder::Folder;
use keys::KeyFile;

/// As long as a directory may be.
const DIRECTORY_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// In `public/`.
const TABLE_FILE: &str = "decision-table.txt";
const CRLS: &str = "crls";
const SUSPENSIONS: &str = "suspensions";
const DECISION_TABLE: &str = include_str!("../../../deploy/policies/decision-table.txt");

/// An exchange that was made. All paths are absolute.
#[derive(Debug)]
pub struct Exchange {
    pub folder: PathBuf,
    /// The signed directory.
    pub directory: PathBuf,
    /// Who signed it, as every party pins them.
    pub registrars: Registrars,
    pub gateway: Server,
    pub custodian: Server,
    /// By the plan's names.
    pub agencies: BTreeMap<String, Member>,
}

/// A server that can be initialised and started.
#[derive(Debug)]
pub struct Server {
    pub folder: PathBuf,
    /// `gateway.toml` or `custodian.toml`.
    pub config: PathBuf,
    /// On the loopback interface. It was free when the exchange was made; it is not held.
    pub address: SocketAddr,
}

/// An agency of the exchange.
#[derive(Debug)]
pub struct Member {
    pub id: AgencyId,
    /// Holds `profile.toml`.
    pub folder: PathBuf,
}

/// Why no exchange was made. What was made until then is left in the folder.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentError {
    #[error("{path} is not empty; choose another folder, or remove it to start afresh")]
    NotEmpty { path: PathBuf },
    #[error("cannot make {path}: {source}")]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] amanat_config::FileError),
    #[error("{path} does not hold what this program put there")]
    Changed { path: PathBuf },
    #[error("no agency of the exchange is called {0}")]
    UnknownAgency(String),
    #[error("no port is free on the loopback interface: {0}")]
    Port(io::Error),
    #[error("a certificate or its key cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error(transparent)]
    Key(#[from] amanat_seal::SealError),
    #[error(transparent)]
    Oprf(#[from] amanat_seal::oprf::OprfError),
    #[error(transparent)]
    Log(#[from] amanat_ledger::LedgerError),
    #[error("{path} cannot be written as TOML: {source}")]
    Config {
        path: PathBuf,
        source: toml::ser::Error,
    },
}

/// What the parties know of each other before any of them is made.
struct Ground<'a> {
    exchange_id: &'a str,
    now: Time,
    /// Public keys, hexadecimal.
    registrars: Vec<String>,
    threshold: usize,
    directory: PathBuf,
    decision_table: PathBuf,
    crls: PathBuf,
    suspensions: PathBuf,
    gateway: SocketAddr,
    custodian: SocketAddr,
    agencies: BTreeMap<String, AgencyId>,
}

/// Makes an exchange in `folder`, which must be empty or not there yet. Databases are not made: run
/// `init` of gateway and custodian.
///
/// # Errors
/// [`DevelopmentError`], naming the file or folder.
pub fn make(
    folder: &Path,
    clock: &Clock,
    blueprint: &Blueprint,
) -> Result<Exchange, DevelopmentError> {
    let root = Folder::outermost(folder)?;
    let registrars_folder = root.folder("registrars")?;
    let one = KeyFile::make(&registrars_folder, "one.pem")?;
    let two = KeyFile::make(&registrars_folder, "two.pem")?;
    let registrars = Registrars {
        keys: vec![one.key.public_key(), two.key.public_key()],
        threshold: 2,
    };

    // Ids first: every profile names every agency.
    let plans = blueprint
        .agencies
        .iter()
        .map(|plan| Ok((plan, AgencyId::new(amanat_seal::random()?))))
        .collect::<Result<Vec<_>, DevelopmentError>>()?;
    let public = root.folder("public")?;
    let (gateway, custodian) = free_addresses().map_err(DevelopmentError::Port)?;
    let ground = Ground {
        exchange_id: &blueprint.exchange_id,
        now: (clock)(),
        registrars: registrars.keys.iter().map(hex::encode).collect(),
        threshold: registrars.threshold,
        directory: public.path("directory.bin"),
        decision_table: public.public(TABLE_FILE, DECISION_TABLE.as_bytes())?,
        crls: public.folder(CRLS)?.into_path(),
        suspensions: public.folder(SUSPENSIONS)?.into_path(),
        gateway,
        custodian,
        agencies: plans
            .iter()
            .map(|(plan, id)| (plan.name.clone(), *id))
            .collect(),
    };
    let (gateway, gateway_entry) = server::gateway(&root, &ground)?;
    let (custodian, custodian_entry, oprf_keys) = server::custodian(&root, &ground)?;
    let parent = root.folder("agencies")?;
    let mut agencies = BTreeMap::new();
    let mut agency_entries = Vec::new();
    for (plan, id) in plans {
        let (member, entry) = agency::make(&parent, &ground, plan, id)?;
        agencies.insert(plan.name.clone(), member);
        agency_entries.push(entry);
    }

    let registrar = |name: &str, key: &KeyFile| directory::Registrar {
        name: name.to_owned(),
        public_key: key.public_key(),
    };
    let mut signed = one.key.sign(&directory::Directory {
        exchange_id: blueprint.exchange_id.clone(),
        version: 1,
        not_before_time: Some(ground.now.to_timestamp()),
        valid_until_time: Some((ground.now + DIRECTORY_LIFE).to_timestamp()),
        registrars: vec![registrar("one", &one), registrar("two", &two)],
        threshold: 2,
        agencies: agency_entries,
        gateway: Some(gateway_entry),
        custodian: Some(custodian_entry),
        table_sha256: amanat_seal::sha256(DECISION_TABLE.as_bytes()).to_vec(),
        oprf_keys,
    });
    two.key.cosign(&mut signed);
    let directory = public.public("directory.bin", &signed.encode_to_vec())?;
    Ok(Exchange {
        folder: root.into_path(),
        directory,
        registrars,
        gateway,
        custodian,
        agencies,
    })
}

/// Both are bound before either is let go, so that they differ.
fn free_addresses() -> io::Result<(SocketAddr, SocketAddr)> {
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((one.local_addr()?, other.local_addr()?))
}

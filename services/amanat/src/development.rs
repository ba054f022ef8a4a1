//! A whole development exchange in one folder: registrars, gateway, custodian and agencies, every key
//! and configuration file, and the signed directory. For trying out and for tests.
//!
//! Never for real records: whoever can read the folder holds every party's keys at once, which is what
//! an exchange exists to prevent. Everything is made anew each time and nothing is overwritten. The
//! directory and the revocation lists are in force for 30 days; [`Exchange::publish`] and
//! [`Exchange::publish_list`] renew them.
//!
//! ```text
//! registrars/     one/ two/, each with its key and card; the drafts
//! public/         directory.bin decision-table.txt crls/ suspensions/
//! gateway/        gateway.toml    ca/ keys/ tls/ data/ state/
//! custodian/      custodian.toml  ca/ keys/ tls/ data/ state/
//! agencies/NAME/  profile.toml    ca/ keys/ tls/ outbox/ state/
//! ```
//!
//! It is made as one is made in earnest, by the [`ceremony`](crate::ceremony); only here one process plays every
//! part.

mod blueprint;
mod change;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

use amanat_config::{ServerAddress, ServerAddresses};
use amanat_identity::Registrars;
use amanat_schema::{AgencyId, clock::Clock};

use crate::ceremony::{
    self, CRLS, CeremonyError, Folder, Ground, Host, Joining, KeyFile, Officer, Party, Tokens,
};

pub use blueprint::{AgencyPlan, Blueprint};
pub use change::{Certifier, Registrar};

/// As long as a directory may be.
const DIRECTORY_DAYS: u32 = 30;
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
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    #[error("no agency of the exchange is called {0}")]
    UnknownAgency(String),
    #[error("no port is free on the loopback interface: {0}")]
    Port(io::Error),
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
    let root = Folder::outermost(folder).map_err(|error| {
        // What was tried out may go; a party's own keys may not.
        if let CeremonyError::NotEmpty { path } = error {
            DevelopmentError::NotEmpty { path }
        } else {
            error.into()
        }
    })?;
    let offices = root.folder("registrars")?;
    let cards = [Registrar::One, Registrar::Two]
        .map(|registrar| ceremony::registrar(&offices.path(registrar.name()), registrar.name()));
    let mut registrar_cards = Vec::new();
    for made in cards {
        let (_, card) = made?;
        registrar_cards.push((card.clone(), ceremony::Card::read(&card)?));
    }
    let registrar_cards: Vec<_> = registrar_cards
        .iter()
        .map(|(path, card)| (path.as_path(), card.clone()))
        .collect();
    let registrars = ceremony::registrars(&registrar_cards, 2)?;
    let public = root.folder("public")?;
    let gateway_address = free_address().map_err(DevelopmentError::Port)?;
    let custodian_address = free_address().map_err(DevelopmentError::Port)?;
    let ground = Ground {
        exchange_id: &blueprint.exchange_id,
        registrars: &registrars,
        public: public.as_path(),
        now: (clock)(),
    };
    let gateway = Server::make(&root, "gateway", gateway_address, &ground, |out, host| {
        ceremony::gateway(out, &ground, host)
    })?;
    let custodian = Server::make(
        &root,
        "custodian",
        custodian_address,
        &ground,
        |out, host| ceremony::custodian(out, &ground, host, &only(gateway_address)),
    )?;
    root.folder("agencies")?;
    let mut exchange = Exchange {
        directory: public.path(ceremony::DIRECTORY),
        folder: root.as_path().to_owned(),
        registrars: registrars.clone(),
        agencies: BTreeMap::new(),
        gateway,
        custodian,
    };
    let parties = exchange.fill(blueprint, &ground)?;
    exchange.publish_first(&offices, &registrar_cards, &parties, &ground)?;
    Ok(exchange)
}

impl Server {
    fn make(
        root: &Folder,
        name: &str,
        address: SocketAddr,
        ground: &Ground<'_>,
        party: impl FnOnce(&Path, &Host<'_>) -> Result<Party, CeremonyError>,
    ) -> Result<Self, CeremonyError> {
        let server_name = format!("{name}.{}", ground.exchange_id);
        let host = Host {
            server_name: &server_name,
            listen: address,
            data: None,
            state: None,
        };
        let party = party(&root.path(name), &host)?;
        Ok(Self {
            config: party.config(),
            folder: party.folder,
            address,
        })
    }
}

impl Exchange {
    /// Makes the agencies. Their ids first: every profile names every agency.
    fn fill(
        &mut self,
        blueprint: &Blueprint,
        ground: &Ground<'_>,
    ) -> Result<Vec<Party>, CeremonyError> {
        let mut ids = BTreeMap::new();
        for plan in &blueprint.agencies {
            ids.insert(plan.name.clone(), AgencyId::new(amanat_seal::random()?));
        }
        let plans = blueprint.agencies.iter();
        plans.map(|plan| self.found(plan, &ids, ground)).collect()
    }

    /// Makes an agency whose id `ids` has by its name.
    fn found(
        &mut self,
        plan: &AgencyPlan,
        ids: &BTreeMap<String, AgencyId>,
        ground: &Ground<'_>,
    ) -> Result<Party, CeremonyError> {
        let name = plan.name.as_str();
        let id = match ids.get(name) {
            Some(id) => *id,
            None => AgencyId::new(amanat_seal::random()?),
        };
        let officer = |name: &str, rights: &[_]| Officer {
            name: name.to_owned(),
            rights: rights.to_vec(),
            station: format!("{} desk", plan.name),
        };
        let officers = [
            officer("default", plan.rights()),
            officer("junior", plan.junior_rights()),
        ];
        let joining = Joining {
            id,
            name,
            kind: plan.kind,
            province: plan.province,
            display_name: &plan.display_name,
            services: &plan.services,
            gateway: &only(self.gateway.address),
            custodian: &only(self.custodian.address),
            tokens: Tokens::Own(&officers),
            agencies: ids,
        };
        let folder = self.folder.join("agencies").join(name);
        let party = ceremony::agency(&folder, ground, &joining)?;
        let folder = party.folder.clone();
        self.agencies
            .insert(plan.name.clone(), Member { id, folder });
        Ok(party)
    }

    /// Both registrars sign the first directory; it is published with everybody's revocation list.
    fn publish_first(
        &self,
        offices: &Folder,
        registrars: &[(&Path, ceremony::Card)],
        agencies: &[Party],
        ground: &Ground<'_>,
    ) -> Result<(), CeremonyError> {
        let (gateway, custodian) = (
            Party::open(&self.gateway.folder)?,
            Party::open(&self.custodian.folder)?,
        );
        let cards = ceremony::Cards {
            registrars,
            gateway: (&gateway.card_file(), gateway.card.clone()),
            custodian: (&custodian.card_file(), custodian.card.clone()),
        };
        let (exchange, table) = (ground.exchange_id, DECISION_TABLE.as_bytes());
        let file = offices.path("directory-1.draft");
        let mut draft = ceremony::first(
            &file,
            exchange,
            &cards,
            2,
            table,
            ground.now,
            DIRECTORY_DAYS,
        )?;
        let known = ceremony::Known::default();
        for agency in agencies {
            draft.enrol(&agency.card_file(), &agency.card, &known, ground.now)?;
        }
        for registrar in [Registrar::One, Registrar::Two] {
            let KeyFile { key, .. } = self.registrar(registrar)?;
            draft.examine(None, &key.public_key(), ground.now)?;
            draft.sign(&key)?;
        }
        let table = offices.public("decision-table.txt", table)?;
        ceremony::publish(&draft, ground.public, Some(&table))?;
        for party in agencies.iter().chain([&gateway, &custodian]) {
            publish_list(party, &ground.public.join(CRLS))?;
        }
        Ok(())
    }

    fn registrar(&self, registrar: Registrar) -> Result<KeyFile, CeremonyError> {
        let office = self.folder.join("registrars").join(registrar.name());
        KeyFile::open(&office.join("registrar.key"))
    }
}

/// As whoever carries a party's revocation list to the public folder.
fn publish_list(party: &Party, crls: &Path) -> Result<(), CeremonyError> {
    let list = party.list()?;
    let name = list.file_name().unwrap_or_default();
    ceremony::replace(&crls.join(name), &ceremony::read(&list)?)
}

fn only(address: SocketAddr) -> ServerAddresses {
    ServerAddress::from(address).into()
}

/// An address of this machine that nobody listens at, and another one each time: below the ports that the system gives
/// to connections, of which one could otherwise take it before whoever is to listen there does.
///
/// # Errors
/// That none of many was free, or of the random numbers' source.
pub fn free_address() -> io::Result<SocketAddr> {
    const TRIES: usize = 100;
    const PORTS: u16 = 16_384;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let begin = u16::from_le_bytes(amanat_seal::random().map_err(io::Error::other)?);
    let next = NEXT.get_or_init(|| begin.into());
    let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let port = PORTS + next.fetch_add(1, Ordering::Relaxed) % PORTS;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(free) => return free.local_addr(),
            Err(error) => taken = error,
        }
    }
    Err(taken)
}

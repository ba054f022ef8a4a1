//! What the load runs on: the servers with their database, agencies with their connections, and records that may be
//! read.

use std::{
    mem,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use amanat::development;
use amanat_connector::Profile;
use amanat_schema::audit::{GetCheckpointRequest, audit_service_client::AuditServiceClient};
use amanat_tests::{
    Running,
    party::{Party, channel},
    postgres::{self, Cluster},
    sharing,
};
use clap::ValueEnum;
use serde_json::Value;
use toml::Table;
use tonic::{
    Request,
    metadata::AsciiMetadataValue,
    transport::{Channel, Identity},
};

use crate::{load::Failure, loading::Case, servers::Servers};

const SOURCE: &str = "police-lahore";
const READER: &str = "darul-aman-lahore";
const OVERSIGHT: &str = "oversight";
/// Those that take cases in.
pub(crate) const INTAKES: [&str; 5] = [
    "police-lahore",
    "fia-ahtc-lahore",
    "darul-aman-lahore",
    "ngo-shelter",
    "police-karachi",
];
/// A token lasts a quarter of an hour.
const LOGIN: Duration = Duration::from_secs(5 * 60);

/// What the servers keep their data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) running: Running,
    /// Ends after the servers that use it.
    cluster: Option<Cluster>,
    pub(crate) source: Arc<Agency>,
    pub(crate) reader: Arc<Agency>,
    pub(crate) oversight: Arc<Agency>,
    /// Each with a record of the source, of which the reader may read these paths by consent and referral.
    pub(crate) cases: Vec<Case>,
    pub(crate) paths: Vec<String>,
    connections: usize,
}

/// An agency with one officer's token for all that it asks, as an officer has who logs in once.
pub(crate) struct Agency {
    pub(crate) party: Party,
    login: Mutex<Login>,
    identity: Identity,
    connections: usize,
    pub(crate) gateway: Vec<Channel>,
    pub(crate) custodian: Vec<Channel>,
}

struct Login {
    since: Instant,
    token: String,
    bearer: AsciiMetadataValue,
}

impl Engine {
    /// A row's name: SQLite's is the plain one.
    pub(crate) fn of(self, name: &str) -> String {
        match self {
            Self::Sqlite => name.to_owned(),
            Self::Postgres => format!("{name} (PostgreSQL)"),
        }
    }

    /// # Errors
    /// What is missing.
    pub(crate) fn is_here(self) -> Result<(), String> {
        match self {
            Self::Postgres if postgres::binaries().is_none() => {
                Err("PostgreSQL: is not installed; on Debian: apt install postgresql".to_owned())
            }
            Self::Sqlite | Self::Postgres => Ok(()),
        }
    }
}

impl Stage {
    /// With each server's configuration changed, by the server's name.
    pub(crate) fn set(
        engine: Engine,
        connections: usize,
        mut change: impl FnMut(&str, &mut Table),
    ) -> Self {
        let cluster = (engine == Engine::Postgres).then(Cluster::start);
        let running = Running::start_with(env!("CARGO_BIN_EXE_amanat"), "info", |name, config| {
            let file = || format!("data/{name}.sqlite");
            let database = cluster.as_ref().map(|cluster| schema(cluster, name));
            config["log"]["database"] = database.unwrap_or_else(file).into();
            if name == "custodian" {
                for budget in ["officer_per_day", "agency_per_day"] {
                    config["oprf"][budget] = 100_000_000.into();
                }
            }
            change(name, config);
        });
        let agency = |name| Arc::new(Agency::open(&running, name, connections));
        let consent = sharing::file("consent-police-to-shelter");
        let paths = consent["paths"].as_array().unwrap().iter();
        Self {
            engine,
            source: agency(SOURCE),
            reader: agency(READER),
            oversight: agency(OVERSIGHT),
            cases: Vec::new(),
            paths: paths.filter_map(Value::as_str).map(str::to_owned).collect(),
            connections,
            running,
            cluster,
        }
    }

    pub(crate) fn gateway(&self) -> Servers {
        Servers::new([self.running.gateway.id().unwrap()], self.postmaster())
    }

    pub(crate) fn custodian(&self) -> Servers {
        Servers::new([self.running.custodian.id().unwrap()], self.postmaster())
    }

    pub(crate) fn both(&self) -> Servers {
        let ids = [&self.running.gateway, &self.running.custodian].map(|server| server.id());
        Servers::new(ids.map(Option::unwrap), self.postmaster())
    }

    pub(crate) fn postmaster(&self) -> Option<u32> {
        self.cluster.as_ref().map(Cluster::postmaster)
    }

    /// What everything takes on the disk, the log files of the processes too.
    pub(crate) fn disk_mib(&self) -> f64 {
        let cluster = self.cluster.as_ref().map(Cluster::path);
        let used = Command::new("du")
            .args(["--summarize", "--total", "--block-size=1K"])
            .arg(self.running.folder())
            .args(cluster)
            .output()
            .unwrap();
        let used = String::from_utf8(used.stdout).unwrap();
        let total = used.lines().last().and_then(|line| line.split('\t').next());
        total.unwrap().parse::<f64>().unwrap() / 1024.0
    }

    pub(crate) fn agency(&self, name: &str) -> Agency {
        Agency::open(&self.running, name, self.connections)
    }

    /// How many entries the gateway's log has.
    pub(crate) async fn entries(&self) -> Result<u64, Failure> {
        let mut audit = AuditServiceClient::new(self.oversight.gateway[0].clone());
        let asked = self.oversight.asked(GetCheckpointRequest {});
        let note = audit.get_checkpoint(asked).await?.into_inner();
        // Its second line.
        Ok(note.checkpoint.lines().nth(1).unwrap().parse()?)
    }
}

/// As operators are told to: by certificate, over TLS, a schema a service.
fn schema(cluster: &Cluster, service: &str) -> String {
    cluster.query(&format!("CREATE SCHEMA {service}"));
    let (url, certificate) = (cluster.tls_url("amanat"), cluster.certificate_of("amanat"));
    format!("{url}{certificate}&options=-c%20search_path%3D{service}")
}

impl Agency {
    fn open(running: &Running, name: &str, connections: usize) -> Self {
        let profile = Profile::load(&running.exchange.agencies[name].folder).unwrap();
        let identity = Identity::from_pem(
            std::fs::read(&profile.tls.certificate).unwrap(),
            std::fs::read(&profile.tls.private_key).unwrap(),
        );
        let party = Party::of(running, &profile);
        let mut agency = Self {
            login: Mutex::new(Login::of(&party)),
            party,
            identity,
            connections,
            gateway: Vec::new(),
            custodian: Vec::new(),
        };
        agency.gateway = agency.channels("gateway", &running.exchange.gateway);
        agency.custodian = agency.channels("custodian", &running.exchange.custodian);
        agency
    }

    pub(crate) fn channels(&self, name: &str, server: &development::Server) -> Vec<Channel> {
        let one = || self.channel(name, server);
        std::iter::repeat_with(one).take(self.connections).collect()
    }

    /// A connection of its own.
    pub(crate) fn channel(&self, name: &str, server: &development::Server) -> Channel {
        channel(name, server, self.identity.clone())
    }

    pub(crate) fn token(&self) -> String {
        self.login(|login| login.token.clone())
    }

    pub(crate) fn asked<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = self.login(|login| login.bearer.clone());
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    fn login<T>(&self, what: impl FnOnce(&Login) -> T) -> T {
        let mut login = self.login.lock().unwrap();
        if login.since.elapsed() > LOGIN {
            let again = Login::of(&self.party);
            drop(mem::replace(&mut *login, again));
        }
        what(&login)
    }
}

impl Login {
    fn of(party: &Party) -> Self {
        let token = party.token();
        Self {
            since: Instant::now(),
            bearer: format!("Bearer {token}").parse().unwrap(),
            token,
        }
    }
}

/// The connection of a worker.
pub(crate) fn of(channels: &[Channel], worker: usize) -> Channel {
    channels[worker % channels.len()].clone()
}

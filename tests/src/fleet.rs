//! An exchange on PostgreSQL whose gateway is several processes.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use amanat::development::free_address;
use tempfile::TempDir;
use toml::{Table, Value};

use crate::{
    Process, Running,
    postgres::{Cluster, Standby},
    reconfigure, without_budgets,
};

/// The servers of one database: who of them is the primary changes.
pub struct Servers {
    pub primary: Cluster,
    pub standby: Cluster,
    wait: Standby,
    /// Where the services find their certificate, whichever server is gone.
    tls: TempDir,
    ports: [u16; 2],
}

/// Gateways on one database, beside the one of the exchange.
pub struct Fleet {
    pub running: Running,
    pub replicas: Vec<Process>,
}

impl Servers {
    pub fn start(wait: Standby) -> Self {
        let primary = Cluster::start();
        for schema in ["gateway", "custodian"] {
            primary.query(&format!("CREATE SCHEMA {schema}"));
        }
        let standby = primary.standby(wait);
        let tls = TempDir::with_prefix("amanat-tls-").unwrap();
        for file in ["root.crt", "amanat.crt", "amanat.key"] {
            fs::copy(primary.path().join("tls").join(file), tls.path().join(file)).unwrap();
        }
        Self {
            ports: [primary.port(), standby.port()],
            primary,
            standby,
            wait,
            tls,
        }
    }

    /// The setting of a service: either server, by certificate.
    pub fn address(&self, service: &str) -> String {
        let [one, other] = self.ports;
        let tls = self.tls.path().display();
        format!(
            "postgres://amanat@localhost:{one},localhost:{other}/amanat?sslmode=verify-full\
             &sslrootcert={tls}/root.crt&sslcert={tls}/amanat.crt&sslkey={tls}/amanat.key\
             &options=-c%20search_path%3D{service}"
        )
    }

    /// The primary crashes, and the standby takes its place.
    pub fn fail_over(&self) {
        self.primary.kill();
        self.standby.promote();
    }

    /// After a failover: a new standby where the old primary was.
    pub fn replace(self) -> Self {
        let Self {
            primary,
            standby,
            wait,
            tls,
            ports,
        } = self;
        let port = primary.port();
        drop(primary);
        let fresh = standby.standby_at(wait, Some(port));
        Self {
            primary: standby,
            standby: fresh,
            wait,
            tls,
            ports,
        }
    }
}

impl Fleet {
    /// As many gateways, known to every agency and to the custodian by all their addresses.
    pub fn start(program: &str, address: impl Fn(&str) -> String, gateways: usize) -> Self {
        let ports: Vec<u16> = (1..gateways)
            .map(|_| free_address().unwrap().port())
            .collect();
        let others: Vec<Value> = ports
            .iter()
            .map(|port| format!("https://127.0.0.1:{port}").into())
            .collect();
        let all = |config: &mut Table| {
            if others.is_empty() {
                return;
            }
            let mut addresses = vec![config["gateway"].clone()];
            addresses.extend(others.clone());
            config["gateway"] = addresses.into();
        };
        let running = Running::start_with(program, "info", |name, config| {
            config["log"]["database"] = address(name).into();
            without_budgets(name, config);
            if name == "custodian" {
                all(config["custody"].as_table_mut().unwrap());
            }
        });
        for member in running.exchange.agencies.values() {
            reconfigure(&member.folder.join("profile.toml"), all);
        }
        let replicas = ports.iter().enumerate();
        let replicas = replicas.map(|(at, port)| {
            let number = at + 2;
            let mut process = Process {
                name: "gateway",
                program: program.into(),
                config: configure(&running, number, *port),
                log: running
                    .exchange
                    .gateway
                    .folder
                    .join(format!("gateway-{number}.log")),
                child: None,
            };
            process.start();
            process
        });
        let replicas = replicas.collect();
        Self { running, replicas }
    }

    /// The configuration of one more, which nobody else knows of, and where it is to listen.
    pub fn one_more(&self) -> (PathBuf, SocketAddr) {
        let address = free_address().unwrap();
        let path = configure(&self.running, self.replicas.len() + 2, address.port());
        (path, address)
    }

    /// All gateways.
    pub fn gateways(&mut self) -> impl Iterator<Item = &mut Process> {
        std::iter::once(&mut self.running.gateway).chain(&mut self.replicas)
    }
}

/// The same keys and certificate; its own address, and its own memory of how far it has come.
fn configure(running: &Running, number: usize, port: u16) -> PathBuf {
    let folder = &running.exchange.gateway.folder;
    let state = folder.join(format!("state-{number}"));
    fs::create_dir(&state).unwrap();
    let mut config: Table =
        toml::from_str(&fs::read_to_string(&running.exchange.gateway.config).unwrap()).unwrap();
    config["server"]["listen"] = format!("127.0.0.1:{port}").into();
    for (section, setting) in [("log", "checkpoint_file"), ("directory", "seen")] {
        let own = folder.join(config[section][setting].as_str().unwrap());
        let copy = state.join(own.file_name().unwrap());
        copy_if_there(&own, &copy);
        config[section][setting] = copy.to_str().unwrap().into();
    }
    let path = folder.join(format!("gateway-{number}.toml"));
    fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
    path
}

fn copy_if_there(from: &Path, to: &Path) {
    if from.exists() {
        fs::copy(from, to).unwrap();
    }
}

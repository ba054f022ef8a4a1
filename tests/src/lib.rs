//! An exchange of real processes for the black-box tests: gateway and custodian as the program's own
//! subcommands, agencies as connectors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: a failed step is a failed test"
)]

pub mod attack;
pub mod ceremony;
pub mod cli;
pub mod collector;
pub mod fleet;
pub mod forge;
pub mod load;
pub mod markers;
pub mod needles;
pub mod oprf;
pub mod owner;
pub mod party;
pub mod postgres;
pub mod proxy;
pub mod raw;
pub mod rogue;
pub mod sharing;
pub mod story;
pub mod tables;
pub mod watch;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use amanat::development::{self, Blueprint, Exchange, Server};
use amanat_connector::{Acting, Connector, Profile};
use tempfile::TempDir;

/// A running exchange in a temporary folder; its servers are killed when it is dropped.
pub struct Running {
    pub exchange: Exchange,
    pub gateway: Process,
    pub custodian: Process,
    folder: TempDir,
}

/// One server process, which can be killed and started again.
pub struct Process {
    name: &'static str,
    program: PathBuf,
    config: PathBuf,
    /// Everything that it ever wrote on standard error.
    pub log: PathBuf,
    child: Option<Child>,
}

impl Running {
    /// Makes an exchange and starts its servers with a log filter, as in `trace`.
    pub fn start(program: &str, filter: &str) -> Self {
        Self::start_with(program, filter, |_, _| {})
    }

    /// With budgets of identifiers that no load uses up.
    pub fn start_for_load(program: &str) -> Self {
        Self::start_with(program, "info", without_budgets)
    }

    /// With each server's configuration changed, by the server's name. Their databases are files, or, where
    /// `AMANAT_POSTGRES` names a PostgreSQL database, schemas of their own in it.
    pub fn start_with(
        program: &str,
        filter: &str,
        mut change: impl FnMut(&str, &mut toml::Table),
    ) -> Self {
        let folder = TempDir::with_prefix("amanat-test-").unwrap();
        let exchange =
            development::make(folder.path(), &amanat::system_clock(), &Blueprint::pilot()).unwrap();
        for (name, server) in [
            ("gateway", &exchange.gateway),
            ("custodian", &exchange.custodian),
        ] {
            reconfigure(&server.config, |config| {
                if let Some(address) = postgres::given_schema() {
                    config["log"]["database"] = address.into();
                }
                change(name, config);
            });
        }
        let gateway = Process::make("gateway", program, &exchange.gateway, filter);
        let custodian = Process::make("custodian", program, &exchange.custodian, filter);
        let mut running = Self {
            exchange,
            gateway,
            custodian,
            folder,
        };
        running.gateway.start();
        running.custodian.start();
        running
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An agency's connector, acting for its default officer.
    pub async fn connector(&self, agency: &str) -> Connector {
        self.acting(agency, Acting::Officer("default".to_owned()))
            .await
    }

    /// The oversight desk verifies both logs, and finds them whole.
    pub async fn verify(&self) {
        let oversight = self.connector("oversight").await;
        for server in [
            amanat_connector::Server::Custodian,
            amanat_connector::Server::Gateway,
        ] {
            oversight.verify_log(server, |_, _| {}).await.unwrap();
        }
    }

    pub async fn acting(&self, agency: &str, acting: Acting) -> Connector {
        let profile = Profile::load(&self.exchange.agencies[agency].folder).unwrap();
        Connector::open(profile, acting, amanat::system_clock())
            .await
            .unwrap()
    }
}

/// The name of the exchange that [`Running::start`] makes.
pub fn exchange_id() -> String {
    Blueprint::pilot().exchange_id
}

/// Lets a server, by its name, answer more questions for identifiers than any load asks.
pub fn without_budgets(name: &str, config: &mut toml::Table) {
    if name == "custodian" {
        for budget in ["officer_per_day", "agency_per_day"] {
            config["oprf"][budget] = 1_000_000.into();
        }
    }
}

/// Changes a configuration file.
pub fn reconfigure(path: &Path, change: impl FnOnce(&mut toml::Table)) {
    let mut config: toml::Table = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, toml::to_string(&config).unwrap()).unwrap();
}

/// Between two looks at something that is about to change.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

impl Process {
    fn make(name: &'static str, program: &str, server: &Server, filter: &str) -> Self {
        reconfigure(&server.config, |config| {
            config["telemetry"]["filter"] = filter.into();
        });
        let made = Command::new(program)
            .args([name, "init", "--config"])
            .arg(&server.config)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        Self {
            name,
            program: program.into(),
            config: server.config.clone(),
            log: server.folder.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Starts it and returns when it answers.
    pub fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let mut child = Command::new(&self.program)
            .args([self.name, "serve", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(
            line.contains("listening"),
            "the {} did not start: {}",
            self.name,
            fs::read_to_string(&self.log).unwrap()
        );
        self.child = Some(child);
    }

    /// Sends it a signal while it runs, as in `HUP`.
    pub fn signal(&self, name: &str) {
        let id = self.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success(), "{name}");
    }

    /// Whether it is no longer at work.
    pub fn has_ended(&mut self) -> bool {
        self.child
            .as_mut()
            .is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// The process while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// As by `kill -9`: nothing is flushed, nothing is said.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// As by its operator: what is under way is answered. Returns whether it ended well, as a frozen server does
    /// that says so with exit code 5.
    pub fn stop(&mut self) -> bool {
        let Some(mut child) = self.child.take() else {
            return false;
        };
        let told = Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .unwrap();
        assert!(told.success());
        matches!(child.wait().unwrap().code(), Some(0 | 5))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

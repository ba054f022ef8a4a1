//! A server's database comes back from its backup, and moves to PostgreSQL, with all that was promised of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use amanat_tests::{
    Running,
    cli::Told,
    owner::put,
    postgres::{Cluster, is_here, query},
    reconfigure,
    story::{POLICE, SHELTER, Story, submit},
};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const SERVERS: [&str; 2] = ["gateway", "custodian"];

/// An exchange with a record that the shelter may read, and the key of its backups.
struct Stage {
    running: Running,
    story: Story,
    key: PathBuf,
}

impl Stage {
    async fn set() -> Self {
        let running = Running::start(PROGRAM, "info");
        let story = Story::tell(&running).await;
        let key = running.folder().join("backup.key");
        put(&key, "5c".repeat(32).as_bytes());
        Self {
            running,
            story,
            key,
        }
    }

    fn config(&self, server: &str) -> &Path {
        match server {
            "gateway" => &self.running.exchange.gateway.config,
            _ => &self.running.exchange.custodian.config,
        }
    }

    fn run(&self, server: &str, arguments: &[&str]) -> Told {
        let mut command = Command::new(PROGRAM);
        command.args(["--json", server]).args(arguments);
        Told::by(command.arg("--config").arg(self.config(server)))
    }

    fn done(&self, server: &str, arguments: &[&str]) -> Value {
        let told = self.run(server, arguments);
        assert_eq!(told.code, 0, "{server} {arguments:?}: {}", told.err);
        serde_json::from_str(&told.out).unwrap()
    }

    fn back_up(&self, server: &str, name: &str) -> String {
        let out = self.running.folder().join(name);
        let out = out.to_str().unwrap().to_owned();
        let key = self.key.to_str().unwrap();
        let told = self.done(server, &["backup", "--key", key, "--out", &out]);
        assert_eq!(told["server"], server);
        assert!(told["entries"].as_u64().unwrap() > 0);
        out
    }

    fn restore(&self, server: &str, from: &str) -> Told {
        let key = self.key.to_str().unwrap();
        self.run(server, &["restore", "--key", key, "--from", from])
    }

    fn lose_data(&self, server: &str) {
        fs::remove_dir_all(self.data(server)).unwrap();
        fs::create_dir(self.data(server)).unwrap();
    }

    fn data(&self, server: &str) -> PathBuf {
        self.config(server).parent().unwrap().join("data")
    }

    fn stop(&mut self) {
        assert!(self.running.gateway.stop() && self.running.custodian.stop());
    }

    fn start(&mut self) {
        self.running.gateway.start();
        self.running.custodian.start();
    }

    /// The shelter still reads what it was given, and both logs are whole.
    async fn goes_on(&self) {
        let case = self.story.case.to_string();
        let read = [
            "case",
            "read",
            &case,
            "--fields",
            "needs.needs",
            "--purpose",
            "SHELTER",
        ];
        let told = self.running.tell(SHELTER, &read);
        assert_eq!(told.code, 0, "{}", told.err);
        assert!(told.out.contains("SAFEHOUSE"), "{}", told.out);
        self.running.verify().await;
        let told = self.running.tell(POLICE, &["audit", "verify"]);
        assert_eq!(told.code, 0, "{}", told.err);
        assert!(told.out.contains("receipts kept here"), "{}", told.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_comes_back_from_the_backups() {
    let mut stage = Stage::set().await;
    stage.goes_on().await;
    let files = SERVERS.map(|server| stage.back_up(server, &format!("{server}.backup")));
    let refused = stage.restore("gateway", &files[0]);
    assert_eq!(refused.code, 4, "while it serves: {}", refused.err);
    stage.stop();
    for (server, file) in SERVERS.iter().zip(&files) {
        let refused = stage.restore(server, file);
        assert_eq!(refused.code, 3, "over a database: {}", refused.err);
        stage.lose_data(server);
        let restored = stage.restore(server, file);
        assert_eq!(restored.code, 0, "{}", restored.err);
        let told: Value = serde_json::from_str(&restored.out).unwrap();
        assert!(told.get("behind").is_none(), "{told}");
    }
    stage.start();
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_ends_too_early_is_told_and_is_not_served_from() {
    let mut stage = Stage::set().await;
    let early = stage.back_up("gateway", "early.backup");
    submit(&stage.running).await;
    stage.stop();
    stage.lose_data("gateway");
    let restored = stage.restore("gateway", &early);
    assert_eq!(restored.code, 0, "{}", restored.err);
    let told: Value = serde_json::from_str(&restored.out).unwrap();
    assert!(
        told["behind"]["signed"].as_u64() > told["entries"].as_u64(),
        "{told}"
    );
    stage.running.gateway.start();
    let told = stage.running.tell(POLICE, &["case", "list"]);
    assert_eq!(told.code, 5, "{}", told.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_takes_the_others_backup_or_a_damaged_one() {
    let mut stage = Stage::set().await;
    let file = stage.back_up("custodian", "custodian.backup");
    stage.stop();
    for server in SERVERS {
        stage.lose_data(server);
    }
    let refused = stage.restore("gateway", &file);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(
        refused.err.contains("it is of custodian"),
        "{}",
        refused.err
    );
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let refused = stage.restore("custodian", &file);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("BACKUP_DAMAGED"), "{}", refused.err);
    for server in SERVERS {
        assert_eq!(fs::read_dir(stage.data(server)).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_moves_to_postgresql_and_goes_on() {
    if !is_here("an_exchange_moves_to_postgresql_and_goes_on") {
        return;
    }
    let mut stage = Stage::set().await;
    let cluster = Cluster::start();
    let refused = stage.run("gateway", &["move", "--to", &cluster.fresh_schema()]);
    assert_eq!(refused.code, 4, "while it serves: {}", refused.err);
    stage.stop();
    for server in SERVERS {
        let owner = cluster.fresh_schema();
        let role = format!("CREATE ROLE amanat_{server} LOGIN");
        query(&cluster.superuser_url(), &role);
        let service = owner.replace("amanat@", &format!("amanat_{server}@"));
        let moved = stage.done(server, &["move", "--to", &service, "--as", &owner]);
        assert!(moved["entries"].as_u64().unwrap() > 0);
        assert_eq!(moved["database"], service.as_str());
        let left = stage.run(server, &["serve"]);
        assert_eq!(left.code, 3, "what was left: {}", left.err);
        reconfigure(stage.config(server), |config| {
            config["log"]["database"] = service.into();
        });
    }
    stage.start();
    stage.goes_on().await;
    submit(&stage.running).await;
    let files = SERVERS.map(|server| stage.back_up(server, &format!("{server}.backup")));
    stage.stop();
    // And back into files, from the backups.
    for (server, file) in SERVERS.iter().zip(&files) {
        let database = stage.data(server).join("again.sqlite");
        reconfigure(stage.config(server), |config| {
            config["log"]["database"] = database.to_str().unwrap().into();
        });
        let restored = stage.restore(server, file);
        assert_eq!(restored.code, 0, "{}", restored.err);
    }
    stage.start();
    stage.goes_on().await;
}

//! A server whose program is newer than its database.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::process::Command;

use amanat_tests::{
    Running,
    cli::{Told, case_file, submit},
    story::POLICE,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
/// What the version before this step had in its place.
const BACK: &str = "CREATE INDEX requests_by_id ON requests (request_id);
                    DELETE FROM _sqlx_migrations WHERE description = 'requests-by-key'";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_version_before_is_migrated_and_its_log_goes_on() {
    let mut running = Running::start(PROGRAM, "info");
    let case = submit(&running, &case_file());
    let config = |server: &str| match server {
        "gateway" => running.exchange.gateway.config.clone(),
        _ => running.exchange.custodian.config.clone(),
    };
    let configs = ["gateway", "custodian"].map(|server| (server, config(server)));
    let tell = |server: &str, verb: &str| {
        let (_, config) = configs.iter().find(|(name, _)| *name == server).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["--json", server, verb, "--config"]);
        Told::by(command.arg(config))
    };

    for (server, _) in &configs {
        let refused = tell(server, "migrate");
        assert_eq!(refused.code, 4, "while it serves: {}", refused.err);
        assert!(
            refused.err.contains("ADDRESS_UNAVAILABLE"),
            "{}",
            refused.err
        );
    }
    assert!(running.gateway.stop() && running.custodian.stop());
    for (server, config) in &configs {
        let data = config.parent().unwrap().join("data");
        let options = SqliteConnectOptions::new().filename(data.join(format!("{server}.sqlite")));
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(BACK).execute(&mut database).await.unwrap();
        database.close().await.unwrap();

        let refused = tell(server, "serve");
        assert_eq!(refused.code, 3, "{}", refused.err);
        assert!(refused.err.contains("DATABASE_INVALID"), "{}", refused.err);
        assert!(refused.err.contains("run `migrate`"), "{}", refused.err);

        for taken in [json!(["requests-by-key"]), json!([])] {
            let migrated = tell(server, "migrate");
            assert_eq!(migrated.code, 0, "{}", migrated.err);
            let told: Value = serde_json::from_str(&migrated.out).unwrap();
            assert_eq!(told["steps"], taken);
        }
    }
    running.gateway.start();
    running.custodian.start();
    let listed = running.tell_json(POLICE, &["case", "list", "--case", &case]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    submit(&running, &case_file());
    running.verify().await;
}

//! A server whose program is newer than its database.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::process::Command;

use amanat_database::Engine;
use amanat_tests::{
    Running,
    cli::{Told, case_file, submit},
    forge::Books,
    story::POLICE,
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
/// The newest steps of each server, and what an earlier version had in their place.
const GATEWAYS: [&str; 5] = [
    "requests-by-key",
    "entry-spans",
    "own-keys",
    "referred-versions",
    "entry-index",
];
const GATEWAYS_BACK: &str = "DROP TABLE referred_versions;
    DROP INDEX records_by_source;
    CREATE INDEX records_by_source ON records (source, seq);
    DELETE FROM _sqlx_migrations WHERE description = 'referred-versions'";
const CUSTODIANS: [&str; 5] = [
    "requests-by-key",
    "entry-spans",
    "own-keys",
    "entry-index",
    "deposit-rows",
];
const CUSTODIANS_BACK: &str = "CREATE TABLE of_the_key (record_id BLOB NOT NULL, source BLOB NOT NULL,
        version INTEGER NOT NULL, header BLOB NOT NULL, header_sha256 BLOB NOT NULL, kek_epoch INTEGER NOT NULL,
        wrapped BLOB, receipt BLOB NOT NULL, deposit_time INTEGER NOT NULL, activate_time INTEGER,
        PRIMARY KEY (record_id, source, version), CHECK (activate_time IS NULL OR wrapped IS NOT NULL))
        STRICT, WITHOUT ROWID;
    INSERT INTO of_the_key SELECT * FROM deposits;
    DROP TABLE deposits;
    ALTER TABLE of_the_key RENAME TO deposits;
    CREATE INDEX deposits_pending ON deposits (deposit_time) WHERE activate_time IS NULL AND wrapped IS NOT NULL";
const BACK: &str = "DROP TABLE own_keys;
    DROP TABLE entry_spans;
    DROP TABLE entry_index;
    CREATE INDEX entries_by_agency ON entries (agency, idx);
    CREATE INDEX entries_by_case ON entries (case_id, idx);
    CREATE INDEX entries_by_time ON entries (time);
    CREATE INDEX requests_by_id ON requests (request_id);
    DELETE FROM _sqlx_migrations WHERE description IN ('requests-by-key', 'entry-spans', 'own-keys', 'entry-index', 'deposit-rows')";

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
    let exchange = &running.exchange;
    for (server, made, back, steps) in [
        ("gateway", &exchange.gateway, GATEWAYS_BACK, GATEWAYS),
        (
            "custodian",
            &exchange.custodian,
            CUSTODIANS_BACK,
            CUSTODIANS,
        ),
    ] {
        let mut database = Books::of(made).open().await;
        // PostgreSQL had the rows beside their key before.
        if server == "gateway" || database.engine() == Engine::Sqlite {
            database.run(back).await.unwrap();
        }
        database.run(BACK).await.unwrap();
        database.close().await.unwrap();

        let refused = tell(server, "serve");
        assert_eq!(refused.code, 3, "{}", refused.err);
        assert!(refused.err.contains("DATABASE_INVALID"), "{}", refused.err);
        assert!(refused.err.contains("run `migrate`"), "{}", refused.err);

        for taken in [json!(steps), json!([])] {
            let migrated = tell(server, "migrate");
            assert_eq!(migrated.code, 0, "{}", migrated.err);
            let told: Value = serde_json::from_str(&migrated.out).unwrap();
            assert_eq!(told["steps"], taken);
        }
    }
    running.gateway.start();
    running.custodian.start();
    // Its key is released from where the step put it.
    let asked = ["--fields", "needs.needs", "--purpose", "INVESTIGATION"];
    let read = running.tell(POLICE, &[&["case", "read", &case][..], &asked].concat());
    assert_eq!(read.code, 0, "{}", read.err);
    let listed = running.tell_json(POLICE, &["case", "list", "--case", &case]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    submit(&running, &case_file());
    running.verify().await;
}

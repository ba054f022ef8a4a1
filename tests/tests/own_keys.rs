//! A server that was given another key than its database was begun with.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{fs, process::Command};

use amanat_tests::{Running, cli::Told};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_openings_key_does_not_start_and_says_which_setting_it_is() {
    let mut running = Running::start(PROGRAM, "info");
    assert!(running.gateway.stop() && running.custodian.stop());
    for (server, made) in [
        ("gateway", &running.exchange.gateway),
        ("custodian", &running.exchange.custodian),
    ] {
        let config: toml::Table =
            toml::from_str(&fs::read_to_string(&made.config).unwrap()).unwrap();
        let key = config["log"]["openings_key"].as_str().unwrap();
        let key = made.config.parent().unwrap().join(key);
        let own = fs::read(&key).unwrap();
        fs::write(&key, "5a".repeat(32)).unwrap();

        let mut command = Command::new(PROGRAM);
        command.args([server, "serve", "--config"]);
        let refused = Told::by(command.arg(&made.config));
        assert_eq!(refused.code, 3, "{}", refused.err);
        assert!(refused.err.contains("KEY_INVALID"), "{}", refused.err);
        assert!(refused.err.contains("log.openings_key"), "{}", refused.err);
        fs::write(&key, own).unwrap();
    }
    running.gateway.start();
    running.custodian.start();
    running.verify().await;
}

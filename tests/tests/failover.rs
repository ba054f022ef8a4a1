//! An exchange on PostgreSQL: its primary dies and its standby takes over, its gateways are several, and they hang,
//! die and run out of connections. Nothing that was acknowledged is lost, nothing that was answered lacks its entry,
//! and the log is one.
//!
//! `AMANAT_FAILOVERS` raises the number of primaries that die, 5 by default, and `AMANAT_PAUSE_S` the time for which a
//! gateway hangs, 10 seconds by default, as in
//! `AMANAT_FAILOVERS=20 AMANAT_PAUSE_S=60 cargo test -p amanat-tests --test failover`.
//! Where PostgreSQL is not installed these tests say loudly that they were skipped; with `CI` set they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed step is a failed test, and what it came to is for whoever runs it"
)]

use std::{env, fs, time::Duration};

use amanat_connector::{Connector, ConnectorError};
use amanat_schema::case_file;
use amanat_tests::{
    cli,
    fleet::{Fleet, Servers},
    load::Load,
    postgres::{Standby, is_here, psql},
};
use tokio::{task::block_in_place, time::sleep};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failover_what_was_answered_survives_the_primarys_deaths() {
    if !is_here("failover: the primary's deaths") {
        return;
    }
    let mut servers = Servers::start(Standby::Sync);
    let mut fleet = Fleet::start(PROGRAM, |service| servers.address(service), 3);
    let load = Load::start(&fleet.running).await;
    for _ in 0..number("AMANAT_FAILOVERS", 5) {
        load.shares(8).await;
        servers = block_in_place(|| {
            servers.fail_over();
            servers.replace()
        });
    }
    load.shares(8).await;
    check(&mut fleet, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failover_a_lost_tail_freezes_every_gateway() {
    if !is_here("failover: a lost tail") {
        return;
    }
    let servers = Servers::start(Standby::Async);
    let fleet = Fleet::start(PROGRAM, |service| servers.address(service), 2);
    let police = fleet.running.connector("police-lahore").await;
    submit(&police).await.unwrap();
    // What follows never reaches it, and it is promoted all the same.
    servers.standby.kill();
    submit(&police).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    servers.primary.kill();
    servers.standby.restart();
    servers.standby.promote();
    let refused = loop {
        match submit(&police).await {
            Err(error) if error.is_retryable() => sleep(Duration::from_millis(200)).await,
            outcome => break outcome.unwrap_err(),
        }
    };
    assert!(
        refused.to_string().contains("LOG_INCONSISTENT"),
        "{refused}"
    );
    for gateway in [&fleet.running.gateway, &fleet.replicas[0]] {
        for _ in 0..100 {
            if fs::read_to_string(&gateway.log)
                .unwrap()
                .contains("contradicts itself")
            {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let log = fs::read_to_string(&gateway.log).unwrap();
        assert!(log.contains("contradicts itself"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failover_gateways_that_hang_or_die_hold_up_nobody_for_long() {
    if !is_here("failover: gateways that hang or die") {
        return;
    }
    let servers = Servers::start(Standby::Sync);
    let mut fleet = Fleet::start(PROGRAM, |service| servers.address(service), 3);
    let load = Load::start(&fleet.running).await;
    let pause = Duration::from_secs(number("AMANAT_PAUSE_S", 10));
    for gateway in fleet.gateways() {
        gateway.signal("STOP");
        // Whoever was in its turn loses it; the others go on.
        sleep(pause).await;
        gateway.signal("CONT");
        load.shares(4).await;
        block_in_place(|| {
            gateway.kill();
            gateway.start();
        });
        load.shares(4).await;
    }
    check(&mut fleet, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failover_a_database_without_connections_or_with_conflicts_loses_nothing() {
    if !is_here("failover: connections and conflicts") {
        return;
    }
    let servers = Servers::start(Standby::Sync);
    let mut fleet = Fleet::start(PROGRAM, |service| servers.address(service), 2);
    let load = Load::start(&fleet.running).await;
    // As another transaction's conflict would end every tenth batch.
    servers.primary.query(
        "SET search_path = gateway; \
         CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF random() < 0.1 THEN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END IF; \
         RETURN NULL; END $$; \
         CREATE TRIGGER conflict BEFORE INSERT ON nodes FOR EACH STATEMENT EXECUTE FUNCTION conflict()",
    );
    load.shares(20).await;
    servers
        .primary
        .query("SET search_path = gateway; DROP TRIGGER conflict ON nodes");
    for _ in 0..3 {
        let admin = servers.primary.superuser_url();
        // Nobody gets in, and whoever was in is thrown out.
        let out = "ALTER ROLE amanat CONNECTION LIMIT 0; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'amanat'; \
             SELECT pg_sleep(3); ALTER ROLE amanat CONNECTION LIMIT -1";
        let done = block_in_place(|| psql(&admin, out).wait_with_output().unwrap());
        assert!(done.status.success(), "{done:?}");
        load.shares(4).await;
    }
    check(&mut fleet, load).await;
}

async fn submit(connector: &Connector) -> Result<(), ConnectorError> {
    let file = case_file::parse(&cli::case_file()).unwrap();
    connector.submit_case(file, None).await?.delivered()?;
    Ok(())
}

async fn check(fleet: &mut Fleet, load: Load) {
    let settled = load.settle().await;
    let done = &settled.done;
    println!(
        "acknowledged: {} submissions, {} consents, {} acceptances, {} reads; {} calls cut off",
        done.submissions.len(),
        done.consents.len(),
        done.accepted.len(),
        done.reads.len(),
        done.cut_off.len(),
    );
    let oversight = fleet.running.connector("oversight").await;
    settled.check(&oversight).await;
    for gateway in fleet.gateways() {
        assert!(!gateway.has_ended(), "every gateway lives");
    }
}

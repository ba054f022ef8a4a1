//! PostgreSQL as operators are told to run it: what was answered survives the primary, a service gets in by its
//! certificate alone, and the server's log holds no personal value.
//!
//! Where PostgreSQL is not installed these tests say loudly that they were skipped; with `CI` set they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step is a failed test"
)]

use std::{
    thread,
    time::{Duration, Instant},
};

use amanat_tests::postgres::{Cluster, Standby, is_here, psql, query, try_query};
use sqlx::{Connection as _, PgConnection};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn what_was_answered_is_on_the_promoted_standby() {
    if !is_here("what_was_answered_is_on_the_promoted_standby") {
        return;
    }
    let primary = Cluster::start();
    primary.query("CREATE TABLE entries (id int PRIMARY KEY)");
    let standby = primary.standby(Standby::Sync);
    for id in 0..20 {
        primary.query(&format!("INSERT INTO entries VALUES ({id})"));
    }
    primary.kill();
    standby.promote();
    assert_eq!(standby.query("SELECT count(*) FROM entries"), "20");
    // It waits for no standby of its own.
    standby.query("INSERT INTO entries VALUES (20)");
    assert_eq!(standby.query("SELECT max(id) FROM entries"), "20");
}

#[test]
fn a_commit_waits_for_the_synchronous_standby() {
    if !is_here("a_commit_waits_for_the_synchronous_standby") {
        return;
    }
    let primary = Cluster::start();
    primary.query("CREATE TABLE entries (id int PRIMARY KEY)");
    let standby = primary.standby(Standby::Sync);
    standby.kill();

    let insert = psql(&primary.url(), "INSERT INTO entries VALUES (1)");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let asked = Instant::now();
    while query(&primary.superuser_url(), waiting) != "1" {
        assert!(asked.elapsed() < PATIENCE, "it does not wait");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        primary.query("SELECT count(*) FROM entries"),
        "0",
        "nobody sees what is not on both disks"
    );

    standby.restart();
    assert!(insert.wait_with_output().unwrap().status.success());
    assert_eq!(primary.query("SELECT count(*) FROM entries"), "1");
}

#[test]
fn an_asynchronous_standby_is_not_waited_for() {
    if !is_here("an_asynchronous_standby_is_not_waited_for") {
        return;
    }
    let primary = Cluster::start();
    let standby = primary.standby(Standby::Async);
    standby.kill();
    primary.query("CREATE TABLE entries (id int PRIMARY KEY)");
    assert_eq!(primary.query("SELECT count(*) FROM entries"), "0");
}

#[test]
fn what_was_answered_survives_a_crash() {
    if !is_here("what_was_answered_survives_a_crash") {
        return;
    }
    let cluster = Cluster::start();
    let [one, other] = [(), ()].map(|()| cluster.fresh_schema());
    query(&one, "CREATE TABLE entries (id int PRIMARY KEY)");
    query(&one, "INSERT INTO entries VALUES (1)");
    assert!(
        try_query(&other, "TABLE entries").is_err(),
        "a schema is its own"
    );
    cluster.kill();
    cluster.restart();
    assert_eq!(query(&one, "TABLE entries"), "1");
}

#[test]
fn every_line_of_the_shipped_configuration_is_in_force() {
    if !is_here("every_line_of_the_shipped_configuration_is_in_force") {
        return;
    }
    let cluster = Cluster::start();
    let ask = |sql: &str| query(&cluster.superuser_url(), sql);
    let shipped = "FROM pg_file_settings WHERE sourcefile LIKE '%/10-amanat.conf'";
    assert_eq!(
        ask(&format!("SELECT name, error {shipped} AND NOT applied")),
        ""
    );
    let lines = include_str!("../../deploy/postgres/postgresql.conf")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(
        ask(&format!("SELECT count(*) {shipped}")),
        lines.count().to_string()
    );
    assert_eq!(
        ask("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL"),
        "0"
    );
    assert_eq!(ask("SHOW data_checksums"), "on");
}

#[test]
fn who_has_no_certificate_of_the_role_is_refused() {
    if !is_here("who_has_no_certificate_of_the_role_is_refused") {
        return;
    }
    let cluster = Cluster::start();
    cluster.query("CREATE ROLE amanat_gateway LOGIN");
    let bare = cluster.tls_url("amanat_gateway");
    let own = format!("{bare}{}", cluster.certificate_of("amanat_gateway"));
    query(&own, "SELECT 1");

    let custodians = cluster.certificate_of("amanat_custodian");
    let clear = own.replace("sslmode=verify-full", "sslmode=disable");
    for (url, why) in [
        (bare.clone(), "requires a valid client certificate"),
        (
            format!("{bare}{custodians}"),
            "certificate authentication failed",
        ),
        (clear, "no encryption"),
        (
            format!("{own}&ssl_max_protocol_version=TLSv1.2"),
            "alert protocol version",
        ),
    ] {
        let refused = try_query(&url, "SELECT 1").unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

const CNIC: &str = "00000-1234567-8";

/// Statements that PostgreSQL refuses, each with a bound value that its log must not repeat.
const REFUSED: [&str; 4] = [
    "INSERT INTO persons (cnic) VALUES ($1)",
    "INSERT INTO persons (cnic, age) VALUES ($1 || '-new', 200)",
    "INSERT INTO persons (cnic, name) VALUES ($1 || '-new', NULL)",
    "SELECT $1::text::uuid",
];

/// Sends them all in one session.
async fn send_refused(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query(
        "CREATE TEMP TABLE persons
             (cnic text PRIMARY KEY, name text NOT NULL DEFAULT '', age int CHECK (age < 150))",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let insert = sqlx::query("INSERT INTO persons (cnic) VALUES ($1)").bind(CNIC);
    insert.execute(&mut connection).await.unwrap();
    for sql in REFUSED {
        let refused = sqlx::query(sql).bind(CNIC).execute(&mut connection).await;
        assert!(refused.unwrap_err().as_database_error().is_some(), "{sql}");
    }
}

#[tokio::test]
async fn no_value_of_a_refused_statement_stands_in_the_servers_log() {
    if !is_here("no_value_of_a_refused_statement_stands_in_the_servers_log") {
        return;
    }
    let cluster = Cluster::start();
    send_refused(&cluster.url()).await;
    // Typed by hand, in the text of the statement.
    try_query(&cluster.url(), &format!("SELECT '{CNIC}'::int")).unwrap_err();
    let log = cluster.log();
    assert!(log.contains("disconnection: session time"), "{log}");
    assert!(!log.contains(CNIC), "{log}");

    // Some day an operator lets errors into the log; the values beside them stay out, bound ones with them.
    let errors = "log_min_messages=error log_statement=all log_min_error_statement=error";
    send_refused(&with_settings(&cluster, errors)).await;
    let log = cluster.log();
    assert!(log.contains("duplicate key value"), "{log}");
    assert_eq!(
        log.matches(CNIC).count(),
        1,
        "the value that is no uuid is the error's own words: {log}"
    );

    // With PostgreSQL's own settings the same statements tell: it is the shipped ones that keep quiet.
    let own = format!("{errors} log_error_verbosity=default log_parameter_max_length=-1");
    send_refused(&with_settings(&cluster, &own)).await;
    let log = cluster.log();
    for told in [
        "Key (cnic)=(",
        "Failing row contains (",
        "parameters: $1 = '",
    ] {
        assert!(log.contains(&format!("{told}{CNIC}")), "{told}: {log}");
    }
}

/// A session of the superuser, who may change what is logged of it.
fn with_settings(cluster: &Cluster, settings: &str) -> String {
    let options = settings
        .split(' ')
        .map(|setting| format!("-c%20{}", setting.replace('=', "%3D")));
    let options = options.collect::<Vec<_>>().join("%20");
    format!("{}?options={options}", cluster.superuser_url())
}

//! An exchange on PostgreSQL: its primary dies and its standby takes over, its disk fills up; its gateways are several,
//! and they hang, die, run out of connections and have wrong clocks. Nothing that was acknowledged is lost, nothing
//! that was answered lacks its entry, and the log is one.
//!
//! `AMANAT_FAILOVERS` raises the number of primaries that die, 5 by default, and `AMANAT_PAUSE_S` the time for which a
//! gateway hangs, 10 seconds by default, as in
//! `AMANAT_FAILOVERS=20 AMANAT_PAUSE_S=60 cargo test -p amanat-tests --test failover`.
//! Where PostgreSQL is not installed, or for one of them no disk can be mounted, they say loudly that they were
//! skipped; with `CI` set they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed step is a failed test, and what it came to is for whoever runs it"
)]

use std::{
    env,
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use amanat_connector::{Connector, ConnectorError, EntryQuery, SeenEntry, Server};
use amanat_schema::{case_file, record::ReadRecordRequest};
use amanat_server::Served;
use amanat_tests::{
    Running, cli,
    fleet::{Fleet, Servers},
    load::Load,
    party::{Party, asked, honest_ask, id, now, reason},
    postgres::{Cluster, Standby, is_here, psql, try_query},
    story::{HOUR, OVERSIGHT, PERMITTED, POLICE, SHELTER, Story},
    watch::{Disk, HealthAt, PATIENCE},
    without_budgets,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot, task::block_in_place, time::sleep};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
/// Enough for a new database with its write-ahead log, and soon full.
const DISK_MIB: u32 = 192;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |number| number.parse().unwrap())
}

/// Whether a small disk can be mounted for a server that does not run as root: by root alone.
fn may_mount(test: &str) -> bool {
    if Disk::is_permitted() {
        return true;
    }
    assert!(
        env::var_os("CI").is_none(),
        "{test}: no disk can be mounted here, and nothing is skipped in CI"
    );
    eprintln!("SKIPPED {test}: NO DISK CAN BE MOUNTED HERE. Run it as root.");
    false
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failover_a_full_disk_of_the_database_stops_the_services_cleanly_and_they_go_on_by_themselves()
 {
    let test = "failover: a full disk of the database";
    if !is_here(test) || !may_mount(test) {
        return;
    }
    let folder = TempDir::with_prefix("amanat-disk-").unwrap();
    // The server's user has to pass.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let disk = Disk::mount(folder.path().join("disk"), DISK_MIB);
    let cluster = Cluster::start_in(disk.folder(), ["max_wal_size=32MB", "min_wal_size=32MB"]);
    let mut health = Vec::new();
    let mut running = Running::start_with(PROGRAM, "info", |name, config| {
        health.push(HealthAt::configure(config));
        config["log"]["database"] = cluster.fresh_schema().into();
        without_budgets(name, config);
    });
    let mut load = Load::start(&running).await;

    disk.fill();
    for health in &health {
        block_in_place(|| health.until_not_ready("the disk of the log's database is full"));
    }
    load.handed_in_beside(POLICE);
    let refused = submit(&running.connector(POLICE).await).await.unwrap_err();
    assert_eq!(refused.reason(), "AUDIT_UNAVAILABLE", "{refused}");
    // PostgreSQL itself does not outlive that it cannot go on with its write-ahead log.
    block_in_place(|| {
        let begun = Instant::now();
        while cluster.is_running() {
            assert!(begun.elapsed() < PATIENCE, "it still runs");
            try_query(&cluster.superuser_url(), "SELECT pg_switch_wal()").ok();
        }
    });

    disk.clear();
    block_in_place(|| cluster.restart());
    for health in &health {
        block_in_place(|| health.until_ready());
    }
    load.shares(12).await;
    settle(&running, load).await;
    assert!(!running.gateway.has_ended() && !running.custodian.has_ended());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failover_what_a_gateway_decides_whose_clock_is_off_releases_nothing_and_the_others_go_on()
{
    if !is_here("failover: a clock that is off") {
        return;
    }
    let cluster = Cluster::start();
    let mut fleet = Fleet::start(PROGRAM, |_| cluster.fresh_schema(), 2);
    let story = Story::tell(&fleet.running).await;
    let shelter = Party::open(&fleet.running, SHELTER);
    let mut load = Load::start(&fleet.running).await;
    load.handed_in_beside(POLICE);

    let (at, ahead) = serve_ahead(&fleet);
    let listed = std::mem::replace(&mut fleet.running.exchange.gateway.address, at);
    let there = Party::open(&fleet.running, SHELTER);
    fleet.running.exchange.gateway.address = listed;
    let refused = there.read(story.ask(&PERMITTED)).await.unwrap_err();
    assert_eq!(refused.reason(), "CREDENTIAL_INVALID", "{refused}");
    let mut decided = Vec::new();
    for _ in 0..8 {
        load.shares(1).await;
        // Its own clock finds nothing wrong with an officer who is as far ahead.
        let token = there.token_at(&there.officer, now() + HOUR, &there.certificate_sha256);
        let ask = ReadRecordRequest {
            request_id: id(),
            ..story.ask(&PERMITTED)
        };
        let answer = there.records().read_record(asked(ask, &token)).await;
        let answer = answer.unwrap().into_inner();
        decided.push(answer.receipt.as_ref().unwrap().index);
        let ask = honest_ask(&answer);
        let refused = shelter.release(&shelter.token(), ask).await;
        assert_eq!(reason(refused), "ACCESS_DENIED");

        let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
        let released = shelter.release(&shelter.token(), honest_ask(&answer)).await;
        assert_eq!(released.unwrap().keys.len(), PERMITTED.len());
    }
    ahead.stop();
    check(&mut fleet, load).await;
    times_find_everything(&fleet.running, &decided).await;
}

/// A gateway of this process, an hour ahead.
struct Ahead {
    stop: oneshot::Sender<()>,
    served: thread::JoinHandle<Served>,
}

fn serve_ahead(fleet: &Fleet) -> (SocketAddr, Ahead) {
    let (config, address) = fleet.one_more();
    let listener = std::net::TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (stop, stopped) = oneshot::channel();
    let served = thread::spawn(move || {
        let serving = async {
            let listener = TcpListener::from_std(listener).unwrap();
            let config = amanat_gateway::Config::load(&config).unwrap();
            let clock = Arc::new(|| now() + HOUR);
            let stopped = async { stopped.await.unwrap() };
            let served = amanat_gateway::serve(&config, listener, clock, stopped);
            served.await.unwrap()
        };
        Runtime::new().unwrap().block_on(serving)
    });
    (address, Ahead { stop, served })
}

impl Ahead {
    fn stop(self) {
        self.stop.send(()).unwrap();
        let served = block_in_place(|| self.served.join().unwrap());
        assert_eq!(served, Served::Drained);
    }
}

/// Of any span of time the gateway lists the entries that the whole log has of it, of whichever clock.
async fn times_find_everything(running: &Running, ahead: &[u64]) {
    let oversight = running.connector(OVERSIGHT).await;
    let list = async |since, until| {
        let query = EntryQuery {
            since,
            until,
            limit: usize::MAX,
            ..EntryQuery::default()
        };
        oversight
            .list_entries(Server::Gateway, &query)
            .await
            .unwrap()
    };
    let all = list(None, None).await;
    let soon = now() + HOUR / 2;
    let indexes = |entries: &[SeenEntry]| entries.iter().map(|e| e.index).collect::<Vec<_>>();
    assert!(
        list(Some(soon), None)
            .await
            .iter()
            .all(|entry| ahead.contains(&entry.index))
    );
    let times = |at: usize| Some(all[at].time);
    for (since, until) in [
        (None, Some(soon)),
        (Some(soon), None),
        (times(all.len() / 3), times(all.len() / 2)),
        (
            times(usize::try_from(ahead[2]).unwrap()),
            times(usize::try_from(ahead[5]).unwrap()),
        ),
        (
            times(all.len() / 3),
            times(usize::try_from(ahead[5]).unwrap()),
        ),
    ] {
        let within = |entry: &&SeenEntry| {
            since.is_none_or(|since| since <= entry.time)
                && until.is_none_or(|until| entry.time < until)
        };
        let expected: Vec<_> = all.iter().filter(within).cloned().collect();
        assert!(!expected.is_empty());
        let mut found = list(since, until).await;
        // What was asked here is logged too.
        found.retain(|entry| entry.index <= all.last().unwrap().index);
        assert_eq!(indexes(&found), indexes(&expected));
    }
}

async fn submit(connector: &Connector) -> Result<(), ConnectorError> {
    let file = case_file::parse(&cli::case_file()).unwrap();
    connector.submit_case(file, None).await?.delivered()?;
    Ok(())
}

async fn check(fleet: &mut Fleet, load: Load) {
    settle(&fleet.running, load).await;
    for gateway in fleet.gateways() {
        assert!(!gateway.has_ended(), "every gateway lives");
    }
}

async fn settle(running: &Running, load: Load) {
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
    settled.check(&running.connector(OVERSIGHT).await).await;
}

//! Several custodians over one database. Where it has one writer, what another replica does is done to the database.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use amanat_database::Sql;
use amanat_ledger::SignedCheckpoint;
use amanat_schema::{audit::Action, policy::Decision};
use amanat_server::Signs;
use tokio::task::JoinSet;

use super::{
    acts::{Ground, Version, ask, reason},
    database,
    gateway::Logged,
    head::{alarms, frozen, observed, put},
    world::World,
};
use crate::store::Call;

const IN_TIME: Duration = Duration::from_secs(10);
const TEN_MINUTES: Duration = Duration::from_secs(600);

impl World {
    pub(super) fn checkpoint(&self, of: &Logged) -> SignedCheckpoint {
        let rules = self.rules.current();
        let log = &rules.directory.gateway().log;
        log.open(&of.receipt.checkpoint).unwrap()
    }

    /// Another replica observes the head of the tree that an entry was shown in.
    async fn is_observed_elsewhere(&self, of: &Logged) {
        let SignedCheckpoint { head, text, .. } = self.checkpoint(of);
        Sql::new("INSERT INTO observed_heads (size, root, note, observe_time) VALUES (")
            .bind(i64::try_from(head.size).unwrap())
            .push(", ")
            .bind(head.root.0)
            .push(", ")
            .bind(text)
            .push(", ")
            .bind(self.now().millis())
            .push(")")
            .execute(&mut self.database().await)
            .await
            .unwrap();
    }

    async fn forget_heads(&self, sql: &'static str) {
        database::run(&mut self.database().await, sql).await;
    }

    async fn evidence(&self) -> i64 {
        self.value("SELECT count(*) FROM evidence").await
    }

    fn reasons(&self) -> Vec<String> {
        let mut signs = Signs::default();
        self.custodian.follower.look(&mut signs);
        signs.reasons
    }

    /// What keeps this replica from releasing is the gateway's contradiction.
    async fn shows_frozen(&self) {
        in_time(async || {
            self.reasons()
                .iter()
                .any(|why| why.contains("contradicted"))
        })
        .await;
    }
}

/// Two replicas; `None` where a database has one writer.
async fn two() -> Option<[World; 2]> {
    let one = World::new().await;
    let Some(other) = one.replica().await else {
        eprintln!("skipped on SQLite: a file has one writer");
        return None;
    };
    Some([one, other])
}

async fn in_time<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let waits = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(IN_TIME, waits).await.unwrap();
}

#[tokio::test]
async fn a_head_that_another_replica_moved_is_looked_at_again() {
    let world = World::new().await;
    let mut puts = Vec::new();
    for _ in 0..5 {
        puts.push(put(&world).await.1);
    }
    world.activate(&puts[0]).await.unwrap();
    world.is_observed_elsewhere(&puts[3]).await;
    // One behind what the other observed, the very same, and one ahead of it.
    for at in [1, 3, 4] {
        world.activate(&puts[at]).await.unwrap();
    }
    world.is_observed_elsewhere(&puts[2]).await;
    world.activate(&puts[2]).await.unwrap();
    assert_eq!(world.evidence().await, 0);
    let heads: i64 = world.value("SELECT count(*) FROM observed_heads").await;
    assert_eq!(heads, 5);
}

#[tokio::test]
async fn two_trees_of_one_size_freeze_whichever_replica_was_shown_them() {
    let world = World::new().await;
    let (_, first) = put(&world).await;
    world.activate(&first).await.unwrap();
    let mut fork = world.gateway.log.lock().unwrap().clone();
    let (version, second) = put(&world).await;
    let forked = fork.append(world.put(&version));
    world.is_observed_elsewhere(&forked).await;
    assert_eq!(reason(world.activate(&second).await), "LOG_INCONSISTENT");
    let theirs: String = world.value("SELECT theirs FROM evidence").await;
    assert_eq!(theirs, second.receipt.checkpoint);
    frozen(&world).await;
}

#[tokio::test]
async fn a_head_that_the_database_dropped_for_newer_ones_is_proved_again() {
    let world = World::new().await;
    let (first, second) = (put(&world).await.1, put(&world).await.1);
    for put in [&first, &second] {
        world.activate(put).await.unwrap();
    }
    let dropped = "DELETE FROM observed_heads WHERE size = 1";
    world.forget_heads(dropped).await;
    world.activate(&first).await.unwrap();

    world.forget_heads(dropped).await;
    world.gateway.silent.store(true, Ordering::SeqCst);
    assert_eq!(reason(world.activate(&first).await), "AUDIT_UNAVAILABLE");
    let last = world.last_body().await;
    assert_eq!(
        (last.action(), last.decision()),
        (Action::ActivateKey, Decision::Deny)
    );
}

#[tokio::test]
async fn a_call_that_waits_for_its_checkpoint_makes_one_entry() {
    let world = World::new().await;
    let (first, second) = (put(&world).await.1, put(&world).await.1);
    world.activate(&first).await.unwrap();
    let before: i64 = world.value("SELECT size FROM head").await;
    world.is_observed_elsewhere(&second).await;
    world
        .forget_heads("DELETE FROM observed_heads WHERE size = 1")
        .await;
    world.activate(&first).await.unwrap();
    let after: i64 = world.value("SELECT size FROM head").await;
    assert_eq!(after, before + 1);
}

#[tokio::test]
async fn an_idle_replica_shows_what_others_observed_and_that_one_found_a_contradiction() {
    let world = World::new().await;
    let first = put(&world).await.1;
    world.is_observed_elsewhere(&first).await;
    in_time(async || observed(&world).await.size == 1).await;
    assert!(world.reasons().is_empty());
    let found = "INSERT INTO evidence (why, ours, theirs, find_time) VALUES ('', '', '', 0)";
    database::run(&mut world.database().await, found).await;
    world.shows_frozen().await;
    frozen(&world).await;
}

#[tokio::test]
async fn a_database_that_is_rolled_back_while_it_runs_freezes_the_custodian() {
    let world = World::new().await;
    for _ in 0..2 {
        world.keep(&world.first_version()).await;
    }
    in_time(async || observed(&world).await.size == 2).await;
    world
        .forget_heads("DELETE FROM observed_heads WHERE size = 2")
        .await;
    world.shows_frozen().await;
    frozen(&world).await;
    let why: String = world.value("SELECT why FROM evidence").await;
    assert!(why.contains("rolled back"), "{why}");
    let theirs: String = world.value("SELECT theirs FROM evidence").await;
    assert_eq!(theirs, world.gateway.log.lock().unwrap().note());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_observe_at_the_same_time_serve_all_that_is_brought() {
    let Some([one, other]) = two().await else {
        return;
    };
    let third = one.replica().await.unwrap();
    let mut puts = Vec::new();
    for _ in 0..60 {
        puts.push(put(&one).await.1);
    }
    let mut served = JoinSet::new();
    for (at, world) in [one, other, third].into_iter().enumerate() {
        let world = Arc::new(world);
        // All to each, in another order.
        for put in puts.iter().cycle().skip(at * 17).step_by(7).take(60) {
            let (world, put) = (Arc::clone(&world), put.clone());
            served.spawn(async move {
                world.activate(&put).await.unwrap();
                world
            });
        }
    }
    let mut worlds = served.join_all().await;
    let world = worlds.pop().unwrap();
    assert_eq!(world.evidence().await, 0);
    let active = "SELECT count(*) FROM deposits WHERE activate_time IS NOT NULL";
    assert_eq!(world.value::<i64>(active).await, 60);
}

#[tokio::test]
async fn a_contradiction_that_one_replica_finds_stops_the_other_at_once() {
    let Some([one, other]) = two().await else {
        return;
    };
    let mut fork = one.gateway.log.lock().unwrap().clone();
    let (version, first) = put(&one).await;
    one.activate(&first).await.unwrap();
    let forked = fork.append(one.put(&version));
    assert_eq!(reason(one.activate(&forked).await), "LOG_INCONSISTENT");
    frozen(&other).await;
    other.shows_frozen().await;
    assert_eq!(reason(other.activate(&forked).await), "LOG_INCONSISTENT");
    assert_eq!(other.evidence().await, 1);
    assert_eq!(alarms(&other).await, 1);
}

/// A version in custody with a consent to its names and a referral.
struct Opened {
    version: Version,
    consent: Ground,
    referral: Ground,
}

impl Opened {
    async fn new(at: &World, max_reads: u32) -> Self {
        let version = at.first_version();
        at.keep(&version).await;
        let consent = at.consented(|consent| consent.max_reads = max_reads).await;
        let referral = at.referral(|_| {});
        at.pass(2 * TEN_MINUTES);
        Self {
            version,
            consent,
            referral,
        }
    }

    async fn released(&self, at: &World) -> Result<(), tonic::Status> {
        let read = at.log(at.read(&self.version, &self.consent, &self.referral));
        at.release(ask(&read, &self.referral)).await.map(drop)
    }
}

#[tokio::test]
async fn what_one_replica_records_and_withdraws_counts_at_the_other_at_once() {
    let Some([one, other]) = two().await else {
        return;
    };
    let opened = Opened::new(&one, 0).await;
    // Remembered there from now on.
    opened.released(&other).await.unwrap();
    one.withdraw(&opened.consent).await;
    assert_eq!(reason(opened.released(&other).await), "ACCESS_DENIED");
    assert_eq!(
        other.last_action().await,
        Action::ReleaseKeys,
        "just withdrawn"
    );
    let consent = other.consented(|_| {}).await;
    let opened = Opened { consent, ..opened };
    opened.released(&one).await.unwrap();
}

#[tokio::test]
async fn reads_are_counted_together() {
    let Some([one, other]) = two().await else {
        return;
    };
    let opened = Opened::new(&one, 2).await;
    let read = one.log(one.read(&opened.version, &opened.consent, &opened.referral));
    // Counted there, and remembered when it is asked again.
    for _ in 0..2 {
        other.release(ask(&read, &opened.referral)).await.unwrap();
    }
    opened.released(&one).await.unwrap();
    assert_eq!(reason(opened.released(&other).await), "ACCESS_DENIED");
}

#[tokio::test]
async fn an_entry_that_one_replica_redeemed_is_answered_again_by_the_other_and_counts_once() {
    let Some([one, other]) = two().await else {
        return;
    };
    let opened = Opened::new(&one, 1).await;
    let read = one.log(one.read(&opened.version, &opened.consent, &opened.referral));
    let asked = || ask(&read, &opened.referral);
    let (here, there) = tokio::join!(one.release(asked()), other.release(asked()));
    assert_eq!(here.unwrap().len(), there.unwrap().len());
    assert_eq!(reason(opened.released(&one).await), "ACCESS_DENIED");
}

#[tokio::test]
async fn a_version_that_one_replica_activates_is_the_newest_at_the_other_at_once() {
    let Some([one, other]) = two().await else {
        return;
    };
    let opened = Opened::new(&one, 0).await;
    opened.released(&other).await.unwrap();
    let version = one.next_version(&opened.version);
    one.keep(&version).await;
    assert_eq!(reason(opened.released(&other).await), "ACCESS_DENIED");
    assert_eq!(
        other.last_action().await,
        Action::ReleaseKeys,
        "just activated"
    );
    let opened = Opened { version, ..opened };
    opened.released(&other).await.unwrap();
}

#[tokio::test]
async fn every_replica_looks_for_what_is_overdue_and_it_is_done_once() {
    let Some(worlds) = two().await else { return };
    let [one, other] = &worlds;
    let mut opened = Opened::new(one, 0).await;
    opened.consent = one.consent(|_| {}).0;
    assert_eq!(reason(opened.released(one).await), "LEDGER_BEHIND");
    let pending = one.first_version();
    one.deposit(&pending).await.unwrap();
    one.pass(Duration::from_hours(7 * 24));
    let call = async |world: &World, call| world.custodian.desk.journal.call(call).await.unwrap();
    let (here, there) = tokio::join!(
        call(one, Call::AlarmMissing),
        call(other, Call::AlarmMissing)
    );
    assert!(here.receipt.is_some() != there.receipt.is_some());
    assert_eq!(alarms(one).await, 1);
    for world in &worlds {
        call(world, Call::Expire).await;
        let kept = "SELECT count(*) FROM deposits WHERE wrapped IS NOT NULL";
        assert_eq!(world.value::<i64>(kept).await, 1);
    }
    opened.consent = one.consented(|_| {}).await;
    opened.released(other).await.unwrap();
}

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use amanat_database::{Engine, Sql};
use amanat_ledger::{Head, SignedCheckpoint};
use amanat_schema::{
    audit::Action,
    key::{GetObservedHeadRequest, key_service_server::KeyService as _},
    statement::ObservedHead,
};
use tonic::Request;

use super::{
    acts::{Version, reason},
    database,
    gateway::Logged,
    world::{World, open},
};
use crate::store::{
    Reply,
    head::{HeadCall, Observe, Seen, Standing},
};

pub(super) async fn observed(world: &World) -> ObservedHead {
    let request = world
        .police
        .connect(Request::new(GetObservedHeadRequest {}));
    let answer = world.custodian.get_observed_head(request).await.unwrap();
    let envelope = answer.into_inner().observed_head.unwrap();
    let signed = amanat_seal::statement::verify(&envelope, &[world.statement_key()]);
    signed.unwrap().into_message()
}

/// Deposited, and put without being activated.
pub(super) async fn put(world: &World) -> (Version, Logged) {
    let version = world.first_version();
    world.deposit(&version).await.unwrap();
    let put = world.log(world.put(&version));
    (version, put)
}

async fn execute(world: &World, sql: &'static str) {
    database::run(&mut world.database().await, sql).await;
}

/// All that a backup holds: the observed head's file lies elsewhere.
fn copy(from: &Path, to: &Path) {
    for file in ["custodian.db", "checkpoint"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

pub(super) async fn alarms(world: &World) -> i64 {
    let row = Sql::new("SELECT count(*) FROM entries WHERE action = ")
        .bind(i32::from(Action::Alarm))
        .fetch_one(&mut world.database().await)
        .await;
    row.unwrap().get(0).unwrap()
}

pub(super) async fn frozen(world: &World) {
    let answer = world.deposit(&world.first_version()).await;
    assert_eq!(reason(answer), "LOG_INCONSISTENT");
}

#[tokio::test]
async fn the_observed_head_is_served_signed_and_moves_along_the_log() {
    let world = World::new().await;
    let none = observed(&world).await;
    assert_eq!((none.size, none.checkpoint.as_str()), (0, ""));
    for size in 1..=3 {
        world.keep(&world.first_version()).await;
        // It is shown as soon as it is durable.
        while observed(&world).await.size < size {
            tokio::task::yield_now().await;
        }
        let head = observed(&world).await;
        assert_eq!(head.root, world.gateway.log.lock().unwrap().head().root.0);
        assert_eq!(head.checkpoint, world.gateway.log.lock().unwrap().note());
        assert_eq!(head.origin, "gateway.test/log");
    }
}

#[tokio::test]
async fn smaller_checkpoints_are_proved_and_many_that_wait_share_the_way() {
    let world = World::new().await;
    let mut puts = Vec::new();
    for _ in 0..6 {
        puts.push(put(&world).await.1);
    }
    world.activate(&puts[3]).await.unwrap();
    let rest = [&puts[5], &puts[0], &puts[4], &puts[2]];
    let answers = tokio::join!(
        world.activate(rest[0]),
        world.activate(rest[1]),
        world.activate(rest[2]),
        world.activate(rest[3]),
    );
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        answer.unwrap();
    }
    // Known by now: no proof is needed.
    world.gateway.silent.store(true, Ordering::SeqCst);
    world.activate(&puts[0]).await.unwrap();
}

#[tokio::test]
async fn without_a_proof_nothing_is_decided_until_there_is_one() {
    let world = World::new().await;
    world.keep(&world.first_version()).await;
    let (_, put) = put(&world).await;
    world.gateway.silent.store(true, Ordering::SeqCst);
    assert_eq!(reason(world.activate(&put).await), "AUDIT_UNAVAILABLE");
    world.gateway.silent.store(false, Ordering::SeqCst);
    world.activate(&put).await.unwrap();
}

#[tokio::test]
async fn two_trees_of_one_size_freeze_the_custodian_until_a_person_acts() {
    let world = World::new().await;
    let (_, first) = put(&world).await;
    let mut fork = world.gateway.log.lock().unwrap().clone();
    let (version, second) = put(&world).await;
    world.activate(&first).await.unwrap();
    world.activate(&second).await.unwrap();

    let forked = fork.append(world.put(&version));
    assert_eq!(reason(world.activate(&forked).await), "LOG_INCONSISTENT");
    frozen(&world).await;
    let ours: String = world.value("SELECT ours FROM evidence").await;
    let theirs: String = world.value("SELECT theirs FROM evidence").await;
    assert_eq!(ours, second.receipt.checkpoint);
    assert_eq!(theirs, forked.receipt.checkpoint);
    assert_eq!(alarms(&world).await, 1);

    let world = world.restarted(async |_| {}).await;
    frozen(&world).await;
    execute(&world, "DELETE FROM evidence").await;
    world.deposit(&world.first_version()).await.unwrap();
}

#[tokio::test]
async fn a_contradiction_that_cannot_be_recorded_at_once_is_not_forgotten() {
    let world = World::new().await;
    let mut fork = world.gateway.log.lock().unwrap().clone();
    let (version, first) = put(&world).await;
    world.activate(&first).await.unwrap();
    let forked = fork.append(world.put(&version));
    let (full, mended) = match database::engine() {
        Engine::Sqlite => (
            "CREATE TRIGGER filled BEFORE INSERT ON evidence BEGIN SELECT raise(ABORT, ''); END",
            "DROP TRIGGER filled",
        ),
        Engine::Postgres => (
            "CREATE TRIGGER filled BEFORE INSERT ON evidence EXECUTE FUNCTION append_only()",
            "DROP TRIGGER filled ON evidence",
        ),
    };
    execute(&world, full).await;
    let (answer, ()) = tokio::join!(world.activate(&forked), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        execute(&world, mended).await;
    });
    assert_eq!(reason(answer), "LOG_INCONSISTENT");
    frozen(&world).await;
}

#[tokio::test]
async fn a_larger_tree_that_does_not_continue_the_observed_one_freezes_the_custodian() {
    let world = World::new().await;
    let mut fork = world.gateway.log.lock().unwrap().clone();
    for _ in 0..3 {
        world.keep(&world.first_version()).await;
    }
    let version = world.first_version();
    world.deposit(&version).await.unwrap();
    for _ in 0..4 {
        fork.append(world.put(&version));
    }
    let forked = fork.append(world.put(&version));
    *world.gateway.log.lock().unwrap() = fork;
    assert_eq!(reason(world.activate(&forked).await), "LOG_INCONSISTENT");
    frozen(&world).await;
}

#[tokio::test]
async fn a_restart_keeps_the_observed_head() {
    let world = World::new().await;
    world.keep(&world.first_version()).await;
    let world = world.restarted(async |_| {}).await;
    assert_eq!(observed(&world).await.size, 1);
    world.keep(&world.first_version()).await;
}

#[tokio::test]
async fn a_database_behind_the_observed_head_file_starts_frozen() {
    let world = World::new().await;
    let place = world.place.clone();
    world.keep(&world.first_version()).await;
    world.keep(&world.first_version()).await;
    let world = world
        .restarted(async |_| {
            let mut rolled_back = place.connect().await.unwrap();
            let sql = "DELETE FROM observed_heads WHERE size = 2";
            database::run(&mut rolled_back, sql).await;
        })
        .await;
    frozen(&world).await;
}

/// Where the database has one writer, its file is the only guard; one of many replicas copies another's.
#[tokio::test]
async fn a_lost_or_foreign_observed_head_file_starts_frozen_or_not_at_all() {
    for contents in [None, Some("no note")] {
        let world = World::new().await;
        world.keep(&world.first_version()).await;
        let (exchange, folder) = world
            .stopped(async |folder| {
                let file = folder.join("observed-head");
                match contents {
                    None => std::fs::remove_file(file).unwrap(),
                    Some(text) => std::fs::write(file, text).unwrap(),
                }
            })
            .await;
        if exchange.place.engine() == Engine::Postgres {
            let error = open(&exchange, &folder).await.err().unwrap();
            assert!(
                error.to_string().contains("copy another replica's"),
                "{error}"
            );
            let found: i64 = exchange.value("SELECT count(*) FROM evidence").await;
            assert_eq!(found, 0, "the other replicas go on");
        } else {
            frozen(&World::start(exchange, folder).await).await;
        }
    }
}

#[tokio::test]
async fn an_old_backup_restored_again_and_again_starts_frozen_each_time() {
    if database::engine() == Engine::Postgres {
        eprintln!("skipped on PostgreSQL: its database is no file");
        return;
    }
    let world = World::new().await;
    world.keep(&world.first_version()).await;
    let backup = tempfile::tempdir().unwrap();
    let world = world
        .restarted(async |folder| copy(folder, backup.path()))
        .await;
    world.keep(&world.first_version()).await;
    let mut world = world
        .restarted(async |folder| copy(backup.path(), folder))
        .await;
    for _ in 0..2 {
        frozen(&world).await;
        world = world
            .restarted(async |folder| copy(backup.path(), folder))
            .await;
    }
    frozen(&world).await;
}

#[tokio::test]
async fn a_custodian_killed_before_its_first_file_was_due_goes_on() {
    let world = World::new().await;
    world.keep(&world.first_version()).await;
    let world = world
        .restarted(async |folder| std::fs::write(folder.join("observed-head"), "").unwrap())
        .await;
    world.keep(&world.first_version()).await;
}

/// What is seen when the checkpoint was brought, proved from or to a head.
async fn observing(world: &World, from: Head, new: &SignedCheckpoint) -> Seen {
    let checkpoints = vec![new.clone()];
    let observe = HeadCall::Observe(Observe { from, checkpoints });
    let committed = world.custodian.desk.journal.call(observe.into()).await;
    let Ok(Reply::Seen(seen)) = committed.unwrap().answer else {
        panic!("an observation is answered with what is seen")
    };
    seen
}

#[tokio::test]
async fn an_observation_made_from_another_head_is_not_taken() {
    let world = World::new().await;
    let first = put(&world).await.1;
    world.activate(&first).await.unwrap();
    let new = world.checkpoint(&put(&world).await.1);
    let head = world.checkpoint(&first).head;
    let another = Head {
        root: new.head.root,
        ..head
    };
    for (from, taken) in [(Head::EMPTY, false), (another, false), (head, true)] {
        let seen = observing(&world, from, &new).await;
        let is_known = seen.standing(&new.head) == Standing::Known;
        assert_eq!(is_known, taken, "from {from:?}");
    }
}

#[tokio::test]
async fn a_smaller_head_stays_proved_when_the_one_that_continues_it_was_overtaken() {
    let world = World::new().await;
    let mut checkpoints = Vec::new();
    for at in 0..4 {
        let put = put(&world).await.1;
        checkpoints.push(world.checkpoint(&put));
        if [1, 2].contains(&at) {
            world.activate(&put).await.unwrap();
        }
    }
    let overtaken = checkpoints[1].head;
    for (new, taken) in [(&checkpoints[0], true), (&checkpoints[3], false)] {
        let seen = observing(&world, overtaken, new).await;
        let is_known = seen.standing(&new.head) == Standing::Known;
        assert_eq!(is_known, taken, "{}", new.head.size);
    }
}

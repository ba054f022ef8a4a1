//! Several writers of one database, as replicas are: on PostgreSQL only, for SQLite has one.

use std::{path::Path, sync::Arc, time::Duration};

use amanat_database::Engine;
use amanat_journal::{Config, JournalError, Opened};
use amanat_ledger::receipt::verify;

use crate::{
    database::engine,
    toy::{Answer, Lab, Toy, clock, close, error, look, mark, receipt, together},
    wire::Wire,
};

/// `None`, said aloud, where there can be no replicas.
async fn lab() -> Option<Lab> {
    if engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite, which has one writer: replicas");
        return None;
    }
    Some(Lab::new().await)
}

/// Another process has a checkpoint file of its own.
async fn replica(lab: &Lab, name: &str) -> Opened<Toy> {
    let file = lab.checkpoint_file().with_file_name(name);
    std::fs::copy(lab.checkpoint_file(), &file).ok();
    replica_with(lab, &file).await
}

async fn replica_with(lab: &Lab, checkpoint_file: &Path) -> Opened<Toy> {
    let config = Config {
        checkpoint_file: checkpoint_file.to_owned(),
        ..lab.config()
    };
    lab.try_open(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_many_writers_is_one() {
    let Some(lab) = lab().await else { return };
    let first = lab.open().await;
    let replicas = [replica(&lab, "b").await, replica(&lab, "c").await, first];
    let mut tasks = Vec::new();
    for replica in &replicas {
        for n in 0..20 {
            let journal = replica.journal.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..5 {
                    journal.call(mark(n)).await.unwrap();
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    for replica in replicas {
        // Each answers from what all have written.
        let seen = replica.journal.call(look(7)).await.unwrap();
        assert!(matches!(seen.answer, Answer::Decided { marks: 15, .. }));
        close(replica).await;
    }
    assert_eq!(lab.verify().await, 303);
}

#[tokio::test]
async fn each_is_told_what_the_others_logged_before_it_decides() {
    let Some(lab) = lab().await else { return };
    let toy = Toy::default();
    let overtaken = Arc::clone(&toy.overtaken);
    let told = amanat_journal::open(&lab.config(), lab.keys(), toy, clock()).await;
    let told = told.unwrap();
    let other = replica(&lab, "b").await;
    other.journal.call(mark(1)).await.unwrap();
    other.journal.call(mark(1)).await.unwrap();
    let next = told.journal.call(mark(1)).await.unwrap();
    assert!(matches!(next.answer, Answer::Decided { marks: 2, .. }));
    told.journal.call(mark(1)).await.unwrap();
    let counts: Vec<_> = overtaken.lock().unwrap().clone();
    assert_eq!(counts.iter().flatten().sum::<usize>(), 2, "{counts:?}");
    let index = |outcome: &_| verify(receipt(outcome), &lab.verifier()).unwrap().index;
    let last = together(&other.journal, [mark(2)]).await;
    assert_eq!(index(&last[0]), 4);
    for opened in [told, other] {
        close(opened).await;
    }
    assert_eq!(lab.verify().await, 5);
}

#[tokio::test]
async fn a_replica_at_rest_follows_the_others() {
    let Some(lab) = lab().await else { return };
    let (busy, idle) = (lab.open().await, replica(&lab, "idle").await);
    busy.journal.call(mark(1)).await.unwrap();
    assert!(idle.reader.inclusion(0, 1).await.is_ok(), "at once");
    let file = lab.checkpoint_file().with_file_name("idle");
    let filed = || {
        let note = std::fs::read_to_string(&file).unwrap_or_default();
        lab.verifier()
            .open(&note)
            .is_ok_and(|note| note.head.size == 1)
    };
    for _ in 0..50 {
        if filed() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(filed(), "its file follows too");
    for opened in [busy, idle] {
        close(opened).await;
    }
}

#[tokio::test]
async fn a_tail_that_was_lost_freezes_all() {
    let Some(lab) = lab().await else { return };
    lab.grow(10).await;
    let backup = lab.back_up().await;
    let behind = replica(&lab, "behind").await;
    let ahead = lab.open().await;
    ahead.journal.call(mark(1)).await.unwrap();
    // As a standby that had not all of it yet becomes the primary.
    lab.restore(&backup).await;
    let told = error(ahead.journal.call(mark(1)).await);
    assert!(matches!(told, JournalError::Frozen(_)), "{told:?}");
    for opened in [behind, ahead] {
        let told = error(opened.journal.call(mark(1)).await);
        let JournalError::Frozen(why) = told else {
            panic!("{told:?}")
        };
        assert!(why.starts_with("entry 10 was signed"), "{why}");
        close(opened).await;
    }
    let again = replica(&lab, "behind").await;
    assert!(
        again.journal.frozen().is_some(),
        "whoever starts later, too"
    );
    close(again).await;
}

#[tokio::test]
async fn a_writer_that_hangs_loses_its_turn() {
    let Some(lab) = lab().await else { return };
    let opened = lab.open().await;
    opened.journal.call(mark(1)).await.unwrap();
    // Stands for a process that was stopped in the middle of its transaction.
    let mut hung = lab.connect().await;
    hung.begin("BEGIN; SELECT size FROM head FOR UPDATE")
        .await
        .unwrap();
    opened.journal.call(mark(1)).await.unwrap();
    assert!(hung.commit().await.is_err(), "its session was ended");
    close(opened).await;
    assert_eq!(lab.verify().await, 2);
}

#[tokio::test]
async fn an_old_copy_freezes_also_who_knows_no_more_than_it() {
    let Some(lab) = lab().await else { return };
    lab.grow(10).await;
    let (ahead, behind) = (
        lab.checkpoint_file(),
        lab.checkpoint_file().with_file_name("behind"),
    );
    std::fs::copy(&ahead, &behind).unwrap();
    let backup = lab.back_up().await;
    lab.grow(5).await;
    lab.restore(&backup).await;
    let knows = lab.open().await;
    assert!(knows.journal.frozen().is_some());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let other = replica_with(&lab, &behind).await;
    let told = error(other.journal.call(mark(1)).await);
    assert!(matches!(told, JournalError::Frozen(_)), "{told:?}");
    for opened in [knows, other] {
        close(opened).await;
    }
}

#[tokio::test]
async fn another_log_of_the_same_key_is_not_continued() {
    let Some(lab) = lab().await else { return };
    lab.grow(4).await;
    let opened = lab.open().await;
    opened.journal.call(look(1)).await.unwrap();
    // Eight other entries, and of the tree that this replica holds nothing but its root.
    lab.tamper_per(
        "",
        "CREATE TABLE saved_node AS SELECT hash FROM nodes WHERE idx = 6",
    )
    .await;
    lab.replace_by_another_log(8).await;
    lab.tamper_per(
        "",
        "UPDATE nodes SET hash = (SELECT hash FROM saved_node) WHERE idx = 6",
    )
    .await;
    let told = error(opened.journal.call(mark(1)).await);
    assert!(matches!(told, JournalError::Frozen(_)), "{told:?}");
    close(opened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_silent_is_left_for_another() {
    let Some(lab) = lab().await else { return };
    let wire = Wire::to(&lab).await;
    let opened = lab.try_open(wire.config(&lab).await).await.unwrap();
    opened.journal.call(mark(1)).await.unwrap();
    for at_rest in [true, false] {
        wire.silence();
        if at_rest {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        // What is asked meanwhile is refused in time; new connections work.
        let mut outcome = Err(JournalError::Busy);
        for _ in 0..40 {
            outcome = opened.journal.call(mark(1)).await;
            if outcome.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(outcome.is_ok(), "{:?}", outcome.err());
    }
    close(opened).await;
    lab.verify().await;
}

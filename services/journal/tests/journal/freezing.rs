//! A log that contradicts what was signed signs nothing more.

use std::fs;

use amanat_database::{Engine, Sql, Step};
use amanat_journal::{Config, JournalError, Opened};

use crate::database::engine;
use crate::toy::{Lab, Toy, close, error, mark};

/// Opens frozen for the reason, answers nothing, and is still frozen the next time.
async fn is_frozen(lab: &Lab, says: &str) {
    for _ in 0..2 {
        let opened = lab.open().await;
        refuses(&opened, says).await;
        close(opened).await;
    }
}

async fn refuses(opened: &Opened<Toy>, says: &str) {
    let why = opened.journal.frozen().expect("frozen");
    assert!(why.starts_with(says), "{why}");
    let JournalError::Frozen(told) = error(opened.journal.call(mark(1)).await) else {
        panic!("not told that it is frozen")
    };
    assert_eq!(told, why);
}

/// A log of ten entries, closed.
async fn ten() -> Lab {
    let lab = Lab::new().await;
    lab.grow(10).await;
    assert_eq!(lab.verify().await, 10);
    lab
}

#[tokio::test]
async fn the_tail_deleted() {
    let lab = ten().await;
    lab.tamper("DELETE FROM entries WHERE idx >= 8").await;
    is_frozen(&lab, "entries 8 to 9 are gone").await;
}

#[tokio::test]
async fn one_entry_deleted() {
    let lab = ten().await;
    lab.tamper("DELETE FROM entries WHERE idx = 4").await;
    is_frozen(&lab, "of entries 0 to 9 only 9 are stored").await;
}

#[tokio::test]
async fn an_entry_added_without_the_head() {
    let lab = ten().await;
    lab.tamper(
        "INSERT INTO entries SELECT 10, entry, body, salt, linkage, linkage_salt, openings, \
         agency, case_id, action, decision, time FROM entries WHERE idx = 0",
    )
    .await;
    is_frozen(&lab, "entry 10 is stored, but the head ends before it").await;
}

#[tokio::test]
async fn the_head_deleted() {
    let lab = ten().await;
    lab.tamper("DELETE FROM head").await;
    is_frozen(
        &lab,
        "the log cannot be written: a row that must be there is not",
    )
    .await;
}

#[tokio::test]
async fn the_root_edited() {
    let lab = ten().await;
    lab.tamper_per(
        "UPDATE head SET root = zeroblob(32)",
        "UPDATE head SET root = decode(repeat('00', 32), 'hex')",
    )
    .await;
    is_frozen(&lab, "the root over 10 entries").await;
}

#[tokio::test]
async fn a_node_edited_or_deleted() {
    let lab = ten().await;
    let backup = lab.back_up().await;
    lab.tamper_per(
        "UPDATE nodes SET hash = zeroblob(32)",
        "UPDATE nodes SET hash = decode(repeat('00', 32), 'hex')",
    )
    .await;
    is_frozen(&lab, "the root over 10 entries").await;
    lab.restore(&backup).await;
    lab.tamper("DELETE FROM nodes WHERE idx > 15").await;
    is_frozen(&lab, "nodes of the tree of 10 entries").await;
}

#[tokio::test]
async fn a_checkpoint_of_another_key_or_tree() {
    let lab = ten().await;
    let backup = lab.back_up().await;
    lab.tamper("UPDATE head SET checkpoint = ''").await;
    is_frozen(&lab, "the stored checkpoint of 10 entries is not signed").await;
    lab.restore(&backup).await;
    lab.grow(1).await;
    let later = fs::read_to_string(lab.checkpoint_file()).unwrap();
    lab.restore(&backup).await;
    Sql::new("UPDATE head SET checkpoint = ")
        .bind(later)
        .execute(&mut lab.connect().await)
        .await
        .unwrap();
    is_frozen(
        &lab,
        "the stored checkpoint is not of the tree of 10 entries",
    )
    .await;
}

#[tokio::test]
async fn an_old_copy_restored() {
    let lab = ten().await;
    let backup = lab.back_up().await;
    lab.grow(5).await;
    lab.restore(&backup).await;
    is_frozen(
        &lab,
        "entry 14 was signed, but the database ends before entry 10",
    )
    .await;
}

#[tokio::test]
async fn an_old_copy_restored_and_grown_again() {
    let lab = ten().await;
    let backup = lab.back_up().await;
    lab.grow(5).await;
    let signed = fs::read(lab.checkpoint_file()).unwrap();
    lab.restore(&backup).await;
    fs::remove_file(lab.checkpoint_file()).unwrap();
    // Somebody forges the file, to let it run on.
    let mut connection = lab.connect().await;
    let note = Sql::new("SELECT checkpoint FROM head")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let note: String = note.get(0).unwrap();
    fs::write(lab.checkpoint_file(), note).unwrap();
    lab.grow(9).await;
    fs::write(lab.checkpoint_file(), signed).unwrap();
    is_frozen(&lab, "entries 0 to 14 are not those that were signed").await;
}

#[tokio::test]
async fn an_empty_database_in_place_of_a_log() {
    let lab = ten().await;
    let lab = lab.with_an_empty_database().await;
    is_frozen(
        &lab,
        "entry 9 was signed, but the database ends before entry 0",
    )
    .await;
}

#[tokio::test]
async fn the_file_gone_or_of_another_log() {
    let lab = ten().await;
    let own = fs::read(lab.checkpoint_file()).unwrap();
    let other = ten().await;
    fs::copy(other.checkpoint_file(), lab.checkpoint_file()).unwrap();
    is_doubtful(&lab, "the checkpoint file is not a checkpoint of this log").await;
    fs::remove_file(lab.checkpoint_file()).unwrap();
    is_doubtful(&lab, "the file of the last signed checkpoint is gone").await;
    fs::write(lab.checkpoint_file(), own).unwrap();
    lab.grow(1).await;
    assert_eq!(lab.verify().await, 11);
}

/// Frozen, where one process writes; a replica that only lacks its file does not start, and stops no other.
async fn is_doubtful(lab: &Lab, says: &str) {
    if engine() == Engine::Sqlite {
        return is_frozen(lab, says).await;
    }
    let JournalError::File { message, .. } = error(lab.try_open(lab.config()).await) else {
        panic!("it starts")
    };
    assert!(message.starts_with(says), "{message}");
}

#[tokio::test]
async fn a_log_rolled_back_while_it_runs() {
    let lab = ten().await;
    lab.tamper("CREATE TABLE saved AS SELECT size, root, checkpoint FROM head")
        .await;
    let opened = lab.open().await;
    opened.journal.call(mark(1)).await.unwrap();
    lab.tamper(
        "DELETE FROM entries WHERE idx >= 10;
         UPDATE head SET (size, root, checkpoint) = (SELECT size, root, checkpoint FROM saved)",
    )
    .await;
    // The writer notices that the head is not where it left it, and looks again.
    for _ in 0..2 {
        let told = error(opened.journal.call(mark(1)).await);
        assert!(matches!(told, JournalError::Frozen(_)), "{told:?}");
    }
    refuses(
        &opened,
        "entry 10 was signed, but the database ends before entry 10",
    )
    .await;
    close(opened).await;
    is_frozen(&lab, "entry 10 was signed").await;
}

#[tokio::test]
async fn an_old_copy_restored_under_a_running_log() {
    let lab = ten().await;
    let backup = lab.back_up().await;
    let opened = lab.open().await;
    opened.journal.call(mark(1)).await.unwrap();
    lab.restore(&backup).await;
    // The open file lives on where nobody finds it: what it answers stands on no log that is left.
    opened.journal.call(mark(1)).await.ok();
    close(opened).await;
    is_frozen(&lab, "entry 1").await;
}

#[tokio::test]
async fn a_frozen_log_still_serves_its_proofs() {
    let lab = ten().await;
    let backup = lab.back_up().await;
    lab.grow(1).await;
    lab.restore(&backup).await;
    let opened = lab.open().await;
    refuses(&opened, "entry 10 was signed").await;
    assert_eq!(
        opened.reader.checkpoint().await.unwrap().unwrap().head.size,
        10
    );
    assert!(opened.reader.inclusion(3, 10).await.is_ok());
    close(opened).await;
}

#[tokio::test]
async fn init_never_replaces_a_log() {
    let lab = ten().await;
    let refused = error(amanat_journal::init(&lab.config(), None).await);
    assert!(matches!(refused, JournalError::Database(_)));
    assert_eq!(lab.verify().await, 10);
}

#[tokio::test]
async fn a_missing_database_is_a_lost_log_and_not_a_new_one() {
    let lab = Lab::without_database().await;
    assert!(lab.try_open(lab.config()).await.is_err());
    assert!(!lab.file().is_some_and(std::path::Path::exists));
}

#[tokio::test]
async fn a_database_with_other_tables_is_refused() {
    let lab = ten().await;
    for steps in [
        &[][..],
        &[Step {
            name: "marks",
            sqlite: "CREATE TABLE marks (n INTEGER) STRICT",
            postgres: "CREATE TABLE marks (n bigint)",
        }],
    ] {
        let refused = error(
            lab.try_open(Config {
                steps,
                ..lab.config()
            })
            .await,
        );
        assert!(matches!(refused, JournalError::Database(_)));
    }
    let empty = Lab::without_database().await;
    if let Some(file) = empty.file() {
        fs::write(file, "").unwrap();
    }
    assert!(matches!(
        error(empty.try_open(empty.config()).await),
        JournalError::Database(_)
    ));
}

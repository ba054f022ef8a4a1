//! The file of the last checkpoint, and starting again.

use std::{
    fs,
    time::{Duration, Instant},
};

use amanat_ledger::{Head, receipt::verify};

use crate::toy::{Lab, close, mark};

#[tokio::test]
async fn the_file_has_the_last_checkpoint_within_a_second() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    for _ in 0..3 {
        opened.journal.call(mark(1)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let newest = opened.reader.checkpoint().await.unwrap().unwrap();
        assert_eq!(
            fs::read_to_string(lab.checkpoint_file()).unwrap(),
            newest.text
        );
    }
    close(opened).await;
    assert_eq!(lab.verify().await, 3);
}

#[tokio::test]
async fn ending_leaves_the_last_checkpoint_in_the_file() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    for _ in 0..5 {
        opened.journal.call(mark(1)).await.unwrap();
    }
    let newest = opened.reader.checkpoint().await.unwrap().unwrap();
    close(opened).await;
    assert_eq!(
        fs::read_to_string(lab.checkpoint_file()).unwrap(),
        newest.text
    );
}

/// Whoever copies the database file alone misses little, and the write-ahead log does not grow for ever.
#[tokio::test]
async fn what_is_written_reaches_the_database_file_while_the_log_is_open() {
    let lab = Lab::new().await;
    let Some(file) = lab.file() else {
        eprintln!("skipped on PostgreSQL, which folds its own: the database file");
        return;
    };
    let opened = lab.open().await;
    opened.journal.call(mark(1)).await.unwrap();
    let newest = opened.reader.checkpoint().await.unwrap().unwrap().text;
    let holds = |bytes: &[u8]| {
        let mut places = bytes.windows(newest.len());
        places.any(|place| place == newest.as_bytes())
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds(&fs::read(file).unwrap()) {
        assert!(Instant::now() < deadline, "it was never folded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    close(opened).await;
}

#[tokio::test]
async fn a_restart_continues_the_tree() {
    let lab = Lab::new().await;
    for start in 0..4 {
        let opened = lab.open().await;
        assert_eq!(
            opened
                .reader
                .checkpoint()
                .await
                .unwrap()
                .map_or(0, |newest| newest.head.size),
            start * 3
        );
        for n in 0..3 {
            let receipt = opened.journal.call(mark(1)).await.unwrap().receipt.unwrap();
            let proven = verify(&receipt, &lab.verifier()).unwrap();
            assert_eq!((proven.index, proven.body.counter), (start * 3 + n, n + 1));
        }
        close(opened).await;
    }
    assert_eq!(lab.verify().await, 12);
}

#[tokio::test]
async fn a_log_killed_before_its_first_file_was_due_goes_on() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let first = fs::read_to_string(lab.checkpoint_file()).unwrap();
    assert_eq!(lab.verifier().open(&first).unwrap().head, Head::EMPTY);
    opened.journal.call(mark(1)).await.unwrap();
    for task in &opened.tasks {
        task.abort();
    }
    fs::write(lab.checkpoint_file(), first).unwrap();
    let opened = lab.open().await;
    assert_eq!(opened.journal.frozen(), None);
    opened.journal.call(mark(1)).await.unwrap();
    close(opened).await;
    assert_eq!(lab.verify().await, 2);
}

//! Calls and statements that fail.

use amanat_database::Engine;
use amanat_journal::JournalError;
use amanat_ledger::receipt::verify;

use crate::database::engine;
use crate::toy::{Answer, Call, Entry, Lab, Write, close, error, look, mark, receipt, together};

/// The third of five waiting calls is bad; the others are done and logged, in order.
async fn only_that_call_fails(bad: Call, says: &str) {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let outcomes = together(&opened.journal, [mark(1), mark(2), bad, look(4), mark(5)]).await;
    let Err(JournalError::Unwritable(why)) = &outcomes[2] else {
        panic!("it is answered")
    };
    assert!(why.contains(says), "{why}");
    let indexes = [0, 1, 3, 4].map(|n| {
        verify(receipt(&outcomes[n]), &lab.verifier())
            .unwrap()
            .index
    });
    assert_eq!(indexes, [0, 1, 2, 3]);
    let seen = opened.journal.call(look(3)).await.unwrap();
    assert!(
        matches!(seen.answer, Answer::Decided { marks: 0, .. }),
        "it left no mark"
    );
    assert_eq!(opened.journal.frozen(), None);
    close(opened).await;
    assert_eq!(lab.verify().await, 5);
}

#[tokio::test]
async fn a_call_whose_statement_fails_is_split_off() {
    only_that_call_fails(
        Call {
            write: Write::Unwritable,
            ..mark(3)
        },
        "refused",
    )
    .await;
}

#[tokio::test]
async fn a_call_whose_commit_fails_is_split_off() {
    only_that_call_fails(
        Call {
            write: Write::Uncommittable,
            ..mark(3)
        },
        "refused",
    )
    .await;
}

#[tokio::test]
async fn a_call_whose_entry_no_reader_would_accept_is_split_off() {
    only_that_call_fails(
        Call {
            entry: Entry::Misshapen,
            ..mark(3)
        },
        "agency_id",
    )
    .await;
}

#[tokio::test]
async fn a_checkpoint_whose_commit_failed_is_never_seen() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    opened.journal.call(mark(1)).await.unwrap();
    let before = opened.reader.checkpoint().await.unwrap();
    let bad = Call {
        write: Write::Uncommittable,
        ..mark(2)
    };
    assert!(matches!(
        error(opened.journal.call(bad).await),
        JournalError::Unwritable(_)
    ));
    assert_eq!(opened.reader.checkpoint().await.unwrap(), before);
    close(opened).await;
    assert_eq!(lab.verify().await, 1);
}

#[tokio::test]
async fn while_entries_cannot_be_written_nobody_is_answered_and_then_the_log_goes_on() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    opened.journal.call(mark(1)).await.unwrap();
    lab.tamper_per(
        "CREATE TRIGGER full_disk BEFORE INSERT ON nodes BEGIN SELECT RAISE(ABORT, 'full'); END",
        "CREATE TRIGGER full_disk BEFORE INSERT ON nodes EXECUTE FUNCTION append_only()",
    )
    .await;
    for outcome in together(&opened.journal, [mark(1), mark(2), look(3)]).await {
        assert!(matches!(error(outcome), JournalError::Unwritable(_)));
    }
    lab.tamper_per("DROP TRIGGER full_disk", "DROP TRIGGER full_disk ON nodes")
        .await;
    let next = opened.journal.call(mark(1)).await.unwrap();
    assert!(
        matches!(next.answer, Answer::Decided { marks: 1, .. }),
        "nothing of it is left"
    );
    assert_eq!(
        verify(&next.receipt.unwrap(), &lab.verifier())
            .unwrap()
            .index,
        1
    );
    close(opened).await;
    assert_eq!(lab.verify().await, 2);
}

#[tokio::test]
async fn what_was_committed_after_all_is_shown_and_filed() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    // Stands for a commit that was reported lost: the log grew, and this writer was not told.
    let other = lab.open().await;
    other.journal.call(mark(1)).await.unwrap();
    close(other).await;
    std::fs::write(lab.checkpoint_file(), "").unwrap();

    let next = opened.journal.call(mark(1)).await;
    let size = match engine() {
        Engine::Sqlite => {
            assert!(matches!(error(next), JournalError::Unwritable(_)));
            1
        }
        // Others may have written before each turn.
        Engine::Postgres => {
            assert!(next.is_ok());
            2
        }
    };
    let newest = opened.reader.checkpoint().await.unwrap().unwrap();
    assert_eq!(newest.head.size, size);
    close(opened).await;
    let filed = std::fs::read_to_string(lab.checkpoint_file()).unwrap();
    assert_eq!(lab.verifier().open(&filed).unwrap().head.size, size);
}

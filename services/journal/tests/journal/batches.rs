//! Order, sharing and limits.

use amanat_journal::JournalError;
use amanat_ledger::{commitment, receipt::verify};
use amanat_schema::AgencyId;

use crate::toy::{
    Answer, Call, Entry, Lab, SHARE, batch, close, error, hold, look, mark, receipt, together,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_callers_get_one_log_without_holes_and_a_receipt_each() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let callers: Vec<_> = (0..64)
        .map(|n| {
            let journal = opened.journal.clone();
            tokio::spawn(async move {
                let mut receipts = Vec::new();
                for _ in 0..4 {
                    let call = if n % 3 == 0 { look(n % 5) } else { mark(n % 5) };
                    receipts.push(journal.call(call).await.unwrap().receipt.unwrap());
                }
                receipts
            })
        })
        .collect();
    let mut indexes = Vec::new();
    for caller in callers {
        let mut last = None;
        for receipt in caller.await.unwrap() {
            let proven = verify(&receipt, &lab.verifier()).unwrap();
            assert!(
                last < Some(proven.index),
                "a caller's entries stand in its order"
            );
            last = Some(proven.index);
            indexes.push(proven.index);
        }
    }
    indexes.sort_unstable();
    assert_eq!(indexes, (0..256).collect::<Vec<_>>());
    close(opened).await;
    assert_eq!(lab.verify().await, 256);
}

#[tokio::test]
async fn a_receipt_shows_the_entry_and_opens_the_callers_own_commitments() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let committed = opened.journal.call(mark(3)).await.unwrap();
    let proven = verify(&committed.receipt.unwrap(), &lab.verifier()).unwrap();
    assert_eq!(proven.linkage.unwrap().case_id, [3; 16]);
    let officer = committed.officer.unwrap();
    assert_eq!(officer.value, b"officer 7");
    assert!(commitment::opens(
        commitment::officer,
        &officer,
        &proven.body.officer_commitment
    ));
    close(opened).await;
    assert_eq!(lab.verify().await, 1);
}

#[tokio::test]
async fn waiting_calls_share_a_transaction_unless_they_touch_what_another_changes() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let calls = [mark(1), mark(2), look(3), mark(1), look(2), look(3)];
    let outcomes = together(&opened.journal, calls).await;
    assert_eq!(
        outcomes.iter().map(batch).collect::<Vec<_>>(),
        [0, 0, 0, 1, 1, 0]
    );
    let indexes: Vec<_> = outcomes
        .iter()
        .map(|outcome| receipt(outcome).index)
        .collect();
    assert_eq!(indexes, [0, 1, 2, 4, 5, 3]);
    let marks: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap().answer)
        .collect();
    assert_eq!(
        marks[3],
        Answer::Decided { batch: 1, marks: 1 },
        "it sees what was before it"
    );
    close(opened).await;
    assert_eq!(lab.verify().await, 6);
}

#[tokio::test]
async fn a_transaction_serves_256_calls_at_most() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let outcomes = together(&opened.journal, (0..300).map(|_| look(1))).await;
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| batch(outcome) == 0)
            .count(),
        256
    );
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| batch(outcome) == 1)
            .count(),
        44
    );
    for (n, outcome) in (0..).zip(&outcomes) {
        let proven = verify(receipt(outcome), &lab.verifier()).unwrap();
        assert_eq!(proven.index, n);
    }
    close(opened).await;
    assert_eq!(lab.verify().await, 300);
}

#[tokio::test]
async fn when_too_many_wait_the_next_is_told_to_come_back() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let held = hold(&opened.journal).await;
    let waiting: Vec<_> = (0..1024)
        .map(|_| opened.journal.submit(look(1)).unwrap())
        .collect();
    assert!(matches!(
        error(opened.journal.submit(look(1))),
        JournalError::Busy
    ));
    held.let_go().await;
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    assert!(opened.journal.call(look(1)).await.is_ok());
    close(opened).await;
    assert_eq!(lab.verify().await, 1025);
}

#[tokio::test]
async fn one_agency_fills_its_share_of_the_queue_and_no_more_even_if_it_does_not_wait() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let of = |agency| Call {
        agency: Some(AgencyId::new([agency; 16])),
        ..mark(1)
    };
    let held = hold(&opened.journal).await;
    for _ in 0..SHARE.get() {
        drop(opened.journal.submit(of(1)).unwrap());
    }
    assert!(matches!(
        error(opened.journal.submit(of(1))),
        JournalError::Crowded
    ));
    let other = opened.journal.submit(of(2)).unwrap();
    held.let_go().await;
    other.await.unwrap().unwrap();
    opened.journal.call(of(1)).await.unwrap();
    close(opened).await;
    assert_eq!(lab.verify().await, 258);
}

#[tokio::test]
async fn a_call_whose_caller_left_is_done_and_logged_all_the_same() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    drop(opened.journal.submit(mark(1)).unwrap());
    let next = opened.journal.call(look(1)).await.unwrap();
    assert_eq!(next.answer, Answer::Decided { batch: 1, marks: 1 });
    assert_eq!(next.receipt.unwrap().index, 1);
    close(opened).await;
    assert_eq!(lab.verify().await, 2);
}

#[tokio::test]
async fn a_call_that_is_no_act_makes_no_entry() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let mut quiet = mark(1);
    quiet.entry = Entry::None;
    let committed = opened.journal.call(quiet).await.unwrap();
    assert!(committed.receipt.is_none() && committed.officer.is_none());
    assert!(opened.reader.checkpoint().await.unwrap().is_none());
    let next = opened.journal.call(look(1)).await.unwrap();
    assert_eq!(next.answer, Answer::Decided { batch: 1, marks: 1 });
    close(opened).await;
    assert_eq!(lab.verify().await, 1);
}

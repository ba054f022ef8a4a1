//! A mutation is done once, however often it is asked for.

use amanat_journal::{JournalError, RequestKey};
use amanat_ledger::receipt::verify;
use amanat_schema::{AgencyId, RequestId};

use crate::toy::{AGENCY, Answer, Call, Lab, close, error, look, mark, receipt, together};

fn key(id: u8, request: u8) -> RequestKey {
    RequestKey {
        agency: AGENCY,
        method: "Mark",
        request_id: RequestId::new([id; 16]),
        request_sha256: [request; 32],
    }
}

fn named(key: RequestKey) -> Call {
    Call {
        request: Some(key),
        ..mark(1)
    }
}

#[tokio::test]
async fn a_repeat_is_answered_from_memory_with_a_receipt_for_the_same_entry() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let first = opened
        .journal
        .call(named(key(1, 1)))
        .await
        .unwrap()
        .receipt
        .unwrap();
    opened.journal.call(mark(2)).await.unwrap();
    let again = opened.journal.call(named(key(1, 1))).await.unwrap();
    assert_eq!(again.answer, Answer::Repeated);
    assert!(again.officer.is_none());
    let again = again.receipt.unwrap();
    assert_eq!(
        (again.index, &again.body, &again.salt),
        (0, &first.body, &first.salt)
    );
    assert_eq!(
        verify(&again, &lab.verifier())
            .unwrap()
            .checkpoint
            .head
            .size,
        2
    );
    close(opened).await;
    assert_eq!(lab.verify().await, 2, "a repeat makes no entry");
}

#[tokio::test]
async fn a_repeat_is_known_after_a_restart() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    opened.journal.call(named(key(1, 1))).await.unwrap();
    close(opened).await;
    let opened = lab.open().await;
    let again = opened.journal.call(named(key(1, 1))).await.unwrap();
    assert_eq!(again.answer, Answer::Repeated);
    assert!(verify(&again.receipt.unwrap(), &lab.verifier()).is_ok());
    close(opened).await;
    assert_eq!(lab.verify().await, 1);
}

#[tokio::test]
async fn another_request_under_a_used_id_is_refused_and_changes_nothing() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    opened.journal.call(named(key(1, 1))).await.unwrap();
    let refused = error(opened.journal.call(named(key(1, 2))).await);
    assert!(matches!(refused, JournalError::RequestIdReused));
    let seen = opened.journal.call(look(1)).await.unwrap();
    assert_eq!(seen.answer, Answer::Decided { batch: 2, marks: 1 });
    close(opened).await;
    assert_eq!(lab.verify().await, 2);
}

#[tokio::test]
async fn repeats_that_wait_together_are_done_once() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let on_other_cases = [(1, 1), (2, 1), (3, 2)].map(|(case, request)| Call {
        request: Some(key(1, request)),
        ..mark(case)
    });
    let outcomes = together(&opened.journal, on_other_cases).await;
    assert_eq!(receipt(&outcomes[0]).index, 0);
    assert_eq!(outcomes[1].as_ref().ok().unwrap().answer, Answer::Repeated);
    assert!(matches!(outcomes[2], Err(JournalError::RequestIdReused)));
    close(opened).await;
    assert_eq!(lab.verify().await, 1);
}

#[tokio::test]
async fn ids_are_each_callers_and_methods_own() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let agency = RequestKey {
        agency: AgencyId::new([2; 16]),
        ..key(1, 1)
    };
    let method = RequestKey {
        method: "Unmark",
        ..key(1, 1)
    };
    for key in [key(1, 1), agency, method] {
        let committed = opened.journal.call(named(key)).await.unwrap();
        assert_ne!(committed.answer, Answer::Repeated);
    }
    close(opened).await;
    assert_eq!(lab.verify().await, 3);
}

//! What a reader is served: entries, proofs, pages.

use std::time::Duration;

use amanat_journal::{EntryFilter, JournalError, Keys, page, stored_entry};
use amanat_ledger::{Edge, Head, LogEntry, commitment, verify_consistency, verify_inclusion};
use amanat_schema::{Time, audit::Action};

use crate::toy::{AGENCY, Lab, case, close, error, look, mark, together};

#[tokio::test]
async fn every_entry_is_proved_in_every_tree_and_every_tree_extends_the_ones_before() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    together(&opened.journal, (0..20).map(mark)).await;
    opened.journal.call(look(1)).await.unwrap();
    let newest = opened.reader.checkpoint().await.unwrap().unwrap().head;
    let bundle = opened.reader.bundle(0, u32::MAX).await.unwrap();
    let entries: Vec<_> = bundle
        .iter()
        .map(|entry| LogEntry::parse(entry).unwrap())
        .collect();
    let mut edge = Edge::empty();
    let mut heads = vec![edge.head()];
    for entry in &entries {
        edge.append(entry);
        heads.push(edge.head());
    }
    assert_eq!(edge.head(), newest);
    for new in &heads {
        for (index, entry) in (0..new.size).zip(&entries) {
            let proof = opened.reader.inclusion(index, new.size).await.unwrap();
            verify_inclusion(entry.leaf_hash(), index, &proof, new).unwrap();
        }
        for old in heads.iter().filter(|old| old.size <= new.size) {
            let proof = opened.reader.consistency(old.size, new.size).await.unwrap();
            verify_consistency(old, new, &proof).unwrap();
        }
    }
    close(opened).await;
    assert_eq!(lab.verify().await, 21);
}

#[tokio::test]
async fn nothing_is_proved_of_a_tree_that_was_not_signed() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    assert!(opened.reader.bundle(0, 10).await.unwrap().is_empty());
    opened.journal.call(mark(1)).await.unwrap();
    let size = Head::EMPTY.size + 1;
    for proof in [
        opened.reader.inclusion(1, size).await,
        opened.reader.inclusion(0, size + 1).await,
        opened.reader.consistency(1, size + 1).await,
        opened.reader.consistency(2, 1).await,
        opened.reader.inclusion(u64::MAX, u64::MAX).await,
    ] {
        assert!(matches!(error(proof), JournalError::Log(_)));
    }
    close(opened).await;
}

#[tokio::test]
async fn a_page_holds_what_was_asked_for_oldest_first() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    together(&opened.journal, [mark(1), mark(2), look(1), look(3)]).await;
    let mut connection = lab.connect().await;
    let mut indexes = async |filter: EntryFilter| -> Vec<u64> {
        page(&mut connection, &filter)
            .await
            .unwrap()
            .iter()
            .map(|entry| entry.idx)
            .collect()
    };
    let all = EntryFilter {
        limit: 10,
        ..EntryFilter::default()
    };
    assert_eq!(indexes(all.clone()).await, [0, 1, 2, 3]);
    assert_eq!(
        indexes(EntryFilter {
            limit: 2,
            from: 1,
            ..all.clone()
        })
        .await,
        [1, 2]
    );
    assert_eq!(
        indexes(EntryFilter {
            agency: Some(AGENCY),
            ..all.clone()
        })
        .await
        .len(),
        4
    );
    let of_case = indexes(EntryFilter {
        case: Some(case(1)),
        ..all.clone()
    })
    .await;
    assert_eq!(of_case.len(), 2);
    let other = EntryFilter {
        action: Some(Action::ReadRecord),
        ..all
    };
    assert!(indexes(other).await.is_empty());
    close(opened).await;
    lab.verify().await;
}

#[tokio::test]
async fn a_time_is_asked_for_to_the_millisecond_even_where_the_clock_stepped_back() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    together(&opened.journal, [mark(1), mark(2), look(1), look(3)]).await;
    let mut connection = lab.connect().await;
    let entry = stored_entry(&mut connection, 0).await.unwrap().unwrap();
    let body = amanat_ledger::body::parse(&entry.body).unwrap();
    let decided = Time::parse(body.time.as_ref()).unwrap();
    let mut indexes = async |since: Option<Time>, until: Option<Time>, from, limit| {
        let filter = EntryFilter {
            since,
            until,
            from,
            limit,
            ..EntryFilter::default()
        };
        let entries = page(&mut connection, &filter).await.unwrap();
        entries.iter().map(|entry| entry.idx).collect::<Vec<_>>()
    };
    let later = decided + Duration::from_millis(1);
    assert_eq!(indexes(Some(decided), Some(later), 0, 1).await, [0]);
    assert_eq!(indexes(None, Some(decided), 0, 9).await, [0; 0]);

    lab.tamper("UPDATE entries SET time = CASE idx WHEN 0 THEN 10 WHEN 1 THEN 30 WHEN 2 THEN 20 ELSE 40 END")
        .await;
    let at = |millis| Some(Time::from_millis(millis).unwrap());
    assert_eq!(indexes(at(20), at(40), 0, 9).await, [1, 2]);
    assert_eq!(indexes(at(20), at(40), 0, 1).await, [1]);
    assert_eq!(indexes(at(20), at(40), 2, 9).await, [2]);
    assert_eq!(indexes(at(30), None, 0, 9).await, [1, 3]);
    assert_eq!(indexes(None, at(30), 0, 9).await, [0, 2]);
    assert_eq!(indexes(at(41), None, 0, 9).await, [0; 0]);
    close(opened).await;
}

#[tokio::test]
async fn the_officers_opening_is_read_back_with_its_key_until_it_is_shredded() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    opened.journal.call(mark(1)).await.unwrap();
    let mut connection = lab.connect().await;
    let Keys { openings, .. } = lab.keys();
    let stored = stored_entry(&mut connection, 0).await.unwrap().unwrap();
    let body = amanat_ledger::body::parse(&stored.body).unwrap();
    let officer = stored.officer(&openings).unwrap();
    assert!(commitment::opens(
        commitment::officer,
        &officer,
        &body.officer_commitment
    ));
    lab.tamper_per(
        "UPDATE entries SET openings = x''",
        "UPDATE entries SET openings = ''",
    )
    .await;
    let shredded = stored_entry(&mut connection, 0).await.unwrap().unwrap();
    assert!(shredded.officer(&openings).is_none());
    assert!(stored_entry(&mut connection, 1).await.unwrap().is_none());
    close(opened).await;
    assert_eq!(lab.verify().await, 1, "proofs outlive the opening");
}

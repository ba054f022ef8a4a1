//! What a reader is served: entries, proofs, pages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use amanat_database::{Engine, Sql};
use amanat_journal::{EntryFilter, JournalError, Keys};
use amanat_ledger::{Edge, Head, LogEntry, commitment, verify_consistency, verify_inclusion};
use amanat_schema::{Time, audit::Action};

use crate::{
    database::engine,
    toy::{AGENCY, Lab, Toy, case, close, error, look, mark, together},
};

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
    let indexes = async |filter: EntryFilter| -> Vec<u64> {
        let page = opened.reader.page(&filter).await.unwrap();
        page.iter().map(|entry| entry.idx).collect()
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
    let entry = opened.reader.entry(0).await.unwrap().unwrap();
    let body = amanat_ledger::body::parse(&entry.body).unwrap();
    let decided = Time::parse(body.time.as_ref()).unwrap();
    let indexes = async |since: Option<Time>, until: Option<Time>, from, limit| {
        let filter = EntryFilter {
            since,
            until,
            from,
            limit,
            ..EntryFilter::default()
        };
        let entries = opened.reader.page(&filter).await.unwrap();
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

/// A clock that goes back a little with each batch, and then on.
#[tokio::test]
async fn the_writer_keeps_the_times_and_the_index_of_each_part_of_the_log() {
    let lab = Lab::new().await;
    let ticks = AtomicI64::new(0);
    let clock = move || {
        let tick = ticks.fetch_add(1, Ordering::Relaxed);
        Time::from_millis(1_772_357_400_000 + tick * 1000 - tick % 3 * 2500).unwrap()
    };
    let (config, toy) = (lab.config(), Toy::default());
    let opened = amanat_journal::open(&config, lab.keys(), toy, Arc::new(clock));
    let opened = opened.await.unwrap();
    for _ in 0..15 {
        together(&opened.journal, (0..150).map(|_| look(1))).await;
    }
    let mut connection = lab.connect().await;
    let mut told = async |sql: &'static str| {
        let rows = Sql::new(sql).fetch_all(&mut connection).await.unwrap();
        let row = |row: &amanat_database::Row| [0, 1, 2].map(|at| row.get::<i64>(at).unwrap());
        rows.iter().map(row).collect::<Vec<_>>()
    };
    let kept = told("SELECT span, first_time, last_time FROM entry_spans ORDER BY 1").await;
    let grouped = "SELECT idx / 1024, min(time), max(time) FROM entries GROUP BY 1 ORDER BY 1";
    let mut there = told(grouped).await;
    there.pop();
    assert_eq!(there.len(), 2, "two are complete");
    assert_eq!(kept, there);
    let indexed = "SELECT idx, action, time FROM entry_index ORDER BY idx";
    let logged = "SELECT idx, action, time FROM entries WHERE idx < 2048 ORDER BY idx";
    assert_eq!(told(indexed).await, told(logged).await);
    close(opened).await;
}

#[tokio::test]
async fn a_list_that_takes_too_long_is_ended_and_holds_up_neither_writer_nor_proofs() {
    if engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite, whose readers wait for nobody: a list that takes long");
        return;
    }
    let lab = Lab::new().await;
    let opened = lab.open().await;
    opened.journal.call(mark(1)).await.unwrap();
    // What stands in for a long walk: nobody else needs this table.
    let mut other = lab.connect().await;
    other.begin("BEGIN").await.unwrap();
    let locked = "LOCK TABLE entry_spans IN ACCESS EXCLUSIVE MODE; \
                  SET LOCAL idle_in_transaction_session_timeout = 0";
    other.run(locked).await.unwrap();
    let lists: Vec<_> = (0..3)
        .map(|_| {
            let reader = opened.reader.clone();
            let filter = EntryFilter {
                since: Some(Time::from_millis(0).unwrap()),
                limit: 1,
                ..EntryFilter::default()
            };
            tokio::spawn(async move { reader.page(&filter).await })
        })
        .collect();
    let begun = Instant::now();
    for _ in 0..20 {
        opened.journal.call(mark(1)).await.unwrap();
        opened.reader.inclusion(0, 1).await.unwrap();
        assert!(opened.reader.entry(0).await.unwrap().is_some());
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "nobody waited");
    assert!(lists.iter().all(|list| !list.is_finished()));
    let mut ends = Vec::new();
    for list in lists {
        ends.push(error(list.await.unwrap()));
    }
    let slow = ends.iter().filter(|e| matches!(e, JournalError::Slow));
    assert_eq!(slow.count(), 2, "{ends:?}");
    let is_busy = |e: &JournalError| matches!(e, JournalError::Busy);
    assert!(ends.iter().any(is_busy), "who waited for them: {ends:?}");
    assert!(begun.elapsed() < Duration::from_secs(9));
    other.rollback().await.unwrap();
    let filter = EntryFilter {
        since: Some(Time::from_millis(0).unwrap()),
        limit: 1,
        ..EntryFilter::default()
    };
    let mut again = opened.reader.page(&filter).await;
    while matches!(again, Err(JournalError::Busy)) {
        again = opened.reader.page(&filter).await;
    }
    assert_eq!(again.unwrap().len(), 1);
    close(opened).await;
}

#[tokio::test]
async fn the_officers_opening_is_read_back_with_its_key_until_it_is_shredded() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    opened.journal.call(mark(1)).await.unwrap();
    let Keys { openings, .. } = lab.keys();
    let stored = opened.reader.entry(0).await.unwrap().unwrap();
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
    let shredded = opened.reader.entry(0).await.unwrap().unwrap();
    assert!(shredded.officer(&openings).is_none());
    assert!(opened.reader.entry(1).await.unwrap().is_none());
    close(opened).await;
    assert_eq!(lab.verify().await, 1, "proofs outlive the opening");
}

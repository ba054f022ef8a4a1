//! Lists over a log that is long enough to tell a walk from a look.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may panic"
)]

use std::time::Duration;

use amanat_database::Engine;
use tempfile::TempDir;

use super::*;
use crate::schema::{ENTRY_INDEX, ENTRY_SPANS, ENTRY_TIMES, FIRST, REQUESTS_BY_KEY};

#[path = "../../../database/tests/support/mod.rs"]
mod database;

/// As the version before made them.
const BEFORE: [amanat_database::Step; 3] = [FIRST, ENTRY_TIMES, REQUESTS_BY_KEY];
const ENTRIES: usize = 20_000;
/// Twenty agencies, a case each four entries, an action that is rare, and one refusal in fifty. The clock moves on by a
/// second an entry, is five seconds late now and then, once an hour ahead, and once at its beginning.
const FILL: &str = "
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 19999)
    INSERT INTO entries (idx, entry, body, salt, linkage, linkage_salt, openings, agency, case_id, action, decision,
            time)
        SELECT n, '', '', '', '', '', '', {agency}, {case}, CASE WHEN n % 4000 = 7 THEN 19 ELSE n % 4 + 1 END,
            CASE WHEN n % 50 = 0 THEN 2 ELSE 1 END,
            CASE WHEN n = 17000 THEN 1 ELSE n * 1000 END - CASE WHEN n % 97 = 0 THEN 5000 ELSE 0 END
                + CASE WHEN n BETWEEN 9000 AND 9010 THEN 3600000 ELSE 0 END
        FROM numbers";
struct Log {
    connection: Connection,
    _folder: TempDir,
}

fn id(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

fn at(millis: i64) -> Option<Time> {
    Some(Time::from_millis(millis).unwrap())
}

fn first() -> EntryFilter {
    EntryFilter {
        limit: 50,
        ..EntryFilter::default()
    }
}

impl Log {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let place = database::fresh(folder.path(), "log.db").await;
        let mut connection = place.create().await.unwrap();
        amanat_database::apply(&BEFORE, &mut connection)
            .await
            .unwrap();
        let id = |number: &str| match connection.engine() {
            Engine::Sqlite => format!("unhex(printf('%032x', {number}))"),
            Engine::Postgres => format!("decode(lpad(to_hex({number}), 32, '0'), 'hex')"),
        };
        let fill = FILL
            .replace("{agency}", &id("n % 20"))
            .replace("{case}", &id("n / 4"));
        let fill = match connection.engine() {
            Engine::Sqlite => fill.replace("''", "x''"),
            Engine::Postgres => fill,
        };
        Sql::new(fill).execute(&mut connection).await.unwrap();
        let steps = [&BEFORE[..], &[ENTRY_SPANS, ENTRY_INDEX]].concat();
        amanat_database::apply(&steps, &mut connection)
            .await
            .unwrap();
        Self {
            connection,
            _folder: folder,
        }
    }

    async fn page(&mut self, filter: &EntryFilter) -> Vec<u64> {
        let end = Instant::now() + Duration::from_mins(1);
        let page = page(&mut self.connection, filter, end).await.unwrap();
        page.unwrap().iter().map(|entry| entry.idx).collect()
    }

    /// What a list says, found the long way.
    async fn times(&mut self) -> Vec<i64> {
        let all = Sql::new("SELECT time FROM entries ORDER BY idx");
        let rows = all.fetch_all(&mut self.connection).await.unwrap();
        rows.iter().map(|row| row.get(0).unwrap()).collect()
    }

    /// How SQLite would go about it.
    async fn plan(&mut self, query: Sql<'_>) -> Vec<String> {
        let text = query.text(Engine::Sqlite).unwrap();
        let plan = Sql::new(format!("EXPLAIN QUERY PLAN {text}"));
        let rows = plan.fetch_all(&mut self.connection).await.unwrap();
        rows.iter().map(|row| row.get(3).unwrap()).collect()
    }

    /// How many rows and index entries PostgreSQL has looked at in this transaction.
    async fn looked_at(&mut self) -> i64 {
        let counted = Sql::new(
            "SELECT CAST(sum(pg_stat_get_xact_tuples_returned(oid)) AS bigint) FROM pg_class \
             WHERE relnamespace = current_schema::regnamespace",
        );
        let row = counted.fetch_one(&mut self.connection).await.unwrap();
        row.get(0).unwrap()
    }
}

/// Each filter that an officer or an auditor can set, some of which hold little or nothing.
fn filters() -> Vec<EntryFilter> {
    let (agency, case) = (Some(AgencyId::new(id(7))), Some(CaseId::new(id(2501))));
    let (rare, refused) = (Some(Action::Alarm), Some(Decision::Deny));
    let mut filters = Vec::new();
    for agency in [None, agency] {
        for case in [None, case] {
            for action in [None, rare, Some(Action::ReadRecord)] {
                for decision in [None, refused] {
                    filters.push(EntryFilter {
                        agency,
                        case,
                        action,
                        decision,
                        ..first()
                    });
                }
            }
        }
    }
    filters
}

#[tokio::test]
async fn no_entry_of_the_time_asked_for_is_missing_however_the_clock_went() {
    let mut log = Log::new().await;
    let times = log.times().await;
    assert_eq!(times.len(), ENTRIES);
    let moments = [
        1, 2, 4_091_000, 9_004_000, 12_601_000, 12_612_000, 16_995_000, 99_999_000,
    ];
    let ends = || [None].into_iter().chain(moments.map(at));
    for (since, until) in ends().flat_map(|since| ends().map(move |until| (since, until))) {
        for (from, limit) in [(0, 5), (0, 20_000), (9_005, 3), (16_500, 700)] {
            let filter = EntryFilter {
                since,
                until,
                from,
                limit,
                ..EntryFilter::default()
            };
            let is_within = |time: i64| {
                since.is_none_or(|since| since.millis() <= time)
                    && until.is_none_or(|until| time < until.millis())
            };
            let there = (0..).zip(&times).skip(usize::try_from(from).unwrap());
            let expected: Vec<u64> = there
                .filter(|(_, time)| is_within(**time))
                .map(|(idx, _)| idx)
                .take(usize::try_from(limit).unwrap())
                .collect();
            assert_eq!(log.page(&filter).await, expected, "{filter:?}");
        }
    }
}

/// The last of them is of spans that are not complete.
fn parts(parts: &[Range<i64>]) -> Vec<Run> {
    let last = parts.last().cloned();
    let run = |entries: &Range<i64>| Run {
        entries: entries.clone(),
        is_indexed: Some(entries) != last.as_ref(),
    };
    parts.iter().map(run).collect()
}

#[tokio::test]
async fn a_time_is_looked_for_where_it_is() {
    let mut log = Log::new().await;
    let within = EntryFilter {
        since: at(13_000_000),
        until: at(13_100_000),
        ..first()
    };
    let connection = &mut log.connection;
    assert_eq!(
        runs(connection, &within).await.unwrap(),
        parts(&[12_288..13_312, 16_384..17_408, 19_456..i64::MAX]),
        "also where the clock was at its beginning, and where it is not known yet"
    );
    let early = EntryFilter {
        until: at(2),
        ..first()
    };
    assert_eq!(
        runs(connection, &early).await.unwrap(),
        parts(&[0..1024, 16_384..17_408, 19_456..i64::MAX])
    );
    let later = EntryFilter {
        from: 13_000,
        ..within
    };
    assert_eq!(
        runs(connection, &later).await.unwrap(),
        parts(&[13_000..13_312, 16_384..17_408, 19_456..i64::MAX])
    );
}

/// As where a replica of an earlier version completed spans, which knows of no index.
#[tokio::test]
async fn what_another_replica_did_not_index_is_listed_and_is_indexed_with_the_next_span() {
    let mut log = Log::new().await;
    let mut before = Vec::new();
    for filter in filters() {
        before.push(log.page(&filter).await);
    }
    if log.connection.engine() == Engine::Postgres {
        let own = "ALTER TABLE entry_index DISABLE TRIGGER USER; ALTER TABLE entry_spans DISABLE TRIGGER USER";
        log.connection.run(own).await.unwrap();
    }
    let unindexed =
        "DELETE FROM entry_index WHERE idx >= 10240; DELETE FROM entry_spans WHERE span = 18";
    log.connection.run(unindexed).await.unwrap();
    for (filter, before) in filters().iter().zip(&before) {
        assert_eq!(log.page(filter).await, *before, "{filter:?}");
    }

    complete_spans(&mut log.connection, 18 * SPAN, 19 * SPAN)
        .await
        .unwrap();
    let count = Sql::new("SELECT count(*), max(idx) FROM entry_index");
    let row = count.fetch_one(&mut log.connection).await.unwrap();
    let (count, last): (i64, i64) = (row.get(0).unwrap(), row.get(1).unwrap());
    assert_eq!((count, last), (19 * 1024, 19 * 1024 - 1));
    for (filter, before) in filters().iter().zip(&before) {
        assert_eq!(log.page(filter).await, *before, "{filter:?}");
    }
}

/// Who asks for everything is shown the log itself, not what finds parts of it.
#[tokio::test]
async fn an_entry_that_is_taken_out_of_the_index_is_missing_from_no_list_of_everything() {
    let mut log = Log::new().await;
    let page = log.page(&first()).await;
    if log.connection.engine() == Engine::Postgres {
        let own = "ALTER TABLE entry_index DISABLE TRIGGER USER";
        log.connection.run(own).await.unwrap();
    }
    let hidden = "DELETE FROM entry_index WHERE idx = 7";
    log.connection.run(hidden).await.unwrap();
    assert_eq!(log.page(&first()).await, page);
    let of_its_time = EntryFilter {
        since: at(6_500),
        until: at(7_500),
        ..first()
    };
    assert_eq!(log.page(&of_its_time).await, [7]);
}

#[tokio::test]
async fn no_list_is_found_by_walking_over_the_log_of_a_file() {
    let mut log = Log::new().await;
    if log.connection.engine() == Engine::Postgres {
        eprintln!("skipped on PostgreSQL: the plans of SQLite");
        return;
    }
    let indexed = log.plan(Sql::new(COMPLETE)).await;
    assert_eq!(indexed, ["SEARCH entry_index"]);
    for filter in filters() {
        let is_narrow = filter.is_indexed();
        let indexed = Run {
            entries: 0..i64::MAX,
            is_indexed: true,
        };
        let plan = log.plan(listing(&filter, &indexed, 50)).await;
        let walked = plan
            .iter()
            .find(|step| step.starts_with("SCAN") || step.contains("B-TREE"));
        assert_eq!(walked, None, "{filter:?} {plan:?}");
        let table = if is_narrow {
            " entry_index "
        } else {
            " entries "
        };
        let looked_up = plan.iter().rfind(|step| step.contains(table)).unwrap();
        assert_eq!(
            looked_up.contains(" INDEX "),
            is_narrow,
            "{filter:?} {plan:?}"
        );
        assert_eq!(
            looked_up.contains("entries_by_case"),
            filter.case.is_some(),
            "{plan:?}"
        );
        let is_of_refusals = filter.decision.is_some() && filter.case.is_none();
        let both = filter.agency.is_some() && filter.action.is_some();
        assert!(
            !is_of_refusals || both || looked_up.contains("refusals"),
            "{filter:?} {plan:?}"
        );
    }
}

#[tokio::test]
async fn no_list_makes_postgresql_look_through_the_log() {
    let mut log = Log::new().await;
    if log.connection.engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite: the plans of PostgreSQL");
        return;
    }
    let vacuum = "VACUUM ANALYZE entries, entry_index, entry_spans";
    log.connection.run(vacuum).await.unwrap();
    let times = [
        (None, None, 1024),
        (at(13_000_000), at(13_010_000), 3 * 1024),
        (at(19_990_000), None, 1024),
        (None, at(2), 3 * 1024),
    ];
    // As the reader's connections have it.
    let custom = "SET plan_cache_mode = force_custom_plan";
    log.connection.run(custom).await.unwrap();
    log.connection.begin("BEGIN").await.unwrap();
    for filter in filters() {
        for (since, until, beside) in times {
            let filter = EntryFilter {
                since,
                until,
                ..filter.clone()
            };
            let before = log.looked_at().await;
            log.page(&filter).await;
            let looked_at = log.looked_at().await - before;
            // With no index for an agency's refusals of one action, it looks through the few of either.
            assert!(
                looked_at < 500 + beside,
                "looked at {looked_at} for {filter:?}"
            );
        }
    }
    log.connection.rollback().await.unwrap();
}

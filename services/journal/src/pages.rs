//! Lists of entries, and where in the log to look for a time: a walk over all of a log that is years long would take
//! minutes, whatever it finds.

use std::{ops::Range, time::Instant};

use amanat_database::{Connection, Error, Sql};
use amanat_schema::{AgencyId, CaseId, Time, audit::Action, policy::Decision};

use crate::{
    read::{COLUMNS, StoredEntry, parse},
    store,
};

/// How many entries a row of `entry_spans` is about; the step that made the table says so too.
const SPAN: u64 = 1024;

/// A maximum that is filtered beside it, SQLite would look for in every row.
const COMPLETE: &str = "SELECT coalesce(max(idx) + 1, 0) / 1024 FROM entry_index";

/// Which entries a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryFilter {
    pub agency: Option<AgencyId>,
    pub case: Option<CaseId>,
    pub action: Option<Action>,
    pub decision: Option<Decision>,
    /// Entries from this time on.
    pub since: Option<Time>,
    /// Entries before this time.
    pub until: Option<Time>,
    /// The first index.
    pub from: u64,
    pub limit: u32,
}

impl EntryFilter {
    fn is_of_some_time(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    /// By something that the index knows beside the time.
    fn is_indexed(&self) -> bool {
        self.agency.is_some()
            || self.case.is_some()
            || self.action.is_some()
            || self.decision.is_some()
    }
}

/// A page of entries, oldest first; `None` if they are not found by `end`.
pub(crate) async fn page(
    connection: &mut Connection,
    filter: &EntryFilter,
    end: Instant,
) -> Result<Option<Vec<StoredEntry>>, Error> {
    let mut page = Vec::new();
    for run in runs(connection, filter).await? {
        let found = u32::try_from(page.len()).unwrap_or(u32::MAX);
        let wanted = filter.limit.saturating_sub(found);
        if wanted == 0 {
            break;
        }
        if Instant::now() > end {
            return Ok(None);
        }
        let rows = listing(filter, &run, wanted).fetch_all(connection).await?;
        for row in &rows {
            page.push(parse(row)?);
        }
    }
    Ok(Some(page))
}

/// A part of the log to be looked through.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    entries: Range<i64>,
    /// All its spans are complete, so an index tells which entries it is.
    is_indexed: bool,
}

/// The parts of the log, in its order, outside which nothing is of the time asked for.
async fn runs(connection: &mut Connection, filter: &EntryFilter) -> Result<Vec<Run>, Error> {
    if !filter.is_of_some_time() && !filter.is_indexed() {
        // Who asks for everything gets it from the log itself.
        return Ok(vec![Run {
            entries: store::signed(filter.from)..i64::MAX,
            is_indexed: false,
        }]);
    }
    let complete = complete(connection).await?;
    let entry = |span: i64| span.saturating_mul(store::signed(SPAN));
    let mut runs = Vec::new();
    if filter.is_of_some_time() {
        for row in spans(filter, complete).fetch_all(connection).await? {
            let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
            runs.push(entry(first)..entry(last + 1));
        }
    } else {
        runs.push(0..entry(complete));
    }
    let indexed = runs.into_iter().map(|entries| Run {
        entries: entries.start.max(store::signed(filter.from))..entries.end,
        is_indexed: true,
    });
    let rest = Run {
        entries: entry(complete).max(store::signed(filter.from))..i64::MAX,
        is_indexed: false,
    };
    Ok(indexed
        .filter(|run| !run.entries.is_empty())
        .chain([rest])
        .collect())
}

/// How many spans are complete; what is behind them is not indexed yet.
async fn complete(connection: &mut Connection) -> Result<i64, Error> {
    Sql::new(COMPLETE).fetch_one(connection).await?.get(0)
}

/// Neighbours together, those of the complete spans that hold something of the time asked for.
fn spans(filter: &EntryFilter, complete: i64) -> Sql<'_> {
    let mut query = Sql::new(
        "SELECT min(span), max(span) FROM (SELECT span, span - row_number() OVER (ORDER BY span) AS island \
         FROM entry_spans WHERE span < ",
    )
    .bind(complete)
    .push(" AND span >= ")
    .bind(store::signed(filter.from / SPAN));
    if let Some(since) = filter.since {
        query = query.push(" AND last_time >= ").bind(since.millis());
    }
    if let Some(until) = filter.until {
        query = query.push(" AND first_time < ").bind(until.millis());
    }
    query.push(") AS found GROUP BY island ORDER BY 1")
}

/// Which entries it is, an index alone tells where there is one; only those are read.
fn listing<'a>(filter: &'a EntryFilter, run: &Run, limit: u32) -> Sql<'a> {
    // Who asks for everything of a time gets it from the log itself.
    let known = match run.is_indexed && filter.is_indexed() {
        true => " WHERE idx IN (SELECT idx FROM entry_index WHERE idx >= ",
        false => " WHERE idx IN (SELECT idx FROM entries WHERE idx >= ",
    };
    let mut query = Sql::new(COLUMNS)
        .push(known)
        .bind(run.entries.start)
        .push(" AND idx < ")
        .bind(run.entries.end);
    // A case has few entries. SQLite, which does not count, must be kept from the other indexes.
    let beside = if filter.case.is_some() { "+" } else { "" };
    if let Some(case) = filter.case {
        query = query.push(" AND case_id = ").bind(case.to_vec());
    }
    if let Some(agency) = filter.agency {
        query = query.push(" AND ").per(beside, "");
        query = query.push("agency = ").bind(agency.to_vec());
    }
    if let Some(action) = filter.action {
        query = query.push(" AND ").per(beside, "");
        query = query.push("action = ").bind(i32::from(action));
    }
    match filter.decision {
        // Not bound: the indexes of refusals hold nothing else.
        Some(Decision::Deny) => query = query.push(" AND decision = 2"),
        Some(other) => query = query.push(" AND decision = ").bind(i32::from(other)),
        None => {}
    }
    if let Some(since) = filter.since {
        query = query.push(" AND time >= ").bind(since.millis());
    }
    if let Some(until) = filter.until {
        query = query.push(" AND time < ").bind(until.millis());
    }
    let query = query.push(" ORDER BY idx LIMIT ").bind(limit);
    query.push(") ORDER BY idx")
}

/// Writes down the spans that a log of `size` entries completes, where it had `from`, and indexes their entries.
pub(crate) async fn complete_spans(
    connection: &mut Connection,
    from: u64,
    size: u64,
) -> Result<(), Error> {
    let (first, end) = (from / SPAN, size / SPAN);
    if first == end {
        return Ok(());
    }
    Sql::new(
        "INSERT INTO entry_spans (span, first_time, last_time) \
         SELECT idx / 1024, min(time), max(time) FROM entries WHERE idx >= ",
    )
    .bind(store::signed(first * SPAN))
    .push(" AND idx < ")
    .bind(store::signed(end * SPAN))
    .push(" GROUP BY idx / 1024")
    .execute(connection)
    .await?;
    // Also what another one should have: what is listed by it must have no gap.
    Sql::new(
        "INSERT INTO entry_index (idx, agency, case_id, action, decision, time) \
         SELECT idx, agency, case_id, action, decision, time FROM entries \
         WHERE idx >= (SELECT coalesce(max(idx) + 1, 0) FROM entry_index)",
    )
    .push(" AND idx < ")
    .bind(store::signed(end * SPAN))
    .push(" ORDER BY idx")
    .execute(connection)
    .await
    .map(drop)
}

#[cfg(test)]
mod tests;

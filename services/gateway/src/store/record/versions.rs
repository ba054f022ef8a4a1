//! The list of record versions that an agency may know of.

use amanat_database::{Connection, Error, Row, Sql, damaged};
use amanat_desk::{Act, Page, Rules};
use amanat_schema::{
    AgencyId, CaseId, RecordId, Time,
    audit::{Action, Linkage},
};

use crate::store::{Facts, Reply, Ruled};

pub(crate) struct ListVersions {
    pub(crate) act: Act,
    /// `None`: every case.
    pub(crate) case: Option<CaseId>,
    /// `None`: every record.
    pub(crate) record: Option<RecordId>,
    /// `None`: every source.
    pub(crate) source: Option<AgencyId>,
    pub(crate) page: Page,
}

#[derive(Debug, Clone)]
pub(crate) struct VersionRow {
    pub(super) seq: i64,
    pub(crate) case: CaseId,
    pub(crate) record: RecordId,
    pub(crate) version: u32,
    pub(crate) source: AgencyId,
    pub(crate) header_sha256: Vec<u8>,
    pub(crate) put: Time,
}

pub(in crate::store) const VERSION: &str = "SELECT r.seq, r.case_id, r.record_id, r.version, r.source, \
                                            r.header_sha256, r.put_time FROM records AS r";

pub(in crate::store) fn list(facts: &mut Facts, rules: &Rules, call: &ListVersions) -> Ruled {
    let key = (call.act.agency, call.act.request_sha256);
    let rows = facts.records.lists.get(&key).cloned().unwrap_or_default();
    let next = call.page.next(rows.len(), rows.last().map(|row| row.seq));
    // After the page was cut, so that the next one begins where it must.
    let is_listed = |row: &VersionRow| rules.directory.agency(row.source).is_some();
    let rows = rows.into_iter().filter(is_listed).collect();
    let linkage = Linkage {
        case_id: call.case.map(CaseId::to_vec).unwrap_or_default(),
        ..Linkage::default()
    };
    Ruled {
        answer: Ok(Reply::Versions { rows, next }),
        draft: Some(call.act.allowed(rules, Action::ListVersions, linkage)),
        remember: None,
    }
}

/// The caller's own versions, and those of the sources whose referrals to it are accepted and not over.
pub(super) async fn visible(
    connection: &mut Connection,
    call: &ListVersions,
) -> Result<Vec<VersionRow>, Error> {
    let rows = listing(call).fetch_all(connection).await?;
    rows.iter().map(parse_version).collect()
}

pub(in crate::store) fn listing(call: &ListVersions) -> Sql<'_> {
    // One page along each way to see a version, so that no way is walked further than a page.
    let own = Sql::new(VERSION)
        .per(" INDEXED BY records_by_source", "")
        .push(" JOIN (SELECT own.source, own.seq FROM (SELECT r.source, r.seq FROM records AS r")
        .per(few(call).unwrap_or(""), "")
        .push(" WHERE ");
    let own = matching(is_of(own, &call.act.agency), call);
    let own = page(own, "r", "r.source, r.seq", call);
    let referred = own.push(") AS own UNION SELECT referred.source, referred.seq FROM (");
    page(referred_to(referred, call), "s", "s.seq", call)
        .push(
            ") AS referred) AS page ON page.source = r.source AND page.seq = r.seq \
             ORDER BY page.seq LIMIT ",
        )
        .bind(call.page.size)
}

/// Others' versions `s`.
fn referred_to<'a>(query: Sql<'a>, call: &'a ListVersions) -> Sql<'a> {
    let query = query.push("SELECT s.source, s.seq FROM ");
    let query = match few(call) {
        Some(index) => {
            let first = query.push("records AS r").per(index, "").led_join();
            matching(first.push("referred_versions AS s ON s.seq = r.seq"), call)
        }
        None => query.push("referred_versions AS s"),
    };
    let query = query
        .push(" WHERE s.recipient = ")
        .bind(call.act.agency.as_bytes());
    match &call.source {
        Some(source) => query.push(" AND s.source = ").bind(source.as_bytes()),
        None => query,
    }
}

/// Where the few versions of a record or a case are found. SQLite, which does not count, must be kept from what an
/// agency has as a whole, which is in the order of the list.
fn few(call: &ListVersions) -> Option<&'static str> {
    if call.record.is_some() {
        Some(" INDEXED BY records_by_record")
    } else {
        call.case.map(|_| " INDEXED BY records_by_case")
    }
}

/// The filters on the versions `r`.
fn matching<'a>(mut query: Sql<'a>, call: &'a ListVersions) -> Sql<'a> {
    if let Some(case) = &call.case {
        query = query.push(" AND r.case_id = ").bind(case.as_bytes());
    }
    if let Some(record) = &call.record {
        query = query.push(" AND r.record_id = ").bind(record.as_bytes());
    }
    if let Some(source) = &call.source {
        query = is_of(query.push(" AND "), source);
    }
    query
}

/// Whose the versions `r` are, in the words of a set, which is ordered by source and number: PostgreSQL would walk all
/// versions in the order of their numbers where it guesses that many of them are this source's.
fn is_of<'a>(query: Sql<'a>, source: &'a AgencyId) -> Sql<'a> {
    query
        .push("r.source")
        .per(" = ", " = ANY (ARRAY[")
        .bind(source.as_bytes())
        .per("", "::bytea])")
}

fn page<'a>(
    query: Sql<'a>,
    versions: &'static str,
    order: &'static str,
    call: &ListVersions,
) -> Sql<'a> {
    let query = query
        .push(format!(" AND {versions}.seq > "))
        .bind(call.page.after);
    let query = match few(call) {
        // Not in the order of any index.
        Some(_) => query.push(format!(" ORDER BY +{versions}.seq")),
        None => query.push(format!(" ORDER BY {order}")),
    };
    query.push(" LIMIT ").bind(call.page.size)
}

pub(super) fn parse_version(row: &Row) -> Result<VersionRow, Error> {
    Ok(VersionRow {
        seq: row.get(0)?,
        case: CaseId::new(row.get(1)?),
        record: RecordId::new(row.get(2)?),
        version: row.get(3)?,
        source: AgencyId::new(row.get(4)?),
        header_sha256: row.get(5)?,
        put: Time::from_millis(row.get(6)?).map_err(damaged)?,
    })
}

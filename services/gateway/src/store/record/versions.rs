//! The list of record versions that an agency may know of.

use amanat_desk::{Act, Page, Rules};
use amanat_journal::damaged;
use amanat_schema::{
    AgencyId, CaseId, RecordId, Time,
    audit::{Action, Linkage},
};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use crate::store::{Facts, Reply, Ruled, referral::tables::states};

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

pub(super) const VERSION: &str =
    "SELECT seq, case_id, record_id, version, source, header_sha256, put_time FROM records AS r";
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
    connection: &mut SqliteConnection,
    call: &ListVersions,
) -> Result<Vec<VersionRow>, sqlx::Error> {
    listing(call)
        .build()
        .fetch_all(connection)
        .await?
        .iter()
        .map(parse_version)
        .collect()
}

pub(in crate::store) fn listing(call: &ListVersions) -> QueryBuilder<Sqlite> {
    let agency = call.act.agency.to_vec();
    let mut query = QueryBuilder::new(VERSION);
    // One page along each way to see a version, so that no way is walked further than a page.
    query
        .push(" WHERE seq IN (SELECT seq FROM (SELECT r.seq FROM records AS r WHERE r.source = ")
        .push_bind(agency.clone());
    matching(&mut query, call);
    query
        .push(
            ") UNION SELECT seq FROM (SELECT DISTINCT r.seq FROM referrals AS f JOIN records AS r \
             ON r.case_id = f.case_id AND r.source = f.sender WHERE f.recipient = ",
        )
        .push_bind(agency)
        .push(" AND f.state IN (");
    states(&mut query, amanat_policy::OPENING);
    query.push(")");
    matching(&mut query, call);
    query
        .push(")) ORDER BY seq LIMIT ")
        .push_bind(call.page.size);
    query
}

/// The filters on the versions `r`, and the page.
fn matching(query: &mut QueryBuilder<Sqlite>, call: &ListVersions) {
    query.push(" AND r.seq > ").push_bind(call.page.after);
    if let Some(case) = call.case {
        query.push(" AND r.case_id = ").push_bind(case.to_vec());
    }
    if let Some(record) = call.record {
        query.push(" AND r.record_id = ").push_bind(record.to_vec());
    }
    if let Some(source) = call.source {
        query.push(" AND r.source = ").push_bind(source.to_vec());
    }
    query
        .push(" ORDER BY r.seq LIMIT ")
        .push_bind(call.page.size);
}

pub(super) fn parse_version(row: &SqliteRow) -> Result<VersionRow, sqlx::Error> {
    let (case, record): (Vec<u8>, Vec<u8>) = (row.try_get(1)?, row.try_get(2)?);
    let source: Vec<u8> = row.try_get(4)?;
    Ok(VersionRow {
        seq: row.try_get(0)?,
        case: CaseId::parse(&case).map_err(damaged)?,
        record: RecordId::parse(&record).map_err(damaged)?,
        version: row.try_get(3)?,
        source: AgencyId::parse(&source).map_err(damaged)?,
        header_sha256: row.try_get(5)?,
        put: Time::from_millis(row.try_get(6)?).map_err(damaged)?,
    })
}

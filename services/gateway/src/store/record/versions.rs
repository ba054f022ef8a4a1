//! The list of record versions that an agency may know of.

use amanat_database::{Column::Number, Connection, Error, Row, Sql, damaged};
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

pub(in crate::store) const VERSION: &str =
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
    connection: &mut Connection,
    call: &ListVersions,
) -> Result<Vec<VersionRow>, Error> {
    let rows = listing(call).fetch_all(connection).await?;
    rows.iter().map(parse_version).collect()
}

pub(in crate::store) fn listing(call: &ListVersions) -> Sql<'_> {
    let agency = call.act.agency.as_bytes();
    // One page along each way to see a version, so that no way is walked further than a page.
    let own = Sql::new(VERSION)
        .push(
            " WHERE r.seq IN (SELECT own.seq FROM (SELECT r.seq FROM records AS r \
             WHERE r.source = ",
        )
        .bind(agency);
    let referred = matching(own, call)
        .push(
            ") AS own UNION SELECT referred.seq FROM (SELECT DISTINCT r.seq FROM referrals AS f \
             JOIN records AS r ON r.case_id = f.case_id AND r.source = f.sender \
             WHERE f.recipient = ",
        )
        .bind(agency)
        .push(" AND ")
        .is_one_of(
            Number("f.state"),
            amanat_policy::OPENING.into_iter().map(i32::from),
        );
    matching(referred, call)
        .push(") AS referred) ORDER BY r.seq LIMIT ")
        .bind(call.page.size)
}

/// The filters on the versions `r`, and the page.
fn matching<'a>(query: Sql<'a>, call: &'a ListVersions) -> Sql<'a> {
    let mut query = query.push(" AND r.seq > ").bind(call.page.after);
    if let Some(case) = &call.case {
        query = query.push(" AND r.case_id = ").bind(case.as_bytes());
    }
    if let Some(record) = &call.record {
        query = query.push(" AND r.record_id = ").bind(record.as_bytes());
    }
    if let Some(source) = &call.source {
        query = query.push(" AND r.source = ").bind(source.as_bytes());
    }
    query.push(" ORDER BY r.seq LIMIT ").bind(call.page.size)
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

//! Counts over all agencies, for the operator: numbers, and nothing of whose they are.

use amanat_journal::{JournalError, Reader};
use amanat_schema::{AgencyId, Time};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::referral::tables::states;

pub(crate) struct Counts {
    pub(crate) overdue: i64,
    pub(crate) records: i64,
}

/// Of these agencies, as of now.
pub(crate) async fn count(
    reader: &Reader,
    agencies: Vec<AgencyId>,
    now: Time,
) -> Result<Counts, JournalError> {
    let mut connection = reader.connection().await?;
    let overdue = overdue(agencies, now)
        .build()
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    // Versions are never deleted, so the last one's number is their count.
    let records = sqlx::query("SELECT coalesce(max(seq), 0) FROM records")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    Ok(Counts { overdue, records })
}

/// Agency by agency: few wait for an answer among the many that had it.
pub(super) fn overdue(agencies: Vec<AgencyId>, now: Time) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "SELECT count(*) FROM referrals INDEXED BY referrals_by_recipient_and_state \
         WHERE recipient IN (",
    );
    let mut list = query.separated(", ");
    for agency in agencies {
        list.push_bind(agency.to_vec());
    }
    query.push(") AND state IN (");
    states(&mut query, amanat_policy::UNANSWERED);
    query
        .push(") AND respond_by_time < ")
        .push_bind(now.millis());
    query
}

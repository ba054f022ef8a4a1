//! Counts over all agencies, for the operator: numbers, and nothing of whose they are.

use amanat_database::{
    Column::{Bytes, Number},
    Sql,
};
use amanat_journal::{JournalError, Reader};
use amanat_schema::{AgencyId, Time};

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
    let overdue = overdue(&agencies, now).fetch_one(&mut connection).await?;
    // Versions are never deleted, so the last one's number is their count; on PostgreSQL it counts those too that
    // a batch which failed would have put.
    let records = Sql::new("SELECT coalesce(max(seq), 0) FROM records")
        .fetch_one(&mut connection)
        .await?;
    Ok(Counts {
        overdue: overdue.get(0)?,
        records: records.get(0)?,
    })
}

/// Agency by agency: few wait for an answer among the many that had it.
pub(super) fn overdue(agencies: &[AgencyId], now: Time) -> Sql<'_> {
    Sql::new("SELECT count(*) FROM referrals")
        .per(" INDEXED BY referrals_by_recipient_and_state", "")
        .push(" WHERE ")
        .is_one_of(Bytes("recipient"), agencies.iter().map(AgencyId::as_bytes))
        .push(" AND ")
        .is_one_of(
            Number("state"),
            amanat_policy::UNANSWERED.into_iter().map(i32::from),
        )
        .push(" AND respond_by_time < ")
        .bind(now.millis())
}

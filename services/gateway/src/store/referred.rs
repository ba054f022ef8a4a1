//! Which versions of others' records each agency may know of: what records and referrals say, kept in the order in
//! which it is listed. Found for each page anew, it would be looked up in every case that a referral ever opened.

use amanat_database::{
    Column::{self, Bytes, Number},
    Connection, Engine, Error, Insert, Sql, Value,
};
use amanat_policy::ReferralTerms;

/// Puts versions into `records`, of which then those know to whom their cases are open.
pub(super) async fn put<'a, const N: usize>(
    connection: &mut Connection,
    columns: [Column<'a>; N],
    rows: Vec<[Value<'a>; N]>,
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let known = match connection.engine() {
        Engine::Sqlite => {
            let count = rows.len();
            Insert::into("records", columns, rows)
                .execute(connection)
                .await?;
            known_on_sqlite(count)
        }
        // In one round trip.
        Engine::Postgres => put_on_postgres(columns, rows),
    };
    known.execute(connection).await.map(drop)
}

/// Of the versions that this connection put last: their numbers follow each other.
pub(super) fn known_on_sqlite(count: usize) -> Sql<'static> {
    known(Sql::default(), "records")
        .push(" AND r.seq > last_insert_rowid() - ")
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
}

pub(super) fn put_on_postgres<'a, const N: usize>(
    columns: [Column<'a>; N],
    rows: Vec<[Value<'a>; N]>,
) -> Sql<'a> {
    let put = Sql::new("WITH put AS (").inserting("records", columns, rows);
    known(put.push(" RETURNING seq, case_id, source) "), "put")
}

fn known<'a>(query: Sql<'a>, versions: &'static str) -> Sql<'a> {
    let query = query.push(format!(
        "INSERT INTO referred_versions (recipient, seq, source) \
         SELECT DISTINCT f.recipient, r.seq, r.source FROM {versions} AS r"
    ));
    let query = query
        .led_join()
        .push("referrals AS f ON f.case_id = r.case_id AND f.sender = r.source WHERE ");
    is_open(query)
}

/// After referrals came to open their cases.
pub(super) async fn opened(
    connection: &mut Connection,
    referrals: &[&ReferralTerms],
) -> Result<(), Error> {
    if referrals.is_empty() {
        return Ok(());
    }
    opening(referrals).execute(connection).await.map(drop)
}

pub(super) fn opening<'a>(referrals: &[&'a ReferralTerms]) -> Sql<'a> {
    let found = Sql::new(
        "INSERT INTO referred_versions (recipient, seq, source) \
         SELECT DISTINCT moved.recipient, r.seq, r.source FROM ",
    );
    // Another referral may have opened them before.
    of_cases(found, referrals).push(" WHERE true ON CONFLICT DO NOTHING")
}

/// After referrals ceased to, which others in their cases may still do.
pub(super) async fn closed(
    connection: &mut Connection,
    referrals: &[&ReferralTerms],
) -> Result<(), Error> {
    if referrals.is_empty() {
        return Ok(());
    }
    closing(referrals).execute(connection).await.map(drop)
}

pub(super) fn closing<'a>(referrals: &[&'a ReferralTerms]) -> Sql<'a> {
    let gone = Sql::new(
        "DELETE FROM referred_versions WHERE (recipient, seq) IN (SELECT moved.recipient, r.seq FROM ",
    );
    let gone = of_cases(gone, referrals).push(
        " WHERE NOT EXISTS (SELECT 1 FROM referrals AS f WHERE f.case_id = moved.case_id \
         AND f.sender = moved.sender AND f.recipient = moved.recipient AND ",
    );
    is_open(gone).push("))")
}

/// The senders' versions `r` in the cases of the referrals `moved`.
fn of_cases<'a>(query: Sql<'a>, referrals: &[&'a ReferralTerms]) -> Sql<'a> {
    let columns = [Bytes("recipient"), Bytes("case_id"), Bytes("sender")];
    let rows = referrals.iter().map(|terms| {
        [
            terms.recipient.as_bytes().into(),
            terms.case.as_bytes().into(),
            terms.sender.as_bytes().into(),
        ]
    });
    query
        .rows("moved", columns, rows)
        .led_join()
        .push("records AS r ON r.case_id = moved.case_id AND r.source = moved.sender")
}

fn is_open(query: Sql<'_>) -> Sql<'_> {
    query.is_one_of(
        Number("f.state"),
        amanat_policy::OPENING.into_iter().map(i32::from),
    )
}

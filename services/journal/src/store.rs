//! The journal's own statements. Sets are bound as one JSON array of hexadecimal ids, rows as one
//! multi-row VALUES: a driver call costs more than a row.

use amanat_ledger::{Hash, Head};
use amanat_schema::{Time, audit::EntryBody};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use crate::RequestKey;

/// The most rows of one statement: each number of rows is a statement of its own, which stays prepared.
const ROWS: usize = 64;

/// One entry as it is stored.
pub(crate) struct EntryRow {
    pub(crate) idx: u64,
    pub(crate) entry: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) salt: [u8; 32],
    pub(crate) linkage: Vec<u8>,
    pub(crate) linkage_salt: [u8; 32],
    pub(crate) openings: Vec<u8>,
    pub(crate) case_id: Vec<u8>,
    pub(crate) parsed: EntryBody,
}

/// A remembered mutation.
pub(crate) struct Remembered {
    pub(crate) request_sha256: Vec<u8>,
    pub(crate) idx: u64,
    pub(crate) answer: Vec<u8>,
}

/// The binding of a set of ids: a JSON array of hexadecimal strings, read by `json_each` and `unhex`.
pub fn id_set<'a>(ids: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut text = String::from("[");
    for id in ids {
        if text.len() > 1 {
            text.push(',');
        }
        text.push('"');
        text.push_str(&hex::encode(id));
        text.push('"');
    }
    text.push(']');
    text
}

/// The error of a stored value that no longer parses: it fails the batch, and so the call that needs it.
pub fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// SQLite's integers are signed; the log never reaches their end.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn null_if_empty(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

/// An entry that the writer made always has its time.
fn millis(body: &EntryBody) -> i64 {
    Time::parse(body.time.as_ref()).map_or(0, Time::millis)
}

pub(crate) async fn insert_entries(
    connection: &mut SqliteConnection,
    rows: &[EntryRow],
) -> Result<(), sqlx::Error> {
    for rows in rows.chunks(ROWS) {
        QueryBuilder::<Sqlite>::new(
            "INSERT INTO entries (idx, entry, body, salt, linkage, linkage_salt, openings, agency, \
         case_id, action, decision, time) ",
        )
        .push_values(rows, |mut row, entry| {
            row.push_bind(signed(entry.idx))
                .push_bind(entry.entry.as_slice())
                .push_bind(entry.body.as_slice())
                .push_bind(entry.salt.as_slice())
                .push_bind(entry.linkage.as_slice())
                .push_bind(entry.linkage_salt.as_slice())
                .push_bind(entry.openings.as_slice())
                .push_bind(null_if_empty(&entry.parsed.agency_id))
                .push_bind(null_if_empty(&entry.case_id))
                .push_bind(entry.parsed.action)
                .push_bind(entry.parsed.decision)
                .push_bind(millis(&entry.parsed));
        })
        .build()
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(crate) async fn insert_nodes(
    connection: &mut SqliteConnection,
    nodes: &[(u64, Hash)],
) -> Result<(), sqlx::Error> {
    for nodes in nodes.chunks(ROWS) {
        QueryBuilder::<Sqlite>::new("INSERT INTO nodes (idx, hash) ")
            .push_values(nodes, |mut row, (idx, hash)| {
                row.push_bind(signed(*idx)).push_bind(hash.0.as_slice());
            })
            .build()
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Moves the head, if it still stands where this writer left it.
pub(crate) async fn advance_head(
    connection: &mut SqliteConnection,
    from: u64,
    to: &Head,
    checkpoint: &str,
) -> Result<(), sqlx::Error> {
    let moved =
        sqlx::query("UPDATE head SET size = $1, root = $2, checkpoint = $3 WHERE size = $4")
            .bind(signed(to.size))
            .bind(to.root.0.as_slice())
            .bind(checkpoint)
            .bind(signed(from))
            .execute(connection)
            .await?
            .rows_affected();
    if moved == 1 {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}

/// Writes the head as it is.
pub(crate) async fn rewrite_head(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE head SET size = size")
        .execute(connection)
        .await
        .map(drop)
}

pub(crate) async fn insert_requests(
    connection: &mut SqliteConnection,
    rows: &[(RequestKey, u64, Vec<u8>)],
) -> Result<(), sqlx::Error> {
    for rows in rows.chunks(ROWS) {
        QueryBuilder::<Sqlite>::new(
            "INSERT INTO requests (agency, method, request_id, request_sha256, idx, answer) ",
        )
        .push_values(rows, |mut row, (key, idx, answer)| {
            row.push_bind(key.agency.to_vec())
                .push_bind(key.method)
                .push_bind(key.request_id.to_vec())
                .push_bind(key.request_sha256.as_slice())
                .push_bind(signed(*idx))
                .push_bind(answer.as_slice());
        })
        .build()
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// What is remembered of each request, in the order of `keys`.
pub(crate) async fn remembered(
    connection: &mut SqliteConnection,
    keys: &[Option<&RequestKey>],
) -> Result<Vec<Option<Remembered>>, sqlx::Error> {
    let mut found: Vec<Option<Remembered>> = keys.iter().map(|_| None).collect();
    if keys.iter().all(Option::is_none) {
        return Ok(found);
    }
    let asked: Vec<_> = keys
        .iter()
        .flatten()
        .map(|key| {
            let (agency, id) = (key.agency.as_bytes(), key.request_id.as_bytes());
            (hex::encode(agency), key.method, hex::encode(id))
        })
        .collect();
    // CROSS: the keys asked for lead, each to its row.
    let rows = sqlx::query(
        "SELECT agency, method, request_id, request_sha256, idx, answer \
         FROM json_each($1) AS asked CROSS JOIN requests \
         ON agency = unhex(asked.value ->> 0) AND method = asked.value ->> 1 \
         AND request_id = unhex(asked.value ->> 2)",
    )
    .bind(serde_json::to_string(&asked).unwrap_or_default())
    .fetch_all(connection)
    .await?;
    for row in rows {
        let (agency, method): (Vec<u8>, String) = (row.try_get(0)?, row.try_get(1)?);
        let request_id: Vec<u8> = row.try_get(2)?;
        let matches = |key: &RequestKey| {
            key.agency.as_bytes().as_slice() == agency
                && key.method == method
                && key.request_id.as_bytes().as_slice() == request_id
        };
        let request_sha256: Vec<u8> = row.try_get(3)?;
        let (idx, answer): (i64, Vec<u8>) = (row.try_get(4)?, row.try_get(5)?);
        for (slot, key) in found.iter_mut().zip(keys) {
            if key.is_some_and(matches) {
                *slot = Some(Remembered {
                    request_sha256: request_sha256.clone(),
                    idx: unsigned(idx),
                    answer: answer.clone(),
                });
            }
        }
    }
    Ok(found)
}

/// The stored hashes of some nodes, in the order asked; one is missing only in a damaged database.
pub(crate) async fn nodes(
    connection: &mut SqliteConnection,
    indexes: &[u64],
) -> Result<Vec<Hash>, sqlx::Error> {
    let asked = serde_json::to_string(indexes).unwrap_or_default();
    let rows = sqlx::query(
        "SELECT nodes.hash FROM json_each($1) AS asked JOIN nodes ON nodes.idx = asked.value \
         ORDER BY asked.key",
    )
    .bind(asked)
    .fetch_all(connection)
    .await?;
    if rows.len() != indexes.len() {
        return Err(sqlx::Error::RowNotFound);
    }
    rows.iter()
        .map(|row| {
            let hash: Vec<u8> = row.try_get(0)?;
            hash.try_into()
                .map(Hash)
                .map_err(|_| sqlx::Error::RowNotFound)
        })
        .collect()
}

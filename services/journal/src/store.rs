//! The journal's own statements.

use amanat_database::{
    Column::{Bytes, Number, Text},
    Connection, Engine, Error, Insert, Row, Sql, damaged,
};
use amanat_ledger::{Hash, Head};
use amanat_schema::{
    Time,
    audit::{Action, EntryBody, Linkage},
    policy::Decision,
};
use prost::Message as _;

use crate::{Logged, RequestKey, pages::complete_spans, scribe::Growth};

/// Begins a transaction on PostgreSQL: writers, in whichever process, take turns at this row.
const TURN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on; \
     SELECT size, root, checkpoint, frozen, current_setting('synchronous_standby_names') <> '' \
     FROM head FOR UPDATE";

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

/// The head as others may have left it.
pub(crate) struct Turn {
    pub(crate) size: u64,
    pub(crate) root: [u8; 32],
    pub(crate) checkpoint: String,
    /// Why no replica may write any more; empty while all may.
    pub(crate) frozen: String,
    /// Whether a commit waits for a standby, as far as the server is set to.
    pub(crate) is_synchronous: bool,
}

/// Both engines' integers are signed; the log never reaches their end.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn null_if_empty(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

/// An entry that the writer made always has its time.
fn millis(body: &EntryBody) -> i64 {
    Time::parse(body.time.as_ref()).map_or(0, Time::millis)
}

/// Begins a transaction that writes; `None` where nobody else can have written.
pub(crate) async fn begin(connection: &mut Connection) -> Result<Option<Turn>, Error> {
    let Some(row) = connection.begin(TURN).await? else {
        return Ok(None);
    };
    // Text, as all that is answered without a prepared statement: it cannot be borrowed.
    let root: Vec<u8> = row.get(1)?;
    Ok(Some(Turn {
        size: row.get(0)?,
        root: root.try_into().map_err(|_| Error::RowNotFound)?,
        checkpoint: row.get(2)?,
        frozen: row.get(3)?,
        is_synchronous: row.get(4)?,
    }))
}

/// Adds what a batch logged, and moves the head if it still stands where this writer left it.
pub(crate) async fn append(
    connection: &mut Connection,
    growth: &Growth,
    from: u64,
    to: &Head,
    checkpoint: &str,
) -> Result<(), Error> {
    let columns = [
        Number("idx"),
        Bytes("entry"),
        Bytes("body"),
        Bytes("salt"),
        Bytes("linkage"),
        Bytes("linkage_salt"),
        Bytes("openings"),
        Bytes("agency"),
        Bytes("case_id"),
        Number("action"),
        Number("decision"),
        Number("time"),
    ];
    let entries = growth.rows.iter().map(|entry| {
        [
            signed(entry.idx).into(),
            entry.entry.as_slice().into(),
            entry.body.as_slice().into(),
            (&entry.salt).into(),
            entry.linkage.as_slice().into(),
            (&entry.linkage_salt).into(),
            entry.openings.as_slice().into(),
            null_if_empty(&entry.parsed.agency_id).into(),
            null_if_empty(&entry.case_id).into(),
            entry.parsed.action.into(),
            entry.parsed.decision.into(),
            millis(&entry.parsed).into(),
        ]
    });
    let of_nodes = [Number("idx"), Bytes("hash")];
    let nodes = growth
        .nodes
        .iter()
        .map(|(idx, hash)| [signed(*idx).into(), (&hash.0).into()]);
    let of_requests = [
        Bytes("agency"),
        Text("method"),
        Bytes("request_id"),
        Bytes("request_sha256"),
        Number("idx"),
        Bytes("answer"),
    ];
    let requests = growth.requests.iter().map(|(key, idx, answer)| {
        [
            key.agency.as_bytes().into(),
            key.method.into(),
            key.request_id.as_bytes().into(),
            (&key.request_sha256).into(),
            signed(*idx).into(),
            answer.as_slice().into(),
        ]
    });
    let moved = match connection.engine() {
        Engine::Sqlite => {
            Insert::into("entries", columns, entries)
                .execute(connection)
                .await?;
            Insert::into("nodes", of_nodes, nodes)
                .execute(connection)
                .await?;
            Insert::into("requests", of_requests, requests)
                .execute(connection)
                .await?;
            moving(Sql::default(), from, to, checkpoint)
                .execute(connection)
                .await?
        }
        // A round trip each would be most of a batch's time.
        Engine::Postgres => {
            let sql = Sql::new("WITH added AS (")
                .inserting("entries", columns, entries)
                .push("), grown AS (")
                .inserting("nodes", of_nodes, nodes)
                .push("), done AS (")
                .inserting("requests", of_requests, requests)
                .push(") ");
            let sql = moving(sql, from, to, checkpoint);
            sql.execute(connection).await?
        }
    };
    if moved != 1 {
        return Err(Error::RowNotFound);
    }
    complete_spans(connection, from, to.size).await
}

fn moving<'a>(sql: Sql<'a>, from: u64, to: &'a Head, checkpoint: &'a str) -> Sql<'a> {
    sql.push("UPDATE head SET size = ")
        .bind(signed(to.size))
        .push(", root = ")
        .bind(to.root.0)
        .push(", checkpoint = ")
        .bind(checkpoint)
        .push(" WHERE size = ")
        .bind(signed(from))
}

/// Puts the head on a log that has none.
pub(crate) async fn begin_head(
    connection: &mut Connection,
    head: &Head,
    checkpoint: &str,
) -> Result<(), Error> {
    Sql::new("INSERT INTO head (id, size, root, checkpoint")
        .per("", ", frozen")
        .push(") VALUES (1, ")
        .bind(signed(head.size))
        .push(", ")
        .bind(head.root.0)
        .push(", ")
        .bind(checkpoint)
        .per("", ", ''")
        .push(")")
        .execute(connection)
        .await
        .map(drop)
}

/// As much as a large batch writes, on SQLite: a disk that is full takes a page or two more.
const PROBE: &str = "BEGIN IMMEDIATE; CREATE TABLE probe (filler BLOB); INSERT INTO probe VALUES (zeroblob(524288)); \
     DROP TABLE probe; COMMIT";

/// Writes something, and leaves nothing of it.
pub(crate) async fn probe(connection: &mut Connection) -> Result<(), Error> {
    match connection.engine() {
        Engine::Sqlite => connection.run(PROBE).await,
        Engine::Postgres => connection.run("UPDATE head SET size = size").await,
    }
}

/// Lets no replica write any more. SQLite has one, which knows.
pub(crate) async fn freeze(connection: &mut Connection, why: &str) -> Result<(), Error> {
    if connection.engine() == Engine::Sqlite {
        return Ok(());
    }
    Sql::new("UPDATE head SET frozen = ")
        .bind(why)
        .push(" WHERE frozen = ''")
        .execute(connection)
        .await
        .map(drop)
}

/// What was logged from an index on.
pub(crate) async fn logged(connection: &mut Connection, from: u64) -> Result<Vec<Logged>, Error> {
    let rows = Sql::new("SELECT action, decision, linkage FROM entries WHERE idx >= ")
        .bind(signed(from))
        .push(" ORDER BY idx")
        .fetch_all(connection)
        .await?;
    let parse = |row: &Row| {
        let linkage: Vec<u8> = row.get(2)?;
        Ok(Logged {
            action: Action::try_from(row.get::<i32>(0)?).map_err(damaged)?,
            decision: Decision::try_from(row.get::<i32>(1)?).map_err(damaged)?,
            linkage: Linkage::decode(linkage.as_slice()).map_err(damaged)?,
        })
    };
    rows.iter().map(parse).collect()
}

/// What is remembered of each request, in the order of `keys`.
pub(crate) async fn remembered(
    connection: &mut Connection,
    keys: &[Option<&RequestKey>],
) -> Result<Vec<Option<Remembered>>, Error> {
    let mut found: Vec<Option<Remembered>> = keys.iter().map(|_| None).collect();
    if keys.iter().all(Option::is_none) {
        return Ok(found);
    }
    let asked = keys.iter().enumerate().filter_map(|(at, key)| {
        let key = (*key)?;
        let at = i64::try_from(at).ok()?;
        let (agency, id) = (key.agency.as_bytes(), key.request_id.as_bytes());
        Some([at.into(), agency.into(), key.method.into(), id.into()])
    });
    let rows = Sql::new("SELECT at, request_sha256, idx, answer FROM ")
        .rows(
            "asked",
            [
                Number("at"),
                Bytes("of_agency"),
                Text("of_method"),
                Bytes("id"),
            ],
            asked,
        )
        .led_join()
        .push("requests ON agency = of_agency AND method = of_method AND request_id = id")
        .fetch_all(connection)
        .await?;
    for row in rows {
        let at: usize = row.get(0)?;
        if let Some(slot) = found.get_mut(at) {
            *slot = Some(Remembered {
                request_sha256: row.get(1)?,
                idx: row.get(2)?,
                answer: row.get(3)?,
            });
        }
    }
    Ok(found)
}

/// The stored hashes of some nodes, in the order asked; one is missing only in a damaged database.
pub(crate) async fn nodes(
    connection: &mut Connection,
    indexes: &[u64],
) -> Result<Vec<Hash>, Error> {
    let asked = (0_i64..).zip(indexes);
    let asked = asked.map(|(at, idx)| [at.into(), signed(*idx).into()]);
    let rows = Sql::new("SELECT nodes.hash FROM ")
        .rows("asked", [Number("at"), Number("of_node")], asked)
        .led_join()
        .push("nodes ON nodes.idx = asked.of_node ORDER BY asked.at")
        .fetch_all(connection)
        .await?;
    if rows.len() != indexes.len() {
        return Err(Error::RowNotFound);
    }
    rows.iter().map(|row| row.get(0).map(Hash)).collect()
}

//! A log verified entry by entry, from the bodies up.

use amanat_database::{
    Connection, Row, Sql, Value,
    copy::{Cells, Pages, tables},
};
use amanat_ledger::{Edge, Hash, Head, LogEntry, body, commitment};
use amanat_schema::audit::Opening;

use super::{BackupError, ENTRIES, message::Shape};
use crate::store;

/// A tree that grows with the entries that pass.
#[derive(Default)]
pub(super) struct Walk(Option<Edge>);

/// A node of the tree with its number.
pub(super) type Node = (u64, Hash);

impl Walk {
    /// Takes the next entries, each of which must follow the one before; returns the nodes that they complete.
    ///
    /// # Errors
    /// [`BackupError::Log`] naming the first that is not whole.
    pub(super) fn pass(&mut self, table: &Shape, rows: &[Cells]) -> Result<Vec<Node>, BackupError> {
        let edge = self.0.get_or_insert_with(Edge::empty);
        let mut nodes = Vec::new();
        for row in rows {
            let idx = edge.size();
            let entry = whole(table, row, idx);
            let entry = entry.ok_or_else(|| damaged(format!("entry {idx} is gone or damaged")))?;
            nodes.extend(edge.append(&entry));
        }
        Ok(nodes)
    }

    /// # Errors
    /// [`BackupError::Log`] unless the tree is that one.
    pub(super) fn ends_at(self, head: &Head) -> Result<(), BackupError> {
        let walked = self.0.unwrap_or_else(Edge::empty).head();
        if walked == *head {
            Ok(())
        } else if walked.size == head.size {
            Err(damaged(format!(
                "the root over {} entries is not the signed one",
                head.size
            )))
        } else {
            Err(damaged(format!(
                "it has {} entries, and {} were signed",
                walked.size, head.size
            )))
        }
    }
}

/// The entry, if index, body, salt and linkage are those that it commits to.
fn whole(table: &Shape, row: &Cells, idx: u64) -> Option<LogEntry> {
    let cell = |column| row.get(table.place(column)?);
    let bytes = |column| match cell(column)? {
        Value::Bytes(bytes) => Some(bytes.as_ref()),
        Value::Null | Value::Text(_) | Value::Number(_) => None,
    };
    let stored = LogEntry::parse(bytes("entry")?).ok()?;
    let (salt, content) = (bytes("salt")?.try_into().ok()?, bytes("body")?);
    let linkage = Opening {
        value: bytes("linkage")?.to_vec(),
        salt: bytes("linkage_salt")?.to_vec(),
    };
    let committed = body::parse(content).ok()?.linkage_commitment;
    let is_next = matches!(cell("idx")?, Value::Number(at) if *at == store::signed(idx));
    let holds = LogEntry::new(salt, content) == stored
        && commitment::opens(commitment::linkage, &linkage, &committed);
    (is_next && holds).then_some(stored)
}

/// Reads the log of a database back, entries and nodes.
pub(super) async fn stored(connection: &mut Connection, head: &Head) -> Result<(), BackupError> {
    let tables = tables(connection).await?;
    let missing = || BackupError::Table(ENTRIES.to_owned());
    let entries = tables.iter().find(|table| table.name == ENTRIES);
    let entries = entries.ok_or_else(missing)?;
    let (mut walk, mut pages) = (Walk::default(), Pages::of(entries));
    let shape = Shape::of(entries);
    while let Some(rows) = pages.next(connection).await? {
        let nodes = walk.pass(&shape, &rows)?;
        compare(connection, &nodes).await?;
    }
    walk.ends_at(head)
}

/// Nodes are numbered without a gap, in the order of their entries.
async fn compare(connection: &mut Connection, nodes: &[Node]) -> Result<(), BackupError> {
    let (Some((first, _)), Some((last, _))) = (nodes.first(), nodes.last()) else {
        return Ok(());
    };
    let rows = Sql::new("SELECT idx, hash FROM nodes WHERE idx BETWEEN ")
        .bind(store::signed(*first))
        .push(" AND ")
        .bind(store::signed(*last))
        .push(" ORDER BY idx")
        .fetch_all(connection)
        .await?;
    let node = |row: &Row| Ok((row.get(0)?, Hash(row.get(1)?)));
    let stored: Result<Vec<Node>, amanat_database::Error> = rows.iter().map(node).collect();
    if stored? == nodes {
        Ok(())
    } else {
        Err(damaged(format!(
            "nodes {first} to {last} are not those of its entries"
        )))
    }
}

fn damaged(what: String) -> BackupError {
    BackupError::Log(what)
}

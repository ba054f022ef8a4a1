//! Filling a database that was empty, in one transaction: it is whole, or it is none.

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Insert, Place, Sql, StepsError,
    copy::{Cells, Table, tables},
};
use amanat_ledger::{Head, LogVerifier, SignedCheckpoint};

use super::{
    BackupError, ENTRIES, copied,
    message::Shape,
    walk::{Node, Walk, stored},
};
use crate::{
    Config, JournalError,
    open::{exists, fitting, give, load},
    store,
};

/// A database under way. It has no head before the end, and without one it is not served.
pub(super) struct Filling {
    connection: Connection,
    tables: Vec<Table>,
    entries: Shape,
    walk: Walk,
}

/// A database that was read back, and not committed yet.
pub(super) struct Filled(Connection);

impl Filling {
    /// Makes the tables that these steps made, in a database that has none.
    pub(super) async fn begin(
        config: &Config,
        owner: Option<&Place>,
        steps: &[String],
        shapes: &[Shape],
    ) -> Result<Self, BackupError> {
        let known = config.steps();
        let names = known.iter().map(|step| step.name);
        let taken = known.get(..steps.len()).ok_or(BackupError::Steps)?;
        if !names.take(steps.len()).eq(steps) {
            return Err(BackupError::Steps);
        }
        let mut connection = owner.unwrap_or(&config.database).create().await?;
        fitting(&mut connection).await?;
        match amanat_database::missing(&known, &mut connection).await {
            Err(StepsError::NotMade) => {}
            Ok(_) if !has_head(&mut connection).await? => {}
            Ok(_) => return Err(exists().into()),
            Err(error) => return Err(error.into()),
        }
        amanat_database::apply(taken, &mut connection).await?;
        // A role that is not there is found before the long part.
        give(config, owner, &mut connection).await?;
        connection.begin_filling().await?;
        let all = tables(&mut connection).await?;
        for table in &all {
            table.empty(&mut connection).await?;
        }
        let tables = copied(all);
        let differs = |shape: &&Shape| !tables.iter().any(|table| shape.is_of(table));
        if let Some(other) = shapes.iter().find(differs) {
            return Err(BackupError::Table(other.name.clone()));
        }
        let is_lacking = |table: &&Table| !shapes.iter().any(|shape| shape.is_of(table));
        if let Some(lacking) = tables.iter().find(is_lacking) {
            return Err(BackupError::Table(lacking.name.clone()));
        }
        let entries = tables.iter().find(|table| table.name == ENTRIES);
        let entries = entries.map(Shape::of);
        Ok(Self {
            connection,
            entries: entries.ok_or_else(|| BackupError::Table(ENTRIES.to_owned()))?,
            tables,
            walk: Walk::default(),
        })
    }

    pub(super) async fn add(&mut self, name: &str, rows: Vec<Cells>) -> Result<(), BackupError> {
        let table = self.tables.iter().find(|table| table.name == name);
        let table = table.ok_or_else(|| BackupError::Table(name.to_owned()))?;
        if name == ENTRIES {
            let nodes = self.walk.pass(&self.entries, &rows)?;
            add_nodes(&mut self.connection, nodes).await?;
        }
        Ok(table.add(&mut self.connection, rows).await?)
    }

    /// Puts the head on the log and reads all of it back.
    pub(super) async fn check(
        mut self,
        checkpoint: Option<&SignedCheckpoint>,
        log: &LogVerifier,
    ) -> Result<Filled, BackupError> {
        for table in &self.tables {
            table.number_on(&mut self.connection).await?;
        }
        let head = checkpoint.map_or(Head::EMPTY, |checkpoint| checkpoint.head);
        let note = checkpoint.map_or("", |checkpoint| checkpoint.text.as_str());
        store::begin_head(&mut self.connection, &head, note).await?;
        stored(&mut self.connection, &head).await?;
        let loaded = load(self.connection, log).await?;
        Ok(Filled(loaded.connection))
    }
}

impl Filled {
    /// From here on it counts. What a later version of the program adds to it, it gets too.
    pub(super) async fn keep(
        mut self,
        config: &Config,
        owner: Option<&Place>,
    ) -> Result<(), BackupError> {
        self.0.commit().await?;
        amanat_database::apply(&config.steps(), &mut self.0).await?;
        give(config, owner, &mut self.0).await?;
        Ok(self.0.close().await?)
    }
}

async fn has_head(connection: &mut Connection) -> Result<bool, JournalError> {
    let head = Sql::new("SELECT id FROM head");
    Ok(head.fetch_optional(connection).await?.is_some())
}

async fn add_nodes(
    connection: &mut Connection,
    nodes: Vec<Node>,
) -> Result<(), amanat_database::Error> {
    let rows = nodes
        .iter()
        .map(|(idx, hash)| [store::signed(*idx).into(), (&hash.0).into()]);
    Insert::into("nodes", [Number("idx"), Bytes("hash")], rows)
        .execute(connection)
        .await
}

//! All that is stored under the peppers, read and rewritten as a whole, once for each pepper added.

use amanat_database::{Column::Bytes, Connection, Engine, Error, Sql, damaged};
use amanat_schema::AgencyId;

use super::super::{
    Keys, Peppered,
    peppers::{PepperFacts, State},
};

/// The rows that one statement rewrites.
const AT_ONCE: usize = 10_000;
/// Of one statement, and of the work between two.
const UNHURRIED: &str = "SET LOCAL statement_timeout = '10min'; \
                         SET LOCAL idle_in_transaction_session_timeout = '10min'";

/// How many peppers all that is stored is under.
pub(super) async fn applied(connection: &mut Connection) -> Result<usize, Error> {
    let row = Sql::new("SELECT applied FROM pepper_state")
        .fetch_one(connection)
        .await?;
    row.get(0)
}

impl PepperFacts {
    /// The rows only if there is a pepper to put on top of them.
    pub(super) async fn load(connection: &mut Connection, keys: &Keys) -> Result<Self, Error> {
        let row = Sql::new("SELECT applied, pepper_check, pseudonym_check FROM pepper_state")
            .fetch_one(connection)
            .await?;
        let state = State {
            applied: row.get(0)?,
            pepper_check: row.get(1)?,
            pseudonym_check: row.get(2)?,
        };
        let is_behind = state.applied < keys.peppers.count();
        let mut facts = Self {
            state,
            identifiers: Vec::new(),
            canaries: Vec::new(),
            advanced: None,
        };
        if is_behind {
            if connection.engine() == Engine::Postgres {
                connection.run(UNHURRIED).await?;
            }
            let rows = Sql::new("SELECT agency, stored FROM identifiers")
                .fetch_all(connection)
                .await?;
            for row in rows {
                let identifier = (AgencyId::new(row.get(0)?), Peppered(row.get(1)?));
                facts.identifiers.push(identifier);
            }
            let rows = Sql::new("SELECT stored FROM canaries")
                .fetch_all(connection)
                .await?;
            for row in rows {
                facts.canaries.push(Peppered(row.get(0)?));
            }
        }
        Ok(facts)
    }

    pub(super) async fn write(self, connection: &mut Connection) -> Result<(), Error> {
        let Some(advanced) = self.advanced else {
            return Ok(());
        };
        for rows in advanced.identifiers.chunks(AT_ONCE) {
            repeppering(rows).execute(connection).await?;
        }
        for rows in advanced.canaries.chunks(AT_ONCE) {
            let rows = rows
                .iter()
                .map(|(Peppered(old), Peppered(new))| [old.into(), new.into()]);
            Sql::new("UPDATE canaries SET stored = moved.new_stored FROM ")
                .rows("moved", [Bytes("old_stored"), Bytes("new_stored")], rows)
                .push(" WHERE canaries.stored = moved.old_stored")
                .execute(connection)
                .await?;
        }
        let applied = i64::try_from(advanced.state.applied).map_err(damaged)?;
        Sql::new("UPDATE pepper_state SET applied = ")
            .bind(applied)
            .push(", pepper_check = ")
            .bind(advanced.state.pepper_check)
            .push(", pseudonym_check = ")
            .bind(advanced.state.pseudonym_check)
            .execute(connection)
            .await
            .map(drop)
    }
}

pub(super) fn repeppering(identifiers: &[(AgencyId, Peppered, Peppered)]) -> Sql<'_> {
    let columns = [Bytes("agency"), Bytes("old_stored"), Bytes("new_stored")];
    let rows = identifiers
        .iter()
        .map(|(agency, Peppered(old), Peppered(new))| {
            [agency.as_bytes().into(), old.into(), new.into()]
        });
    Sql::new("UPDATE identifiers SET stored = moved.new_stored FROM ")
        .rows("moved", columns, rows)
        .push(" WHERE identifiers.agency = moved.agency AND identifiers.stored = moved.old_stored")
}

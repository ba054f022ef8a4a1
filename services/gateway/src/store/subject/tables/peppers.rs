//! All that is stored under the peppers, read and rewritten as a whole, once for each pepper added.

use amanat_journal::damaged;
use sqlx::{Row as _, SqliteConnection};

use super::{
    super::{
        Keys, Peppered,
        peppers::{PepperFacts, State},
    },
    agency, bytes, rows_of,
};

/// The rows that one statement rewrites.
const AT_ONCE: usize = 10_000;

impl PepperFacts {
    /// The rows only if there is a pepper to put on top of them.
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        keys: &Keys,
    ) -> Result<Self, sqlx::Error> {
        let row = sqlx::query("SELECT applied, pepper_check, pseudonym_check FROM pepper_state")
            .fetch_one(&mut *connection)
            .await?;
        let state = State {
            applied: usize::try_from(row.try_get::<i64, _>(0)?).map_err(damaged)?,
            pepper_check: row.try_get(1)?,
            pseudonym_check: row.try_get(2)?,
        };
        let is_behind = state.applied < keys.peppers.count();
        let mut facts = Self {
            state,
            identifiers: Vec::new(),
            canaries: Vec::new(),
            advanced: None,
        };
        if is_behind {
            let rows = sqlx::query("SELECT agency, stored FROM identifiers")
                .fetch_all(&mut *connection)
                .await?;
            for row in rows {
                let identifier = (agency(&row, 0)?, Peppered(bytes(&row, 1)?));
                facts.identifiers.push(identifier);
            }
            let rows = sqlx::query("SELECT stored FROM canaries")
                .fetch_all(connection)
                .await?;
            for row in rows {
                facts.canaries.push(Peppered(bytes(&row, 0)?));
            }
        }
        Ok(facts)
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let Some(advanced) = self.advanced else {
            return Ok(());
        };
        for rows in advanced.identifiers.chunks(AT_ONCE) {
            let rows = rows.iter().map(|(agency, Peppered(old), Peppered(new))| {
                (agency.to_string(), hex::encode(old), hex::encode(new))
            });
            sqlx::query(
                "UPDATE identifiers SET stored = unhex(new.value ->> 2) FROM json_each($1) AS new \
                 WHERE agency = unhex(new.value ->> 0) AND stored = unhex(new.value ->> 1)",
            )
            .bind(rows_of(rows)?)
            .execute(&mut *connection)
            .await?;
        }
        for rows in advanced.canaries.chunks(AT_ONCE) {
            let rows = rows
                .iter()
                .map(|(Peppered(old), Peppered(new))| (hex::encode(old), hex::encode(new)));
            sqlx::query(
                "UPDATE canaries SET stored = unhex(new.value ->> 1) FROM json_each($1) AS new \
                 WHERE stored = unhex(new.value ->> 0)",
            )
            .bind(rows_of(rows)?)
            .execute(&mut *connection)
            .await?;
        }
        sqlx::query("UPDATE pepper_state SET applied = $1, pepper_check = $2, pseudonym_check = $3")
            .bind(i64::try_from(advanced.state.applied).map_err(damaged)?)
            .bind(advanced.state.pepper_check)
            .bind(advanced.state.pseudonym_check)
            .execute(connection)
            .await
            .map(drop)
    }
}

//! What the role of a service may do on PostgreSQL: read and add everywhere, change only what it says that it changes.

use crate::{Connection, Error, Sql};

/// What a service changes of a table whose rows are otherwise only added.
#[derive(Debug, Clone, Copy)]
pub struct Changing {
    pub table: &'static str,
    pub columns: &'static [&'static str],
    pub deletes: bool,
}

impl Changing {
    pub const fn columns(table: &'static str, columns: &'static [&'static str]) -> Self {
        Self {
            table,
            columns,
            deletes: false,
        }
    }

    /// Rows go; none changes.
    pub const fn deletes(table: &'static str) -> Self {
        Self {
            table,
            columns: &[],
            deletes: true,
        }
    }
}

/// Gives `role` its rights on the tables that the connection's own role has made, and takes from it what an earlier
/// version gave it beyond them.
///
/// # Errors
/// Of the driver.
pub async fn grant(
    connection: &mut Connection,
    role: &str,
    changing: &[Changing],
) -> Result<(), Error> {
    // The server quotes the names.
    for statement in [
        "GRANT USAGE ON SCHEMA %1$I TO %2$I",
        "REVOKE ALL ON ALL TABLES IN SCHEMA %1$I FROM %2$I",
        "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA %1$I TO %2$I",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA %1$I TO %2$I",
        "REVOKE INSERT ON _sqlx_migrations FROM %2$I",
    ] {
        spell_out_and_run(connection, statement, role, "", "").await?;
    }
    for changed in changing {
        for column in changed.columns {
            let statement = "GRANT UPDATE (%4$I) ON %1$I.%3$I TO %2$I";
            spell_out_and_run(connection, statement, role, changed.table, column).await?;
        }
        if changed.deletes {
            let statement = "GRANT DELETE ON %1$I.%3$I TO %2$I";
            spell_out_and_run(connection, statement, role, changed.table, "").await?;
        }
    }
    Ok(())
}

async fn spell_out_and_run(
    connection: &mut Connection,
    statement: &'static str,
    role: &str,
    table: &str,
    column: &str,
) -> Result<(), Error> {
    let spelled: String = Sql::new("SELECT format(")
        .bind(statement)
        .push("::text, current_schema(), ")
        .bind(role)
        .push("::text, ")
        .bind(table)
        .push("::text, ")
        .bind(column)
        .push("::text)")
        .fetch_one(connection)
        .await?
        .get(0)?;
    Sql::new(spelled).execute(connection).await.map(drop)
}

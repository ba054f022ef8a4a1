//! What the role of a service may do on PostgreSQL: read and add everywhere, change only where it says so.

use crate::{Connection, Error, Sql};

/// Gives `role` its rights on the tables that the connection's own role has made.
///
/// # Errors
/// Of the driver.
pub async fn grant(
    connection: &mut Connection,
    role: &str,
    changing: &[&str],
) -> Result<(), Error> {
    // The server quotes the names.
    for statement in [
        "GRANT USAGE ON SCHEMA %1$I TO %2$I",
        "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA %1$I TO %2$I",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA %1$I TO %2$I",
        "REVOKE INSERT ON _sqlx_migrations FROM %2$I",
    ] {
        spell_out_and_run(connection, statement, role, "").await?;
    }
    for table in changing {
        let statement = "GRANT UPDATE, DELETE ON %1$I.%3$I TO %2$I";
        spell_out_and_run(connection, statement, role, table).await?;
    }
    Ok(())
}

async fn spell_out_and_run(
    connection: &mut Connection,
    statement: &'static str,
    role: &str,
    table: &str,
) -> Result<(), Error> {
    let spelled: String = Sql::new("SELECT format(")
        .bind(statement)
        .push("::text, current_schema(), ")
        .bind(role)
        .push("::text, ")
        .bind(table)
        .push("::text)")
        .fetch_one(connection)
        .await?
        .get(0)?;
    Sql::new(spelled).execute(connection).await.map(drop)
}

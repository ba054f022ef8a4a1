//! What a PostgreSQL server must be set to before anything is entrusted to it: its commits last, and its own log
//! holds no values.

use crate::{Column, Connection, Engine, Error, Sql, postgres};

/// A setting and what it may be.
const REQUIRED: &[(&str, &[&str], &str)] = &[
    ("fsync", &["on"], "or a crash loses what was acknowledged"),
    (
        "full_page_writes",
        &["on"],
        "or a crash can tear what was written",
    ),
    (
        "synchronous_commit",
        &["on", "remote_apply"],
        "or a crash loses what was acknowledged; connect without a pooler between",
    ),
    (
        "idle_in_transaction_session_timeout",
        &[postgres::HUNG],
        "or a replica that hangs stops all; connect without a pooler between",
    ),
    (
        "log_statement",
        &["none", "ddl"],
        "or the server's log tells who acts on what",
    ),
    (
        "log_error_verbosity",
        &["terse"],
        "or the server's log quotes the values of a row that was refused",
    ),
    (
        "log_parameter_max_length",
        &["0"],
        "or the server's log quotes bound values",
    ),
    (
        "log_parameter_max_length_on_error",
        &["0"],
        "or the server's log quotes bound values",
    ),
];

/// What the server has to be set to otherwise, in words for its operator; nothing for SQLite.
///
/// # Errors
/// Of the driver.
pub async fn unfit(connection: &mut Connection) -> Result<Vec<String>, Error> {
    if connection.engine() == Engine::Sqlite {
        return Ok(Vec::new());
    }
    let names = REQUIRED.iter().map(|(name, ..)| [(*name).into()]);
    let rows = Sql::new("SELECT name, current_setting(name) FROM ")
        .rows("asked", [Column::Text("name")], names)
        .fetch_all(connection)
        .await?;
    let mut unfit = Vec::new();
    for row in rows {
        let (asked, set): (String, String) = (row.get(0)?, row.get(1)?);
        for (name, allowed, or) in REQUIRED.iter().filter(|(name, ..)| *name == asked) {
            if !allowed.contains(&set.as_str()) {
                let wanted = allowed.first().copied().unwrap_or_default();
                unfit.push(format!("set {name} = {wanted} (it is {set}), {or}"));
            }
        }
    }
    Ok(unfit)
}

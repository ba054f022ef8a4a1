//! The one look at the environment, to refuse what is there: the driver of PostgreSQL reads it, and a setting says all
//! that counts.

use std::env;

use amanat_database::{ENVIRONMENT, Engine, Place};

/// Goes on if nothing but the setting says how the database is reached.
///
/// # Errors
/// The variable that would count too.
pub(crate) fn unswayed(database: &Place) -> Result<(), &'static str> {
    if database.engine() == Engine::Sqlite {
        return Ok(());
    }
    let set = ENVIRONMENT.iter().find(|name| env::var_os(name).is_some());
    set.map_or(Ok(()), |name| Err(name))
}

//! A look at everything that the gateway's settings name.

use amanat_config::{Inspection, secret_hex};
use amanat_desk::inspect::Inspected;
use amanat_identity::token::Audience;
use amanat_schema::Time;

use crate::{Config, pseudonym_key};

/// What the gateway would start with at `now`, with all faults at once. Nothing is made or changed.
pub fn inspect(config: &Config, now: Time) -> Inspection {
    let mut found = Inspection::default();
    let inspected = Inspected {
        listen: &config.server,
        directory: &config.directory,
        log: &config.log,
        audience: Audience::Gateway,
        now,
    };
    inspected.look(&mut found);
    if let Some(backup) = &config.backup {
        found.take("backup.key", secret_hex(&backup.key));
    }
    for pepper in &config.subjects.peppers {
        found.take("subjects.peppers", secret_hex(pepper));
    }
    found.take("subjects.pseudonym_key", pseudonym_key(&config.subjects));
    found
}

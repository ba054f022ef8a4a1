//! A look at everything that the custodian's settings name.

use amanat_config::{Inspection, private_key_pem, secret_hex};
use amanat_desk::inspect::Inspected;
use amanat_identity::{Directory, RevocationFolder, token::Audience};
use amanat_schema::Time;

use crate::{Config, config::seed_setting, kek, oprf::OprfKeys, statement_key};

/// What the custodian would start with at `now`, with all faults at once. Nothing is made or changed.
pub fn inspect(config: &Config, now: Time) -> Inspection {
    let mut found = Inspection::default();
    let inspected = Inspected {
        listen: &config.server,
        directory: &config.directory,
        log: &config.log,
        audience: Audience::Custodian,
        now,
    };
    let directory = inspected.look(&mut found);
    let custody = &config.custody;
    found.take("custody.kek", kek(custody));
    if let Some(backup) = &config.backup {
        found.take("backup.key", secret_hex(&backup.key));
    }
    found.folder_of("custody.observed_head_file", &custody.observed_head_file);
    match directory {
        Some(directory) => listed(config, &directory, now, &mut found),
        None => unlisted(config, &mut found),
    }
    found
}

/// Against what the directory lists.
fn listed(config: &Config, directory: &Directory, now: Time, found: &mut Inspection) {
    let custody = &config.custody;
    found.take("custody.statement_key", statement_key(custody, directory));
    let lists = RevocationFolder::new(&config.directory.crls).of_gateway();
    found.take(
        "directory.crls",
        lists.end(&directory.gateway().authorities, now),
    );
    let mut keys = OprfKeys::default();
    let mut are_whole = true;
    for (number, file) in config.oprf.keys.iter().enumerate() {
        let loaded = keys.add(file, directory);
        are_whole &= found.take(seed_setting(number), loaded).is_some();
    }
    // Of those that could not be read it is told already.
    if are_whole {
        found.take("oprf.keys", keys.are_all(directory));
    }
}

/// Without a directory: whether the files can be read.
fn unlisted(config: &Config, found: &mut Inspection) {
    let statement_key = &config.custody.statement_key;
    found.take("custody.statement_key", private_key_pem(statement_key));
    for (number, file) in config.oprf.keys.iter().enumerate() {
        found.take(seed_setting(number), secret_hex(&file.seed));
    }
}

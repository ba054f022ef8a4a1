//! A party's configuration as the ceremony finds it again later.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use amanat_connector::{Profile, ProfileError};
use amanat_identity::Registrars;
use amanat_schema::directory::card;
use toml::{
    Value,
    de::{DeTable, DeValue},
};

use super::{CeremonyError, Party, folder};

/// By what a party tells the directory.
pub(super) struct Pinned {
    pub(super) file: PathBuf,
    pub(super) seen: PathBuf,
    pub(super) registrars: Registrars,
}

pub(super) fn pinned(party: &Party) -> Result<Pinned, CeremonyError> {
    let config = party.config();
    let server = |files: amanat_desk::settings::DirectoryFiles| Pinned {
        file: files.file,
        seen: files.seen,
        registrars: files.registrars,
    };
    match party.card.party() {
        card::Party::Gateway(_) => Ok(server(amanat_gateway::Config::load(&config)?.directory)),
        card::Party::Custodian(_) => Ok(server(amanat_custodian::Config::load(&config)?.directory)),
        card::Party::Agency(_) | card::Party::Registrar(_) => {
            let profile = Profile::load(&party.folder).map_err(|error| match error {
                ProfileError::Config(error) => CeremonyError::from(error),
                ProfileError::File(error) => error.into(),
                ProfileError::Unusable { path, .. } => CeremonyError::Changed { path: path.into() },
            })?;
            Ok(Pinned {
                file: profile.directory.file,
                seen: profile.directory.seen,
                registrars: profile.directory.registrars,
            })
        }
    }
}

/// Makes a profile issue tokens with another key. All else in the file stays as its owner wrote it.
pub(super) fn issue_with(path: &Path, key_id: &str, key: &str) -> Result<(), CeremonyError> {
    let changed = || CeremonyError::Changed {
        path: path.to_owned(),
    };
    let mut text = folder::text(path)?;
    let mut places: Vec<(Range<usize>, &str)> = Vec::new();
    {
        let table = DeTable::parse(&text).map_err(|_| changed())?;
        let tokens = table
            .get_ref()
            .get("tokens")
            .map(|section| section.get_ref());
        let Some(DeValue::Table(tokens)) = tokens else {
            return Err(changed());
        };
        for (setting, value) in [("key_id", key_id), ("signing_key", key)] {
            let place = tokens.get(setting).ok_or_else(changed)?;
            places.push((place.span(), value));
        }
    }
    // From the end, so that the places before stay where they are.
    places.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    for (place, value) in places {
        text.replace_range(place, &Value::from(value).to_string());
    }
    folder::replace(path, text.as_bytes())
}

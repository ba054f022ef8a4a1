//! Publishing: a directory that enough registrars have signed takes the place of the one in use.

use std::{
    fs,
    path::{Path, PathBuf},
};

use amanat_policy::DecisionTable;

use super::{
    CeremonyError, Draft,
    config::{CRLS, DIRECTORY, SUSPENSIONS, TABLE},
    error::DraftFault,
    folder,
};

/// Puts a directory, and the decision table that it names, where the parties read them. The registrars of the
/// directory that lies there must have signed it; for the first one, those that it names itself. Returns the
/// directory's file.
///
/// # Errors
/// [`CeremonyError::Draft`] if it is not signed, does not follow, or names another table.
pub fn publish(
    draft: &Draft,
    public: &Path,
    table: Option<&Path>,
) -> Result<PathBuf, CeremonyError> {
    let file = public.join(DIRECTORY);
    if file.exists() {
        let in_use = Draft::read(&file)?;
        draft.follows(&in_use)?;
        draft.is_signed_by(&in_use.registrars())?;
        // The same once more mends what a broken-off publication left.
        if draft.version() <= in_use.version() && draft.envelope != in_use.envelope {
            return Err(draft.refused(DraftFault::Superseded {
                in_use: in_use.version(),
            }));
        }
    } else {
        draft.is_signed_by(&draft.registrars())?;
    }
    let table_file = public.join(TABLE);
    let chosen = table.unwrap_or(&table_file);
    let text = decision_table(draft, chosen)?;
    for folder in [CRLS, SUSPENSIONS] {
        let path = public.join(folder);
        fs::create_dir_all(&path).map_err(|source| folder::failed(&path, source))?;
    }
    // The table first: until the directory names it nobody works by it, and with the directory everybody can.
    // The other way round connectors would follow a directory that no server can take into use yet.
    if table.is_some() {
        folder::replace(&table_file, &text)?;
    }
    folder::replace(&file, &draft.bytes())?;
    Ok(file)
}

/// The table in a file, if it is the one that the directory names.
fn decision_table(draft: &Draft, path: &Path) -> Result<Vec<u8>, CeremonyError> {
    let refused = |fault| Err(draft.refused(fault));
    let table = path.to_owned();
    if !path.exists() {
        return refused(DraftFault::OtherTable { table });
    }
    let bytes = folder::read(path)?;
    if amanat_seal::sha256(&bytes).as_slice() != draft.content.table_sha256 {
        return refused(DraftFault::OtherTable { table });
    }
    let parsed = DecisionTable::parse(&String::from_utf8_lossy(&bytes));
    if let Err(error) = parsed {
        let message = error.to_string();
        return refused(DraftFault::NoTable { table, message });
    }
    Ok(bytes)
}

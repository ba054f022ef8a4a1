//! One registrar's word that an agency, or one of its statement keys, is not to be trusted: it closes at once,
//! for a week.

use std::path::{Path, PathBuf};

use amanat_schema::{AgencyId, Time, directory};
use amanat_seal::statement::SigningKey;
use prost::Message as _;

use super::{CeremonyError, Draft, SuspensionRefusal, folder};

/// Writes a suspension into a folder and returns its file.
///
/// # Errors
/// [`CeremonyError::Suspension`] unless the directory lists the registrar, the agency and the key.
pub fn suspend(
    agency: AgencyId,
    statement_key: Option<[u8; 32]>,
    registrar: &SigningKey,
    in_force: &Draft,
    out: &Path,
    now: Time,
) -> Result<PathBuf, CeremonyError> {
    let refused = |why| Err(CeremonyError::Suspension(why));
    if !in_force.registrars().keys.contains(&registrar.public_key()) {
        return refused(SuspensionRefusal::UnknownRegistrar);
    }
    let mut agencies = in_force.content.agencies.iter();
    let Some(listed) = agencies.find(|listed| listed.agency_id == agency.as_bytes()) else {
        return refused(SuspensionRefusal::UnknownAgency(agency));
    };
    let retired = listed
        .retired_statement_keys
        .iter()
        .map(|key| &key.public_key);
    let mut keys = listed.statement_keys.iter().chain(retired);
    if statement_key.is_some_and(|key| !keys.any(|listed| *listed == key)) {
        return refused(SuspensionRefusal::UnknownKey(agency));
    }
    let id: [u8; 16] = amanat_seal::random()?;
    let suspension = directory::Suspension {
        exchange_id: in_force.content.exchange_id.clone(),
        suspension_id: id.to_vec(),
        agency_id: agency.to_vec(),
        statement_key: statement_key.map(Vec::from).unwrap_or_default(),
        directory_version: in_force.version(),
        suspend_time: Some(now.to_timestamp()),
    };
    let signed = registrar.sign(&suspension);
    let path = out.join(format!("{}.bin", hex::encode(id)));
    folder::replace(&path, &signed.encode_to_vec())?;
    Ok(path)
}

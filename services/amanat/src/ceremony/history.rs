//! What a directory says of its parties' keys, and no later one may forget: whoever drafts works by these rules, and
//! whoever signs does not have to take his word for it.

use std::collections::BTreeMap;

use amanat_schema::{
    Time,
    directory::{Directory, RetiredKey},
};
use prost_types::Timestamp;

use super::error::{DraftFault, Forgotten};

/// What a directory says of an agency that is listed, or was.
struct Entry<'a> {
    card_time: Option<&'a Timestamp>,
    in_force: &'a [Vec<u8>],
    retired: &'a [RetiredKey],
    is_former: bool,
}

/// Whether a draft keeps what the directory in use says.
///
/// # Errors
/// [`DraftFault::History`], the first that it does not keep.
pub(super) fn is_kept(in_use: &Directory, draft: &Directory) -> Result<(), DraftFault> {
    let refused = |of: String| move |forgotten| DraftFault::History { of, forgotten };
    for (name, was, is) in [
        ("the gateway", &in_use.gateway, &draft.gateway),
        ("the custodian", &in_use.custodian, &draft.custodian),
    ] {
        let [was, is] = [was, is].map(|server| server.as_ref()?.card_time.as_ref());
        card_is_kept(was, is).map_err(refused(name.to_owned()))?;
    }
    let now = entries(draft);
    for (id, was) in entries(in_use) {
        let is = now.get(id).ok_or(Forgotten::Entry);
        is.and_then(|is| was.is_kept(is))
            .map_err(refused(format!("agency {}", hex::encode(id))))?;
    }
    Ok(())
}

fn entries(directory: &Directory) -> BTreeMap<&[u8], Entry<'_>> {
    let listed = directory.agencies.iter().map(|agency| {
        let entry = Entry {
            card_time: agency.card_time.as_ref(),
            in_force: &agency.statement_keys,
            retired: &agency.retired_statement_keys,
            is_former: false,
        };
        (agency.agency_id.as_slice(), entry)
    });
    let former = directory.former_agencies.iter().map(|agency| {
        let entry = Entry {
            card_time: agency.card_time.as_ref(),
            in_force: &[],
            retired: &agency.statement_keys,
            is_former: true,
        };
        (agency.agency_id.as_slice(), entry)
    });
    listed.chain(former).collect()
}

impl Entry<'_> {
    fn is_kept(&self, next: &Self) -> Result<(), Forgotten> {
        card_is_kept(self.card_time, next.card_time)?;
        for key in self.in_force {
            if !next.in_force.contains(key) && next.retired(key).is_none() {
                return Err(Forgotten::Key(hex::encode(key)));
            }
        }
        self.retired
            .iter()
            .try_for_each(|was| self.key_is_kept(was, next))
    }

    fn key_is_kept(&self, was: &RetiredKey, next: &Self) -> Result<(), Forgotten> {
        let key = || hex::encode(&was.public_key);
        let compromised = was.compromised_since_time.as_ref();
        if next.in_force.contains(&was.public_key) {
            // An agency that left comes back with the keys that it had.
            return if self.is_former && compromised.is_none() {
                Ok(())
            } else {
                Err(Forgotten::InForce(key()))
            };
        }
        let is = next.retired(&was.public_key);
        let is = is.ok_or_else(|| Forgotten::Key(key()))?;
        if is_later(was.retired_time.as_ref(), is.retired_time.as_ref()) {
            return Err(Forgotten::Retired(key()));
        }
        if is_later(compromised, is.compromised_since_time.as_ref()) {
            return Err(Forgotten::Compromised(key()));
        }
        Ok(())
    }

    fn retired(&self, key: &[u8]) -> Option<&RetiredKey> {
        self.retired
            .iter()
            .find(|retired| retired.public_key == key)
    }
}

fn card_is_kept(was: Option<&Timestamp>, is: Option<&Timestamp>) -> Result<(), Forgotten> {
    match (Time::parse(was), Time::parse(is)) {
        (Ok(was), Ok(is)) if is < was => Err(Forgotten::Card),
        (Ok(_), Err(_)) => Err(Forgotten::Card),
        _ => Ok(()),
    }
}

/// What is said no more is later than ever.
fn is_later(was: Option<&Timestamp>, is: Option<&Timestamp>) -> bool {
    match (Time::parse(was), Time::parse(is)) {
        (Ok(was), Ok(is)) => is > was,
        (Ok(_), Err(_)) => true,
        (Err(_), _) => false,
    }
}

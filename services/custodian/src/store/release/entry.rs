//! What an entry must be to release anything: the gateway's, of an allowed read, the caller's own, of now.

use std::time::Duration;

use amanat_desk::{Act, Rules, Superseded};
use amanat_ledger::{Proven, commitment};
use amanat_schema::{
    Time,
    audit::{Action, EntryBody},
    policy::Decision,
};
use amanat_server::Refusal;

use super::{RECENT, ReleaseKeys};
use crate::store::{Objection, Shown};

/// How far an entry's time may be from this server's clock.
const CLOCKS_APART: Duration = Duration::from_secs(30);
/// The longest that an entry may be good for, whatever it says.
const ENTRY_LIFE: Duration = Duration::from_secs(60);

/// Of the log in our directory, signed by its key, with the entry in the tree.
pub(super) fn verified(read: &Shown) -> Result<&Proven, Objection> {
    let entry = read.as_ref().map_err(|why| {
        let refusal = Refusal::field("read_receipt", "a receipt of the gateway's log");
        Objection::alarm(refusal, "the receipt proves nothing").with(why.to_string())
    })?;
    if entry.linkage.is_none() {
        let refusal = Refusal::field("read_receipt.linkage", "the opening of the read's linkage");
        return Err(Objection::quiet(refusal, "linkage not shown"));
    }
    Ok(entry)
}

pub(super) fn is_allowed_read(body: &EntryBody) -> Result<(), Objection> {
    if body.action() != Action::ReadRecord {
        Err(Objection::alarm(Refusal::access(), "the entry is no read"))
    } else if body.decision() != Decision::Allow {
        Err(Objection::alarm(
            Refusal::access(),
            "the entry is a refusal",
        ))
    } else {
        Ok(())
    }
}

pub(super) fn is_the_callers(body: &EntryBody, act: &Act) -> Result<(), Objection> {
    if body.agency_id != act.agency.as_bytes() {
        Err(Objection::alarm(
            Refusal::access(),
            "another agency's entry",
        ))
    } else if body.certificate_sha256 != act.certificate_sha256 {
        Err(Objection::alarm(
            Refusal::access(),
            "another certificate's entry",
        ))
    } else {
        Ok(())
    }
}

pub(super) fn is_the_officers(body: &EntryBody, call: &ReleaseKeys) -> Result<(), Objection> {
    let opens = commitment::opens(commitment::officer, &call.officer, &body.officer_commitment);
    if opens && call.officer.value == call.act.officer.id.as_bytes() {
        Ok(())
    } else {
        Err(Objection::alarm(
            Refusal::access(),
            "another officer's entry",
        ))
    }
}

/// Whether a read of now was decided by other rules than these: newer ones may lie in their files already. Of
/// an old entry or another caller's that is not asked, or anybody could have the files read at will.
pub(crate) fn names_newer_rules(read: &Shown, act: &Act, rules: &Rules, now: Time) -> bool {
    read.as_ref().is_ok_and(|Proven { body, .. }| {
        is_the_callers(body, act).is_ok()
            && is_in_time(body, now).is_ok()
            && !is_decided_by(body, &rules.superseded())
    })
}

fn is_decided_by(body: &EntryBody, rules: &Superseded) -> bool {
    body.directory_sha256 == rules.directory_sha256 && body.table_sha256 == rules.table_sha256
}

pub(super) fn has_our_rules(body: &EntryBody, rules: &Rules, now: Time) -> Result<(), Objection> {
    if is_decided_by(body, &rules.superseded()) {
        return Ok(());
    }
    let other = "decided by another directory or table";
    // The two servers do not take a new directory into use in the same moment.
    let recent = rules.since.distance(now) <= RECENT;
    match rules.previous {
        Some(previous) if recent && is_decided_by(body, &previous) => {
            let truth = "decided by the directory or table before";
            Err(Objection::quiet(Refusal::rules_changing(), truth))
        }
        // What was in use before this process started, it does not know.
        None if recent => Err(Objection::quiet(Refusal::access(), other)),
        _ => Err(Objection::alarm(Refusal::access(), other)),
    }
}

pub(super) fn is_in_time(body: &EntryBody, now: Time) -> Result<(), Objection> {
    let times = (
        Time::parse(body.time.as_ref()),
        Time::parse(body.expire_time.as_ref()),
    );
    let (Ok(decided), Ok(expires)) = times else {
        return Err(Objection::alarm(Refusal::access(), "the entry never ends"));
    };
    if expires > decided + ENTRY_LIFE {
        Err(Objection::alarm(
            Refusal::access(),
            "the entry lasts too long",
        ))
    } else if decided.distance(now) > CLOCKS_APART || now >= expires {
        Err(Objection::quiet(
            Refusal::access(),
            "the entry is not of now",
        ))
    } else {
        Ok(())
    }
}

//! Which of the gateway's entries were taken to release keys, and what explains a difference between two
//! honest ledgers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Error, Insert, Row, Sql, damaged,
};
use amanat_desk::consent::SourceCase;
use amanat_ledger::Proven;
use amanat_schema::{AgencyId, CaseId, ConsentId, EntryId, Time};
use amanat_server::Refusal;

use super::{Memory, Objection, release::ReleaseKeys};

/// Whether an entry releases keys for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redemption {
    First,
    /// The same ask again, by the same officer: both stand behind the entry.
    Again,
}

/// A consent's id is its source's name for it in the case.
pub(super) type ConsentKey = (SourceCase, ConsentId);

#[derive(Default)]
pub(super) struct RedeemedFacts {
    /// The SHA-256 of each entry that released keys.
    entries: BTreeMap<EntryId, Vec<u8>>,
    /// When a consent of the cases at hand was last recorded or withdrawn here.
    changed: BTreeMap<ConsentKey, Time>,
    added: Vec<(EntryId, [u8; 32], Time)>,
}

impl RedeemedFacts {
    pub(super) async fn load(
        connection: &mut Connection,
        memory: &Memory,
        calls: &[&ReleaseKeys],
    ) -> Result<Self, Error> {
        if calls.is_empty() {
            return Ok(Self::default());
        }
        let mut facts = Self::default();
        let entries: BTreeSet<_> = calls.iter().filter_map(|call| call.entry_id()).collect();
        let rows = Sql::new("SELECT entry_id, entry_sha256 FROM releases WHERE ")
            .is_one_of(Bytes("entry_id"), entries.iter().map(EntryId::as_bytes))
            .fetch_all(connection)
            .await?;
        for row in rows {
            let id = EntryId::new(row.get(0)?);
            facts.entries.insert(id, row.get(1)?);
        }
        let mut absent = BTreeMap::new();
        for case in calls.iter().filter_map(|call| call.case()) {
            match memory.changes.get(&case) {
                Some(changes) => facts.changed.extend(changes.iter()),
                None => {
                    absent.insert(case, BTreeMap::new());
                }
            }
        }
        if absent.is_empty() {
            return Ok(facts);
        }
        let cases = absent.keys().map(|case| [case.as_bytes().into()]);
        let rows = Sql::new("WITH cases AS (SELECT case_id FROM ")
            .rows("asked", [Bytes("case_id")], cases)
            .push(
                ") SELECT source, case_id, consent_id, record_time \
                 FROM consents JOIN cases USING (case_id) UNION ALL \
                 SELECT source, case_id, consent_id, withdraw_time FROM withdrawals \
                 JOIN cases USING (case_id) JOIN consents USING (case_id, consent_id)",
            )
            .fetch_all(connection)
            .await?;
        for row in &rows {
            let (consent, at) = consent_and_time(row)?;
            let of_case = absent.entry(consent.0.1).or_default();
            let newest = of_case.entry(consent).or_insert(at);
            *newest = at.max(*newest);
        }
        for (case, changes) in absent {
            facts.changed.extend(changes.iter());
            memory.changes.keep(case, Arc::new(changes));
        }
        Ok(facts)
    }

    /// An entry is good for one release; under its id no other will be.
    pub(super) fn redemption(&self, entry: &Proven) -> Result<Redemption, Objection> {
        let known = EntryId::parse(&entry.body.entry_id)
            .ok()
            .and_then(|id| self.entries.get(&id));
        match known {
            None => Ok(Redemption::First),
            Some(sha256) if *sha256 == entry.entry.sha256() => Ok(Redemption::Again),
            Some(_) => Err(Objection::alarm(
                Refusal::access(),
                "another entry of this id has released keys",
            )),
        }
    }

    pub(super) fn redeem(&mut self, entry: &Proven, now: Time) {
        if let Ok(id) = EntryId::parse(&entry.body.entry_id) {
            let sha256 = entry.entry.sha256();
            self.entries.insert(id, sha256.to_vec());
            self.added.push((id, sha256, now));
        }
    }

    /// When the consent was last recorded or withdrawn here.
    pub(super) fn changed(&self, of: SourceCase, consent: ConsentId) -> Option<Time> {
        self.changed.get(&(of, consent)).copied()
    }

    pub(super) async fn write(self, connection: &mut Connection) -> Result<(), Error> {
        let added = self
            .added
            .iter()
            .map(|(id, sha256, at)| [id.as_bytes().into(), sha256.into(), at.millis().into()]);
        let columns = [
            Bytes("entry_id"),
            Bytes("entry_sha256"),
            Number("release_time"),
        ];
        Insert::into("releases", columns, added)
            .execute(connection)
            .await
    }
}

pub(super) fn consent_and_time(row: &Row) -> Result<(ConsentKey, Time), Error> {
    let of = (AgencyId::new(row.get(0)?), CaseId::new(row.get(1)?));
    let consent = ConsentId::new(row.get(2)?);
    let at = Time::from_millis(row.get(3)?).map_err(damaged)?;
    Ok(((of, consent), at))
}

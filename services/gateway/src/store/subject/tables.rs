//! The subjects' tables: facts of a batch in, changes out, one statement a table. No statement that an
//! agency's answer rests on finds another agency's rows.

mod canaries;
mod peppers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Error, Insert, Row, Sql, damaged,
};
use amanat_schema::{
    AgencyId, Time,
    subject::{MergeStatus, SubjectIdentifierType},
};
use amanat_seal::pseudonym::Pseudonym;

use super::{
    KEY_VERSION, Keys, Kinship, ListMerges, Pair, PepperFacts, Peppered, SubjectCall, SubjectFacts,
    SubjectId, canary::CanaryFacts,
};

const PAIRS: &str =
    "SELECT seq, agency, into_subject, from_subject, status, propose_time, decide_time FROM merges";

pub(in crate::store) fn known(tokens: &[(AgencyId, Peppered)]) -> Sql<'_> {
    let rows = tokens
        .iter()
        .map(|(agency, Peppered(stored))| [agency.as_bytes().into(), stored.into()]);
    Sql::new("SELECT i.agency, i.stored, i.subject_id FROM ")
        .rows("asked", [Bytes("agency"), Bytes("stored")], rows)
        .led_join()
        .push("identifiers AS i ON i.agency = asked.agency AND i.stored = asked.stored")
}

fn named(names: &[(AgencyId, Pseudonym)]) -> Sql<'_> {
    let rows = names
        .iter()
        .map(|(agency, name)| [agency.as_bytes().into(), name.as_bytes().into()]);
    Sql::new("SELECT s.agency, s.pseudonym, s.subject_id FROM ")
        .rows("asked", [Bytes("agency"), Bytes("pseudonym")], rows)
        .led_join()
        .push("subjects AS s ON s.agency = asked.agency AND s.pseudonym = asked.pseudonym")
}

/// Everybody in the families of the subjects asked for, up to who stands for all, down to all; and by whom each is
/// held.
fn families(of: &BTreeSet<SubjectId>) -> Sql<'_> {
    let rows = of.iter().map(|SubjectId(subject)| [subject.into()]);
    Sql::new("WITH RECURSIVE family (subject) AS (SELECT asked.subject FROM ")
        .rows("asked", [Bytes("subject")], rows)
        .push(
            " UNION SELECT CASE a.from_subject WHEN f.subject THEN a.into_subject \
             ELSE a.from_subject END FROM family AS f",
        )
        .led_join()
        // In force on both sides of OR, or SQLite would use neither index.
        .push(
            "aliases AS a ON (a.from_subject = f.subject AND a.split_time IS NULL) \
             OR (a.into_subject = f.subject AND a.split_time IS NULL)) ",
        )
        // One by one: PostgreSQL takes a family for so large that it would rather join it with all aliases.
        .push(
            "SELECT f.subject, (SELECT a.into_subject FROM aliases AS a \
             WHERE a.from_subject = f.subject AND a.split_time IS NULL) FROM family AS f",
        )
}

fn pairs_among(members: &BTreeSet<SubjectId>) -> Sql<'_> {
    Sql::new(PAIRS)
        .push(" WHERE ")
        .is_one_of(Bytes("into_subject"), ids(members))
        .push(" AND ")
        .is_one_of(Bytes("from_subject"), ids(members))
}

fn carried(members: &BTreeSet<SubjectId>) -> Sql<'_> {
    Sql::new("SELECT DISTINCT subject_id, type FROM identifiers WHERE ")
        .is_one_of(Bytes("subject_id"), ids(members))
}

fn ids(subjects: &BTreeSet<SubjectId>) -> impl Iterator<Item = &[u8; 16]> {
    subjects.iter().map(|SubjectId(subject)| subject)
}

impl SubjectFacts {
    pub(in crate::store) async fn load(
        connection: &mut Connection,
        keys: &Keys,
        calls: &[&SubjectCall],
    ) -> Result<Self, Error> {
        let mut facts = Self::default();
        let (mut tokens, mut names) = (Vec::new(), Vec::new());
        let mut asked = BTreeSet::new();
        for call in calls {
            match call {
                SubjectCall::Find(call) => {
                    let stored = call.identifiers.iter().flat_map(|i| &i.tokens);
                    tokens.extend(stored.map(|(_, stored)| (call.act.agency, *stored)));
                }
                SubjectCall::Judge(call) => {
                    names.extend([call.into, call.from].map(|name| (call.act.agency, name)));
                }
                SubjectCall::List(call) => {
                    let rows = page(connection, call).await?;
                    asked.extend(rows.iter().flat_map(|(_, pair)| [pair.into, pair.from]));
                    facts
                        .lists
                        .insert((call.act.agency, call.act.request_sha256), rows);
                }
                SubjectCall::AdvancePeppers => {
                    facts.peppers = Some(PepperFacts::load(connection, keys).await?);
                }
                SubjectCall::Plant(_)
                | SubjectCall::Hits(_)
                | SubjectCall::CheckCanaries(_)
                | SubjectCall::CountLapsed => {}
            }
        }
        facts.outdated = is_outdated(connection, keys, calls).await?;
        facts.load_known(connection, &tokens).await?;
        facts.load_named(connection, &names).await?;
        asked.extend(facts.known.values().chain(facts.named.values()));
        facts.load_families(connection, asked).await?;
        facts.canaries = CanaryFacts::load(connection, calls).await?;
        Ok(facts)
    }

    async fn load_known(
        &mut self,
        connection: &mut Connection,
        tokens: &[(AgencyId, Peppered)],
    ) -> Result<(), Error> {
        if tokens.is_empty() {
            return Ok(());
        }
        for row in known(tokens).fetch_all(connection).await? {
            let key = (AgencyId::new(row.get(0)?), Peppered(row.get(1)?));
            self.known.insert(key, SubjectId(row.get(2)?));
        }
        Ok(())
    }

    async fn load_named(
        &mut self,
        connection: &mut Connection,
        names: &[(AgencyId, Pseudonym)],
    ) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        for row in named(names).fetch_all(connection).await? {
            let key = (
                AgencyId::new(row.get(0)?),
                Pseudonym::from_bytes(row.get(1)?),
            );
            self.named.insert(key, SubjectId(row.get(2)?));
        }
        Ok(())
    }

    /// Who belongs to the subjects asked for, by merges; what waits or was decided among them, and which
    /// types of identifiers they have.
    async fn load_families(
        &mut self,
        connection: &mut Connection,
        mut members: BTreeSet<SubjectId>,
    ) -> Result<(), Error> {
        if members.is_empty() {
            return Ok(());
        }
        let mut held = BTreeMap::new();
        for row in families(&members).fetch_all(connection).await? {
            let into: Option<Vec<u8>> = row.get(1)?;
            if let Some(into) = into {
                let into = into.as_slice().try_into().map_err(damaged)?;
                held.insert(SubjectId(row.get(0)?), SubjectId(into));
            }
        }
        members.extend(held.iter().flat_map(|(from, into)| [*from, *into]));
        let pairs = pairs_among(&members).fetch_all(connection).await?;
        let pairs: Vec<_> = pairs.iter().map(parse_pair).collect::<Result<_, _>>()?;
        self.kinship = Kinship::new(held, pairs.into_iter().map(|(_, pair)| pair));
        for row in carried(&members).fetch_all(connection).await? {
            let kind = SubjectIdentifierType::try_from(row.get::<i32>(1)?);
            let subject = SubjectId(row.get(0)?);
            self.carried.insert((subject, kind.map_err(damaged)?));
        }
        Ok(())
    }

    pub(in crate::store) async fn write(self, connection: &mut Connection) -> Result<(), Error> {
        let made = self.made.iter().map(|made| {
            [
                (&made.subject.0).into(),
                made.agency.as_bytes().into(),
                KEY_VERSION.into(),
                made.pseudonym.as_bytes().into(),
                made.at.millis().into(),
            ]
        });
        let columns = [
            Bytes("subject_id"),
            Bytes("agency"),
            Number("key_version"),
            Bytes("pseudonym"),
            Number("make_time"),
        ];
        Insert::into("subjects", columns, made)
            .execute(connection)
            .await?;
        let joined = self.joined.iter().map(|joined| {
            [
                joined.agency.as_bytes().into(),
                (&joined.stored.0).into(),
                i32::from(joined.kind).into(),
                joined.epoch.into(),
                (&joined.subject.0).into(),
            ]
        });
        let columns = [
            Bytes("agency"),
            Bytes("stored"),
            Number("type"),
            Number("epoch"),
            Bytes("subject_id"),
        ];
        Insert::into("identifiers", columns, joined)
            .execute(connection)
            .await?;
        write_kinship(connection, &self.kinship).await?;
        self.canaries.write(connection).await?;
        match self.peppers {
            Some(peppers) => peppers.write(connection).await,
            None => Ok(()),
        }
    }
}

/// Another replica may have put a pepper on top since this one began: it makes no entry, so it is looked up by
/// each batch that has tokens.
async fn is_outdated(
    connection: &mut Connection,
    keys: &Keys,
    calls: &[&SubjectCall],
) -> Result<bool, Error> {
    let mut calls = calls.iter();
    if !calls.any(|call| matches!(call, SubjectCall::Find(_) | SubjectCall::Plant(_))) {
        return Ok(false);
    }
    let outdated = peppers::applied(connection).await? != keys.peppers.count();
    keys.outdated.store(outdated, Ordering::Relaxed);
    Ok(outdated)
}

async fn write_kinship(connection: &mut Connection, kinship: &Kinship) -> Result<(), Error> {
    write_pairs(connection, kinship.changed()).await?;
    // Before the new ones: who is released can be held by another at once.
    if !kinship.released.is_empty() {
        ending(&kinship.released).execute(connection).await?;
    }
    let merged = kinship.merged.iter().map(|(agency, from, into, at)| {
        [
            agency.as_bytes().into(),
            (&from.0).into(),
            (&into.0).into(),
            at.millis().into(),
        ]
    });
    let columns = [
        Bytes("agency"),
        Bytes("from_subject"),
        Bytes("into_subject"),
        Number("merge_time"),
    ];
    Insert::into("aliases", columns, merged)
        .execute(connection)
        .await
}

fn ending(released: &[(SubjectId, Time)]) -> Sql<'_> {
    let rows = released
        .iter()
        .map(|(SubjectId(from), at)| [from.into(), at.millis().into()]);
    Sql::new("UPDATE aliases SET split_time = ended.at FROM ")
        .rows("ended", [Bytes("subject"), Number("at")], rows)
        .push(" WHERE aliases.from_subject = ended.subject AND aliases.split_time IS NULL")
}

async fn write_pairs(
    connection: &mut Connection,
    pairs: impl Iterator<Item = &Pair>,
) -> Result<(), Error> {
    let rows = pairs.map(|pair| {
        [
            pair.agency.as_bytes().into(),
            (&pair.into.0).into(),
            (&pair.from.0).into(),
            i32::from(pair.status).into(),
            pair.proposed.millis().into(),
            pair.decided.map(Time::millis).into(),
        ]
    });
    let columns = [
        Bytes("agency"),
        Bytes("into_subject"),
        Bytes("from_subject"),
        Number("status"),
        Number("propose_time"),
        Number("decide_time"),
    ];
    // A pair is one whichever stands for both.
    Insert::into("merges", columns, rows)
        .or_per(
            "ON CONFLICT (min(into_subject, from_subject), max(into_subject, from_subject)) \
             DO UPDATE SET into_subject = excluded.into_subject, \
             from_subject = excluded.from_subject, status = excluded.status, \
             decide_time = excluded.decide_time",
            "ON CONFLICT (least(into_subject, from_subject), greatest(into_subject, from_subject)) \
             DO UPDATE SET into_subject = excluded.into_subject, \
             from_subject = excluded.from_subject, status = excluded.status, \
             decide_time = excluded.decide_time",
        )
        .execute(connection)
        .await
}

async fn page(connection: &mut Connection, call: &ListMerges) -> Result<Vec<(i64, Pair)>, Error> {
    let rows = listing(call).fetch_all(connection).await?;
    rows.iter().map(parse_pair).collect()
}

fn listing(call: &ListMerges) -> Sql<'_> {
    let mut query = Sql::new(PAIRS)
        .push(" WHERE agency = ")
        .bind(call.act.agency.as_bytes())
        .push(" AND seq > ")
        .bind(call.page.after);
    if let Some(status) = call.status {
        query = query.push(" AND status = ").bind(i32::from(status));
    }
    query.push(" ORDER BY seq LIMIT ").bind(call.page.size)
}

fn parse_pair(row: &Row) -> Result<(i64, Pair), Error> {
    let time = |millis| Time::from_millis(millis).map_err(damaged);
    let decided: Option<i64> = row.get(6)?;
    let pair = Pair {
        agency: AgencyId::new(row.get(1)?),
        into: SubjectId(row.get(2)?),
        from: SubjectId(row.get(3)?),
        status: MergeStatus::try_from(row.get::<i32>(4)?).map_err(damaged)?,
        proposed: time(row.get(5)?)?,
        decided: decided.map(time).transpose()?,
    };
    Ok((row.get(0)?, pair))
}

#[cfg(test)]
mod tests;

//! The subjects' tables: facts of a batch in, changes out, one statement a table. No statement that an
//! agency's answer rests on finds another agency's rows.

mod canaries;
mod peppers;

use std::collections::{BTreeMap, BTreeSet};

use amanat_journal::{damaged, id_set};
use amanat_schema::{
    AgencyId, Time,
    subject::{MergeStatus, SubjectIdentifierType},
};
use amanat_seal::pseudonym::Pseudonym;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    KEY_VERSION, Keys, Kinship, ListMerges, Pair, PepperFacts, Peppered, SubjectCall, SubjectFacts,
    SubjectId, canary::CanaryFacts,
};

const KNOWN: &str = "SELECT agency, stored, subject_id FROM json_each($1) AS asked JOIN identifiers \
     ON agency = unhex(asked.value ->> 0) AND stored = unhex(asked.value ->> 1)";
const NAMED: &str = "SELECT agency, pseudonym, subject_id FROM json_each($1) AS asked JOIN subjects \
     ON agency = unhex(asked.value ->> 0) AND pseudonym = unhex(asked.value ->> 1)";
/// Who is held by whom in the families of the subjects asked for: up to who stands for all, down to all.
/// CROSS: the few first, or all aliases would be walked.
const FAMILIES: &str = "WITH RECURSIVE family (subject) AS ( \
         SELECT unhex(value) FROM json_each($1) \
         UNION SELECT into_subject FROM family CROSS JOIN aliases ON from_subject = subject \
         WHERE split_time IS NULL \
         UNION SELECT from_subject FROM family CROSS JOIN aliases ON into_subject = subject \
         WHERE split_time IS NULL) \
     SELECT from_subject, into_subject FROM family CROSS JOIN aliases ON from_subject = subject \
     WHERE split_time IS NULL";
const PAIRS: &str =
    "SELECT seq, agency, into_subject, from_subject, status, propose_time, decide_time FROM merges";
const PAIRS_AMONG: &str = "SELECT seq, agency, into_subject, from_subject, status, propose_time, \
     decide_time FROM merges WHERE into_subject IN (SELECT unhex(value) FROM json_each($1)) \
     AND from_subject IN (SELECT unhex(value) FROM json_each($1))";
const CARRIED: &str = "SELECT DISTINCT subject_id, type FROM identifiers \
     WHERE subject_id IN (SELECT unhex(value) FROM json_each($1))";

impl SubjectFacts {
    pub(in crate::store) async fn load(
        connection: &mut SqliteConnection,
        keys: &Keys,
        calls: &[&SubjectCall],
    ) -> Result<Self, sqlx::Error> {
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
        facts.load_known(connection, &tokens).await?;
        facts.load_named(connection, &names).await?;
        asked.extend(facts.known.values().chain(facts.named.values()));
        facts.load_families(connection, asked).await?;
        facts.canaries = CanaryFacts::load(connection, calls).await?;
        Ok(facts)
    }

    async fn load_known(
        &mut self,
        connection: &mut SqliteConnection,
        tokens: &[(AgencyId, Peppered)],
    ) -> Result<(), sqlx::Error> {
        if tokens.is_empty() {
            return Ok(());
        }
        let asked = tokens
            .iter()
            .map(|(agency, stored)| (agency.to_string(), hex::encode(stored.0)));
        let rows = sqlx::query(KNOWN)
            .bind(rows_of(asked)?)
            .fetch_all(connection)
            .await?;
        for row in rows {
            let key = (agency(&row, 0)?, Peppered(bytes(&row, 1)?));
            self.known.insert(key, SubjectId(bytes(&row, 2)?));
        }
        Ok(())
    }

    async fn load_named(
        &mut self,
        connection: &mut SqliteConnection,
        names: &[(AgencyId, Pseudonym)],
    ) -> Result<(), sqlx::Error> {
        if names.is_empty() {
            return Ok(());
        }
        let asked = names
            .iter()
            .map(|(agency, name)| (agency.to_string(), hex::encode(name.as_bytes())));
        let rows = sqlx::query(NAMED)
            .bind(rows_of(asked)?)
            .fetch_all(connection)
            .await?;
        for row in rows {
            let key = (agency(&row, 0)?, Pseudonym::from_bytes(bytes(&row, 1)?));
            self.named.insert(key, SubjectId(bytes(&row, 2)?));
        }
        Ok(())
    }

    /// Who belongs to the subjects asked for, by merges; what waits or was decided among them, and which
    /// types of identifiers they have.
    async fn load_families(
        &mut self,
        connection: &mut SqliteConnection,
        mut members: BTreeSet<SubjectId>,
    ) -> Result<(), sqlx::Error> {
        if members.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(FAMILIES)
            .bind(set_of(&members))
            .fetch_all(&mut *connection)
            .await?;
        let mut held = BTreeMap::new();
        for row in rows {
            let (from, into) = (SubjectId(bytes(&row, 0)?), SubjectId(bytes(&row, 1)?));
            members.extend([from, into]);
            held.insert(from, into);
        }
        let members = set_of(&members);
        let pairs = sqlx::query(PAIRS_AMONG)
            .bind(&members)
            .fetch_all(&mut *connection)
            .await?;
        let pairs: Vec<_> = pairs.iter().map(parse_pair).collect::<Result<_, _>>()?;
        self.kinship = Kinship::new(held, pairs.into_iter().map(|(_, pair)| pair));
        let rows = sqlx::query(CARRIED)
            .bind(members)
            .fetch_all(connection)
            .await?;
        for row in rows {
            let kind = SubjectIdentifierType::try_from(row.try_get::<i32, _>(1)?);
            let subject = SubjectId(bytes(&row, 0)?);
            self.carried.insert((subject, kind.map_err(damaged)?));
        }
        Ok(())
    }

    pub(in crate::store) async fn write(
        self,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        if !self.made.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO subjects (subject_id, agency, key_version, pseudonym, make_time) ",
            )
            .push_values(&self.made, |mut row, made| {
                row.push_bind(made.subject.0.to_vec())
                    .push_bind(made.agency.to_vec())
                    .push_bind(KEY_VERSION)
                    .push_bind(made.pseudonym.as_bytes().to_vec())
                    .push_bind(made.at.millis());
            })
            .build()
            .execute(&mut *connection)
            .await?;
        }
        if !self.joined.is_empty() {
            let joined = self.joined.iter().map(|joined| {
                (
                    joined.agency.to_string(),
                    hex::encode(joined.stored.0),
                    i32::from(joined.kind),
                    joined.epoch,
                    hex::encode(joined.subject.0),
                )
            });
            // As one array: a full batch has more values than a statement can bind.
            sqlx::query(
                "INSERT INTO identifiers (agency, stored, type, epoch, subject_id) \
                 SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, \
                 unhex(value ->> 4) FROM json_each($1)",
            )
            .bind(rows_of(joined)?)
            .execute(&mut *connection)
            .await?;
        }
        write_kinship(connection, &self.kinship).await?;
        self.canaries.write(connection).await?;
        match self.peppers {
            Some(peppers) => peppers.write(connection).await,
            None => Ok(()),
        }
    }
}

async fn write_kinship(
    connection: &mut SqliteConnection,
    kinship: &Kinship,
) -> Result<(), sqlx::Error> {
    let changed: Vec<_> = kinship.changed().collect();
    if !changed.is_empty() {
        QueryBuilder::<Sqlite>::new(
            "INSERT INTO merges (agency, into_subject, from_subject, status, propose_time, \
             decide_time) ",
        )
        .push_values(changed, |mut row, pair| {
            row.push_bind(pair.agency.to_vec())
                .push_bind(pair.into.0.to_vec())
                .push_bind(pair.from.0.to_vec())
                .push_bind(i32::from(pair.status))
                .push_bind(pair.proposed.millis())
                .push_bind(pair.decided.map(Time::millis));
        })
        .push(
            " ON CONFLICT (min(into_subject, from_subject), max(into_subject, from_subject)) \
             DO UPDATE SET into_subject = excluded.into_subject, \
             from_subject = excluded.from_subject, status = excluded.status, \
             decide_time = excluded.decide_time",
        )
        .build()
        .execute(&mut *connection)
        .await?;
    }
    // Before the new ones: who is released can be held by another at once.
    if !kinship.released.is_empty() {
        let released = kinship
            .released
            .iter()
            .map(|(from, at)| (hex::encode(from.0), at.millis()));
        sqlx::query(
            "UPDATE aliases SET split_time = ended.value ->> 1 FROM json_each($1) AS ended \
             WHERE from_subject = unhex(ended.value ->> 0) AND split_time IS NULL",
        )
        .bind(rows_of(released)?)
        .execute(&mut *connection)
        .await?;
    }
    if !kinship.merged.is_empty() {
        QueryBuilder::<Sqlite>::new(
            "INSERT INTO aliases (agency, from_subject, into_subject, merge_time) ",
        )
        .push_values(&kinship.merged, |mut row, (agency, from, into, at)| {
            row.push_bind(agency.to_vec())
                .push_bind(from.0.to_vec())
                .push_bind(into.0.to_vec())
                .push_bind(at.millis());
        })
        .build()
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn page(
    connection: &mut SqliteConnection,
    call: &ListMerges,
) -> Result<Vec<(i64, Pair)>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(PAIRS);
    query
        .push(" WHERE agency = ")
        .push_bind(call.act.agency.to_vec());
    query.push(" AND seq > ").push_bind(call.page.after);
    if let Some(status) = call.status {
        query.push(" AND status = ").push_bind(i32::from(status));
    }
    query.push(" ORDER BY seq LIMIT ").push_bind(call.page.size);
    query
        .build()
        .fetch_all(connection)
        .await?
        .iter()
        .map(parse_pair)
        .collect()
}

fn parse_pair(row: &SqliteRow) -> Result<(i64, Pair), sqlx::Error> {
    let time = |millis| Time::from_millis(millis).map_err(damaged);
    let decided: Option<i64> = row.try_get(6)?;
    let pair = Pair {
        agency: agency(row, 1)?,
        into: SubjectId(bytes(row, 2)?),
        from: SubjectId(bytes(row, 3)?),
        status: MergeStatus::try_from(row.try_get::<i32, _>(4)?).map_err(damaged)?,
        proposed: time(row.try_get(5)?)?,
        decided: decided.map(time).transpose()?,
    };
    Ok((row.try_get(0)?, pair))
}

fn agency(row: &SqliteRow, column: usize) -> Result<AgencyId, sqlx::Error> {
    bytes(row, column).map(AgencyId::new)
}

fn bytes<const N: usize>(row: &SqliteRow, column: usize) -> Result<[u8; N], sqlx::Error> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(damaged)
}

/// The binding of rows: a JSON array of arrays.
fn rows_of<T: serde::Serialize>(rows: impl Iterator<Item = T>) -> Result<String, sqlx::Error> {
    serde_json::to_string(&rows.collect::<Vec<_>>()).map_err(damaged)
}

fn set_of(subjects: &BTreeSet<SubjectId>) -> String {
    id_set(subjects.iter().map(|subject| subject.0.as_slice()))
}

#[cfg(test)]
mod tests;

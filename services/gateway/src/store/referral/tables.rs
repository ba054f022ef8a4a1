//! The referrals' tables: facts of a batch in, changes out, one statement a table.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use amanat_desk::consent::SourceCase;
use amanat_journal::{damaged, id_set};
use amanat_schema::{
    AgencyId, CaseId, ReferralId, Time,
    policy::ReferralState,
    referral::Direction,
    statement::{Envelope, Referral},
};
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{ListReferrals, ReferralFacts, ReferralRow};
use crate::store::{Call, Memory};

const COLUMNS: &str = "SELECT seq, submission, payload_sha256, state, last_sha256, submit_time, \
                       respond_by_time FROM referrals";

impl ReferralFacts {
    pub(in crate::store) async fn load(
        connection: &mut SqliteConnection,
        memory: &Memory,
        senders: impl Iterator<Item = SourceCase>,
        calls: &[&Call],
    ) -> Result<Self, sqlx::Error> {
        let mut facts = Self::default();
        let (mut ids, mut shown) = (Vec::new(), Vec::new());
        let mut submitting = BTreeSet::new();
        for call in calls {
            match call {
                // An id that is taken may stand in another case.
                Call::Submit(call) => {
                    ids.push(call.terms.referral);
                    ids.extend(call.terms.previous.map(|(previous, _)| previous));
                    submitting.insert((call.terms.sender, call.terms.case));
                }
                Call::Transition(call) => ids.push(call.referral),
                Call::Referral(call) => shown.push(call.referral),
                Call::Referrals(call) => {
                    let rows = page(connection, call).await?;
                    let listed: Vec<_> = rows.iter().map(|row| row.key()).collect();
                    shown.extend(listed.iter().map(|(id, _)| *id));
                    facts
                        .lists
                        .insert((call.act.agency, call.act.request_sha256), listed);
                    facts.keep(rows);
                }
                Call::Refused(_)
                | Call::Consent(_)
                | Call::Audit(_)
                | Call::Subject(_)
                | Call::Put(_)
                | Call::Read(_)
                | Call::Versions(_) => {}
            }
        }
        ids.extend(&shown);
        let mut absent = BTreeMap::new();
        // A submission needs to know how many there are, and is alone in its case.
        for of in senders.filter(|of| !submitting.contains(of)) {
            match memory.referrals.get(&of) {
                Some(rows) => facts.keep(rows.iter().cloned()),
                None => {
                    absent.insert(of, Vec::new());
                }
            }
        }
        let senders: Vec<_> = absent
            .keys()
            .map(|(sender, case)| (sender.to_string(), case.to_string()))
            .collect();
        if !senders.is_empty() || !ids.is_empty() {
            let rows = QueryBuilder::<Sqlite>::new(COLUMNS)
                .push(" WHERE seq IN (SELECT seq FROM json_each(")
                .push_bind(serde_json::to_string(&senders).map_err(damaged)?)
                .push(
                    ") AS asked JOIN referrals ON case_id = unhex(asked.value ->> 1) \
                     AND sender = unhex(asked.value ->> 0)) \
                     OR referral_id IN (SELECT unhex(value) FROM json_each(",
                )
                .push_bind(id_set(ids.iter().map(|id| id.as_bytes().as_slice())))
                .push("))")
                .build()
                .fetch_all(&mut *connection)
                .await?;
            for row in &rows {
                let row = Arc::new(parse(row)?);
                if let Some(rows) = absent.get_mut(&row.source_case()) {
                    rows.push(Arc::clone(&row));
                }
                facts.keep([row]);
            }
            for (of, rows) in absent {
                memory.referrals.keep(of, Arc::new(rows));
            }
        }
        if !submitting.is_empty() {
            facts.sent = sent(&mut *connection, &submitting).await?;
        }
        if !shown.is_empty() {
            let rows = sqlx::query(
                "SELECT referral_id, sender, envelope FROM referral_steps WHERE referral_id IN \
                 (SELECT unhex(value) FROM json_each($1)) ORDER BY seq",
            )
            .bind(id_set(shown.iter().map(|id| id.as_bytes().as_slice())))
            .fetch_all(connection)
            .await?;
            for row in rows {
                let (id, sender): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
                let id = ReferralId::parse(&id).map_err(damaged)?;
                let sender = AgencyId::parse(&sender).map_err(damaged)?;
                let envelope: Vec<u8> = row.try_get(2)?;
                let envelope = Envelope::decode(envelope.as_slice()).map_err(damaged)?;
                facts.steps.entry((id, sender)).or_default().push(envelope);
            }
        }
        Ok(facts)
    }

    pub(in crate::store) async fn write(
        self,
        connection: &mut SqliteConnection,
        memory: &Memory,
    ) -> Result<(), sqlx::Error> {
        // A step moves its referral.
        let changed = self.submitted.iter().chain(&self.moved);
        for row in changed.filter_map(|key| self.by_key.get(key)) {
            memory.referrals.forget(&row.source_case());
        }
        let submitted: Vec<_> = self
            .submitted
            .iter()
            .filter_map(|key| self.by_key.get(key))
            .collect();
        if !submitted.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO referrals (referral_id, case_id, sender, recipient, submission, \
                 payload_sha256, state, last_sha256, submit_time, respond_by_time) ",
            )
            .push_values(submitted, |mut row, referral| {
                row.push_bind(referral.terms.referral.to_vec())
                    .push_bind(referral.terms.case.to_vec())
                    .push_bind(referral.terms.sender.to_vec())
                    .push_bind(referral.terms.recipient.to_vec())
                    .push_bind(referral.submission.encode_to_vec())
                    .push_bind(referral.payload_sha256.to_vec())
                    .push_bind(i32::from(referral.state))
                    .push_bind(referral.last_sha256.clone())
                    .push_bind(referral.submitted.millis())
                    .push_bind(referral.respond_by.millis());
            })
            .build()
            .execute(&mut *connection)
            .await?;
        }
        let moved: Vec<_> = self
            .moved
            .iter()
            .filter_map(|key| self.by_key.get(key))
            .map(|row| {
                let (id, sender) = row.key();
                let last = hex::encode(&row.last_sha256);
                (
                    id.to_string(),
                    sender.to_string(),
                    i32::from(row.state),
                    last,
                )
            })
            .collect();
        if !moved.is_empty() {
            sqlx::query(
                "UPDATE referrals SET state = moved.value ->> 2, \
                 last_sha256 = unhex(moved.value ->> 3) FROM json_each($1) AS moved \
                 WHERE referral_id = unhex(moved.value ->> 0) AND sender = unhex(moved.value ->> 1)",
            )
            .bind(serde_json::to_string(&moved).map_err(damaged)?)
            .execute(&mut *connection)
            .await?;
        }
        if !self.stepped.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO referral_steps (referral_id, sender, envelope) ",
            )
            .push_values(self.stepped, |mut row, ((id, sender), envelope)| {
                row.push_bind(id.to_vec())
                    .push_bind(sender.to_vec())
                    .push_bind(envelope);
            })
            .build()
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

/// How many referrals each sender has submitted in each case.
async fn sent(
    connection: &mut SqliteConnection,
    senders: &BTreeSet<SourceCase>,
) -> Result<HashMap<SourceCase, usize>, sqlx::Error> {
    let asked: Vec<_> = senders
        .iter()
        .map(|(sender, case)| (sender.to_string(), case.to_string()))
        .collect();
    let rows = sqlx::query(
        "SELECT sender, case_id, count(*) FROM json_each($1) AS asked JOIN referrals \
         ON case_id = unhex(asked.value ->> 1) AND sender = unhex(asked.value ->> 0) \
         GROUP BY sender, case_id",
    )
    .bind(serde_json::to_string(&asked).map_err(damaged)?)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let (sender, case): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            let of = (
                AgencyId::parse(&sender).map_err(damaged)?,
                CaseId::parse(&case).map_err(damaged)?,
            );
            let count: u32 = row.try_get(2)?;
            Ok((of, usize::try_from(count).unwrap_or(usize::MAX)))
        })
        .collect()
}

async fn page(
    connection: &mut SqliteConnection,
    call: &ListReferrals,
) -> Result<Vec<Arc<ReferralRow>>, sqlx::Error> {
    listing(call)
        .build()
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| parse(row).map(Arc::new))
        .collect()
}

/// What the caller sent or received, as far as the filters go.
pub(in crate::store) fn listing(call: &ListReferrals) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(COLUMNS);
    let (party, by_state) = match call.direction {
        Direction::Sent => ("sender", " INDEXED BY referrals_by_sender_and_state"),
        Direction::Received | Direction::Unspecified => {
            ("recipient", " INDEXED BY referrals_by_recipient_and_state")
        }
    };
    if call.overdue_at.is_some() {
        // Few wait for an answer among the many that had it: they are not to be looked for in order.
        query.push(by_state);
    }
    query.push(" WHERE ").push(party).push(" = ");
    query.push_bind(call.act.agency.to_vec());
    query.push(" AND seq > ").push_bind(call.page.after);
    if let Some(state) = call.state {
        query.push(" AND state = ").push_bind(i32::from(state));
    }
    if let Some(case) = call.case {
        query.push(" AND case_id = ").push_bind(case.to_vec());
    }
    if let Some(now) = call.overdue_at {
        query.push(" AND state IN (");
        states(&mut query, amanat_policy::UNANSWERED);
        query
            .push(") AND respond_by_time < ")
            .push_bind(now.millis());
    }
    query.push(" ORDER BY seq LIMIT ").push_bind(call.page.size);
    query
}

/// The numbers of some states, to stand between brackets.
pub(in crate::store) fn states(
    query: &mut QueryBuilder<Sqlite>,
    states: impl IntoIterator<Item = ReferralState>,
) {
    let mut list = query.separated(", ");
    for state in states {
        list.push_bind(i32::from(state));
    }
}

fn parse(row: &SqliteRow) -> Result<ReferralRow, sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(1)?;
    let submission = Envelope::decode(bytes.as_slice()).map_err(damaged)?;
    let wire = Referral::decode(submission.payload.as_slice()).map_err(damaged)?;
    let payload_sha256: Vec<u8> = row.try_get(2)?;
    let state: i32 = row.try_get(3)?;
    Ok(ReferralRow {
        seq: row.try_get(0)?,
        terms: amanat_policy::parse_referral(&wire).map_err(|_| sqlx::Error::RowNotFound)?,
        submission,
        payload_sha256: payload_sha256
            .try_into()
            .map_err(|_| sqlx::Error::RowNotFound)?,
        state: ReferralState::try_from(state).map_err(damaged)?,
        last_sha256: row.try_get(4)?,
        submitted: Time::from_millis(row.try_get(5)?).map_err(damaged)?,
        respond_by: Time::from_millis(row.try_get(6)?).map_err(damaged)?,
    })
}

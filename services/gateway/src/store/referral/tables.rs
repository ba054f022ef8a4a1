//! The referrals' tables: facts of a batch in, changes out, one statement a table.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Error, Insert, Row, Sql, damaged,
};
use amanat_desk::consent::SourceCase;
use amanat_policy::{ReferralTerms, opens_content};
use amanat_schema::{
    AgencyId, CaseId, ReferralId, Time,
    policy::ReferralState,
    referral::Direction,
    statement::{Envelope, Referral},
};
use prost::Message as _;

use super::{ListReferrals, ReferralFacts, ReferralRow};
use crate::store::{Call, Memory, referred};

const COLUMNS: &str = "SELECT seq, submission, payload_sha256, state, last_sha256, submit_time, \
                       respond_by_time FROM referrals";

/// What a step does to a case.
#[derive(Clone, Copy)]
enum Turn {
    Opened,
    Closed,
}

impl ReferralFacts {
    pub(in crate::store) async fn load(
        connection: &mut Connection,
        memory: &Memory,
        senders: impl Iterator<Item = SourceCase>,
        calls: &[&Call],
    ) -> Result<Self, Error> {
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
                Call::Referral(call) => {
                    ids.push(call.referral);
                    shown.push(call.referral);
                }
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
        if !absent.is_empty() || !ids.is_empty() {
            let rows = sent_or_named(absent.keys(), &ids)
                .fetch_all(connection)
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
            facts.sent = sent(connection, &submitting).await?;
        }
        if !shown.is_empty() {
            let rows = Sql::new("SELECT referral_id, sender, envelope FROM referral_steps WHERE ")
                .is_one_of(Bytes("referral_id"), shown.iter().map(ReferralId::as_bytes))
                .push(" ORDER BY seq")
                .fetch_all(connection)
                .await?;
            for row in rows {
                let key = (ReferralId::new(row.get(0)?), AgencyId::new(row.get(1)?));
                let envelope: Vec<u8> = row.get(2)?;
                let envelope = Envelope::decode(envelope.as_slice()).map_err(damaged)?;
                facts.steps.entry(key).or_default().push(envelope);
            }
        }
        Ok(facts)
    }

    pub(in crate::store) async fn write(
        self,
        connection: &mut Connection,
        memory: &Memory,
    ) -> Result<(), Error> {
        // A step moves its referral.
        let changed = self.submitted.iter().chain(self.moved.keys());
        for row in changed.filter_map(|key| self.by_key.get(key)) {
            memory.referrals.forget(&row.source_case());
        }
        let row = |key| self.by_key.get(key).map(Arc::as_ref);
        insert(connection, self.submitted.iter().filter_map(row)).await?;
        update(connection, self.moved.keys().filter_map(row)).await?;
        referred::opened(connection, &self.turned(Turn::Opened)).await?;
        referred::closed(connection, &self.turned(Turn::Closed)).await?;
        let steps = self.stepped.iter().map(|((id, sender), envelope)| {
            [
                id.as_bytes().into(),
                sender.as_bytes().into(),
                envelope.into(),
            ]
        });
        let columns = [Bytes("referral_id"), Bytes("sender"), Bytes("envelope")];
        Insert::into("referral_steps", columns, steps)
            .execute(connection)
            .await
    }

    /// The referrals that now open their cases and did not before, or the other way round.
    fn turned(&self, turn: Turn) -> Vec<&ReferralTerms> {
        let moved = self.moved.iter();
        let moved = moved.filter_map(|(key, before)| Some((self.by_key.get(key)?, *before)));
        let turned = moved.filter(|(row, before)| {
            let (before, now) = (opens_content(*before), opens_content(row.state));
            match turn {
                Turn::Opened => now && !before,
                Turn::Closed => before && !now,
            }
        });
        turned.map(|(row, _)| &row.terms).collect()
    }
}

async fn insert(
    connection: &mut Connection,
    submitted: impl Iterator<Item = &ReferralRow>,
) -> Result<(), Error> {
    let columns = [
        Bytes("referral_id"),
        Bytes("case_id"),
        Bytes("sender"),
        Bytes("recipient"),
        Bytes("submission"),
        Bytes("payload_sha256"),
        Number("state"),
        Bytes("last_sha256"),
        Number("submit_time"),
        Number("respond_by_time"),
    ];
    let rows = submitted.map(|row| {
        [
            row.terms.referral.as_bytes().into(),
            row.terms.case.as_bytes().into(),
            row.terms.sender.as_bytes().into(),
            row.terms.recipient.as_bytes().into(),
            row.submission.encode_to_vec().into(),
            (&row.payload_sha256).into(),
            i32::from(row.state).into(),
            (&row.last_sha256).into(),
            row.submitted.millis().into(),
            row.respond_by.millis().into(),
        ]
    });
    Insert::into("referrals", columns, rows)
        .execute(connection)
        .await
}

async fn update(
    connection: &mut Connection,
    moved: impl Iterator<Item = &ReferralRow>,
) -> Result<(), Error> {
    let moved: Vec<_> = moved.collect();
    if moved.is_empty() {
        return Ok(());
    }
    moving(&moved).execute(connection).await.map(drop)
}

pub(in crate::store) fn moving<'a>(moved: &[&'a ReferralRow]) -> Sql<'a> {
    let columns = [
        Bytes("referral_id"),
        Bytes("sender"),
        Number("state"),
        Bytes("last_sha256"),
    ];
    let rows = moved.iter().map(|row| {
        [
            row.terms.referral.as_bytes().into(),
            row.terms.sender.as_bytes().into(),
            i32::from(row.state).into(),
            (&row.last_sha256).into(),
        ]
    });
    Sql::new("UPDATE referrals SET state = moved.state, last_sha256 = moved.last_sha256 FROM ")
        .rows("moved", columns, rows)
        .push(
            " WHERE referrals.referral_id = moved.referral_id \
             AND referrals.sender = moved.sender",
        )
}

/// All that these senders sent in these cases, and all of these ids. By their numbers: as a condition of its own
/// beside another one, PostgreSQL would look for either in every row.
pub(in crate::store) fn sent_or_named<'a>(
    senders: impl Iterator<Item = &'a SourceCase>,
    ids: &'a [ReferralId],
) -> Sql<'a> {
    in_cases(
        Sql::new(COLUMNS).push(" WHERE seq IN (SELECT r.seq FROM "),
        senders,
    )
    .push(" UNION SELECT n.seq FROM referrals AS n WHERE ")
    .is_one_of(Bytes("n.referral_id"), ids.iter().map(ReferralId::as_bytes))
    .push(")")
}

/// The referrals `r` of senders in cases.
fn in_cases<'a>(query: Sql<'a>, senders: impl Iterator<Item = &'a SourceCase>) -> Sql<'a> {
    let rows = senders.map(|(sender, case)| [sender.as_bytes().into(), case.as_bytes().into()]);
    query
        .rows("asked", [Bytes("sender"), Bytes("case_id")], rows)
        .led_join()
        .push("referrals AS r ON r.case_id = asked.case_id AND r.sender = asked.sender")
}

async fn sent(
    connection: &mut Connection,
    senders: &BTreeSet<SourceCase>,
) -> Result<HashMap<SourceCase, usize>, Error> {
    let rows = counting(senders.iter()).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let of = (AgencyId::new(row.get(0)?), CaseId::new(row.get(1)?));
            Ok((of, row.get(2)?))
        })
        .collect()
}

/// How many referrals each sender has submitted in each case.
pub(in crate::store) fn counting<'a>(senders: impl Iterator<Item = &'a SourceCase>) -> Sql<'a> {
    let counted = Sql::new("SELECT r.sender, r.case_id, count(*) FROM ");
    in_cases(counted, senders).push(" GROUP BY r.sender, r.case_id")
}

async fn page(
    connection: &mut Connection,
    call: &ListReferrals,
) -> Result<Vec<Arc<ReferralRow>>, Error> {
    let rows = listing(call).fetch_all(connection).await?;
    rows.iter().map(|row| parse(row).map(Arc::new)).collect()
}

/// What the caller sent or received, as far as the filters go.
pub(in crate::store) fn listing(call: &ListReferrals) -> Sql<'_> {
    let mut query = Sql::new(COLUMNS);
    let (party, by_state) = match call.direction {
        Direction::Sent => ("sender", " INDEXED BY referrals_by_sender_and_state"),
        Direction::Received | Direction::Unspecified => {
            ("recipient", " INDEXED BY referrals_by_recipient_and_state")
        }
    };
    if call.overdue_at.is_some() {
        // Few wait for an answer among the many that had it: they are not to be looked for in order.
        query = query.per(by_state, "");
    }
    // In the words of a set, with the order below: PostgreSQL would walk all agencies' in their order where it guesses
    // that many of them are this one's.
    query = query.push(" WHERE ").push(party);
    query = query.per(" = ", " = ANY (ARRAY[");
    query = query.bind(call.act.agency.as_bytes()).per("", "::bytea])");
    query = query.push(" AND seq > ").bind(call.page.after);
    if let Some(state) = call.state {
        query = query.push(" AND state = ").bind(i32::from(state));
    }
    if let Some(case) = &call.case {
        query = query.push(" AND case_id = ").bind(case.as_bytes());
    }
    if let Some(now) = call.overdue_at {
        query = query
            .push(" AND ")
            .is_one_of(
                Number("state"),
                amanat_policy::UNANSWERED.into_iter().map(i32::from),
            )
            .push(" AND respond_by_time < ")
            .bind(now.millis());
    }
    let query = match call.overdue_at {
        // Not in the order of any index.
        Some(_) => query.push(" ORDER BY +seq"),
        None => query.push(" ORDER BY ").push(party).push(", seq"),
    };
    query.push(" LIMIT ").bind(call.page.size)
}

fn parse(row: &Row) -> Result<ReferralRow, Error> {
    let bytes: Vec<u8> = row.get(1)?;
    let submission = Envelope::decode(bytes.as_slice()).map_err(damaged)?;
    let wire = Referral::decode(submission.payload.as_slice()).map_err(damaged)?;
    Ok(ReferralRow {
        seq: row.get(0)?,
        terms: amanat_policy::parse_referral(&wire).map_err(|_| Error::RowNotFound)?,
        submission,
        payload_sha256: row.get(2)?,
        state: ReferralState::try_from(row.get::<i32>(3)?).map_err(damaged)?,
        last_sha256: row.get(4)?,
        submitted: Time::from_millis(row.get(5)?).map_err(damaged)?,
        respond_by: Time::from_millis(row.get(6)?).map_err(damaged)?,
    })
}

//! Referrals: submit, move on, list, get.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use amanat_desk::{Act, Known, Page, Rules, Stored, consent::case_key};
use amanat_journal::{Access, Touch, id_set};
use amanat_policy::{Actor, Grant, ReferralTerms, Step, opens_content};
use amanat_schema::{
    AgencyId, CaseId, ReferralId, Time,
    audit::{Action, Linkage, WithheldField},
    policy::ReferralState,
    referral::Direction,
    statement::{Envelope, Referral},
};
use amanat_server::Refusal;
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Call, Facts, Reply, Ruled, done, record::damaged, refuse};

/// A submission whose own terms hold, to a recipient that offers what it asks.
pub(crate) struct SubmitReferral {
    pub(crate) act: Act,
    pub(crate) terms: ReferralTerms,
    pub(crate) statement: Stored,
    pub(crate) submission: Envelope,
}

/// One signed step.
pub(crate) struct TransitionReferral {
    pub(crate) act: Act,
    pub(crate) action: Action,
    pub(crate) step: Step,
    pub(crate) case: CaseId,
    pub(crate) referral: ReferralId,
    pub(crate) statement: Stored,
}

pub(crate) struct ListReferrals {
    pub(crate) act: Act,
    pub(crate) direction: Direction,
    pub(crate) state: Option<ReferralState>,
    pub(crate) page: Page,
}

pub(crate) struct GetReferral {
    pub(crate) act: Act,
    pub(crate) referral: ReferralId,
}

/// A referral as its parties see it.
#[derive(Debug, Clone)]
pub(crate) struct ReferralView {
    pub(crate) submission: Envelope,
    pub(crate) transitions: Vec<Envelope>,
    pub(crate) state: ReferralState,
    pub(crate) submitted: Time,
    pub(crate) respond_by: Time,
}

#[derive(Debug, Clone)]
pub(crate) struct ReferralRow {
    seq: i64,
    pub(crate) submission: Envelope,
    terms: ReferralTerms,
    payload_sha256: [u8; 32],
    state: ReferralState,
    last_sha256: Vec<u8>,
    submitted: Time,
    respond_by: Time,
}

/// The referrals that a batch rests on, and what it changes.
#[derive(Default)]
pub(crate) struct ReferralFacts {
    by_id: BTreeMap<ReferralId, ReferralRow>,
    steps: HashMap<ReferralId, Vec<Envelope>>,
    lists: HashMap<(AgencyId, [u8; 32]), Vec<ReferralId>>,
    submitted: Vec<ReferralId>,
    moved: BTreeSet<ReferralId>,
    stepped: Vec<(ReferralId, Vec<u8>)>,
}

impl SubmitReferral {
    pub(crate) fn access(&self) -> Access {
        changes(&self.act, self.terms.case, &self.statement)
    }
}

impl TransitionReferral {
    pub(crate) fn access(&self) -> Access {
        changes(&self.act, self.case, &self.statement)
    }
}

fn changes(act: &Act, case: CaseId, statement: &Stored) -> Access {
    Access {
        keys: vec![case_key(case), statement.conflict_key()],
        touch: Touch::Changes,
        request: act.request_key(),
    }
}

impl ReferralRow {
    pub(crate) fn facts(&self) -> amanat_policy::ReferralFacts {
        amanat_policy::ReferralFacts {
            id: self.terms.referral,
            statement_sha256: self.payload_sha256,
            state: self.state,
        }
    }

    fn is_party(&self, agency: AgencyId) -> bool {
        [self.terms.sender, self.terms.recipient].contains(&agency)
    }
}

pub(super) fn submit(facts: &mut Facts, rules: &Rules, call: &SubmitReferral, now: Time) -> Ruled {
    let action = Action::SubmitReferral;
    let linkage = linkage(call.terms.case, call.terms.referral, &call.statement);
    let grants = facts.consents.grants(call.terms.case);
    let baseless = amanat_policy::without_consent(&call.terms, &grants, now);
    let taken = facts.referrals.by_id.contains_key(&call.terms.referral);
    match facts.statements.look_up(&call.statement) {
        Known::Same => {}
        Known::New if taken => {
            let refusal = Refusal::state("the referral's id was used for another one");
            let draft = call.act.refused(rules, action, linkage, &refusal, "id taken");
            return refuse(refusal, draft);
        }
        Known::New if !baseless.is_empty() => {
            let withheld: Vec<_> = baseless
                .iter()
                .map(|w| WithheldField {
                    path: w.field.field().path.to_owned(),
                    reason: w.reason().into(),
                })
                .collect();
            let refusal = Refusal::nothing_releasable(&withheld);
            let mut draft = call.act.refused(rules, action, linkage, &refusal, "paths without basis");
            draft.body.withheld = withheld;
            return refuse(refusal, draft);
        }
        Known::New => {
            facts.statements.accept(&call.statement);
            facts.referrals.submit(call, now);
        }
        Known::Other => {
            let refusal = Refusal::state("the statement's id was used for another one");
            let draft = call.act.refused(rules, action, linkage, &refusal, "other bytes");
            return refuse(refusal, draft);
        }
    }
    let mut draft = call.act.allowed(rules, action, linkage);
    draft.body.purpose = call.terms.purpose.into();
    draft.body.referral_state = ReferralState::Submitted.into();
    done(draft)
}

pub(super) fn transition(facts: &mut Facts, rules: &Rules, call: &TransitionReferral) -> Ruled {
    let linkage = linkage(call.case, call.referral, &call.statement);
    let agency = call.act.agency;
    let refuse_with = |refusal: Refusal, truth: &str| {
        let draft = call.act.refused(rules, call.action, linkage.clone(), &refusal, truth);
        refuse(refusal, draft)
    };
    let row = facts.referrals.by_id.get_mut(&call.referral);
    let row = row.filter(|row| row.terms.case == call.case && row.is_party(agency));
    let Some(row) = row else {
        return refuse_with(Refusal::access(), "absent or no party");
    };
    let actor = if agency == row.terms.recipient { Actor::Recipient } else { Actor::Sender };
    match facts.statements.look_up(&call.statement) {
        Known::Same => {}
        Known::Other => {
            let refusal = Refusal::state("the statement's id was used for another one");
            return refuse_with(refusal, "other bytes");
        }
        Known::New => {
            let follows = call.statement.follows.as_ref().map(<[u8; 32]>::as_slice);
            if follows != Some(row.last_sha256.as_slice()) {
                let refusal =
                    Refusal::state("the statement does not follow the referral's newest step");
                return refuse_with(refusal, "does not follow");
            }
            match amanat_policy::next(row.state, call.step, actor) {
                Ok(state) => row.state = state,
                Err(illegal) => return refuse_with(Refusal::state(&illegal.to_string()), "illegal"),
            }
            row.last_sha256 = call.statement.payload_sha256.to_vec();
            facts.statements.accept(&call.statement);
            facts.referrals.moved.insert(call.referral);
            facts.referrals.stepped.push((call.referral, call.statement.envelope.clone()));
        }
    }
    let mut draft = call.act.allowed(rules, call.action, linkage);
    draft.body.referral_state =
        facts.referrals.by_id.get(&call.referral).map_or(0, |row| row.state.into());
    done(draft)
}

pub(super) fn list(facts: &mut Facts, rules: &Rules, call: &ListReferrals) -> Ruled {
    let key = (call.act.agency, call.act.request_sha256);
    let ids = facts.referrals.lists.get(&key).cloned().unwrap_or_default();
    let last = ids.last().and_then(|id| facts.referrals.by_id.get(id)).map(|row| row.seq);
    let next = call.page.next(ids.len(), last);
    let referrals = ids.iter().filter_map(|id| facts.referrals.view(*id, call.act.agency)).collect();
    Ruled {
        answer: Ok(Reply::Referrals { referrals, next }),
        draft: Some(call.act.allowed(rules, Action::ListReferrals, Linkage::default())),
        remember: None,
    }
}

pub(super) fn get(facts: &mut Facts, rules: &Rules, call: &GetReferral) -> Ruled {
    let linkage = Linkage { referral_id: call.referral.to_vec(), ..Linkage::default() };
    match facts.referrals.view(call.referral, call.act.agency) {
        Some(view) => Ruled {
            answer: Ok(Reply::Referral(Box::new(view))),
            draft: Some(call.act.allowed(rules, Action::GetReferral, linkage)),
            remember: None,
        },
        None => {
            let refusal = Refusal::access();
            let draft =
                call.act.refused(rules, Action::GetReferral, linkage, &refusal, "absent or no party");
            refuse(refusal, draft)
        }
    }
}

fn linkage(case: CaseId, referral: ReferralId, statement: &Stored) -> Linkage {
    Linkage {
        case_id: case.to_vec(),
        referral_id: referral.to_vec(),
        statement_sha256: statement.payload_sha256.to_vec(),
        ..Linkage::default()
    }
}

const COLUMNS: &str = "SELECT seq, submission, payload_sha256, state, last_sha256, submit_time, \
                       respond_by_time FROM referrals";

impl ReferralFacts {
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        cases: &BTreeSet<CaseId>,
        calls: &[&Call],
    ) -> Result<Self, sqlx::Error> {
        let mut facts = Self::default();
        let (mut ids, mut shown) = (Vec::new(), Vec::new());
        for call in calls {
            match call {
                // An id that is taken may stand in another case.
                Call::Submit(call) => ids.push(call.terms.referral),
                Call::Referral(call) => shown.push(call.referral),
                Call::Referrals(call) => {
                    let rows = page(connection, call).await?;
                    let listed: Vec<_> = rows.iter().map(|row| row.terms.referral).collect();
                    shown.extend(&listed);
                    facts.lists.insert((call.act.agency, call.act.request_sha256), listed);
                    facts.keep(rows);
                }
                _ => {}
            }
        }
        ids.extend(&shown);
        if !cases.is_empty() || !ids.is_empty() {
            let rows = QueryBuilder::<Sqlite>::new(COLUMNS)
                .push(" WHERE case_id IN (SELECT unhex(value) FROM json_each(")
                .push_bind(id_set(cases.iter().map(|id| id.as_bytes().as_slice())))
                .push(")) OR referral_id IN (SELECT unhex(value) FROM json_each(")
                .push_bind(id_set(ids.iter().map(|id| id.as_bytes().as_slice())))
                .push("))")
                .build()
                .fetch_all(&mut *connection)
                .await?;
            facts.keep(rows.iter().map(parse).collect::<Result<_, _>>()?);
        }
        if !shown.is_empty() {
            let rows = sqlx::query(
                "SELECT referral_id, envelope FROM referral_steps WHERE referral_id IN \
                 (SELECT unhex(value) FROM json_each($1)) ORDER BY seq",
            )
            .bind(id_set(shown.iter().map(|id| id.as_bytes().as_slice())))
            .fetch_all(connection)
            .await?;
            for row in rows {
                let (id, envelope): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
                let id = ReferralId::parse(&id).map_err(damaged)?;
                let envelope = Envelope::decode(envelope.as_slice()).map_err(damaged)?;
                facts.steps.entry(id).or_default().push(envelope);
            }
        }
        Ok(facts)
    }

    fn keep(&mut self, rows: Vec<ReferralRow>) {
        self.by_id.extend(rows.into_iter().map(|row| (row.terms.referral, row)));
    }

    /// The referral that brings a source's records of a case to a reader: one that opens content if there
    /// is one, else the newest.
    pub(super) fn brings(
        &self,
        case: CaseId,
        source: AgencyId,
        reader: AgencyId,
    ) -> Option<&ReferralRow> {
        self.by_id
            .values()
            .filter(|row| {
                let terms = &row.terms;
                terms.case == case && terms.sender == source && terms.recipient == reader
            })
            .max_by_key(|row| (opens_content(row.state), row.seq))
    }

    /// Closes the open referrals of a case that no consent carries any more.
    pub(super) fn suspend_without_consent(&mut self, case: CaseId, grants: &[Grant], now: Time) {
        let rows = self.by_id.values_mut().filter(|row| row.terms.case == case);
        for row in rows {
            let sealed = row.terms.paths.iter().filter(|path| path.field().is_sealed()).count();
            let baseless = amanat_policy::without_consent(&row.terms, grants, now).len();
            if sealed > 0
                && baseless == sealed
                && let Ok(state) = amanat_policy::next(row.state, Step::Suspend, Actor::Sender)
            {
                row.state = state;
                self.moved.insert(row.terms.referral);
            }
        }
    }

    fn view(&self, id: ReferralId, reader: AgencyId) -> Option<ReferralView> {
        let row = self.by_id.get(&id).filter(|row| row.is_party(reader))?;
        Some(ReferralView {
            submission: row.submission.clone(),
            transitions: self.steps.get(&id).cloned().unwrap_or_default(),
            state: row.state,
            submitted: row.submitted,
            respond_by: row.respond_by,
        })
    }

    fn submit(&mut self, call: &SubmitReferral, now: Time) {
        let row = ReferralRow {
            seq: i64::MAX,
            submission: call.submission.clone(),
            terms: call.terms.clone(),
            payload_sha256: call.statement.payload_sha256,
            state: ReferralState::Submitted,
            last_sha256: call.statement.payload_sha256.to_vec(),
            submitted: now,
            respond_by: now + amanat_policy::respond_within(call.terms.urgency),
        };
        self.submitted.push(call.terms.referral);
        self.by_id.insert(call.terms.referral, row);
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let submitted: Vec<_> =
            self.submitted.iter().filter_map(|id| self.by_id.get(id)).collect();
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
            .filter_map(|id| self.by_id.get(id))
            .map(|row| {
                (row.terms.referral.to_string(), i32::from(row.state), hex::encode(&row.last_sha256))
            })
            .collect();
        if !moved.is_empty() {
            sqlx::query(
                "UPDATE referrals SET state = moved.value ->> 1, \
                 last_sha256 = unhex(moved.value ->> 2) FROM json_each($1) AS moved \
                 WHERE referral_id = unhex(moved.value ->> 0)",
            )
            .bind(serde_json::to_string(&moved).map_err(damaged)?)
            .execute(&mut *connection)
            .await?;
        }
        if !self.stepped.is_empty() {
            QueryBuilder::<Sqlite>::new("INSERT INTO referral_steps (referral_id, envelope) ")
                .push_values(self.stepped, |mut row, (id, envelope)| {
                    row.push_bind(id.to_vec()).push_bind(envelope);
                })
                .build()
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}

async fn page(
    connection: &mut SqliteConnection,
    call: &ListReferrals,
) -> Result<Vec<ReferralRow>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
    query.push(match call.direction {
        Direction::Sent => " WHERE sender = ",
        Direction::Received | Direction::Unspecified => " WHERE recipient = ",
    });
    query.push_bind(call.act.agency.to_vec());
    query.push(" AND seq > ").push_bind(call.page.after);
    if let Some(state) = call.state {
        query.push(" AND state = ").push_bind(i32::from(state));
    }
    query.push(" ORDER BY seq LIMIT ").push_bind(call.page.size);
    query.build().fetch_all(connection).await?.iter().map(parse).collect()
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
        payload_sha256: payload_sha256.try_into().map_err(|_| sqlx::Error::RowNotFound)?,
        state: ReferralState::try_from(state).map_err(damaged)?,
        last_sha256: row.try_get(4)?,
        submitted: Time::from_millis(row.try_get(5)?).map_err(damaged)?,
        respond_by: Time::from_millis(row.try_get(6)?).map_err(damaged)?,
    })
}

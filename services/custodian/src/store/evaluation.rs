//! Identifiers to evaluate: each call is counted and kept before a point is answered, and what never became
//! a record is told to oversight.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use amanat_desk::{Act, Page, Rules, consent::case_key};
use amanat_journal::{Access, Ruling, Touch, damaged};
use amanat_schema::{
    AgencyId, CaseId, Time,
    audit::{Action, Linkage},
    subject::{EvaluationReason, IdentifierDomain},
};
use amanat_server::Refusal;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Call, Facts, Objection, Reply, Ruled,
    budget::{self, BudgetFacts, Exhausted, Holder, Limits},
};

/// How many identifiers one record accounts for: those that were evaluated for its case before, and an intake
/// that comes later, because the budget of the day was used up, say, but within the time that a deposit has. None
/// has more, so an officer who walks a hundred numbers under one case shows all the same.
const OF_ONE_RECORD: u32 = 16;
/// A correction: what it took to see that it is of the same person, and nothing that comes later.
const OF_ONE_CORRECTION: u32 = 8;

/// By what evaluations are judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) limits: Limits,
    /// How long a key deposit may take.
    pub(crate) deposit_within: Duration,
}

/// Points that were checked; they stay at the edge.
pub(crate) struct EvaluateIdentifiers {
    pub(crate) act: Act,
    /// The officer's handle; the id is not kept.
    pub(crate) officer: [u8; 16],
    /// `None` for a canary.
    pub(crate) case: Option<CaseId>,
    pub(crate) reason: EvaluationReason,
    /// How many points for each key domain.
    pub(crate) items: BTreeMap<IdentifierDomain, u32>,
}

pub(crate) struct ListUnused {
    pub(crate) act: Act,
    /// `None`: every agency's.
    pub(crate) agency: Option<AgencyId>,
    /// Whose time was over by then; `None`: those whose time still runs, too.
    pub(crate) over_by: Option<Time>,
    pub(crate) page: Page,
}

/// What no record accounts for, and of which case it was is not said.
#[derive(Debug, Clone)]
pub(crate) struct Unused {
    seq: i64,
    pub(crate) agency: AgencyId,
    pub(crate) officer: Vec<u8>,
    pub(crate) reason: EvaluationReason,
    pub(crate) count: u32,
    pub(crate) evaluated: Time,
    pub(crate) deposit_by: Time,
}

struct Evaluated {
    agency: AgencyId,
    officer: [u8; 16],
    case: Option<CaseId>,
    reason: EvaluationReason,
    items: u32,
    /// How many of them wait for a record.
    unaccounted: u32,
    at: Time,
    deposit_by: Time,
}

/// An agency's own records in a case.
type Own = (AgencyId, CaseId);

#[derive(Default)]
pub(super) struct EvaluationFacts {
    budgets: BudgetFacts,
    /// By who asks and what: the same bytes from another agency are another list.
    lists: HashMap<(AgencyId, [u8; 32]), Vec<Unused>>,
    added: Vec<Evaluated>,
    put: Vec<Put>,
    /// What records that are there account for and have not used up, and until when.
    left: BTreeMap<Own, (u32, Time)>,
    used: BTreeMap<Own, u32>,
}

/// A version at the gateway: its key is active.
pub(super) struct Put {
    source: AgencyId,
    case: CaseId,
    /// When its key came here.
    deposited: Time,
    /// How many identifiers it accounts for.
    points: u32,
    /// Until when for those that come later; `None` if for none.
    until: Option<Time>,
}

impl Put {
    /// A version whose key was deposited; an intake of a first one may come within a time of that.
    pub(super) fn new(
        source: AgencyId,
        case: CaseId,
        version: u32,
        deposited: Time,
        within: Duration,
    ) -> Self {
        let (points, until) = match version {
            1 => (OF_ONE_RECORD, Some(deposited + within)),
            _ => (OF_ONE_CORRECTION, None),
        };
        Self {
            source,
            case,
            deposited,
            points,
            until,
        }
    }
}

impl EvaluateIdentifiers {
    /// INVARIANT: a case's puts and evaluations never share a batch, so what is written together has no order
    /// of its own.
    pub(crate) fn access(&self) -> Access {
        let budget = budget::conflict_key(self.act.agency);
        Access {
            keys: self
                .case
                .map(case_key)
                .into_iter()
                .chain([budget])
                .collect(),
            touch: Touch::Changes,
            // Every call counts, a repeated one too: its blinds are fresh.
            request: None,
        }
    }

    fn points(&self) -> u32 {
        self.items.values().sum()
    }

    /// Whose records account for it at once; a search is made for a record to come.
    fn own(&self) -> Option<Own> {
        let case = self
            .case
            .filter(|_| self.reason == EvaluationReason::Intake);
        Some((self.act.agency, case?))
    }

    fn holders(&self) -> [Holder; 2] {
        [
            (self.act.agency, Some(self.officer)),
            (self.act.agency, None),
        ]
    }
}

pub(super) fn evaluate(
    facts: &mut Facts,
    rules: &Rules,
    terms: &Terms,
    call: &EvaluateIdentifiers,
    now: Time,
) -> Ruled {
    let action = Action::EvaluateIdentifiers;
    let linkage = Linkage {
        case_id: call.case.map(CaseId::to_vec).unwrap_or_default(),
        ..Linkage::default()
    };
    let mut ruling = match count(facts, terms, call, now) {
        Ok(()) => Ruling {
            answer: Ok(Reply::Done),
            draft: Some(call.act.allowed(rules, action, linkage)),
            remember: None,
        },
        Err(objection) => objection.rule(&call.act, rules, action, linkage),
    };
    if let Some(draft) = &mut ruling.draft {
        draft.body.count = u64::from(call.points());
    }
    ruling
}

/// Debited and kept, unless the custodian is frozen: it trusts no log then, and would not release what its
/// tokens lead to.
fn count(
    facts: &mut Facts,
    terms: &Terms,
    call: &EvaluateIdentifiers,
    now: Time,
) -> Result<(), Objection> {
    facts.heads.running()?;
    let EvaluateIdentifiers { act, officer, .. } = call;
    let evaluations = &mut facts.evaluations;
    evaluations
        .budgets
        .debit(act.agency, *officer, &call.items, terms.limits, now)
        .map_err(|Exhausted { whose, retry_after }| {
            let objection = Objection::quiet(Refusal::quota(retry_after), "beyond the budget");
            objection.with(format!("that {whose} has left of the day"))
        })?;
    let items = call.points();
    // A canary belongs to no case, and nobody waits for its record.
    let waiting = call.case.map_or(0, |_| items);
    let accounted = call
        .own()
        .map_or(0, |own| evaluations.use_up(own, waiting, now));
    evaluations.added.push(Evaluated {
        agency: act.agency,
        officer: *officer,
        case: call.case,
        reason: call.reason,
        items,
        unaccounted: waiting.saturating_sub(accounted),
        at: now,
        deposit_by: now + terms.deposit_within,
    });
    Ok(())
}

pub(super) fn list(facts: &EvaluationFacts, rules: &Rules, call: &ListUnused) -> Ruled {
    let key = (call.act.agency, call.act.request_sha256);
    let unused = facts.lists.get(&key).cloned().unwrap_or_default();
    let next = call
        .page
        .next(unused.len(), unused.last().map(|unused| unused.seq));
    let draft = call
        .act
        .allowed(rules, Action::ListEvaluations, Linkage::default());
    Ruling {
        answer: Ok(Reply::Unused { unused, next }),
        draft: Some(draft),
        remember: None,
    }
}

impl EvaluationFacts {
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        calls: &[&Call],
    ) -> Result<Self, sqlx::Error> {
        let mut facts = Self::default();
        let (mut holders, mut own) = (BTreeSet::new(), BTreeSet::new());
        for call in calls {
            match call {
                Call::Evaluate(call) => {
                    holders.extend(call.holders());
                    own.extend(call.own());
                }
                Call::ListUnused(list) => {
                    let key = (list.act.agency, list.act.request_sha256);
                    facts.lists.insert(key, page(connection, list).await?);
                }
                Call::Refused(_)
                | Call::Consent(_)
                | Call::Audit(_)
                | Call::Head(_)
                | Call::Deposit(_)
                | Call::Activate(_)
                | Call::Release(_)
                | Call::Expire
                | Call::AlarmMissing => {}
            }
        }
        facts.budgets = BudgetFacts::load(connection, &holders).await?;
        facts.left = left(connection, &own).await?;
        Ok(facts)
    }

    /// How many of `items` the records that are there account for.
    fn use_up(&mut self, own: Own, items: u32, now: Time) -> u32 {
        let Some((left, _)) = self.left.get_mut(&own).filter(|(_, until)| now < *until) else {
            return 0;
        };
        let used = items.min(*left);
        *left -= used;
        *self.used.entry(own).or_default() += used;
        used
    }

    /// A version was put: it accounts for what its agency evaluated in the case so far, and a first one keeps what
    /// is left for an intake that comes later. A deposit alone, which costs an officer nothing, does not.
    pub(super) fn put(&mut self, put: Put) {
        self.put.push(put);
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if !self.added.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO evaluations (agency, officer_handle, case_id, reason, items, \
                 unaccounted, evaluate_time, deposit_by_time) ",
            )
            .push_values(self.added, |mut row, evaluated| {
                row.push_bind(evaluated.agency.to_vec())
                    .push_bind(evaluated.officer.to_vec())
                    .push_bind(evaluated.case.map(CaseId::to_vec))
                    .push_bind(i32::from(evaluated.reason))
                    .push_bind(evaluated.items)
                    .push_bind(evaluated.unaccounted)
                    .push_bind(evaluated.at.millis())
                    .push_bind(evaluated.deposit_by.millis());
            })
            .build()
            .execute(&mut *connection)
            .await?;
        }
        use_up(connection, &self.used).await?;
        account(connection, &self.put).await?;
        self.budgets.write(connection).await
    }
}

/// What an agency's records in a case account for and have not used up.
async fn left(
    connection: &mut SqliteConnection,
    own: &BTreeSet<Own>,
) -> Result<BTreeMap<Own, (u32, Time)>, sqlx::Error> {
    if own.is_empty() {
        return Ok(BTreeMap::new());
    }
    let own: Vec<_> = own
        .iter()
        .map(|(agency, case)| (agency.to_string(), case.to_string()))
        .collect();
    let rows = sqlx::query(
        "SELECT agency, case_id, points, until_time FROM json_each($1) AS own JOIN allowances \
         ON agency = unhex(own.value ->> 0) AND case_id = unhex(own.value ->> 1)",
    )
    .bind(serde_json::to_string(&own).map_err(damaged)?)
    .fetch_all(connection)
    .await?;
    let parse = |row: &SqliteRow| {
        let (agency, case): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        let agency = AgencyId::parse(&agency).map_err(damaged)?;
        let case = CaseId::parse(&case).map_err(damaged)?;
        let until = Time::from_millis(row.try_get(3)?).map_err(damaged)?;
        Ok(((agency, case), (row.try_get(2)?, until)))
    };
    rows.iter().map(parse).collect()
}

async fn use_up(
    connection: &mut SqliteConnection,
    used: &BTreeMap<Own, u32>,
) -> Result<(), sqlx::Error> {
    if used.is_empty() {
        return Ok(());
    }
    let used: Vec<_> = used
        .iter()
        .map(|((agency, case), points)| (agency.to_string(), case.to_string(), points))
        .collect();
    sqlx::query(
        "UPDATE allowances SET points = points - (used.value ->> 2) FROM json_each($1) AS used \
         WHERE agency = unhex(used.value ->> 0) AND case_id = unhex(used.value ->> 1)",
    )
    .bind(serde_json::to_string(&used).map_err(damaged)?)
    .execute(connection)
    .await
    .map(drop)
}

/// Oldest first, each version up to its points: `before` is what older ones of the case take of them. What none of
/// them takes is kept, in place of what an earlier record left.
async fn account(connection: &mut SqliteConnection, put: &[Put]) -> Result<(), sqlx::Error> {
    if put.is_empty() {
        return Ok(());
    }
    let put: Vec<_> = put
        .iter()
        .map(|put| {
            let (source, case) = (put.source.to_string(), put.case.to_string());
            let until = put.until.map(Time::millis);
            (source, case, put.deposited.millis(), put.points, until)
        })
        .collect();
    let put = serde_json::to_string(&put).map_err(damaged)?;
    sqlx::query(
        "INSERT INTO allowances (agency, case_id, points, until_time) \
         SELECT unhex(put.value ->> 0), unhex(put.value ->> 1), max(0, (put.value ->> 3) - coalesce((\
             SELECT sum(unaccounted) FROM evaluations WHERE agency = unhex(put.value ->> 0) \
             AND case_id = unhex(put.value ->> 1) AND unaccounted > 0 \
             AND deposit_by_time > put.value ->> 2), 0)), put.value ->> 4 \
         FROM json_each($1) AS put WHERE put.value ->> 4 IS NOT NULL \
         ON CONFLICT (agency, case_id) \
         DO UPDATE SET points = excluded.points, until_time = excluded.until_time",
    )
    .bind(put.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "WITH waiting AS (SELECT seq, put.value ->> 3 AS points, \
             sum(unaccounted) OVER (PARTITION BY agency, case_id ORDER BY seq) - unaccounted AS before \
             FROM json_each($1) AS put JOIN evaluations \
             ON agency = unhex(put.value ->> 0) AND case_id = unhex(put.value ->> 1) \
             WHERE unaccounted > 0 AND deposit_by_time > put.value ->> 2) \
         UPDATE evaluations SET unaccounted = max(0, unaccounted - (points - before)) FROM waiting \
         WHERE evaluations.seq = waiting.seq AND before < points",
    )
    .bind(put)
    .execute(connection)
    .await
    .map(drop)
}

async fn page(
    connection: &mut SqliteConnection,
    list: &ListUnused,
) -> Result<Vec<Unused>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT seq, agency, officer_handle, reason, unaccounted, evaluate_time, deposit_by_time \
         FROM evaluations WHERE unaccounted > 0 AND seq > ",
    );
    query.push_bind(list.page.after);
    if let Some(agency) = list.agency {
        query.push(" AND agency = ").push_bind(agency.to_vec());
    }
    if let Some(by) = list.over_by {
        query
            .push(" AND deposit_by_time <= ")
            .push_bind(by.millis());
    }
    query
        .push(" ORDER BY seq LIMIT ")
        .push_bind(list.page.size)
        .build()
        .fetch_all(connection)
        .await?
        .iter()
        .map(parse)
        .collect()
}

fn parse(row: &SqliteRow) -> Result<Unused, sqlx::Error> {
    let agency: Vec<u8> = row.try_get(1)?;
    let reason: i32 = row.try_get(3)?;
    Ok(Unused {
        seq: row.try_get(0)?,
        agency: AgencyId::parse(&agency).map_err(damaged)?,
        officer: row.try_get(2)?,
        reason: EvaluationReason::try_from(reason).map_err(damaged)?,
        count: row.try_get(4)?,
        evaluated: Time::from_millis(row.try_get(5)?).map_err(damaged)?,
        deposit_by: Time::from_millis(row.try_get(6)?).map_err(damaged)?,
    })
}

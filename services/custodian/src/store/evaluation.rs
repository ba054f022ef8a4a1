//! Identifiers to evaluate: each call is counted and kept before a point is answered, and what never became
//! a record is told to oversight.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Error, Insert, Row, Sql, Value, damaged,
};
use amanat_desk::{Act, Page, Rules, consent::case_key};
use amanat_journal::{Access, Ruling, Touch};
use amanat_schema::{
    AgencyId, CaseId, Time,
    audit::{Action, Linkage},
    subject::{EvaluationReason, IdentifierDomain},
};
use amanat_server::Refusal;

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

    fn row(&self) -> [Value<'_>; 5] {
        [
            self.source.as_bytes().into(),
            self.case.as_bytes().into(),
            self.deposited.millis().into(),
            self.points.into(),
            self.until.map(Time::millis).into(),
        ]
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
    pub(super) async fn load(connection: &mut Connection, calls: &[&Call]) -> Result<Self, Error> {
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
                | Call::Activate(..)
                | Call::Release(..)
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

    pub(super) async fn write(self, connection: &mut Connection) -> Result<(), Error> {
        let added = self.added.iter().map(|evaluated| {
            [
                evaluated.agency.as_bytes().into(),
                (&evaluated.officer).into(),
                evaluated.case.as_ref().map(CaseId::as_bytes).into(),
                i32::from(evaluated.reason).into(),
                evaluated.items.into(),
                evaluated.unaccounted.into(),
                evaluated.at.millis().into(),
                evaluated.deposit_by.millis().into(),
            ]
        });
        let columns = [
            Bytes("agency"),
            Bytes("officer_handle"),
            Bytes("case_id"),
            Number("reason"),
            Number("items"),
            Number("unaccounted"),
            Number("evaluate_time"),
            Number("deposit_by_time"),
        ];
        Insert::into("evaluations", columns, added)
            .execute(connection)
            .await?;
        use_up(connection, &self.used).await?;
        account(connection, &self.put).await?;
        self.budgets.write(connection).await
    }
}

/// What an agency's records in a case account for and have not used up.
async fn left(
    connection: &mut Connection,
    own: &BTreeSet<Own>,
) -> Result<BTreeMap<Own, (u32, Time)>, Error> {
    if own.is_empty() {
        return Ok(BTreeMap::new());
    }
    let own = own
        .iter()
        .map(|(agency, case)| [agency.as_bytes().into(), case.as_bytes().into()]);
    let rows = Sql::new("SELECT a.agency, a.case_id, a.points, a.until_time FROM ")
        .rows("own", [Bytes("agency"), Bytes("case_id")], own)
        .led_join()
        .push("allowances AS a ON a.agency = own.agency AND a.case_id = own.case_id")
        .fetch_all(connection)
        .await?;
    let parse = |row: &Row| {
        let own = (AgencyId::new(row.get(0)?), CaseId::new(row.get(1)?));
        let until = Time::from_millis(row.get(3)?).map_err(damaged)?;
        Ok((own, (row.get(2)?, until)))
    };
    rows.iter().map(parse).collect()
}

async fn use_up(connection: &mut Connection, used: &BTreeMap<Own, u32>) -> Result<(), Error> {
    if used.is_empty() {
        return Ok(());
    }
    let used = used.iter().map(|((agency, case), points)| {
        [
            agency.as_bytes().into(),
            case.as_bytes().into(),
            (*points).into(),
        ]
    });
    let columns = [Bytes("agency"), Bytes("case_id"), Number("points")];
    Sql::new("UPDATE allowances SET points = allowances.points - used.points FROM ")
        .rows("used", columns, used)
        .push(" WHERE allowances.agency = used.agency AND allowances.case_id = used.case_id")
        .execute(connection)
        .await
        .map(drop)
}

/// Oldest first, each version up to its points: `earlier` is what older ones of the case take of them. What none of
/// them takes is kept, in place of what an earlier record left.
///
/// INVARIANT: a case's puts never share a batch, so each allowance is set once.
async fn account(connection: &mut Connection, put: &[Put]) -> Result<(), Error> {
    if put.is_empty() {
        return Ok(());
    }
    let columns = [
        Bytes("agency"),
        Bytes("case_id"),
        Number("deposit_time"),
        Number("points"),
        Number("until_time"),
    ];
    Sql::new("INSERT INTO allowances (agency, case_id, points, until_time) SELECT put.agency, put.case_id, ")
        .per("max", "greatest")
        .push(
            "(0, put.points - coalesce((SELECT CAST(sum(e.unaccounted) AS bigint) \
             FROM evaluations AS e WHERE e.agency = put.agency AND e.case_id = put.case_id \
             AND e.unaccounted > 0 AND e.deposit_by_time > put.deposit_time), 0)), put.until_time \
             FROM ",
        )
        .rows("put", columns, put.iter().map(Put::row))
        .push(
            " WHERE put.until_time IS NOT NULL ON CONFLICT (agency, case_id) \
             DO UPDATE SET points = excluded.points, until_time = excluded.until_time",
        )
        .execute(connection)
        .await?;
    Sql::new(
        "WITH waiting AS (SELECT e.seq, put.points, CAST(sum(e.unaccounted) OVER (\
         PARTITION BY e.agency, e.case_id ORDER BY e.seq) AS bigint) - e.unaccounted AS earlier \
         FROM ",
    )
    .rows("put", columns, put.iter().map(Put::row))
    .push(
        " JOIN evaluations AS e ON e.agency = put.agency AND e.case_id = put.case_id \
         WHERE e.unaccounted > 0 AND e.deposit_by_time > put.deposit_time) \
         UPDATE evaluations SET unaccounted = ",
    )
    .per("max", "greatest")
    .push(
        "(0, evaluations.unaccounted - (waiting.points - waiting.earlier)) FROM waiting \
         WHERE evaluations.seq = waiting.seq AND waiting.earlier < waiting.points",
    )
    .execute(connection)
    .await
    .map(drop)
}

async fn page(connection: &mut Connection, list: &ListUnused) -> Result<Vec<Unused>, Error> {
    let mut query = Sql::new(
        "SELECT seq, agency, officer_handle, reason, unaccounted, evaluate_time, deposit_by_time \
         FROM evaluations WHERE unaccounted > 0 AND seq > ",
    )
    .bind(list.page.after);
    if let Some(agency) = &list.agency {
        query = query.push(" AND agency = ").bind(agency.as_bytes());
    }
    if let Some(by) = list.over_by {
        query = query.push(" AND deposit_by_time <= ").bind(by.millis());
    }
    query
        .push(" ORDER BY seq LIMIT ")
        .bind(list.page.size)
        .fetch_all(connection)
        .await?
        .iter()
        .map(parse)
        .collect()
}

fn parse(row: &Row) -> Result<Unused, Error> {
    let reason: i32 = row.get(3)?;
    Ok(Unused {
        seq: row.get(0)?,
        agency: AgencyId::new(row.get(1)?),
        officer: row.get(2)?,
        reason: EvaluationReason::try_from(reason).map_err(damaged)?,
        count: row.get(4)?,
        evaluated: Time::from_millis(row.get(5)?).map_err(damaged)?,
        deposit_by: Time::from_millis(row.get(6)?).map_err(damaged)?,
    })
}

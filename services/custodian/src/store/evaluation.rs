//! Identifiers to evaluate: each call is counted and kept before a point is answered, and what never became
//! a record is told to oversight.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use amanat_desk::{Act, Page, Rules, consent::case_key};
use amanat_journal::{Access, Ruling, Touch};
use amanat_schema::{
    AgencyId, CaseId, Time,
    audit::{Action, Linkage},
    subject::{EvaluationReason, IdentifierDomain},
};
use amanat_server::Refusal;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Call, Reply, Ruled,
    budget::{self, BudgetFacts, Exhausted, Holder, Limits},
    damaged,
};

/// How many identifiers one deposit accounts for. No record has more, so an officer who walks a hundred
/// numbers under one case shows all the same.
const OF_ONE_RECORD: u32 = 16;

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

/// What no deposit accounts for, and of which case it was is not said.
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
    at: Time,
    deposit_by: Time,
}

#[derive(Default)]
pub(super) struct EvaluationFacts {
    budgets: BudgetFacts,
    /// By who asks and what: the same bytes from another agency are another list.
    lists: HashMap<(AgencyId, [u8; 32]), Vec<Unused>>,
    added: Vec<Evaluated>,
    deposited: Vec<(AgencyId, CaseId, Time)>,
}

impl EvaluateIdentifiers {
    /// INVARIANT: a case's deposits and evaluations never share a batch, so what is written together has no
    /// order of its own.
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

    fn holders(&self) -> [Holder; 2] {
        [
            (self.act.agency, Some(self.officer)),
            (self.act.agency, None),
        ]
    }
}

pub(super) fn evaluate(
    facts: &mut EvaluationFacts,
    rules: &Rules,
    terms: &Terms,
    call: &EvaluateIdentifiers,
    now: Time,
) -> Ruled {
    let EvaluateIdentifiers { act, officer, .. } = call;
    let items: u32 = call.items.values().sum();
    let action = Action::EvaluateIdentifiers;
    let linkage = Linkage {
        case_id: call.case.map(CaseId::to_vec).unwrap_or_default(),
        ..Linkage::default()
    };
    let budgets = &mut facts.budgets;
    let (answer, mut draft) =
        match budgets.debit(act.agency, *officer, &call.items, terms.limits, now) {
            Ok(()) => {
                facts.added.push(Evaluated {
                    agency: act.agency,
                    officer: *officer,
                    case: call.case,
                    reason: call.reason,
                    items,
                    at: now,
                    deposit_by: now + terms.deposit_within,
                });
                (Ok(Reply::Done), act.allowed(rules, action, linkage))
            }
            Err(Exhausted { whose, retry_after }) => {
                let refusal = Refusal::quota(retry_after);
                let truth = format!("beyond what {whose} has left of the day");
                let draft = act.refused(rules, action, linkage, &refusal, &truth);
                (Err(refusal), draft)
            }
        };
    draft.body.count = u64::from(items);
    Ruling {
        answer,
        draft: Some(draft),
        remember: None,
    }
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
        let mut holders = BTreeSet::new();
        for call in calls {
            match call {
                Call::Evaluate(call) => holders.extend(call.holders()),
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
        Ok(facts)
    }

    /// A key was deposited: it accounts for what its agency evaluated in the case before.
    pub(super) fn deposited(&mut self, agency: AgencyId, case: CaseId, now: Time) {
        self.deposited.push((agency, case, now));
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if !self.added.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO evaluations (agency, officer_handle, case_id, reason, items, \
                 unaccounted, evaluate_time, deposit_by_time) ",
            )
            .push_values(self.added, |mut row, evaluated| {
                // A canary belongs to no case, and nobody waits for its record.
                let unaccounted = evaluated.case.map_or(0, |_| evaluated.items);
                row.push_bind(evaluated.agency.to_vec())
                    .push_bind(evaluated.officer.to_vec())
                    .push_bind(evaluated.case.map(CaseId::to_vec))
                    .push_bind(i32::from(evaluated.reason))
                    .push_bind(evaluated.items)
                    .push_bind(unaccounted)
                    .push_bind(evaluated.at.millis())
                    .push_bind(evaluated.deposit_by.millis());
            })
            .build()
            .execute(&mut *connection)
            .await?;
        }
        account(connection, &self.deposited).await?;
        self.budgets.write(connection).await
    }
}

/// Oldest first, each deposit up to [`OF_ONE_RECORD`]: `before` is what older ones of the case take of it.
async fn account(
    connection: &mut SqliteConnection,
    deposited: &[(AgencyId, CaseId, Time)],
) -> Result<(), sqlx::Error> {
    if deposited.is_empty() {
        return Ok(());
    }
    let deposited: Vec<_> = deposited
        .iter()
        .map(|(agency, case, at)| (agency.to_string(), case.to_string(), at.millis()))
        .collect();
    sqlx::query(
        "WITH waiting AS (SELECT seq, sum(unaccounted) OVER (PARTITION BY agency, case_id \
             ORDER BY seq) - unaccounted AS before \
             FROM json_each($1) AS deposit JOIN evaluations \
             ON agency = unhex(deposit.value ->> 0) AND case_id = unhex(deposit.value ->> 1) \
             WHERE unaccounted > 0 AND deposit_by_time > deposit.value ->> 2) \
         UPDATE evaluations SET unaccounted = max(0, unaccounted - ($2 - before)) FROM waiting \
         WHERE evaluations.seq = waiting.seq AND before < $2",
    )
    .bind(serde_json::to_string(&deposited).map_err(damaged)?)
    .bind(OF_ONE_RECORD)
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

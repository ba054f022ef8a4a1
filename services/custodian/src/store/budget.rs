//! How many identifiers may still be evaluated today: an officer's budget and the agency's, each for every
//! key domain. The domain is what the key enforces; what kind of identifier a point hides, nobody can see.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use amanat_journal::{ConflictKey, damaged};
use amanat_schema::{AgencyId, Time, subject::IdentifierDomain};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// How many points of one key domain may be evaluated on one day, UTC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) officer: u32,
    pub(crate) agency: u32,
}

/// Whose budget it is: an agency's officer's by handle, or the agency's own.
pub(super) type Holder = (AgencyId, Option<[u8; 16]>);
type Key = (Holder, i32);

/// What was used on the newest day that was counted.
#[derive(Debug, Clone, Copy)]
struct Used {
    day: i64,
    items: u32,
}

/// A request that does not fit, and when it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    pub(super) whose: &'static str,
    pub(super) retry_after: Duration,
}

#[derive(Default)]
pub(super) struct BudgetFacts {
    used: BTreeMap<Key, Used>,
    changed: BTreeSet<Key>,
}

/// An officer's budget is one of the agency's, so this key serialises both.
pub(super) fn conflict_key(agency: AgencyId) -> ConflictKey {
    ConflictKey {
        kind: "budget",
        id: *agency.as_bytes(),
    }
}

impl Used {
    /// What counts now. A clock that was set back over midnight refills nothing; one that had run ahead by
    /// more than a day was wrong, and what it counted is forgotten.
    fn now(used: Option<Self>, now: Time) -> Self {
        let today = now.millis() / DAY_MS;
        let fresh = Self {
            day: today,
            items: 0,
        };
        used.filter(|used| (today..=today + 1).contains(&used.day))
            .unwrap_or(fresh)
    }

    /// Until the day after the one counted, in whole seconds.
    fn refilled_in(self, now: Time) -> Duration {
        let millis = (self.day + 1) * DAY_MS - now.millis();
        Duration::from_secs(u64::try_from(millis).unwrap_or(0).div_ceil(1000))
    }
}

impl BudgetFacts {
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        holders: &BTreeSet<Holder>,
    ) -> Result<Self, sqlx::Error> {
        if holders.is_empty() {
            return Ok(Self::default());
        }
        let named: Vec<_> = holders
            .iter()
            .map(|(agency, officer)| (agency.to_string(), hex::encode(bytes(*officer))))
            .collect();
        let rows = sqlx::query(
            "SELECT agency, officer_handle, domain, day, items FROM json_each($1) AS named \
             JOIN budgets ON agency = unhex(named.value ->> 0) \
             AND officer_handle = unhex(named.value ->> 1)",
        )
        .bind(serde_json::to_string(&named).map_err(damaged)?)
        .fetch_all(connection)
        .await?;
        let mut facts = Self::default();
        for row in rows {
            let (agency, officer): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            let agency = AgencyId::parse(&agency).map_err(damaged)?;
            let officer = match officer.as_slice() {
                [] => None,
                handle => Some(handle.try_into().map_err(damaged)?),
            };
            let used = Used {
                day: row.try_get(3)?,
                items: row.try_get(4)?,
            };
            let domain = row.try_get(2)?;
            facts.used.insert(((agency, officer), domain), used);
        }
        Ok(facts)
    }

    /// Debits the officer and the agency for every domain, or nothing at all.
    pub(super) fn debit(
        &mut self,
        agency: AgencyId,
        officer: [u8; 16],
        items: &BTreeMap<IdentifierDomain, u32>,
        limits: Limits,
        now: Time,
    ) -> Result<(), Exhausted> {
        let mut debited = Vec::new();
        for (domain, items) in items {
            for (whose, holder, limit) in [
                ("the officer", Some(officer), limits.officer),
                ("the agency", None, limits.agency),
            ] {
                let key = ((agency, holder), i32::from(*domain));
                let used = Used::now(self.used.get(&key).copied(), now);
                let total = used.items.saturating_add(*items);
                if total > limit {
                    return Err(Exhausted {
                        whose,
                        retry_after: used.refilled_in(now),
                    });
                }
                let day = used.day;
                debited.push((key, Used { day, items: total }));
            }
        }
        self.changed.extend(debited.iter().map(|(key, _)| *key));
        self.used.extend(debited);
        Ok(())
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let changed = self
            .used
            .iter()
            .filter(|(key, _)| self.changed.contains(key));
        let changed: Vec<_> = changed.collect();
        if changed.is_empty() {
            return Ok(());
        }
        QueryBuilder::<Sqlite>::new(
            "INSERT INTO budgets (agency, officer_handle, domain, day, items) ",
        )
        .push_values(changed, |mut row, (((agency, officer), domain), used)| {
            row.push_bind(agency.to_vec())
                .push_bind(bytes(*officer))
                .push_bind(domain)
                .push_bind(used.day)
                .push_bind(used.items);
        })
        .push(
            " ON CONFLICT (agency, officer_handle, domain) \
             DO UPDATE SET day = excluded.day, items = excluded.items",
        )
        .build()
        .execute(connection)
        .await
        .map(drop)
    }
}

/// The handle as it is kept; none is empty.
fn bytes(officer: Option<[u8; 16]>) -> Vec<u8> {
    officer.map_or_else(Vec::new, |handle| handle.to_vec())
}

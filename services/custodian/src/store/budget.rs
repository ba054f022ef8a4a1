//! How many identifiers may still be evaluated today: an officer's budget and the agency's, each for every
//! key domain. The domain is what the key enforces; what kind of identifier a point hides, nobody can see.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Error, Insert, Sql, damaged,
};
use amanat_journal::ConflictKey;
use amanat_schema::{AgencyId, Time, subject::IdentifierDomain};

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
        connection: &mut Connection,
        holders: &BTreeSet<Holder>,
    ) -> Result<Self, Error> {
        if holders.is_empty() {
            return Ok(Self::default());
        }
        let holders = holders
            .iter()
            .map(|(agency, officer)| [agency.as_bytes().into(), bytes(officer).into()]);
        let columns = [Bytes("agency"), Bytes("officer_handle")];
        let rows = Sql::new("SELECT b.agency, b.officer_handle, b.domain, b.day, b.items FROM ")
            .rows("named", columns, holders)
            .led_join()
            .push(
                "budgets AS b ON b.agency = named.agency \
                 AND b.officer_handle = named.officer_handle",
            )
            .fetch_all(connection)
            .await?;
        let mut facts = Self::default();
        for row in rows {
            let agency = AgencyId::new(row.get(0)?);
            let officer: Vec<u8> = row.get(1)?;
            let officer = match officer.as_slice() {
                [] => None,
                handle => Some(handle.try_into().map_err(damaged)?),
            };
            let used = Used {
                day: row.get(3)?,
                items: row.get(4)?,
            };
            let domain = row.get(2)?;
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

    pub(super) async fn write(self, connection: &mut Connection) -> Result<(), Error> {
        let changed = self
            .used
            .iter()
            .filter(|(key, _)| self.changed.contains(key));
        let changed = changed.map(|(((agency, officer), domain), used)| {
            [
                agency.as_bytes().into(),
                bytes(officer).into(),
                (*domain).into(),
                used.day.into(),
                used.items.into(),
            ]
        });
        let columns = [
            Bytes("agency"),
            Bytes("officer_handle"),
            Number("domain"),
            Number("day"),
            Number("items"),
        ];
        Insert::into("budgets", columns, changed)
            .or("ON CONFLICT (agency, officer_handle, domain) \
                 DO UPDATE SET day = excluded.day, items = excluded.items")
            .execute(connection)
            .await
    }
}

/// The handle as it is kept; none is empty.
fn bytes(officer: &Option<[u8; 16]>) -> &[u8] {
    officer.as_ref().map_or(&[], |handle| handle.as_slice())
}

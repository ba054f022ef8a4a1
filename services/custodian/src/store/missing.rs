//! Consents that the gateway released on and that are not here. They are waited for; whoever invents one
//! never asks again, so the alarm does not wait to be asked.

use std::collections::{BTreeMap, BTreeSet};

use amanat_desk::{
    Rules,
    consent::{ConsentFacts, SourceCase},
};
use amanat_journal::{damaged, id_set};
use amanat_schema::{ConsentId, Time};
use amanat_server::Refusal;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{
    Call, Reply, Ruled, alarm,
    redeemed::{ConsentKey, consent_and_time},
    release::RECENT,
};

#[derive(Default)]
pub(super) struct MissingFacts {
    /// Since when each consent that a release at hand names is missing.
    since: BTreeMap<ConsentKey, Time>,
    missed: Vec<ConsentKey>,
    /// Those that have not come and were not alarmed yet, since when.
    waiting: Vec<(ConsentKey, Time)>,
    /// Those alarmed now, when.
    alarmed: Vec<(ConsentKey, Time)>,
}

/// One alarm for all that are missing for too long; no entry if none is.
pub(super) fn raise(facts: &mut MissingFacts, rules: &Rules, now: Time) -> Ruled {
    let overdue: Vec<_> = facts
        .waiting
        .extract_if(.., |(_, since)| *since + RECENT < now)
        .map(|(consent, _)| (consent, now))
        .collect();
    let draft = (!overdue.is_empty()).then(|| {
        let (why, count) = ("consents that were released on never came", overdue.len());
        tracing::error!(why, count, "ALARM: the gateway may have invented consents");
        let mut draft = alarm(rules, &Refusal::ledger_behind(), why);
        draft.body.count = count.try_into().unwrap_or(u64::MAX);
        draft
    });
    facts.alarmed.extend(overdue);
    Ruled {
        answer: Ok(Reply::Done),
        draft,
        remember: None,
    }
}

impl MissingFacts {
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        here: &ConsentFacts,
        calls: &[&Call],
    ) -> Result<Self, sqlx::Error> {
        let mut facts = Self::default();
        let mut consents = BTreeSet::new();
        let mut raising = false;
        for call in calls {
            match call {
                Call::Release(call) => consents.extend(call.consents_missing(here)),
                Call::AlarmMissing => raising = true,
                Call::Refused(_)
                | Call::Consent(_)
                | Call::Audit(_)
                | Call::Head(_)
                | Call::Deposit(_)
                | Call::Activate(_)
                | Call::Evaluate(_)
                | Call::ListUnused(_)
                | Call::Expire => {}
            }
        }
        if !consents.is_empty() {
            let rows = sqlx::query(
                "SELECT source, case_id, consent_id, first_time FROM missing_consents \
                 WHERE consent_id IN (SELECT unhex(value) FROM json_each($1))",
            )
            .bind(id_set(consents.iter().map(|id| id.as_bytes().as_slice())))
            .fetch_all(&mut *connection)
            .await?;
            facts.since = rows
                .iter()
                .map(consent_and_time)
                .collect::<Result<_, _>>()?;
        }
        if raising {
            let rows = sqlx::query(
                "SELECT source, case_id, consent_id, first_time FROM missing_consents AS missing \
                 WHERE alarm_time IS NULL AND NOT EXISTS (SELECT 1 FROM consents AS here \
                 WHERE here.case_id = missing.case_id AND here.consent_id = missing.consent_id \
                 AND here.source = missing.source)",
            )
            .fetch_all(connection)
            .await?;
            facts.waiting = rows
                .iter()
                .map(consent_and_time)
                .collect::<Result<_, _>>()?;
        }
        Ok(facts)
    }

    /// Since when the consent is missing here; from now on if it was not missed before.
    pub(super) fn since(&mut self, of: SourceCase, consent: ConsentId, now: Time) -> Time {
        let key = (of, consent);
        *self.since.entry(key).or_insert_with(|| {
            self.missed.push(key);
            now
        })
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let missed: Vec<_> = self
            .missed
            .iter()
            .filter_map(|key| Some((key, self.since.get(key)?)))
            .collect();
        if !missed.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO missing_consents (source, case_id, consent_id, first_time) ",
            )
            .push_values(missed, |mut row, (((source, case), consent), since)| {
                row.push_bind(source.to_vec())
                    .push_bind(case.to_vec())
                    .push_bind(consent.to_vec())
                    .push_bind(since.millis());
            })
            .build()
            .execute(&mut *connection)
            .await?;
        }
        if !self.alarmed.is_empty() {
            let alarmed = self.alarmed.iter().map(|(((source, case), consent), at)| {
                (
                    source.to_string(),
                    case.to_string(),
                    consent.to_string(),
                    at.millis(),
                )
            });
            sqlx::query(
                "UPDATE missing_consents SET alarm_time = done.value ->> 3 \
                 FROM json_each($1) AS done \
                 WHERE source = unhex(done.value ->> 0) AND case_id = unhex(done.value ->> 1) \
                 AND consent_id = unhex(done.value ->> 2)",
            )
            .bind(serde_json::to_string(&alarmed.collect::<Vec<_>>()).map_err(damaged)?)
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

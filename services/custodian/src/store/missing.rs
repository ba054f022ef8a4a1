//! Consents that the gateway released on and that are not here. They are waited for; whoever invents one
//! never asks again, so the alarm does not wait to be asked.

use std::collections::{BTreeMap, BTreeSet};

use amanat_database::{
    Column::{self, Bytes, Number},
    Connection, Error, Insert, Sql, Value,
};
use amanat_desk::{
    Rules,
    consent::{ConsentFacts, SourceCase},
};
use amanat_schema::{ConsentId, Time};
use amanat_server::Refusal;

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
        connection: &mut Connection,
        here: &ConsentFacts,
        calls: &[&Call],
    ) -> Result<Self, Error> {
        let mut facts = Self::default();
        let mut consents = BTreeSet::new();
        let mut raising = false;
        for call in calls {
            match call {
                Call::Release(call, _) => consents.extend(call.consents_missing(here)),
                Call::AlarmMissing => raising = true,
                Call::Refused(_)
                | Call::Consent(_)
                | Call::Audit(_)
                | Call::Head(_)
                | Call::Deposit(_)
                | Call::Activate(..)
                | Call::Evaluate(_)
                | Call::ListUnused(_)
                | Call::Expire => {}
            }
        }
        if !consents.is_empty() {
            let rows = Sql::new(
                "SELECT source, case_id, consent_id, first_time FROM missing_consents WHERE ",
            )
            .is_one_of(
                Bytes("consent_id"),
                consents.iter().map(ConsentId::as_bytes),
            )
            .fetch_all(connection)
            .await?;
            facts.since = rows
                .iter()
                .map(consent_and_time)
                .collect::<Result<_, _>>()?;
        }
        if raising {
            let rows = Sql::new(
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

    pub(super) async fn write(self, connection: &mut Connection) -> Result<(), Error> {
        let missed = self.missed.iter().filter_map(|key| {
            let since = self.since.get(key)?;
            Some(row(key, *since))
        });
        let columns = key_and(Number("first_time"));
        Insert::into("missing_consents", columns, missed)
            .execute(connection)
            .await?;
        if !self.alarmed.is_empty() {
            let alarmed = self.alarmed.iter().map(|(key, at)| row(key, *at));
            Sql::new("UPDATE missing_consents SET alarm_time = done.at FROM ")
                .rows("done", key_and(Number("at")), alarmed)
                .push(
                    " WHERE missing_consents.source = done.source \
                     AND missing_consents.case_id = done.case_id \
                     AND missing_consents.consent_id = done.consent_id",
                )
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}

/// As [`row`] fills them.
fn key_and(time: Column) -> [Column; 4] {
    [Bytes("source"), Bytes("case_id"), Bytes("consent_id"), time]
}

fn row<'a>(((source, case), consent): &'a ConsentKey, at: Time) -> [Value<'a>; 4] {
    [
        source.as_bytes().into(),
        case.as_bytes().into(),
        consent.as_bytes().into(),
        at.millis().into(),
    ]
}

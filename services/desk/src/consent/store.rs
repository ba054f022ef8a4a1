//! The ledger's tables: facts of a batch in, changes out, one statement a table.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use amanat_journal::id_set;
use amanat_schema::{
    AgencyId, CaseId, ConsentId, Time,
    statement::{Consent, Envelope},
};
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{ByCase, ConsentRow, ListConsents, RecordConsent, WithdrawConsent};

/// The consents and withdrawals that a batch rests on, and what it adds.
#[derive(Default)]
pub struct ConsentFacts {
    by_case: ByCase,
    withdrawals: BTreeSet<(CaseId, ConsentId, AgencyId)>,
    /// By who asks and what: the same bytes from another agency are another list.
    lists: HashMap<(AgencyId, [u8; 32]), Vec<ConsentRow>>,
    recorded: Vec<Recorded>,
    withdrawn: Vec<Withdrawn>,
    /// By sequence number: how many reads a row has now.
    read: BTreeMap<i64, u32>,
}

struct Recorded {
    row: ConsentRow,
    evidence: Vec<u8>,
}

struct Withdrawn {
    consent: ConsentId,
    agency: AgencyId,
    case: CaseId,
    envelope: Vec<u8>,
    at: Time,
}

const COLUMNS: &str = "SELECT seq, envelope, payload_sha256, record_time, reads FROM consents";

impl ConsentFacts {
    /// # Errors
    /// Of the driver.
    pub async fn load(
        connection: &mut SqliteConnection,
        cases: &BTreeSet<CaseId>,
        lists: &[&ListConsents],
    ) -> Result<Self, sqlx::Error> {
        let mut facts = Self::default();
        let mut cases = cases.clone();
        for list in lists {
            let rows = page(connection, list).await?;
            cases.extend(rows.iter().map(|row| row.terms.case));
            facts
                .lists
                .insert((list.act.agency, list.act.request_sha256), rows);
        }
        if cases.is_empty() {
            return Ok(facts);
        }
        let cases = id_set(cases.iter().map(|case| case.as_bytes().as_slice()));
        let rows = QueryBuilder::<Sqlite>::new(COLUMNS)
            .push(" WHERE case_id IN (SELECT unhex(value) FROM json_each(")
            .push_bind(cases.as_str())
            .push(")) ORDER BY seq")
            .build()
            .fetch_all(&mut *connection)
            .await?;
        for row in &rows {
            let row = parse(row)?;
            facts.by_case.entry(row.terms.case).or_default().push(row);
        }
        let rows = sqlx::query(
            "SELECT case_id, consent_id, agency FROM withdrawals \
             WHERE case_id IN (SELECT unhex(value) FROM json_each($1))",
        )
        .bind(cases)
        .fetch_all(connection)
        .await?;
        for row in rows {
            let id = |column: usize| row.try_get::<Vec<u8>, _>(column);
            facts.withdrawals.insert((
                CaseId::parse(&id(0)?).map_err(decode)?,
                ConsentId::parse(&id(1)?).map_err(decode)?,
                AgencyId::parse(&id(2)?).map_err(decode)?,
            ));
        }
        Ok(facts)
    }

    pub(super) fn in_case(&self, case: CaseId) -> impl Iterator<Item = &ConsentRow> {
        self.by_case.get(&case).into_iter().flatten()
    }

    pub(super) fn consent(&self, case: CaseId, id: ConsentId) -> Option<&ConsentRow> {
        self.in_case(case).find(|row| row.terms.consent == id)
    }

    /// Who signed a withdrawal of it, entitled or not.
    pub(super) fn withdrawn_by(&self, row: &ConsentRow) -> impl Iterator<Item = AgencyId> {
        let (case, consent) = (row.terms.case, row.terms.consent);
        self.withdrawals
            .iter()
            .filter(move |(of, id, _)| (*of, *id) == (case, consent))
            .map(|(_, _, agency)| *agency)
    }

    pub(super) fn listed(&self, call: &ListConsents) -> Vec<ConsentRow> {
        let key = (call.act.agency, call.act.request_sha256);
        self.lists.get(&key).cloned().unwrap_or_default()
    }

    pub(super) fn record(&mut self, call: &RecordConsent, now: Time) {
        let Ok(envelope) = Envelope::decode(call.statement.envelope.as_slice()) else {
            // Encoded by us from a decoded one.
            return;
        };
        let row = ConsentRow {
            seq: 0,
            terms: call.terms.clone(),
            envelope,
            payload_sha256: call.statement.payload_sha256,
            recorded: now,
            reads: 0,
        };
        self.by_case
            .entry(call.terms.case)
            .or_default()
            .push(row.clone());
        self.recorded.push(Recorded {
            row,
            evidence: call.evidence.clone(),
        });
    }

    pub(super) fn withdraw(&mut self, call: &WithdrawConsent, now: Time) {
        if self
            .withdrawals
            .insert((call.case, call.consent, call.act.agency))
        {
            self.withdrawn.push(Withdrawn {
                consent: call.consent,
                agency: call.act.agency,
                case: call.case,
                envelope: call.statement.envelope.clone(),
                at: now,
            });
        }
    }

    /// Counts one read that rests on the consent, for its `max_reads`.
    pub fn count_read(&mut self, consent: ConsentId) {
        for row in self
            .by_case
            .values_mut()
            .flatten()
            .filter(|row| row.terms.consent == consent)
        {
            row.reads = row.reads.saturating_add(1);
            self.read.insert(row.seq, row.reads);
        }
    }

    /// # Errors
    /// Of the driver.
    pub async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if !self.recorded.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO consents (consent_id, case_id, source, recipient, envelope, \
                 payload_sha256, evidence, record_time, reads) ",
            )
            .push_values(
                &self.recorded,
                |mut row,
                 Recorded {
                     row: consent,
                     evidence,
                 }| {
                    row.push_bind(consent.terms.consent.to_vec())
                        .push_bind(consent.terms.case.to_vec())
                        .push_bind(consent.terms.source.to_vec())
                        .push_bind(consent.terms.recipient.to_vec())
                        .push_bind(consent.envelope.encode_to_vec())
                        .push_bind(consent.payload_sha256.as_slice())
                        .push_bind(evidence.as_slice())
                        .push_bind(consent.recorded.millis())
                        .push_bind(consent.reads);
                },
            )
            .build()
            .execute(&mut *connection)
            .await?;
        }
        if !self.withdrawn.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO withdrawals (consent_id, agency, case_id, envelope, withdraw_time) ",
            )
            .push_values(&self.withdrawn, |mut row, withdrawal| {
                row.push_bind(withdrawal.consent.to_vec())
                    .push_bind(withdrawal.agency.to_vec())
                    .push_bind(withdrawal.case.to_vec())
                    .push_bind(withdrawal.envelope.as_slice())
                    .push_bind(withdrawal.at.millis());
            })
            .build()
            .execute(&mut *connection)
            .await?;
        }
        if !self.read.is_empty() {
            sqlx::query(
                "UPDATE consents SET reads = counted.value FROM json_each($1) AS counted \
                 WHERE consents.seq = CAST(counted.key AS INTEGER)",
            )
            .bind(serde_json::to_string(&self.read).map_err(decode)?)
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

/// What the caller signed or is the recipient of.
async fn page(
    connection: &mut SqliteConnection,
    list: &ListConsents,
) -> Result<Vec<ConsentRow>, sqlx::Error> {
    let agency = list.act.agency.to_vec();
    let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
    query.push(" WHERE (source = ").push_bind(agency.clone());
    query.push(" OR recipient = ").push_bind(agency);
    query.push(") AND seq > ").push_bind(list.page.after);
    if let Some(case) = list.case {
        query.push(" AND case_id = ").push_bind(case.to_vec());
    }
    query.push(" ORDER BY seq LIMIT ").push_bind(list.page.size);
    query
        .build()
        .fetch_all(connection)
        .await?
        .iter()
        .map(parse)
        .collect()
}

fn parse(row: &SqliteRow) -> Result<ConsentRow, sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(1)?;
    let envelope = Envelope::decode(bytes.as_slice()).map_err(decode)?;
    let consent = Consent::decode(envelope.payload.as_slice()).map_err(decode)?;
    // It was checked before it was recorded; a row that no longer parses is damage, and fails the batch.
    let terms = amanat_policy::parse_consent(&consent).map_err(|_| sqlx::Error::RowNotFound)?;
    let payload_sha256: Vec<u8> = row.try_get(2)?;
    Ok(ConsentRow {
        seq: row.try_get(0)?,
        terms,
        envelope,
        payload_sha256: payload_sha256
            .try_into()
            .map_err(|_| sqlx::Error::RowNotFound)?,
        recorded: Time::from_millis(row.try_get(3)?).map_err(decode)?,
        reads: row.try_get(4)?,
    })
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

//! The ledger's tables: facts of a batch in, changes out, one statement a table.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use amanat_identity::Directory;
use amanat_policy::{Choice, ConsentTerms, Grant};
use amanat_schema::{
    AgencyId, CaseId, ConsentId, Time,
    statement::{Consent, Envelope},
};
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    ConsentCall, ConsentRow, ListConsents, RecordConsent, RememberedConsents, SourceCase,
    WithdrawConsent,
};

/// The consents and withdrawals that a batch rests on, and what it adds.
#[derive(Default)]
pub struct ConsentFacts {
    grants: BTreeMap<SourceCase, Arc<Vec<Grant>>>,
    /// The consents here that each withdrawal at hand closes: who signs it, and whose consent it is.
    closing: BTreeSet<(AgencyId, SourceCase, ConsentId)>,
    /// How many withdrawals of a case an agency has signed; absent if none.
    withdrawals: BTreeMap<(AgencyId, CaseId), u32>,
    /// By who asks and what: the same bytes from another agency are another list.
    lists: HashMap<(AgencyId, [u8; 32]), Vec<ConsentRow>>,
    recorded: Vec<Recorded>,
    withdrawn: Vec<Withdrawn>,
    /// How many reads rest on a consent now, if it is limited.
    read: BTreeMap<(SourceCase, ConsentId), u32>,
}

struct Recorded {
    terms: ConsentTerms,
    envelope: Vec<u8>,
    payload_sha256: [u8; 32],
    evidence: Vec<u8>,
    at: Time,
}

struct Withdrawn {
    consent: ConsentId,
    agency: AgencyId,
    case: CaseId,
    envelope: Vec<u8>,
    at: Time,
}

/// What became of a consent is the database's to say, over its indexes: so it is the same for a decision
/// on one and for a list of many.
const CONSENTS: &str = "SELECT c.seq, c.envelope, c.payload_sha256, c.record_time, c.reads, \
     EXISTS (SELECT 1 FROM consents AS n WHERE n.case_id = c.case_id AND n.source = c.source \
         AND n.supersedes = c.consent_id), \
     EXISTS (SELECT 1 FROM withdrawals AS w WHERE w.case_id = c.case_id \
         AND w.consent_id = c.consent_id AND ";
/// Whether the agency of `w` may withdraw the consent `c`: its source, or any recipient that the source's
/// consents in the case name. It can only close.
const ENTITLED: &str = "(w.agency = c.source OR EXISTS (SELECT 1 FROM consents AS e \
     WHERE e.case_id = c.case_id AND e.source = c.source AND e.recipient = w.agency))";

impl ConsentFacts {
    /// What `calls` need, and the consents of `asked`.
    ///
    /// # Errors
    /// Of the driver.
    pub async fn load(
        connection: &mut SqliteConnection,
        remembered: &RememberedConsents,
        mut asked: BTreeSet<SourceCase>,
        calls: &[&ConsentCall],
    ) -> Result<Self, sqlx::Error> {
        let mut facts = Self::default();
        let mut withdrawals = Vec::new();
        for call in calls {
            match call {
                ConsentCall::Record(call) => {
                    asked.insert((call.terms.source, call.terms.case));
                }
                ConsentCall::Withdraw(call) => withdrawals.push(call),
                ConsentCall::List(list) => {
                    let key = (list.act.agency, list.act.request_sha256);
                    facts.lists.insert(key, page(connection, list).await?);
                }
            }
        }
        if !withdrawals.is_empty() {
            facts.load_withdrawals(connection, &withdrawals).await?;
            asked.extend(facts.closing.iter().map(|(_, of, _)| of));
        }
        for of in asked.clone() {
            if let Some(grants) = remembered.get(&of) {
                facts.grants.insert(of, grants);
                asked.remove(&of);
            }
        }
        if asked.is_empty() {
            return Ok(facts);
        }
        let ids: Vec<_> = asked
            .iter()
            .map(|(source, case)| (source.to_string(), case.to_string()))
            .collect();
        let rows = consents()
            .push(" JOIN json_each(")
            .push_bind(serde_json::to_string(&ids).map_err(decode)?)
            .push(
                ") AS asked ON c.case_id = unhex(asked.value ->> 1) \
                 AND c.source = unhex(asked.value ->> 0) ORDER BY c.seq",
            )
            .build()
            .fetch_all(connection)
            .await?;
        let mut loaded: BTreeMap<_, _> = asked.into_iter().map(|of| (of, Vec::new())).collect();
        for row in &rows {
            let grant = parse(row)?.grant;
            let of = (grant.terms.source, grant.terms.case);
            loaded.entry(of).or_default().push(grant);
        }
        for (of, grants) in loaded {
            let grants = Arc::new(grants);
            remembered.keep(of, Arc::clone(&grants));
            facts.grants.insert(of, grants);
        }
        Ok(facts)
    }

    async fn load_withdrawals(
        &mut self,
        connection: &mut SqliteConnection,
        calls: &[&WithdrawConsent],
    ) -> Result<(), sqlx::Error> {
        let ids: Vec<_> = calls
            .iter()
            .map(|call| {
                (
                    call.act.agency.to_string(),
                    call.case.to_string(),
                    call.consent.to_string(),
                )
            })
            .collect();
        let ids = serde_json::to_string(&ids).map_err(decode)?;
        let mut query = QueryBuilder::<Sqlite>::new(
            "WITH w AS (SELECT unhex(value ->> 0) AS agency, unhex(value ->> 1) AS case_id, \
             unhex(value ->> 2) AS consent_id FROM json_each(",
        );
        let rows = query
            .push_bind(ids.as_str())
            .push(
                ")) SELECT w.agency, c.source, c.case_id, c.consent_id FROM w JOIN consents AS c \
                 ON c.case_id = w.case_id AND c.consent_id = w.consent_id WHERE ",
            )
            .push(ENTITLED)
            .build()
            .fetch_all(&mut *connection)
            .await?;
        for row in rows {
            let id = |column: usize| row.try_get::<Vec<u8>, _>(column);
            let of = (
                AgencyId::parse(&id(1)?).map_err(decode)?,
                CaseId::parse(&id(2)?).map_err(decode)?,
            );
            let signer = AgencyId::parse(&id(0)?).map_err(decode)?;
            let consent = ConsentId::parse(&id(3)?).map_err(decode)?;
            self.closing.insert((signer, of, consent));
        }
        let rows = sqlx::query(
            "WITH w AS (SELECT DISTINCT unhex(value ->> 0) AS agency, unhex(value ->> 1) AS case_id \
             FROM json_each($1)) \
             SELECT agency, case_id, count(*) FROM w JOIN withdrawals USING (agency, case_id) \
             GROUP BY agency, case_id",
        )
        .bind(ids)
        .fetch_all(connection)
        .await?;
        for row in rows {
            let (agency, case): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            let agency = AgencyId::parse(&agency).map_err(decode)?;
            let case = CaseId::parse(&case).map_err(decode)?;
            self.withdrawals.insert((agency, case), row.try_get(2)?);
        }
        Ok(())
    }

    /// A source's consents in a case, as decisions need them.
    pub fn grants(&self, of: SourceCase) -> &[Grant] {
        self.grants.get(&of).map_or(&[], |grants| grants.as_slice())
    }

    /// The same as a directory lets them count: without the permits that somebody else may have signed. What
    /// refuses only closes: it stays, and only its source's own word lifts it.
    pub fn counting(&self, of: SourceCase, directory: &Directory) -> Cow<'_, [Grant]> {
        let (grants, source) = (self.grants(of), of.0);
        let is_own =
            |grant: &&Grant| directory.is_own_word(source, &grant.signed_by, grant.recorded);
        if grants.iter().all(|grant| is_own(&grant)) {
            return Cow::Borrowed(grants);
        }
        let own = grants.iter().filter(is_own);
        let superseded: BTreeSet<_> = own.filter_map(|grant| grant.terms.supersedes).collect();
        let denies = |grant: &Grant| grant.terms.choice == Choice::Deny;
        let counting = grants.iter().filter(|grant| denies(grant) || is_own(grant));
        let counting = counting.cloned().map(|mut grant| {
            if denies(&grant) {
                grant.superseded = superseded.contains(&grant.terms.consent);
            }
            grant
        });
        Cow::Owned(counting.collect())
    }

    /// Whose consents were loaded.
    pub fn sources(&self) -> impl Iterator<Item = SourceCase> + '_ {
        self.grants.keys().copied()
    }

    /// Whether it closes a consent that is here and not withdrawn.
    pub(super) fn closes(&self, call: &WithdrawConsent) -> bool {
        let mut named = self.closing.iter().filter(|(signer, of, consent)| {
            (*signer, of.1, *consent) == (call.act.agency, call.case, call.consent)
        });
        named.any(|(_, of, _)| {
            let mut grants = self.grants(*of).iter();
            grants.any(|grant| grant.terms.consent == call.consent && !grant.withdrawn)
        })
    }

    pub(super) fn withdrawals(&self, call: &WithdrawConsent) -> u32 {
        let signer = (call.act.agency, call.case);
        self.withdrawals.get(&signer).copied().unwrap_or(0)
    }

    pub(super) fn listed(&self, call: &ListConsents) -> Vec<ConsentRow> {
        let key = (call.act.agency, call.act.request_sha256);
        self.lists.get(&key).cloned().unwrap_or_default()
    }

    /// INVARIANT: the batch holds nothing else of this case, so the new consent is asked for only after it
    /// is loaded again, with what became of it.
    pub(super) fn record(&mut self, call: &RecordConsent, now: Time) {
        self.recorded.push(Recorded {
            terms: call.terms.clone(),
            envelope: call.statement.envelope.clone(),
            payload_sha256: call.statement.payload_sha256,
            evidence: call.evidence.clone(),
            at: now,
        });
    }

    /// What it closes that was not withdrawn before.
    pub(super) fn withdraw(&mut self, call: &WithdrawConsent, now: Time) -> Vec<ConsentTerms> {
        self.withdrawn.push(Withdrawn {
            consent: call.consent,
            agency: call.act.agency,
            case: call.case,
            envelope: call.statement.envelope.clone(),
            at: now,
        });
        let mut closed = Vec::new();
        for (signer, of, consent) in &self.closing {
            if (*signer, of.1, *consent) != (call.act.agency, call.case, call.consent) {
                continue;
            }
            let grants = self.grants.get_mut(of).map(Arc::make_mut);
            let named = |grant: &&mut Grant| grant.terms.consent == *consent;
            for grant in grants.into_iter().flatten().filter(named) {
                if !std::mem::replace(&mut grant.withdrawn, true) {
                    closed.push(grant.terms.clone());
                }
            }
        }
        closed
    }

    /// Counts one read that rests on the consent, for its `max_reads`; without one it need not be known.
    pub fn count_read(&mut self, of: SourceCase, consent: ConsentId) {
        let Some(grants) = self.grants.get_mut(&of) else {
            return;
        };
        let is_limited =
            |grant: &Grant| grant.terms.consent == consent && grant.terms.max_reads != 0;
        if !grants.iter().any(is_limited) {
            return;
        }
        for grant in Arc::make_mut(grants)
            .iter_mut()
            .filter(|grant| is_limited(grant))
        {
            grant.reads = grant.reads.saturating_add(1);
            self.read.insert((of, consent), grant.reads);
        }
    }

    /// Whose consents are not any more what was loaded. A withdrawal that came first closes nothing until its
    /// consent is recorded.
    fn changed(&self) -> impl Iterator<Item = SourceCase> + '_ {
        let recorded = self.recorded.iter().map(|r| (r.terms.source, r.terms.case));
        let withdrawn = self.withdrawn.iter().flat_map(|withdrawal| {
            let of_case = move |of: &&SourceCase| of.1 == withdrawal.case;
            self.grants.keys().filter(of_case).copied()
        });
        let counted = self.read.keys().map(|(of, _)| *of);
        recorded.chain(withdrawn).chain(counted)
    }

    /// The cases in which a consent is recorded or withdrawn, whoever signed it.
    pub fn changed_cases(&self) -> impl Iterator<Item = CaseId> + '_ {
        let recorded = self.recorded.iter().map(|recorded| recorded.terms.case);
        let withdrawn = self.withdrawn.iter().map(|withdrawal| withdrawal.case);
        recorded.chain(withdrawn)
    }

    /// # Errors
    /// Of the driver.
    pub async fn write(
        self,
        connection: &mut SqliteConnection,
        remembered: &RememberedConsents,
    ) -> Result<(), sqlx::Error> {
        for of in self.changed() {
            remembered.forget(&of);
        }
        if !self.recorded.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO consents (consent_id, case_id, source, recipient, supersedes, envelope, \
                 payload_sha256, evidence, record_time, reads, purpose) ",
            )
            .push_values(self.recorded, |mut row, recorded| {
                let terms = &recorded.terms;
                row.push_bind(terms.consent.to_vec())
                    .push_bind(terms.case.to_vec())
                    .push_bind(terms.source.to_vec())
                    .push_bind(terms.recipient.to_vec())
                    .push_bind(terms.supersedes.map(ConsentId::to_vec))
                    .push_bind(recorded.envelope)
                    .push_bind(recorded.payload_sha256.to_vec())
                    .push_bind(recorded.evidence)
                    .push_bind(recorded.at.millis())
                    .push_bind(0)
                    .push_bind(i32::from(terms.purpose));
            })
            .build()
            .execute(&mut *connection)
            .await?;
        }
        if !self.withdrawn.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO withdrawals (consent_id, agency, case_id, envelope, withdraw_time) ",
            )
            .push_values(self.withdrawn, |mut row, withdrawal| {
                row.push_bind(withdrawal.consent.to_vec())
                    .push_bind(withdrawal.agency.to_vec())
                    .push_bind(withdrawal.case.to_vec())
                    .push_bind(withdrawal.envelope)
                    .push_bind(withdrawal.at.millis());
            })
            // The same agency may withdraw it again in other words; the first stands.
            .push(" ON CONFLICT DO NOTHING")
            .build()
            .execute(&mut *connection)
            .await?;
        }
        if !self.read.is_empty() {
            let read: Vec<_> = self
                .read
                .iter()
                .map(|(((source, case), consent), reads)| {
                    (
                        source.to_string(),
                        case.to_string(),
                        consent.to_string(),
                        reads,
                    )
                })
                .collect();
            sqlx::query(
                "UPDATE consents SET reads = counted.value ->> 3 FROM json_each($1) AS counted \
                 WHERE source = unhex(counted.value ->> 0) AND case_id = unhex(counted.value ->> 1) \
                 AND consent_id = unhex(counted.value ->> 2)",
            )
            .bind(serde_json::to_string(&read).map_err(decode)?)
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

fn consents() -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(CONSENTS);
    query.push(ENTITLED).push(") FROM consents AS c");
    query
}

/// What the caller signed or is the recipient of.
async fn page(
    connection: &mut SqliteConnection,
    list: &ListConsents,
) -> Result<Vec<ConsentRow>, sqlx::Error> {
    let mut query = consents();
    query.push(" WHERE c.seq IN (");
    // A page along each index, so that an agency's whole history is not sorted for one page of it.
    for party in [
        "SELECT seq FROM (SELECT seq FROM consents WHERE source = ",
        " UNION SELECT seq FROM (SELECT seq FROM consents WHERE recipient = ",
    ] {
        query.push(party).push_bind(list.act.agency.to_vec());
        query.push(" AND seq > ").push_bind(list.page.after);
        if let Some(case) = list.case {
            query.push(" AND case_id = ").push_bind(case.to_vec());
        }
        if let Some(recipient) = list.recipient {
            query
                .push(" AND recipient = ")
                .push_bind(recipient.to_vec());
        }
        if let Some(purpose) = list.purpose {
            query.push(" AND purpose = ").push_bind(i32::from(purpose));
        }
        query.push(" ORDER BY seq LIMIT ").push_bind(list.page.size);
        query.push(")");
    }
    query
        .push(") ORDER BY c.seq LIMIT ")
        .push_bind(list.page.size)
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
    let recorded = Time::from_millis(row.try_get(3)?).map_err(decode)?;
    let signed_by = envelope
        .signatures
        .first()
        .and_then(|signature| signature.key_id.as_slice().try_into().ok())
        .ok_or(sqlx::Error::RowNotFound)?;
    Ok(ConsentRow {
        seq: row.try_get(0)?,
        grant: Grant {
            terms,
            statement_sha256: payload_sha256
                .try_into()
                .map_err(|_| sqlx::Error::RowNotFound)?,
            signed_by,
            recorded,
            reads: row.try_get(4)?,
            superseded: row.try_get(5)?,
            withdrawn: row.try_get(6)?,
        },
        envelope,
        recorded,
    })
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

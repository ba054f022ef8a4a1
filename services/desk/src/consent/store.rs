//! The ledger's tables: facts of a batch in, changes out, one statement a table.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Error, Insert, Row, Sql, damaged,
};
use amanat_identity::Directory;
use amanat_policy::{Choice, ConsentTerms, Grant};
use amanat_schema::{
    AgencyId, CaseId, ConsentId, Time,
    statement::{Consent, Envelope},
};
use prost::Message as _;

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
        connection: &mut Connection,
        remembered: &RememberedConsents,
        mut asked: BTreeSet<SourceCase>,
        calls: &[&ConsentCall],
    ) -> Result<Self, Error> {
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
        let named = asked
            .iter()
            .map(|(source, case)| [source.as_bytes().into(), case.as_bytes().into()]);
        let rows = consents()
            .rows("asked", [Bytes("source"), Bytes("case_id")], named)
            .led_join()
            .push("consents AS c ON c.case_id = asked.case_id AND c.source = asked.source ORDER BY c.seq")
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
        connection: &mut Connection,
        calls: &[&WithdrawConsent],
    ) -> Result<(), Error> {
        let named = calls.iter().map(|call| {
            [
                call.act.agency.as_bytes().into(),
                call.case.as_bytes().into(),
                call.consent.as_bytes().into(),
            ]
        });
        let columns = [Bytes("agency"), Bytes("case_id"), Bytes("consent_id")];
        let rows = Sql::new("SELECT w.agency, c.source, c.case_id, c.consent_id FROM ")
            .rows("w", columns, named)
            .led_join()
            .push("consents AS c ON c.case_id = w.case_id AND c.consent_id = w.consent_id WHERE ")
            .push(ENTITLED)
            .fetch_all(connection)
            .await?;
        for row in rows {
            let signer = AgencyId::new(row.get(0)?);
            let of = (AgencyId::new(row.get(1)?), CaseId::new(row.get(2)?));
            self.closing
                .insert((signer, of, ConsentId::new(row.get(3)?)));
        }
        let signers: BTreeSet<_> = calls
            .iter()
            .map(|call| (call.act.agency, call.case))
            .collect();
        let signers = signers
            .iter()
            .map(|(agency, case)| [agency.as_bytes().into(), case.as_bytes().into()]);
        let rows = Sql::new("SELECT s.agency, s.case_id, count(*) FROM ")
            .rows("s", [Bytes("agency"), Bytes("case_id")], signers)
            .led_join()
            .push(
                "withdrawals AS w ON w.case_id = s.case_id AND w.agency = s.agency \
                 GROUP BY s.agency, s.case_id",
            )
            .fetch_all(connection)
            .await?;
        for row in rows {
            let signer = (AgencyId::new(row.get(0)?), CaseId::new(row.get(1)?));
            self.withdrawals.insert(signer, row.get(2)?);
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
        connection: &mut Connection,
        remembered: &RememberedConsents,
    ) -> Result<(), Error> {
        for of in self.changed() {
            remembered.forget(&of);
        }
        self.write_recorded(connection).await?;
        self.write_withdrawn(connection).await?;
        self.write_read(connection).await
    }

    async fn write_recorded(&self, connection: &mut Connection) -> Result<(), Error> {
        let columns = [
            Bytes("consent_id"),
            Bytes("case_id"),
            Bytes("source"),
            Bytes("recipient"),
            Bytes("supersedes"),
            Bytes("envelope"),
            Bytes("payload_sha256"),
            Bytes("evidence"),
            Number("record_time"),
            Number("reads"),
            Number("purpose"),
        ];
        let rows = self.recorded.iter().map(|recorded| {
            let terms = &recorded.terms;
            let supersedes = terms.supersedes.as_ref();
            [
                terms.consent.as_bytes().into(),
                terms.case.as_bytes().into(),
                terms.source.as_bytes().into(),
                terms.recipient.as_bytes().into(),
                supersedes.map(ConsentId::as_bytes).into(),
                (&recorded.envelope).into(),
                (&recorded.payload_sha256).into(),
                (&recorded.evidence).into(),
                recorded.at.millis().into(),
                0.into(),
                i32::from(terms.purpose).into(),
            ]
        });
        Insert::into("consents", columns, rows)
            .execute(connection)
            .await
    }

    async fn write_withdrawn(&self, connection: &mut Connection) -> Result<(), Error> {
        let columns = [
            Bytes("consent_id"),
            Bytes("agency"),
            Bytes("case_id"),
            Bytes("envelope"),
            Number("withdraw_time"),
        ];
        let rows = self.withdrawn.iter().map(|withdrawal| {
            [
                withdrawal.consent.as_bytes().into(),
                withdrawal.agency.as_bytes().into(),
                withdrawal.case.as_bytes().into(),
                (&withdrawal.envelope).into(),
                withdrawal.at.millis().into(),
            ]
        });
        // The same agency may withdraw it again in other words; the first stands.
        Insert::into("withdrawals", columns, rows)
            .or("ON CONFLICT DO NOTHING")
            .execute(connection)
            .await
    }

    async fn write_read(&self, connection: &mut Connection) -> Result<(), Error> {
        if self.read.is_empty() {
            return Ok(());
        }
        let columns = [
            Bytes("source"),
            Bytes("case_id"),
            Bytes("consent_id"),
            Number("reads"),
        ];
        let rows = self.read.iter().map(|(((source, case), consent), reads)| {
            [
                source.as_bytes().into(),
                case.as_bytes().into(),
                consent.as_bytes().into(),
                (*reads).into(),
            ]
        });
        Sql::new("UPDATE consents SET reads = counted.reads FROM ")
            .rows("counted", columns, rows)
            .push(
                " WHERE consents.case_id = counted.case_id AND consents.source = counted.source \
                 AND consents.consent_id = counted.consent_id",
            )
            .execute(connection)
            .await
            .map(drop)
    }
}

/// Up to what the consents `c` are selected from.
fn consents<'a>() -> Sql<'a> {
    Sql::new(CONSENTS).push(ENTITLED).push(") FROM ")
}

/// What the caller signed or is the recipient of.
async fn page(connection: &mut Connection, list: &ListConsents) -> Result<Vec<ConsentRow>, Error> {
    let mut query = consents().push("consents AS c WHERE c.seq IN (");
    // A page along each index, so that an agency's whole history is not sorted for one page of it.
    for (party, end) in [
        (
            "SELECT seq FROM (SELECT seq FROM consents WHERE source = ",
            ") AS signed",
        ),
        (
            " UNION SELECT seq FROM (SELECT seq FROM consents WHERE recipient = ",
            ") AS received",
        ),
    ] {
        query = query.push(party).bind(list.act.agency.as_bytes());
        query = query.push(" AND seq > ").bind(list.page.after);
        if let Some(case) = &list.case {
            query = query.push(" AND case_id = ").bind(case.as_bytes());
        }
        if let Some(recipient) = &list.recipient {
            query = query.push(" AND recipient = ").bind(recipient.as_bytes());
        }
        if let Some(purpose) = list.purpose {
            query = query.push(" AND purpose = ").bind(i32::from(purpose));
        }
        query = query
            .push(" ORDER BY seq LIMIT ")
            .bind(list.page.size)
            .push(end);
    }
    query
        .push(") ORDER BY c.seq LIMIT ")
        .bind(list.page.size)
        .fetch_all(connection)
        .await?
        .iter()
        .map(parse)
        .collect()
}

fn parse(row: &Row) -> Result<ConsentRow, Error> {
    let bytes: Vec<u8> = row.get(1)?;
    let envelope = Envelope::decode(bytes.as_slice()).map_err(damaged)?;
    let consent = Consent::decode(envelope.payload.as_slice()).map_err(damaged)?;
    // It was checked before it was recorded; a row that no longer parses is damage, and fails the batch.
    let terms = amanat_policy::parse_consent(&consent).map_err(|_| Error::RowNotFound)?;
    let recorded = Time::from_millis(row.get(3)?).map_err(damaged)?;
    let signed_by = envelope
        .signatures
        .first()
        .and_then(|signature| signature.key_id.as_slice().try_into().ok())
        .ok_or(Error::RowNotFound)?;
    Ok(ConsentRow {
        seq: row.get(0)?,
        grant: Grant {
            terms,
            statement_sha256: row.get(2)?,
            signed_by,
            recorded,
            reads: row.get(4)?,
            superseded: row.get(5)?,
            withdrawn: row.get(6)?,
        },
        envelope,
        recorded,
    })
}

//! Keys into custody: deposit, activate, expire.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use amanat_desk::{Act, Known, Rules, Stored, consent::case_key};
use amanat_identity::Directory;
use amanat_journal::{Access, Touch, damaged, id_set};
use amanat_schema::{
    AgencyId, CaseId, RecordId, Time,
    audit::{Action, Linkage},
    policy::Decision,
    statement::{DepositReceipt, Envelope, RecordHeader},
};
use amanat_seal::{Binding, Header, statement::SigningKey};
use amanat_server::Refusal;
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Call, Facts, Memory, Objection, Reply, Ruled, Shown, done, evaluation::Put, linkage};
use crate::kek;

/// How long a key waits for the put of its record.
const PENDING: Duration = Duration::from_secs(7 * 24 * 3600);

/// A key that fits its header, wrapped before it came here.
pub(crate) struct DepositKey {
    pub(crate) act: Act,
    pub(crate) header: Header,
    pub(crate) statement: Stored,
    pub(crate) wrapped: Vec<u8>,
}

pub(crate) struct ActivateKey {
    pub(crate) act: Act,
    /// The gateway's receipt of the put.
    pub(crate) put: Shown,
}

/// Authority follows the source, never who named an id first.
type Key = (RecordId, AgencyId, u32);

/// What a record id stands for, under whichever sources use it.
pub(super) type Deposits = Vec<(Key, Arc<Deposit>)>;

/// One version in custody.
#[derive(Clone)]
pub(crate) struct Deposit {
    pub(crate) header: Header,
    envelope: Vec<u8>,
    /// The keys that signed it, as the envelope names them.
    signed_by: Vec<Vec<u8>>,
    header_sha256: [u8; 32],
    /// `None` once it expired.
    pub(crate) wrapped: Option<Vec<u8>>,
    /// The encoded envelope.
    receipt: Vec<u8>,
    deposited: Time,
    pub(crate) activated: Option<Time>,
}

/// The deposits that a batch needs: of each record named, the newest, the newest active one and the
/// versions named.
#[derive(Default)]
pub(crate) struct DepositFacts {
    by_key: BTreeMap<Key, Arc<Deposit>>,
    added: Vec<Key>,
    activated: Vec<Key>,
    /// Pending keys deposited by then are deleted.
    expire: Option<Time>,
}

impl DepositKey {
    pub(crate) fn access(&self) -> Access {
        Access {
            keys: vec![
                case_key(self.header.binding().case),
                self.statement.conflict_key(),
            ],
            touch: Touch::Changes,
            request: self.act.request_key(),
        }
    }

    fn linkage(&self) -> Linkage {
        let binding = self.header.binding();
        Linkage {
            case_id: binding.case.to_vec(),
            record_id: binding.record.to_vec(),
            version: binding.version,
            source_id: binding.source.to_vec(),
            statement_sha256: self.statement.payload_sha256.to_vec(),
            ..Linkage::default()
        }
    }
}

impl ActivateKey {
    pub(crate) fn access(&self) -> Access {
        let case = CaseId::parse(&linkage(&self.put).case_id);
        Access {
            keys: case.map(case_key).into_iter().collect(),
            touch: Touch::Changes,
            request: self.act.request_key(),
        }
    }

    /// What it asks to activate; `None` if the receipt does not say.
    fn key(&self) -> Option<Key> {
        let linkage = linkage(&self.put);
        let record = RecordId::parse(&linkage.record_id).ok()?;
        let source = AgencyId::parse(&linkage.source_id).ok()?;
        Some((record, source, linkage.version))
    }
}

impl Deposit {
    pub(crate) fn is_pending(&self, now: Time) -> bool {
        self.activated.is_none() && self.wrapped.is_some() && now < self.deposited + PENDING
    }

    /// Whether its header is its source's own word: signed with a key that is listed for the source, and deposited
    /// before anybody else may have used that.
    pub(crate) fn is_own_word(&self, directory: &Directory) -> bool {
        let source = self.header.binding().source;
        let mut signed_by = self.signed_by.iter();
        !self.signed_by.is_empty()
            && signed_by.all(|key| directory.is_own_word(source, key, self.deposited))
    }

    /// Never activated in time: from then on it is as if it had never been deposited.
    fn is_expired(&self, now: Time) -> bool {
        self.activated.is_none() && !self.is_pending(now)
    }
}

pub(super) fn deposit(
    facts: &mut Facts,
    rules: &Rules,
    statement_key: &SigningKey,
    call: &DepositKey,
    now: Time,
) -> Ruled {
    let linkage = call.linkage();
    match accept(facts, rules, statement_key, call, now) {
        Ok(receipt) => {
            let draft = call.act.allowed(rules, Action::DepositKey, linkage);
            done(Reply::Deposited(receipt.clone()), draft, receipt)
        }
        Err(objection) => objection.rule(&call.act, rules, Action::DepositKey, linkage),
    }
}

/// The receipt: of this deposit, or of the first with the same header. An expired one gives its place up.
fn accept(
    facts: &mut Facts,
    rules: &Rules,
    statement_key: &SigningKey,
    call: &DepositKey,
    now: Time,
) -> Result<Vec<u8>, Objection> {
    facts.heads.running()?;
    let binding = *call.header.binding();
    let key = (binding.record, binding.source, binding.version);
    if let Some(held) = facts.deposits.by_key.get(&key)
        && !held.is_expired(now)
    {
        return held.answer_again(call);
    }
    let known = facts.statements.look_up(&call.statement);
    if known == Known::Other {
        let refusal = Refusal::state("the statement's id was used for another one");
        return Err(Objection::alarm(
            refusal,
            "statement id used for another one",
        ));
    }
    let newest = facts.deposits.newest(binding.record, binding.source, now);
    if !follows(newest, &call.header) {
        let refusal = Refusal::version("the version is not the next one of this record");
        return Err(Objection::quiet(refusal, "not the next version"));
    }
    let receipt = statement_key.sign(&DepositReceipt {
        exchange_id: rules.directory.exchange_id().to_owned(),
        agency_id: binding.source.to_vec(),
        case_id: binding.case.to_vec(),
        record_id: binding.record.to_vec(),
        version: binding.version,
        header_sha256: call.statement.payload_sha256.to_vec(),
        deposit_time: Some(now.to_timestamp()),
    });
    let receipt = receipt.encode_to_vec();
    if known == Known::New {
        facts.statements.accept(&call.statement);
    }
    facts.deposits.add(key, call, receipt.clone(), now);
    Ok(receipt)
}

impl Deposit {
    /// What it takes in memory; the header's facts are at most twice as large as the header.
    pub(super) fn bytes(&self) -> usize {
        let wrapped = self.wrapped.as_ref().map_or(0, Vec::len);
        size_of::<Self>() + 3 * self.envelope.len() + wrapped + self.receipt.len()
    }

    fn answer_again(&self, call: &DepositKey) -> Result<Vec<u8>, Objection> {
        if self.header_sha256 == call.statement.payload_sha256 {
            return Ok(self.receipt.clone());
        }
        let truth = "another header under this version";
        if call.header.binding().version == 1 {
            let refusal = Refusal::state("another header was deposited under this version");
            Err(Objection::alarm(refusal, truth))
        } else {
            // Two officers of the source corrected the same version: the first one counts.
            let refusal = Refusal::version("another correction of this version came first");
            Err(Objection::quiet(refusal, truth))
        }
    }
}

/// Whether a header is the first of its record, or the next after an active one: a version whose put is
/// still open is not overtaken.
fn follows(newest: Option<&Deposit>, header: &Header) -> bool {
    let Some(newest) = newest else {
        return header.binding().version == 1;
    };
    let Binding { case, version, .. } = *newest.header.binding();
    newest.activated.is_some()
        && header.binding().version == version + 1
        && header.binding().case == case
        && header.follows() == Some(&newest.header_sha256)
}

pub(super) fn activate(
    facts: &mut Facts,
    rules: &Rules,
    within: Duration,
    call: &ActivateKey,
    now: Time,
) -> Ruled {
    match check_put(facts, call, now) {
        Ok(key) => {
            if let Some(activated) = facts.deposits.activate(key, now) {
                let Binding {
                    source,
                    case,
                    version,
                    ..
                } = *activated.header.binding();
                facts
                    .evaluations
                    .put(Put::new(source, case, version, activated.deposited, within));
            }
            let draft = call
                .act
                .allowed(rules, Action::ActivateKey, linkage(&call.put));
            done(Reply::Done, draft, Vec::new())
        }
        Err(objection) => objection.rule(&call.act, rules, Action::ActivateKey, linkage(&call.put)),
    }
}

/// The checks in their order: the receipt, the entry, its place in the log, the deposit.
fn check_put(facts: &Facts, call: &ActivateKey, now: Time) -> Result<Key, Objection> {
    facts.heads.running()?;
    let put = call.put.as_ref().map_err(|why| {
        let refusal = Refusal::field("put_receipt", "a receipt of the gateway's log");
        Objection::alarm(refusal, "the receipt proves nothing").with(why.to_string())
    })?;
    let (Some(linkage), Some(key)) = (&put.linkage, call.key()) else {
        let refusal = Refusal::field("put_receipt.linkage", "the opening of the put's linkage");
        return Err(Objection::quiet(refusal, "linkage not shown"));
    };
    if (put.body.action(), put.body.decision()) != (Action::PutRecord, Decision::Allow) {
        let truth = "the entry is no allowed put";
        return Err(Objection::alarm(Refusal::access(), truth));
    }
    if put.body.agency_id != call.act.agency.as_bytes() || key.1 != call.act.agency {
        return Err(Objection::alarm(Refusal::access(), "another agency's put"));
    }
    facts.heads.has_seen(&put.checkpoint.head)?;
    let Some(deposit) = facts.deposits.by_key.get(&key) else {
        return Err(Objection::quiet(Refusal::access(), "not deposited"));
    };
    if linkage.statement_sha256 != deposit.header_sha256 {
        let truth = "the gateway took another header than was deposited";
        return Err(Objection::alarm(Refusal::access(), truth));
    }
    if deposit.is_expired(now) {
        return Err(Objection::quiet(Refusal::access(), "expired"));
    }
    Ok(key)
}

/// Nobody's act, so no entry: the deposit's stands, and no activation ever followed.
pub(super) fn expire(facts: &mut DepositFacts, now: Time) -> Ruled {
    facts.expire = Some(now - PENDING);
    Ruled {
        answer: Ok(Reply::Done),
        draft: None,
        remember: None,
    }
}

impl DepositFacts {
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        memory: &Memory,
        calls: &[&Call],
    ) -> Result<Self, sqlx::Error> {
        let mut facts = Self::default();
        let (mut records, mut versions) = (Vec::new(), Vec::new());
        for call in calls {
            if let Call::Release(call) = call
                && let Some(named) = call.key()
                && let Some(deposits) = memory.deposits.get(&named.0)
                && deposits.iter().any(|(key, _)| *key == named)
            {
                facts.keep(&deposits);
                continue;
            }
            let named = match call {
                Call::Deposit(call) => {
                    let binding = call.header.binding();
                    Some((binding.record, binding.version))
                }
                Call::Activate(call) => call.key().map(|(record, _, version)| (record, version)),
                Call::Release(call) => call.key().map(|(record, _, version)| (record, version)),
                Call::Refused(_)
                | Call::Consent(_)
                | Call::Audit(_)
                | Call::Head(_)
                | Call::Evaluate(_)
                | Call::ListUnused(_)
                | Call::Expire
                | Call::AlarmMissing => None,
            };
            records.extend(named.map(|(record, _)| record.to_vec()));
            versions.extend(named.map(|(_, version)| version));
        }
        if records.is_empty() {
            return Ok(facts);
        }
        let rows = sqlx::query(
            "SELECT header, header_sha256, wrapped, receipt, deposit_time, activate_time \
             FROM deposits AS d WHERE record_id IN (SELECT unhex(value) FROM json_each($1)) \
             AND (version IN (SELECT value FROM json_each($2)) \
             OR version = (SELECT max(version) FROM deposits AS n \
             WHERE n.record_id = d.record_id AND n.source = d.source) \
             OR version = (SELECT max(version) FROM deposits AS n \
             WHERE n.record_id = d.record_id AND n.source = d.source \
             AND n.activate_time IS NOT NULL))",
        )
        .bind(id_set(records.iter().map(Vec::as_slice)))
        .bind(serde_json::to_string(&versions).map_err(damaged)?)
        .fetch_all(connection)
        .await?;
        let mut loaded: BTreeMap<RecordId, Deposits> = BTreeMap::new();
        for row in &rows {
            let (key, deposit) = parse(row)?;
            let of_record = loaded.entry(key.0).or_default();
            of_record.push((key, Arc::new(deposit)));
        }
        for (record, deposits) in loaded {
            facts.keep(&deposits);
            if deposits
                .iter()
                .all(|(_, deposit)| deposit.activated.is_some())
            {
                memory.deposits.keep(record, Arc::new(deposits));
            }
        }
        Ok(facts)
    }

    fn keep(&mut self, deposits: &Deposits) {
        self.by_key.extend(deposits.iter().cloned());
    }

    /// All that a batch knows of one record, oldest first.
    fn versions(
        &self,
        record: RecordId,
        source: AgencyId,
    ) -> impl DoubleEndedIterator<Item = &Deposit> {
        let range = (record, source, 0)..=(record, source, u32::MAX);
        self.by_key
            .range(range)
            .map(|(_, deposit)| deposit.as_ref())
    }

    fn newest(&self, record: RecordId, source: AgencyId, now: Time) -> Option<&Deposit> {
        self.versions(record, source)
            .rfind(|deposit| !deposit.is_expired(now))
    }

    pub(super) fn newest_active(&self, record: RecordId, source: AgencyId) -> Option<&Deposit> {
        self.versions(record, source)
            .rfind(|deposit| deposit.activated.is_some())
    }

    pub(super) fn get(&self, record: RecordId, source: AgencyId, version: u32) -> Option<&Deposit> {
        self.by_key.get(&(record, source, version)).map(Arc::as_ref)
    }

    fn add(&mut self, key: Key, call: &DepositKey, receipt: Vec<u8>, now: Time) {
        let deposit = Deposit {
            header: call.header.clone(),
            envelope: call.statement.envelope.clone(),
            // What cannot be read is nobody's word.
            signed_by: Envelope::decode(call.statement.envelope.as_slice())
                .map(signed_by)
                .unwrap_or_default(),
            header_sha256: call.statement.payload_sha256,
            wrapped: Some(call.wrapped.clone()),
            receipt,
            deposited: now,
            activated: None,
        };
        self.by_key.insert(key, Arc::new(deposit));
        self.added.push(key);
    }

    /// The deposit, if it was not active before.
    fn activate(&mut self, key: Key, now: Time) -> Option<&Deposit> {
        let deposit = Arc::make_mut(self.by_key.get_mut(&key)?);
        if deposit.activated.is_some() {
            return None;
        }
        deposit.activated = Some(now);
        self.activated.push(key);
        Some(deposit)
    }

    pub(super) async fn write(
        self,
        connection: &mut SqliteConnection,
        memory: &Memory,
    ) -> Result<(), sqlx::Error> {
        for (record, ..) in self.added.iter().chain(&self.activated) {
            memory.deposits.forget(record);
        }
        let of = |key: &Key| Some((*key, self.by_key.get(key)?));
        let added: Vec<_> = self.added.iter().filter_map(of).collect();
        if !added.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO deposits (record_id, source, version, header, header_sha256, kek_epoch, \
                 wrapped, receipt, deposit_time) ",
            )
            .push_values(added, |mut row, ((record, source, version), deposit)| {
                row.push_bind(record.to_vec())
                    .push_bind(source.to_vec())
                    .push_bind(version)
                    .push_bind(deposit.envelope.as_slice())
                    .push_bind(deposit.header_sha256.as_slice())
                    .push_bind(kek::EPOCH)
                    .push_bind(deposit.wrapped.as_deref())
                    .push_bind(deposit.receipt.as_slice())
                    .push_bind(deposit.deposited.millis());
            })
            // INVARIANT: what is replaced has expired.
            .push(
                " ON CONFLICT (record_id, source, version) DO UPDATE SET header = excluded.header, \
                 header_sha256 = excluded.header_sha256, kek_epoch = excluded.kek_epoch, \
                 wrapped = excluded.wrapped, receipt = excluded.receipt, \
                 deposit_time = excluded.deposit_time",
            )
            .build()
            .execute(&mut *connection)
            .await?;
        }
        let activated: Vec<_> = self
            .activated
            .iter()
            .filter_map(of)
            .map(|((record, source, version), deposit)| {
                let at = deposit.activated.map(Time::millis);
                (record.to_string(), source.to_string(), version, at)
            })
            .collect();
        if !activated.is_empty() {
            sqlx::query(
                "UPDATE deposits SET activate_time = done.value ->> 3 FROM json_each($1) AS done \
                 WHERE record_id = unhex(done.value ->> 0) AND source = unhex(done.value ->> 1) \
                 AND version = done.value ->> 2",
            )
            .bind(serde_json::to_string(&activated).map_err(damaged)?)
            .execute(&mut *connection)
            .await?;
        }
        if let Some(by) = self.expire {
            let expired = sqlx::query(
                "UPDATE deposits SET wrapped = NULL WHERE activate_time IS NULL \
                 AND wrapped IS NOT NULL AND deposit_time <= $1",
            )
            .bind(by.millis())
            .execute(connection)
            .await?
            .rows_affected();
            if expired > 0 {
                tracing::info!(expired, "keys that were never activated are deleted");
            }
        }
        Ok(())
    }
}

fn signed_by(header: Envelope) -> Vec<Vec<u8>> {
    let signatures = header.signatures.into_iter();
    signatures.map(|signature| signature.key_id).collect()
}

fn parse(row: &SqliteRow) -> Result<(Key, Deposit), sqlx::Error> {
    let envelope: Vec<u8> = row.try_get(0)?;
    let header_sha256: Vec<u8> = row.try_get(1)?;
    let signed = Envelope::decode(envelope.as_slice()).map_err(damaged)?;
    let wire = RecordHeader::decode(signed.payload.as_slice()).map_err(damaged)?;
    let header = Header::parse(&wire).map_err(|_| sqlx::Error::RowNotFound)?;
    let Binding {
        record,
        source,
        version,
        ..
    } = *header.binding();
    let activated: Option<i64> = row.try_get(5)?;
    let deposit = Deposit {
        header,
        envelope,
        signed_by: signed_by(signed),
        header_sha256: header_sha256
            .try_into()
            .map_err(|_| sqlx::Error::RowNotFound)?,
        wrapped: row.try_get(2)?,
        receipt: row.try_get(3)?,
        deposited: Time::from_millis(row.try_get(4)?).map_err(damaged)?,
        activated: activated
            .map(Time::from_millis)
            .transpose()
            .map_err(damaged)?,
    };
    Ok(((record, source, version), deposit))
}

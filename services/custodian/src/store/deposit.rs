//! Keys into custody: deposit, activate, expire.

mod facts;

use std::{sync::Arc, time::Duration};

use amanat_desk::{Act, Known, Rules, Stored, consent::case_key};
use amanat_identity::Directory;
use amanat_journal::{Access, Touch};
use amanat_schema::{
    AgencyId, CaseId, RecordId, Time,
    audit::{Action, Linkage},
    policy::Decision,
    statement::DepositReceipt,
};
use amanat_seal::{Binding, Header, statement::SigningKey};
use amanat_server::Refusal;
use prost::Message as _;

use super::{Facts, Objection, Reply, Ruled, Shown, Unseen, done, evaluation::Put, linkage, quiet};
pub(crate) use facts::DepositFacts;

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
    if let Some(held) = facts.deposits.get(key)
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
    unseen: Unseen,
    now: Time,
) -> Ruled {
    match check_put(facts, call, unseen, now) {
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
fn check_put(
    facts: &Facts,
    call: &ActivateKey,
    unseen: Unseen,
    now: Time,
) -> Result<Key, Objection> {
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
    facts.heads.has_seen(&put.checkpoint.head, unseen)?;
    let Some(deposit) = facts.deposits.get(key) else {
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

/// Nobody's act, so no entry: the deposit's stands, and no activation ever followed. Each replica has it done; once
/// or again, it comes to the same.
pub(super) fn expire(facts: &mut DepositFacts, now: Time) -> Ruled {
    facts.expire(now - PENDING);
    quiet(Ok(Reply::Done))
}

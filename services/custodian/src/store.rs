//! The custodian's state: keys in custody, the gateway's log as seen from here, its own consent ledger;
//! each verb decided inside the batch that logs it.

pub(crate) mod budget;
pub(crate) mod claim;
pub(crate) mod deposit;
pub(crate) mod evaluation;
pub(crate) mod head;
mod memory;
mod missing;
mod objection;
mod redeemed;
pub(crate) mod release;

use std::{collections::BTreeSet, sync::Arc};

use amanat_database::{Changing, Connection, Error, Step};
use amanat_desk::{
    Act, Refused, Rulebook, Rules, StatementFacts, Stored,
    audit::{AuditCall, AuditReply},
    consent::{self, ConsentCall, ConsentFacts, ConsentReply, SourceCase},
};
use amanat_journal::{Access, Book, Draft, Overtaking, Ruling};
use amanat_ledger::{Proven, ReceiptError};
use amanat_schema::{
    AgencyId, Time,
    audit::{Action, EntryBody, Linkage},
    policy::Decision,
};
use amanat_seal::statement::SigningKey;
use amanat_server::Refusal;

use deposit::{ActivateKey, DepositFacts, DepositKey};
use evaluation::{EvaluateIdentifiers, EvaluationFacts, ListUnused, Unused};
use head::{HeadCall, HeadFacts, Seen};
pub(crate) use memory::Memory;
use missing::MissingFacts;
use objection::Objection;
pub(crate) use objection::Unseen;
use redeemed::RedeemedFacts;
use release::{ReleaseKeys, Released};

/// The tables of the custodian, in order.
pub(crate) const STEPS: &[Step] = &[
    amanat_desk::STEPS[0],
    Step {
        name: "custody",
        sqlite: include_str!("../migrations/0003_custody.sql"),
        postgres: include_str!("../migrations/postgres/0003_custody.sql"),
    },
    amanat_journal::ENTRY_TIMES,
    Step {
        name: "evaluations",
        sqlite: include_str!("../migrations/0004_evaluations.sql"),
        postgres: include_str!("../migrations/postgres/0004_evaluations.sql"),
    },
    amanat_desk::STEPS[1],
    amanat_journal::REQUESTS_BY_KEY,
    amanat_journal::ENTRY_SPANS,
    amanat_journal::OWN_KEYS,
    amanat_journal::ENTRY_INDEX,
    Step {
        name: "deposit-rows",
        sqlite: include_str!("../migrations/0005_deposit_rows.sql"),
        postgres: include_str!("../migrations/postgres/0005_deposit_rows.sql"),
    },
];

/// What changes in them. INVARIANT: nothing of `evidence` does: only a person takes it away.
pub(crate) const CHANGING: &[Changing] = &[
    amanat_desk::CHANGING[0],
    // Another header may take the place of a deposit that expired.
    Changing::columns(
        "deposits",
        &[
            "header",
            "header_sha256",
            "kek_epoch",
            "wrapped",
            "receipt",
            "deposit_time",
            "activate_time",
        ],
    ),
    Changing::columns("missing_consents", &["alarm_time"]),
    Changing::deletes("observed_heads"),
    Changing::columns("evaluations", &["unaccounted"]),
    Changing::columns("allowances", &["points", "until_time"]),
    Changing::columns("budgets", &["day", "items"]),
];

/// The custodian's book.
pub(crate) struct Custody {
    pub(crate) rules: Rulebook,
    /// Signs deposit receipts; signing is deterministic.
    pub(crate) statement_key: Arc<SigningKey>,
    pub(crate) evaluation: evaluation::Terms,
    pub(crate) memory: Memory,
}

/// One verb with its checked arguments.
pub(crate) enum Call {
    Refused(Refused),
    Consent(Box<ConsentCall>),
    Audit(AuditCall),
    Head(HeadCall),
    Deposit(Box<DepositKey>),
    Activate(Arc<ActivateKey>, Unseen),
    Release(Arc<ReleaseKeys>, Unseen),
    Evaluate(Box<EvaluateIdentifiers>),
    ListUnused(Box<ListUnused>),
    /// Deletes the keys that were never activated.
    Expire,
    /// Raises the alarm for consents that were released on and never came.
    AlarmMissing,
}

/// What a verb answers beside the receipt.
pub(crate) enum Reply {
    Done,
    Consent(ConsentReply),
    Audit(AuditReply),
    Seen(Seen),
    /// Nothing was decided, for the checkpoint was not observed.
    Unseen,
    /// The encoded envelope of the deposit receipt.
    Deposited(Vec<u8>),
    Released(Box<Released>),
    Unused {
        unused: Vec<Unused>,
        /// Where the next page begins.
        next: Option<i64>,
    },
}

pub(crate) type Ruled = Ruling<Result<Reply, Refusal>>;

/// A receipt of the gateway's log as its verification left it: a bad one is refused where all else is,
/// so that it is logged.
pub(crate) type Shown = Result<Proven, ReceiptError>;

/// What a batch rests on.
pub(crate) struct Facts {
    statements: StatementFacts,
    consents: ConsentFacts,
    heads: HeadFacts,
    deposits: DepositFacts,
    evaluations: EvaluationFacts,
    missing: MissingFacts,
    redeemed: RedeemedFacts,
}

impl From<Refused> for Call {
    fn from(call: Refused) -> Self {
        Self::Refused(call)
    }
}

impl From<ConsentCall> for Call {
    fn from(call: ConsentCall) -> Self {
        Self::Consent(Box::new(call))
    }
}

impl From<AuditCall> for Call {
    fn from(call: AuditCall) -> Self {
        Self::Audit(call)
    }
}

impl From<HeadCall> for Call {
    fn from(call: HeadCall) -> Self {
        Self::Head(call)
    }
}

impl TryFrom<Reply> for ConsentReply {
    type Error = ();

    fn try_from(reply: Reply) -> Result<Self, ()> {
        if let Reply::Consent(reply) = reply {
            Ok(reply)
        } else {
            Err(())
        }
    }
}

impl TryFrom<Reply> for AuditReply {
    type Error = ();

    fn try_from(reply: Reply) -> Result<Self, ()> {
        if let Reply::Audit(reply) = reply {
            Ok(reply)
        } else {
            Err(())
        }
    }
}

impl Call {
    /// The source whose consents in a case the decision needs; consent verbs know their own.
    fn source_case(&self) -> Option<SourceCase> {
        match self {
            Self::Release(call, _) => call.source_case(),
            Self::Refused(_)
            | Self::Consent(_)
            | Self::Audit(_)
            | Self::Head(_)
            | Self::Deposit(_)
            | Self::Activate(..)
            | Self::Evaluate(_)
            | Self::ListUnused(_)
            | Self::Expire
            | Self::AlarmMissing => None,
        }
    }

    /// Whose act it is; `None` where nobody called, or what is refused anyway.
    fn act(&self) -> Option<&Act> {
        match self {
            Self::Consent(call) => Some(call.act()),
            Self::Audit(call) => Some(call.act()),
            Self::Deposit(call) => Some(&call.act),
            Self::Activate(call, _) => Some(&call.act),
            Self::Release(call, _) => Some(&call.act),
            Self::Evaluate(call) => Some(&call.act),
            Self::ListUnused(call) => Some(&call.act),
            Self::Refused(_) | Self::Head(_) | Self::Expire | Self::AlarmMissing => None,
        }
    }

    fn statement(&self) -> Option<&Stored> {
        match self {
            Self::Consent(call) => call.statement(),
            Self::Deposit(call) => Some(&call.statement),
            Self::Refused(_)
            | Self::Audit(_)
            | Self::Head(_)
            | Self::Activate(..)
            | Self::Release(..)
            | Self::Evaluate(_)
            | Self::ListUnused(_)
            | Self::Expire
            | Self::AlarmMissing => None,
        }
    }

    /// The sizes of the gateway's log whose observed heads the decision needs.
    fn sizes(&self) -> Vec<u64> {
        let of = |shown: &Shown| {
            shown
                .iter()
                .map(|proven| proven.checkpoint.head.size)
                .collect()
        };
        match self {
            Self::Head(HeadCall::Look(sizes)) => sizes.clone(),
            Self::Head(HeadCall::Observe(call)) => call.sizes(),
            Self::Activate(call, _) => of(&call.put),
            Self::Release(call, _) => of(&call.read),
            Self::Head(HeadCall::Freeze(_))
            | Self::Refused(_)
            | Self::Consent(_)
            | Self::Audit(_)
            | Self::Deposit(_)
            | Self::Evaluate(_)
            | Self::ListUnused(_)
            | Self::Expire
            | Self::AlarmMissing => Vec::new(),
        }
    }
}

impl Book for Custody {
    type Call = Call;
    type Answer = Result<Reply, Refusal>;
    type Facts = Facts;

    /// INVARIANT: head verbs touch no key, so no batch leaves one behind: what is submitted after an
    /// observation is decided after it.
    fn access(&self, call: &Call) -> Access {
        match call {
            Call::Refused(call) => call.access(),
            Call::Consent(call) => call.access(),
            Call::Audit(call) => call.access(),
            Call::Deposit(call) => call.access(),
            Call::Activate(call, _) => call.access(),
            Call::Release(call, _) => call.access(),
            Call::Evaluate(call) => call.access(),
            Call::Head(_) | Call::ListUnused(_) | Call::Expire | Call::AlarmMissing => {
                Access::default()
            }
        }
    }

    fn agency(&self, call: &Call) -> Option<AgencyId> {
        if let Call::Refused(refused) = call {
            refused.agency()
        } else {
            call.act().map(|act| act.agency)
        }
    }

    async fn load(&self, connection: &mut Connection, calls: &[&Call]) -> Result<Facts, Error> {
        let asked: BTreeSet<_> = calls.iter().filter_map(|call| call.source_case()).collect();
        let ids = calls
            .iter()
            .filter_map(|call| call.statement())
            .map(|statement| statement.id);
        let sizes: Vec<u64> = calls.iter().flat_map(|call| call.sizes()).collect();
        let (mut consents, mut releases) = (Vec::new(), Vec::new());
        for call in calls {
            match call {
                Call::Consent(call) => consents.push(call.as_ref()),
                Call::Release(call, _) => releases.push(call.as_ref()),
                Call::Refused(_)
                | Call::Audit(_)
                | Call::Head(_)
                | Call::Deposit(_)
                | Call::Activate(..)
                | Call::Evaluate(_)
                | Call::ListUnused(_)
                | Call::Expire
                | Call::AlarmMissing => {}
            }
        }
        let memory = &self.memory;
        let consents = ConsentFacts::load(connection, &memory.consents, asked, &consents).await?;
        Ok(Facts {
            statements: StatementFacts::load(connection, ids).await?,
            heads: HeadFacts::load(connection, &sizes).await?,
            deposits: DepositFacts::load(connection, memory, calls).await?,
            evaluations: EvaluationFacts::load(connection, calls).await?,
            missing: MissingFacts::load(connection, &consents, calls).await?,
            redeemed: RedeemedFacts::load(connection, memory, &releases).await?,
            consents,
        })
    }

    fn decide(&self, facts: &mut Facts, call: &Call, now: Time) -> Ruled {
        let rules = &*self.rules.current();
        if let Some(refused) = Refused::shut_out(call.act(), rules, now) {
            return refused;
        }
        match call {
            Call::Refused(call) => call.decide(rules),
            Call::Consent(call) => {
                let Facts {
                    consents,
                    statements,
                    ..
                } = facts;
                map(
                    consent::decide(consents, statements, rules, call, now),
                    Reply::Consent,
                )
            }
            Call::Audit(call) => map(call.decide(rules), Reply::Audit),
            Call::Head(call) => head::decide(&mut facts.heads, rules, call, now),
            Call::Deposit(call) => deposit::deposit(facts, rules, &self.statement_key, call, now),
            Call::Activate(call, unseen) => {
                let within = self.evaluation.deposit_within;
                deposit::activate(facts, rules, within, call, *unseen, now)
            }
            Call::Release(call, unseen) => release::release(facts, rules, call, *unseen, now),
            Call::Evaluate(call) => evaluation::evaluate(facts, rules, &self.evaluation, call, now),
            Call::ListUnused(call) => evaluation::list(&facts.evaluations, rules, call),
            Call::Expire => deposit::expire(&mut facts.deposits, now),
            Call::AlarmMissing => missing::raise(&mut facts.missing, rules, now),
        }
    }

    async fn write(&self, connection: &mut Connection, facts: Facts) -> Result<(), Error> {
        facts.statements.write(connection).await?;
        for case in facts.consents.changed_cases() {
            self.memory.changes.forget(&case);
        }
        facts
            .consents
            .write(connection, &self.memory.consents)
            .await?;
        facts.heads.write(connection).await?;
        facts.deposits.write(connection, &self.memory).await?;
        facts.evaluations.write(connection).await?;
        facts.missing.write(connection).await?;
        facts.redeemed.write(connection).await
    }

    fn overtaken(&self, by: Overtaking<'_>) {
        self.memory.overtaken(by);
    }

    fn replay(&self, call: &Call, answer: &[u8]) -> Result<Reply, Refusal> {
        Ok(match call {
            Call::Consent(_) => Reply::Consent(ConsentReply::Done),
            Call::Deposit(_) => Reply::Deposited(answer.to_vec()),
            Call::Refused(_)
            | Call::Audit(_)
            | Call::Head(_)
            | Call::Activate(..)
            | Call::Release(..)
            | Call::Evaluate(_)
            | Call::ListUnused(_)
            | Call::Expire
            | Call::AlarmMissing => Reply::Done,
        })
    }
}

fn map<T>(ruling: Ruling<Result<T, Refusal>>, reply: impl FnOnce(T) -> Reply) -> Ruled {
    Ruling {
        answer: ruling.answer.map(reply),
        draft: ruling.draft,
        remember: ruling.remember,
    }
}

/// No act of a caller, or none that was decided, so no entry.
fn quiet(answer: Result<Reply, Refusal>) -> Ruled {
    Ruling {
        answer,
        draft: None,
        remember: None,
    }
}

/// A mutation done; a repeat gets `answer` again.
fn done(reply: Reply, draft: Draft, answer: Vec<u8>) -> Ruled {
    Ruling {
        answer: Ok(reply),
        draft: Some(draft),
        remember: Some(answer),
    }
}

/// The entry of an alarm that is no act of a caller.
fn alarm(rules: &Rules, public: &Refusal, truth: &str) -> Draft {
    let body = EntryBody {
        action: Action::Alarm.into(),
        decision: Decision::Deny.into(),
        public_reason: public.reason().to_owned(),
        directory_sha256: rules.directory.sha256().to_vec(),
        table_sha256: rules.table_sha256.to_vec(),
        ..EntryBody::default()
    };
    Draft {
        body,
        linkage: Linkage::default(),
        officer: String::new(),
        reasons: truth.to_owned(),
    }
}

/// What a receipt's holder says that its entry is about; empty unless it was proved.
fn linkage(shown: &Shown) -> Linkage {
    let linkage = shown
        .as_ref()
        .ok()
        .and_then(|proven| proven.linkage.as_ref());
    linkage.map_or_else(Linkage::default, |linkage| Linkage {
        case_id: linkage.case_id.clone(),
        record_id: linkage.record_id.clone(),
        version: linkage.version,
        source_id: linkage.source_id.clone(),
        referral_id: linkage.referral_id.clone(),
        ..Linkage::default()
    })
}

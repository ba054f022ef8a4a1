//! The exchange's state: the verbs over it, each decided inside the batch that logs it.

pub(crate) mod counts;
mod memory;
pub(crate) mod record;
pub(crate) mod referral;
mod referred;
mod sealed;
pub(crate) mod subject;

use std::collections::BTreeSet;

use amanat_database::{Changing, Connection, Error, Step};
use amanat_desk::{
    Act, Refused, Rulebook, StatementFacts, Stored,
    audit::{AuditCall, AuditReply},
    consent::{self, ConsentCall, ConsentFacts, ConsentReply, SourceCase},
};
use amanat_journal::{Access, Book, Overtaking, Ruling};
use amanat_schema::{AgencyId, Time};
use amanat_server::Refusal;

pub(crate) use memory::Memory;
use record::{ListVersions, PutRecord, ReadRecord, ReadReply, RecordFacts, VersionRow};
use referral::{
    GetReferral, ListReferrals, ReferralFacts, ReferralView, SubmitReferral, TransitionReferral,
};
use subject::{SubjectCall, SubjectFacts, SubjectReply};

/// The tables of the gateway, in order.
pub(crate) const STEPS: &[Step] = &[
    amanat_desk::STEPS[0],
    Step {
        name: "exchange",
        sqlite: include_str!("../migrations/0003_exchange.sql"),
        postgres: include_str!("../migrations/postgres/0003_exchange.sql"),
    },
    amanat_journal::ENTRY_TIMES,
    Step {
        name: "list-indexes",
        sqlite: include_str!("../migrations/0005_list_indexes.sql"),
        postgres: include_str!("../migrations/postgres/0005_list_indexes.sql"),
    },
    amanat_desk::STEPS[1],
    Step {
        name: "subjects",
        sqlite: include_str!("../migrations/0004_subjects.sql"),
        postgres: include_str!("../migrations/postgres/0004_subjects.sql"),
    },
    amanat_journal::REQUESTS_BY_KEY,
    amanat_journal::ENTRY_SPANS,
    amanat_journal::OWN_KEYS,
    Step {
        name: "referred-versions",
        sqlite: include_str!("../migrations/0006_referred_versions.sql"),
        postgres: include_str!("../migrations/postgres/0006_referred_versions.sql"),
    },
    amanat_journal::ENTRY_INDEX,
];

/// What changes in them: the service may update this, and is only let add to all else.
pub(crate) const CHANGING: &[Changing] = &[
    amanat_desk::CHANGING[0],
    Changing::columns("referrals", &["state", "last_sha256"]),
    Changing::deletes("referred_versions"),
    Changing::columns("identifiers", &["stored"]),
    Changing::columns("aliases", &["split_time"]),
    Changing::columns(
        "merges",
        &["into_subject", "from_subject", "status", "decide_time"],
    ),
    Changing::columns("canaries", &["stored", "second", "live_time"]),
    Changing::columns("canary_hits", &["alarm_time"]),
    Changing::columns(
        "pepper_state",
        &["applied", "pepper_check", "pseudonym_check"],
    ),
];

/// The gateway's book.
pub(crate) struct Exchange {
    pub(crate) rules: Rulebook,
    pub(crate) subjects: subject::Keys,
    pub(crate) memory: Memory,
}

/// One verb with its checked arguments.
pub(crate) enum Call {
    Refused(Refused),
    Consent(ConsentCall),
    Audit(AuditCall),
    Put(Box<PutRecord>),
    Read(Box<ReadRecord>),
    Versions(ListVersions),
    Submit(Box<SubmitReferral>),
    Transition(Box<TransitionReferral>),
    Referrals(ListReferrals),
    Referral(GetReferral),
    Subject(Box<SubjectCall>),
}

/// What a verb answers beside the receipt.
pub(crate) enum Reply {
    Done,
    Consent(ConsentReply),
    Audit(AuditReply),
    Read(Box<ReadReply>),
    Versions {
        rows: Vec<VersionRow>,
        next: Option<i64>,
    },
    Referrals {
        referrals: Vec<ReferralView>,
        next: Option<i64>,
    },
    Referral(Box<ReferralView>),
    Subject(SubjectReply),
}

pub(crate) type Ruled = Ruling<Result<Reply, Refusal>>;

/// What a batch rests on.
pub(crate) struct Facts {
    statements: StatementFacts,
    consents: ConsentFacts,
    records: RecordFacts,
    referrals: ReferralFacts,
    subjects: SubjectFacts,
}

macro_rules! converts {
    ($($part:ident($from:ty)),+ => $whole:ident) => {$(
        impl From<$from> for $whole {
            fn from(part: $from) -> Self {
                Self::$part(part)
            }
        }
    )+};
}

converts!(Refused(Refused), Consent(ConsentCall), Audit(AuditCall) => Call);

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
    /// The source whose consents and referrals in a case the decision needs; consent verbs know their own.
    fn source_case(&self) -> Option<SourceCase> {
        match self {
            Self::Read(call) => Some((call.source, call.case)),
            Self::Submit(call) => Some((call.terms.sender, call.terms.case)),
            Self::Refused(_)
            | Self::Consent(_)
            | Self::Audit(_)
            | Self::Put(_)
            | Self::Transition(_)
            | Self::Versions(_)
            | Self::Referrals(_)
            | Self::Referral(_)
            | Self::Subject(_) => None,
        }
    }

    /// Whose act it is; `None` where nobody called, or what is refused anyway.
    fn act(&self) -> Option<&Act> {
        match self {
            Self::Consent(call) => Some(call.act()),
            Self::Audit(call) => Some(call.act()),
            Self::Put(call) => Some(&call.act),
            Self::Read(call) => Some(&call.act),
            Self::Versions(call) => Some(&call.act),
            Self::Submit(call) => Some(&call.act),
            Self::Transition(call) => Some(&call.act),
            Self::Referrals(call) => Some(&call.act),
            Self::Referral(call) => Some(&call.act),
            Self::Subject(call) => call.act(),
            Self::Refused(_) => None,
        }
    }

    fn statement(&self) -> Option<&Stored> {
        match self {
            Self::Consent(call) => call.statement(),
            Self::Put(call) => Some(&call.statement),
            Self::Submit(call) => Some(&call.statement),
            Self::Transition(call) => Some(&call.statement),
            Self::Refused(_)
            | Self::Audit(_)
            | Self::Read(_)
            | Self::Versions(_)
            | Self::Referrals(_)
            | Self::Referral(_)
            | Self::Subject(_) => None,
        }
    }
}

impl Book for Exchange {
    type Call = Call;
    type Answer = Result<Reply, Refusal>;
    type Facts = Facts;

    fn access(&self, call: &Call) -> Access {
        match call {
            Call::Refused(call) => call.access(),
            Call::Consent(call) => call.access(),
            Call::Audit(call) => call.access(),
            Call::Put(call) => call.access(),
            Call::Read(call) => call.access(),
            Call::Submit(call) => call.access(),
            Call::Transition(call) => call.access(),
            Call::Subject(call) => call.access(),
            Call::Versions(_) | Call::Referrals(_) | Call::Referral(_) => Access::default(),
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
        let (mut consents, mut subjects) = (Vec::new(), Vec::new());
        for call in calls {
            match call {
                Call::Consent(call) => consents.push(call),
                Call::Subject(call) => subjects.push(call.as_ref()),
                Call::Refused(_)
                | Call::Audit(_)
                | Call::Put(_)
                | Call::Read(_)
                | Call::Versions(_)
                | Call::Submit(_)
                | Call::Transition(_)
                | Call::Referrals(_)
                | Call::Referral(_) => {}
            }
        }
        let memory = &self.memory;
        let consents = ConsentFacts::load(connection, &memory.consents, asked, &consents).await?;
        Ok(Facts {
            statements: StatementFacts::load(connection, ids).await?,
            records: RecordFacts::load(connection, memory, calls).await?,
            subjects: SubjectFacts::load(connection, &self.subjects, &subjects).await?,
            referrals: ReferralFacts::load(connection, memory, consents.sources(), calls).await?,
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
                    referrals,
                    ..
                } = facts;
                let ruling = consent::decide(consents, statements, rules, call, now);
                if let Ok(ConsentReply::Withdrawn(closed)) = &ruling.answer {
                    for terms in closed {
                        let grants = consents.grants((terms.source, terms.case));
                        referrals.suspend_without_consent(terms, grants, now);
                    }
                }
                map(ruling, Reply::Consent)
            }
            Call::Audit(call) => map(call.decide(rules), Reply::Audit),
            Call::Put(call) => record::put(facts, rules, call, now),
            Call::Read(call) => record::read(facts, rules, call, now),
            Call::Versions(call) => record::versions::list(facts, rules, call),
            Call::Submit(call) => referral::submit(facts, rules, call, now),
            Call::Transition(call) => referral::transition(facts, rules, call),
            Call::Referrals(call) => referral::list(facts, rules, call),
            Call::Referral(call) => referral::get(facts, rules, call),
            Call::Subject(call) => {
                subject::decide(&mut facts.subjects, rules, &self.subjects, call, now)
            }
        }
    }

    async fn write(&self, connection: &mut Connection, facts: Facts) -> Result<(), Error> {
        facts.statements.write(connection).await?;
        facts
            .consents
            .write(connection, &self.memory.consents)
            .await?;
        facts.records.write(connection, &self.memory).await?;
        facts.referrals.write(connection, &self.memory).await?;
        facts.subjects.write(connection).await
    }

    fn overtaken(&self, by: Overtaking<'_>) {
        self.memory.overtaken(by);
    }

    /// Every mutation but FindSubject answers with its receipt alone.
    fn replay(&self, call: &Call, answer: &[u8]) -> Result<Reply, Refusal> {
        Ok(match call {
            Call::Consent(_) => Reply::Consent(ConsentReply::Done),
            Call::Subject(call) => call.replay(&self.subjects, answer)?,
            Call::Refused(_)
            | Call::Audit(_)
            | Call::Put(_)
            | Call::Read(_)
            | Call::Versions(_)
            | Call::Submit(_)
            | Call::Transition(_)
            | Call::Referrals(_)
            | Call::Referral(_) => Reply::Done,
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

/// A mutation done: its receipt is the answer, and a repeat gets it again.
fn done(draft: amanat_journal::Draft) -> Ruled {
    Ruling {
        answer: Ok(Reply::Done),
        draft: Some(draft),
        remember: Some(Vec::new()),
    }
}

/// A refusal with its entry; not remembered, so that it can be tried again when things have changed.
fn refuse(refusal: Refusal, draft: amanat_journal::Draft) -> Ruled {
    Ruling {
        answer: Err(refusal),
        draft: Some(draft),
        remember: None,
    }
}

#[cfg(test)]
mod tests;

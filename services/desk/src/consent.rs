//! The consent ledger: what was recorded and withdrawn here, and the verbs over it. Gateway and custodian
//! each keep one, so that neither has to believe the other.

mod overtaken;
mod service;
mod store;

use amanat_journal::{Access, ConflictKey, Ruling, Touch};
use amanat_policy::{ConsentTerms, Grant};
use amanat_schema::{
    AgencyId, CaseId, ConsentId, Time, audit, catalogue::FieldId, consent::ConsentStatus,
    policy::Purpose, statement::Envelope,
};
use amanat_server::Refusal;

use crate::{Act, Known, Page, RememberedByCase, Rules, StatementFacts, Stored};

pub use service::{ConsentDesk, Evidence};
pub use store::ConsentFacts;

/// A source and the case that its consents are about: a consent's id is its source's name for it there.
pub type SourceCase = (AgencyId, CaseId);

/// The consents of the cases that were decided on last.
pub type RememberedConsents = RememberedByCase<Vec<Grant>>;

/// Of all cases together, in memory.
const REMEMBERED_MIB: usize = 32;

/// The most consents and the most withdrawals that an agency may sign in one case: every decision in the
/// case looks through them.
const MOST: usize = 500;

/// The verbs.
pub enum ConsentCall {
    Record(RecordConsent),
    Withdraw(WithdrawConsent),
    List(ListConsents),
}

/// A consent whose own terms hold, signed by the source that it names.
pub struct RecordConsent {
    pub act: Act,
    pub terms: ConsentTerms,
    pub statement: Stored,
    /// The sealed evidence part; empty at the custodian.
    pub evidence: Vec<u8>,
}

pub struct WithdrawConsent {
    pub act: Act,
    pub case: CaseId,
    pub consent: ConsentId,
    pub statement: Stored,
}

pub struct ListConsents {
    pub act: Act,
    /// `None`: every case.
    pub case: Option<CaseId>,
    /// `None`: every recipient.
    pub recipient: Option<AgencyId>,
    /// `None`: any purpose.
    pub purpose: Option<Purpose>,
    pub page: Page,
}

/// What the verbs answer.
#[derive(Debug)]
pub enum ConsentReply {
    Done,
    /// The consents that the withdrawal closed.
    Withdrawn(Vec<ConsentTerms>),
    Listed {
        consents: Vec<Listed>,
        /// Where the next page begins.
        next: Option<i64>,
    },
}

/// A consent in a list.
#[derive(Debug)]
pub struct Listed {
    pub envelope: Envelope,
    pub status: ConsentStatus,
    pub recorded: Time,
}

/// A recorded consent.
#[derive(Debug, Clone)]
pub(crate) struct ConsentRow {
    pub(crate) seq: i64,
    pub(crate) grant: Grant,
    pub(crate) envelope: Envelope,
    pub(crate) recorded: Time,
}

/// For a server's memory.
pub fn remembered() -> RememberedConsents {
    RememberedByCase::holding(REMEMBERED_MIB, |grants| {
        // The nodes of a set are half empty at worst, and have heads.
        let paths = grants
            .iter()
            .map(|grant| grant.terms.paths.len())
            .sum::<usize>();
        size_of_val(grants.as_slice()) + paths * 4 * size_of::<FieldId>()
    })
}

impl ConsentCall {
    pub fn act(&self) -> &Act {
        match self {
            Self::Record(call) => &call.act,
            Self::Withdraw(call) => &call.act,
            Self::List(call) => &call.act,
        }
    }

    pub fn access(&self) -> Access {
        match self {
            Self::Record(call) => changes(&call.act, call.terms.case, &call.statement),
            Self::Withdraw(call) => changes(&call.act, call.case, &call.statement),
            Self::List(call) => Access {
                keys: call.case.map(case_key).into_iter().collect(),
                touch: Touch::Reads,
                request: None,
            },
        }
    }

    pub fn statement(&self) -> Option<&Stored> {
        match self {
            Self::Record(call) => Some(&call.statement),
            Self::Withdraw(call) => Some(&call.statement),
            Self::List(_) => None,
        }
    }
}

/// All that happens in a case is decided in order.
pub fn case_key(case: CaseId) -> ConflictKey {
    ConflictKey {
        kind: "case",
        id: *case.as_bytes(),
    }
}

fn changes(act: &Act, case: CaseId, statement: &Stored) -> Access {
    Access {
        keys: vec![case_key(case), statement.conflict_key()],
        touch: Touch::Changes,
        request: act.request_key(),
    }
}

type Ruled = Ruling<Result<ConsentReply, Refusal>>;

/// Decides one verb and leaves its changes in the facts.
pub fn decide(
    facts: &mut ConsentFacts,
    statements: &mut StatementFacts,
    rules: &Rules,
    call: &ConsentCall,
    now: Time,
) -> Ruled {
    match call {
        ConsentCall::Record(call) => record(facts, statements, rules, call, now),
        ConsentCall::Withdraw(call) => withdraw(facts, statements, rules, call, now),
        ConsentCall::List(call) => list(facts, rules, call, now),
    }
}

fn record(
    facts: &mut ConsentFacts,
    statements: &mut StatementFacts,
    rules: &Rules,
    call: &RecordConsent,
    now: Time,
) -> Ruled {
    let linkage = linkage(call.terms.case, call.terms.consent, &call.statement);
    let action = audit::Action::RecordConsent;
    let own = facts.grants((call.terms.source, call.terms.case));
    let taken = own
        .iter()
        .find(|grant| grant.terms.consent == call.terms.consent)
        .map(|grant| grant.statement_sha256);
    let (refusal, truth) = match (statements.look_up(&call.statement), taken) {
        (Known::New, None) if own.len() >= MOST => too_many(),
        (Known::New, None) => {
            statements.accept(&call.statement);
            facts.record(call, now);
            return done(call.act.allowed(rules, action, linkage));
        }
        (Known::Same, Some(sha256)) if sha256 == call.statement.payload_sha256 => {
            return done(call.act.allowed(rules, action, linkage));
        }
        _ => (
            Refusal::state("the consent's or statement's id was used for another one"),
            "id used with other bytes",
        ),
    };
    let draft = call.act.refused(rules, action, linkage, &refusal, truth);
    refuse(refusal, draft)
}

/// It can only close, so every one is kept: it counts for the consents of that id that its signer may
/// withdraw, those that come later too. Which are here is told to nobody, but once an agency has sent so many
/// that close nothing, only what closes something is taken: nobody can use up a survivor's withdrawals.
fn withdraw(
    facts: &mut ConsentFacts,
    statements: &mut StatementFacts,
    rules: &Rules,
    call: &WithdrawConsent,
    now: Time,
) -> Ruled {
    let linkage = linkage(call.case, call.consent, &call.statement);
    let action = audit::Action::WithdrawConsent;
    let kept = usize::try_from(facts.withdrawals(call)).unwrap_or(usize::MAX);
    let (refusal, truth) = match statements.look_up(&call.statement) {
        Known::New if kept >= MOST && !facts.closes(call) => too_many(),
        Known::New => {
            statements.accept(&call.statement);
            let closed = facts.withdraw(call, now);
            let mut draft = call.act.allowed(rules, action, linkage);
            if closed.is_empty() {
                "closes nothing here".clone_into(&mut draft.reasons);
            }
            return Ruling {
                answer: Ok(ConsentReply::Withdrawn(closed)),
                ..done(draft)
            };
        }
        Known::Same => return done(call.act.allowed(rules, action, linkage)),
        Known::Other => (
            Refusal::state("the statement's id was used for another one"),
            "id used with other bytes",
        ),
    };
    let draft = call.act.refused(rules, action, linkage, &refusal, truth);
    refuse(refusal, draft)
}

fn too_many() -> (Refusal, &'static str) {
    let refusal = Refusal::state("too many consents in this case");
    (refusal, "too many")
}

fn list(facts: &ConsentFacts, rules: &Rules, call: &ListConsents, now: Time) -> Ruled {
    let rows = facts.listed(call);
    let next = call.page.next(rows.len(), rows.last().map(|row| row.seq));
    let consents = rows
        .into_iter()
        .map(|row| Listed {
            status: status(&row.grant, call.act.agency, now),
            recorded: row.recorded,
            envelope: row.envelope,
        })
        .collect();
    let linkage = audit::Linkage {
        case_id: call.case.map(CaseId::to_vec).unwrap_or_default(),
        ..audit::Linkage::default()
    };
    Ruling {
        answer: Ok(ConsentReply::Listed { consents, next }),
        draft: Some(
            call.act
                .allowed(rules, audit::Action::ListConsents, linkage),
        ),
        remember: None,
    }
}

fn done(draft: amanat_journal::Draft) -> Ruled {
    Ruling {
        answer: Ok(ConsentReply::Done),
        draft: Some(draft),
        remember: Some(Vec::new()),
    }
}

fn refuse(refusal: Refusal, draft: amanat_journal::Draft) -> Ruled {
    Ruling {
        answer: Err(refusal),
        draft: Some(draft),
        remember: None,
    }
}

fn linkage(case: CaseId, consent: ConsentId, statement: &Stored) -> audit::Linkage {
    audit::Linkage {
        case_id: case.to_vec(),
        consent_id: consent.to_vec(),
        statement_sha256: statement.payload_sha256.to_vec(),
        ..audit::Linkage::default()
    }
}

fn status(grant: &Grant, reader: AgencyId, now: Time) -> ConsentStatus {
    let terms = &grant.terms;
    let used_up = terms.max_reads != 0 && grant.reads >= terms.max_reads;
    if grant.withdrawn {
        // What became of it is told to its source only.
        if reader == terms.source {
            ConsentStatus::Withdrawn
        } else {
            ConsentStatus::NotInForce
        }
    } else if grant.superseded || used_up || !(terms.valid_from..terms.expires_at).contains(&now) {
        ConsentStatus::NotInForce
    } else {
        ConsentStatus::InForce
    }
}

//! The consent ledger: what was recorded and withdrawn here, and the verbs over it. Gateway and custodian
//! each keep one, so that neither has to believe the other.

mod service;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use amanat_journal::{Access, ConflictKey, Ruling, Touch};
use amanat_policy::{ConsentTerms, Grant};
use amanat_schema::{
    AgencyId, CaseId, ConsentId, Time, audit, consent::ConsentStatus, statement::Envelope,
};
use amanat_server::Refusal;

use crate::{Act, Known, Page, Rules, StatementFacts, Stored};

pub use service::{ConsentDesk, Evidence};
pub use store::ConsentFacts;

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
    pub page: Page,
}

/// What the verbs answer.
#[derive(Debug)]
pub enum ConsentReply {
    Done,
    Listed { consents: Vec<Listed>, next: String },
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
    pub(crate) terms: ConsentTerms,
    pub(crate) envelope: Envelope,
    pub(crate) payload_sha256: [u8; 32],
    pub(crate) recorded: Time,
    pub(crate) reads: u32,
}

impl ConsentRow {
    fn is_used_up(&self) -> bool {
        self.terms.max_reads != 0 && self.reads >= self.terms.max_reads
    }
}

impl ConsentCall {
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

    /// The cases whose consents the decision needs.
    pub fn case(&self) -> Option<CaseId> {
        match self {
            Self::Record(call) => Some(call.terms.case),
            Self::Withdraw(call) => Some(call.case),
            Self::List(_) => None,
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
    let taken = facts
        .consent(call.terms.case, call.terms.consent)
        .map(|row| row.payload_sha256);
    match (statements.look_up(&call.statement), taken) {
        (Known::New, None) => {
            statements.accept(&call.statement);
            facts.record(call, now);
        }
        (Known::Same, Some(sha256)) if sha256 == call.statement.payload_sha256 => {}
        _ => {
            let refusal =
                Refusal::state("the consent's or statement's id was used for another one");
            let draft =
                call.act
                    .refused(rules, action, linkage, &refusal, "id used with other bytes");
            return Ruling {
                answer: Err(refusal),
                draft: Some(draft),
                remember: None,
            };
        }
    }
    done(call.act.allowed(rules, action, linkage))
}

fn withdraw(
    facts: &mut ConsentFacts,
    statements: &mut StatementFacts,
    rules: &Rules,
    call: &WithdrawConsent,
    now: Time,
) -> Ruled {
    let linkage = linkage(call.case, call.consent, &call.statement);
    let action = audit::Action::WithdrawConsent;
    let entitled = match facts.consent(call.case, call.consent) {
        // An early withdrawal is kept; whether its signer may is settled when the consent comes.
        None => true,
        Some(row) => facts.may_withdraw(row, call.act.agency),
    };
    let refusal = match statements.look_up(&call.statement) {
        Known::Other => Some((
            Refusal::state("the statement's id was used for another one"),
            "id used with other bytes",
        )),
        Known::New | Known::Same if !entitled => Some((
            Refusal::access(),
            "neither source nor recipient of a consent in the case",
        )),
        Known::New => {
            statements.accept(&call.statement);
            facts.withdraw(call, now);
            None
        }
        Known::Same => None,
    };
    match refusal {
        None => done(call.act.allowed(rules, action, linkage)),
        Some((refusal, truth)) => {
            let draft = call.act.refused(rules, action, linkage, &refusal, truth);
            Ruling {
                answer: Err(refusal),
                draft: Some(draft),
                remember: None,
            }
        }
    }
}

fn list(facts: &ConsentFacts, rules: &Rules, call: &ListConsents, now: Time) -> Ruled {
    let rows = facts.listed(call);
    let next = call.page.next(rows.len(), rows.last().map(|row| row.seq));
    let consents = rows
        .into_iter()
        .map(|row| {
            let status = facts.status(&row, call.act.agency, now);
            Listed {
                status,
                recorded: row.recorded,
                envelope: row.envelope,
            }
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

fn linkage(case: CaseId, consent: ConsentId, statement: &Stored) -> audit::Linkage {
    audit::Linkage {
        case_id: case.to_vec(),
        consent_id: consent.to_vec(),
        statement_sha256: statement.payload_sha256.to_vec(),
        ..audit::Linkage::default()
    }
}

impl ConsentFacts {
    /// The case's consents as decisions need them.
    pub fn grants(&self, case: CaseId) -> Vec<Grant> {
        self.in_case(case)
            .map(|row| Grant {
                terms: row.terms.clone(),
                statement_sha256: row.payload_sha256,
                reads: row.reads,
                withdrawn: self.is_withdrawn(row),
                superseded: self.is_superseded(row),
            })
            .collect()
    }

    /// Whether its source put another in its place; that one's own fate does not bring it back.
    fn is_superseded(&self, row: &ConsentRow) -> bool {
        self.in_case(row.terms.case).any(|other| {
            other.terms.supersedes == Some(row.terms.consent)
                && other.terms.source == row.terms.source
        })
    }

    /// Whether a signed withdrawal by someone entitled is here.
    fn is_withdrawn(&self, row: &ConsentRow) -> bool {
        self.withdrawn_by(row)
            .any(|agency| self.may_withdraw(row, agency))
    }

    /// Its source, or any recipient that the source's consents in the case name: it can only close.
    fn may_withdraw(&self, row: &ConsentRow, agency: AgencyId) -> bool {
        let source = row.terms.source;
        agency == source
            || self
                .in_case(row.terms.case)
                .any(|other| other.terms.source == source && other.terms.recipient == agency)
    }

    fn status(&self, row: &ConsentRow, reader: AgencyId, now: Time) -> ConsentStatus {
        if self.is_withdrawn(row) {
            // What became of it is told to its source only.
            if reader == row.terms.source {
                ConsentStatus::Withdrawn
            } else {
                ConsentStatus::NotInForce
            }
        } else if self.is_superseded(row)
            || row.is_used_up()
            || !(row.terms.valid_from..row.terms.expires_at).contains(&now)
        {
            ConsentStatus::NotInForce
        } else {
            ConsentStatus::InForce
        }
    }
}

/// The cases that a batch's consent verbs touch.
pub fn cases<'a>(calls: impl Iterator<Item = &'a ConsentCall>) -> BTreeSet<CaseId> {
    calls.filter_map(ConsentCall::case).collect()
}

/// Rows by case.
pub(crate) type ByCase = BTreeMap<CaseId, Vec<ConsentRow>>;

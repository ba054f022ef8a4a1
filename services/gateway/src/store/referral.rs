//! Referrals: submit, move on, list, get.

pub(super) mod tables;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use amanat_desk::{
    Act, Known, Page, Rules, Stored,
    consent::{SourceCase, case_key},
};
use amanat_identity::Directory;
use amanat_journal::{Access, Touch};
use amanat_policy::{Actor, ConsentTerms, Grant, ReferralTerms, Step, opens_content};
use amanat_schema::{
    AgencyId, CaseId, ReferralId, Time,
    audit::{Action, Linkage, WithheldField},
    policy::ReferralState,
    referral::Direction,
    statement::{Envelope, Signature},
};
use amanat_server::Refusal;
use prost::Message as _;

use super::{Facts, Reply, Ruled, done, refuse};

/// The most referrals that an agency may submit in one case: every read in the case looks through them.
pub(super) const MOST: usize = 500;

/// A submission whose own terms hold, to a recipient that offers what it asks.
pub(crate) struct SubmitReferral {
    pub(crate) act: Act,
    pub(crate) terms: ReferralTerms,
    pub(crate) statement: Stored,
    pub(crate) submission: Envelope,
}

/// One signed step.
pub(crate) struct TransitionReferral {
    pub(crate) act: Act,
    pub(crate) action: Action,
    pub(crate) step: Step,
    pub(crate) case: CaseId,
    pub(crate) referral: ReferralId,
    pub(crate) statement: Stored,
}

pub(crate) struct ListReferrals {
    pub(crate) act: Act,
    pub(crate) direction: Direction,
    /// `None`: any.
    pub(crate) state: Option<ReferralState>,
    /// `None`: every case.
    pub(crate) case: Option<CaseId>,
    /// Only what should have been answered before this time, and was not.
    pub(crate) overdue_at: Option<Time>,
    pub(crate) page: Page,
}

pub(crate) struct GetReferral {
    pub(crate) act: Act,
    pub(crate) referral: ReferralId,
}

/// A referral as its parties see it.
#[derive(Debug, Clone)]
pub(crate) struct ReferralView {
    pub(crate) submission: Envelope,
    pub(crate) transitions: Vec<Envelope>,
    pub(crate) state: ReferralState,
    pub(crate) submitted: Time,
    pub(crate) respond_by: Time,
}

#[derive(Debug, Clone)]
pub(crate) struct ReferralRow {
    seq: i64,
    pub(crate) submission: Envelope,
    terms: ReferralTerms,
    payload_sha256: [u8; 32],
    state: ReferralState,
    last_sha256: Vec<u8>,
    submitted: Time,
    respond_by: Time,
}

/// A referral's id is its sender's name for it: nobody can take one away.
type ReferralKey = (ReferralId, AgencyId);

/// The referrals that a batch rests on, and what it changes.
#[derive(Default)]
pub(crate) struct ReferralFacts {
    by_key: BTreeMap<ReferralKey, Arc<ReferralRow>>,
    steps: HashMap<ReferralKey, Vec<Envelope>>,
    lists: HashMap<(AgencyId, [u8; 32]), Vec<ReferralKey>>,
    /// How many the senders at hand have submitted in their cases; absent if none.
    sent: HashMap<SourceCase, usize>,
    submitted: Vec<ReferralKey>,
    /// From which state.
    moved: BTreeMap<ReferralKey, ReferralState>,
    stepped: Vec<(ReferralKey, Vec<u8>)>,
}

impl SubmitReferral {
    pub(crate) fn access(&self) -> Access {
        changes(&self.act, self.terms.case, &self.statement)
    }
}

impl TransitionReferral {
    pub(crate) fn access(&self) -> Access {
        changes(&self.act, self.case, &self.statement)
    }
}

fn changes(act: &Act, case: CaseId, statement: &Stored) -> Access {
    Access {
        keys: vec![case_key(case), statement.conflict_key()],
        touch: Touch::Changes,
        request: act.request_key(),
    }
}

impl ReferralRow {
    pub(crate) fn facts(&self) -> amanat_policy::ReferralFacts {
        amanat_policy::ReferralFacts {
            id: self.terms.referral,
            statement_sha256: self.payload_sha256,
            state: self.state,
        }
    }

    /// Whether it is its sender's own: signed with a key that is listed for the sender, and submitted before
    /// anybody else may have used that.
    fn is_own_word(&self, directory: &Directory) -> bool {
        let signatures = &self.submission.signatures;
        let is_own =
            |by: &Signature| directory.is_own_word(self.terms.sender, &by.key_id, self.submitted);
        !signatures.is_empty() && signatures.iter().all(is_own)
    }

    /// What it takes in memory; its terms are smaller than its submission.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + 2 * self.submission.encoded_len()
    }

    fn key(&self) -> ReferralKey {
        (self.terms.referral, self.terms.sender)
    }

    fn source_case(&self) -> SourceCase {
        (self.terms.sender, self.terms.case)
    }

    fn is_party(&self, agency: AgencyId) -> bool {
        [self.terms.sender, self.terms.recipient].contains(&agency)
    }
}

pub(super) fn submit(facts: &mut Facts, rules: &Rules, call: &SubmitReferral, now: Time) -> Ruled {
    let action = Action::SubmitReferral;
    let linkage = linkage(call.terms.case, call.terms.referral, &call.statement);
    let objection = match facts.statements.look_up(&call.statement) {
        Known::Same => None,
        Known::New => match objection(facts, &rules.directory, &call.terms, now) {
            None => {
                facts.statements.accept(&call.statement);
                facts.referrals.submit(call, now);
                None
            }
            objection => objection,
        },
        Known::Other => Some(Objection::new(
            Refusal::state("the statement's id was used for another one"),
            "other bytes",
        )),
    };
    if let Some(Objection {
        refusal,
        truth,
        withheld,
    }) = objection
    {
        let mut draft = call.act.refused(rules, action, linkage, &refusal, truth);
        draft.body.withheld = withheld;
        return refuse(refusal, draft);
    }
    let mut draft = call.act.allowed(rules, action, linkage);
    draft.body.purpose = call.terms.purpose.into();
    draft.body.referral_state = ReferralState::Submitted.into();
    done(draft)
}

/// Why a submission is not taken.
struct Objection {
    refusal: Refusal,
    truth: &'static str,
    withheld: Vec<WithheldField>,
}

impl Objection {
    fn new(refusal: Refusal, truth: &'static str) -> Self {
        Self {
            refusal,
            truth,
            withheld: Vec::new(),
        }
    }
}

fn too_many() -> Objection {
    let refusal = Refusal::state(&format!(
        "this agency has submitted {MOST} referrals in this case, and there can be no more: refer her in a \
         new case"
    ));
    Objection::new(refusal, "too many")
}

/// What stands against a new submission.
fn objection(
    facts: &Facts,
    directory: &Directory,
    terms: &ReferralTerms,
    now: Time,
) -> Option<Objection> {
    let rows = &facts.referrals.by_key;
    if rows.contains_key(&(terms.referral, terms.sender)) {
        let refusal = Refusal::state("the referral's id was used for another one");
        return Some(Objection::new(refusal, "id taken"));
    }
    let of = (terms.sender, terms.case);
    if facts
        .referrals
        .sent
        .get(&of)
        .is_some_and(|sent| *sent >= MOST)
    {
        return Some(too_many());
    }
    if let Some((previous, sha256)) = terms.previous {
        // It may be taken up by more than one: to two agencies at once, or again after the second failed.
        let row = rows
            .get(&(previous, terms.sender))
            .filter(|row| row.terms.case == terms.case);
        let Some(row) = row else {
            // Another agency's looks like none.
            let truth = "the previous referral is absent or another's";
            return Some(Objection::new(Refusal::access(), truth));
        };
        if row.payload_sha256 != sha256 {
            let expected = "the SHA-256 of the previous referral's submission";
            let refusal = Refusal::field("referral.head.follows", expected);
            return Some(Objection::new(refusal, "follows other bytes"));
        }
        if !amanat_policy::is_closed(row.state) {
            let refusal = Refusal::state("the referral that it takes up is still open");
            return Some(Objection::new(refusal, "the previous one is open"));
        }
    }
    let grants = facts.consents.counting(of, directory);
    let withheld: Vec<_> = amanat_policy::without_consent(terms, &grants, now)
        .iter()
        .map(|w| WithheldField {
            path: w.field.field().path.to_owned(),
            reason: w.reason().into(),
        })
        .collect();
    (!withheld.is_empty()).then(|| Objection {
        refusal: Refusal::without_consent(&withheld),
        truth: "paths without basis",
        withheld,
    })
}

pub(super) fn transition(facts: &mut Facts, rules: &Rules, call: &TransitionReferral) -> Ruled {
    let linkage = linkage(call.case, call.referral, &call.statement);
    let agency = call.act.agency;
    let refuse_with = |refusal: Refusal, truth: &str| {
        let draft = call
            .act
            .refused(rules, call.action, linkage.clone(), &refusal, truth);
        refuse(refusal, draft)
    };
    let follows = call.statement.follows.as_ref().map(<[u8; 32]>::as_slice);
    let fits = |row: &ReferralRow| follows == Some(row.last_sha256.as_slice());
    // Of two under one id the step means the one that it follows.
    let named = facts.referrals.named(call.referral, agency);
    let meant = named
        .filter(|row| row.terms.case == call.case)
        .max_by_key(|row| fits(row));
    let key = meant.map(ReferralRow::key);
    let Some(row) = key.and_then(|key| facts.referrals.by_key.get_mut(&key)) else {
        return refuse_with(Refusal::access(), "absent or no party");
    };
    let row = Arc::make_mut(row);
    let actor = if agency == row.terms.recipient {
        Actor::Recipient
    } else {
        Actor::Sender
    };
    match facts.statements.look_up(&call.statement) {
        Known::Same => {}
        Known::Other => {
            let refusal = Refusal::state("the statement's id was used for another one");
            return refuse_with(refusal, "other bytes");
        }
        Known::New => {
            if !fits(row) {
                let refusal =
                    Refusal::state("the statement does not follow the referral's newest step");
                return refuse_with(refusal, "does not follow");
            }
            let before = row.state;
            match amanat_policy::next(before, call.step, actor) {
                Ok(state) => row.state = state,
                Err(illegal) => {
                    return refuse_with(Refusal::state(&illegal.to_string()), "illegal");
                }
            }
            row.last_sha256 = call.statement.payload_sha256.to_vec();
            facts.statements.accept(&call.statement);
            facts.referrals.moved.entry(row.key()).or_insert(before);
            facts
                .referrals
                .stepped
                .push((row.key(), call.statement.envelope.clone()));
        }
    }
    let mut draft = call.act.allowed(rules, call.action, linkage);
    draft.body.referral_state = row.state.into();
    done(draft)
}

pub(super) fn list(facts: &mut Facts, rules: &Rules, call: &ListReferrals) -> Ruled {
    let key = (call.act.agency, call.act.request_sha256);
    let listed = facts
        .referrals
        .lists
        .get(&key)
        .map_or(&[][..], Vec::as_slice);
    let rows: Vec<_> = listed
        .iter()
        .filter_map(|key| facts.referrals.by_key.get(key))
        .collect();
    let next = call.page.next(rows.len(), rows.last().map(|row| row.seq));
    let referrals = rows
        .into_iter()
        .map(|row| facts.referrals.view(row))
        .collect();
    let linkage = Linkage {
        case_id: call.case.map(CaseId::to_vec).unwrap_or_default(),
        ..Linkage::default()
    };
    Ruled {
        answer: Ok(Reply::Referrals { referrals, next }),
        draft: Some(call.act.allowed(rules, Action::ListReferrals, linkage)),
        remember: None,
    }
}

pub(super) fn get(facts: &mut Facts, rules: &Rules, call: &GetReferral) -> Ruled {
    let linkage = Linkage {
        referral_id: call.referral.to_vec(),
        ..Linkage::default()
    };
    // Of two under one id the caller's own, else the one that was here first.
    let named = facts.referrals.named(call.referral, call.act.agency);
    match named.min_by_key(|row| (row.terms.sender != call.act.agency, row.seq)) {
        Some(row) => Ruled {
            answer: Ok(Reply::Referral(Box::new(facts.referrals.view(row)))),
            draft: Some(call.act.allowed(rules, Action::GetReferral, linkage)),
            remember: None,
        },
        None => {
            let refusal = Refusal::access();
            let draft = call.act.refused(
                rules,
                Action::GetReferral,
                linkage,
                &refusal,
                "absent or no party",
            );
            refuse(refusal, draft)
        }
    }
}

fn linkage(case: CaseId, referral: ReferralId, statement: &Stored) -> Linkage {
    Linkage {
        case_id: case.to_vec(),
        referral_id: referral.to_vec(),
        statement_sha256: statement.payload_sha256.to_vec(),
        ..Linkage::default()
    }
}

impl ReferralFacts {
    fn keep(&mut self, rows: impl IntoIterator<Item = Arc<ReferralRow>>) {
        self.by_key
            .extend(rows.into_iter().map(|row| (row.key(), row)));
    }

    /// The referrals of an id that an agency is a party of.
    fn named(&self, id: ReferralId, party: AgencyId) -> impl Iterator<Item = &ReferralRow> {
        self.by_key
            .values()
            .map(Arc::as_ref)
            .filter(move |row| row.terms.referral == id && row.is_party(party))
    }

    /// The referral that brings a source's records of a case to a reader: one that opens content if there
    /// is one, else the newest. What somebody else may have signed in the source's name brings nothing.
    pub(super) fn brings(
        &self,
        case: CaseId,
        source: AgencyId,
        reader: AgencyId,
        directory: &Directory,
    ) -> Option<&ReferralRow> {
        self.by_key
            .values()
            .map(Arc::as_ref)
            .filter(|row| {
                let terms = &row.terms;
                (terms.case, terms.sender, terms.recipient) == (case, source, reader)
                    && row.is_own_word(directory)
            })
            .max_by_key(|row| (opens_content(row.state), row.seq))
    }

    /// Closes the open referrals that rested on a consent which was withdrawn, if none carries them any
    /// more; `grants` are its source's in the case.
    pub(super) fn suspend_without_consent(
        &mut self,
        withdrawn: &ConsentTerms,
        grants: &[Grant],
        now: Time,
    ) {
        let rows = self.by_key.values_mut().filter(|row| {
            let terms = &row.terms;
            (terms.case, terms.sender) == (withdrawn.case, withdrawn.source)
                && (terms.recipient, terms.purpose) == (withdrawn.recipient, withdrawn.purpose)
        });
        for row in rows {
            let row = Arc::make_mut(row);
            let sealed = row
                .terms
                .paths
                .iter()
                .filter(|path| path.field().is_sealed())
                .count();
            let baseless = amanat_policy::without_consent(&row.terms, grants, now).len();
            if sealed > 0
                && baseless == sealed
                && let Ok(state) = amanat_policy::next(row.state, Step::Suspend, Actor::Sender)
            {
                self.moved.entry(row.key()).or_insert(row.state);
                row.state = state;
            }
        }
    }

    /// As its parties see it.
    fn view(&self, row: &ReferralRow) -> ReferralView {
        ReferralView {
            submission: row.submission.clone(),
            transitions: self.steps.get(&row.key()).cloned().unwrap_or_default(),
            state: row.state,
            submitted: row.submitted,
            respond_by: row.respond_by,
        }
    }

    fn submit(&mut self, call: &SubmitReferral, now: Time) {
        let row = ReferralRow {
            seq: i64::MAX,
            submission: call.submission.clone(),
            terms: call.terms.clone(),
            payload_sha256: call.statement.payload_sha256,
            state: ReferralState::Submitted,
            last_sha256: call.statement.payload_sha256.to_vec(),
            submitted: now,
            respond_by: now + amanat_policy::respond_within(call.terms.urgency),
        };
        self.submitted.push(row.key());
        self.by_key.insert(row.key(), Arc::new(row));
    }
}

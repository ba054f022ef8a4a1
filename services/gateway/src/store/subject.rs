//! An agency's subjects: from stored identifiers to a pseudonym, one agency's rows at a time. What is stored
//! of one person differs from agency to agency, and no row relates them; nothing here would need it.
//!
//! INVARIANT: only an intake says that identifiers are one person's, and only an intake proposes a merge. A
//! search carries whatever an officer is wondering about, and nothing would take back what it joined.

mod canary;
mod kinship;
mod peppers;
mod resolve;
mod tables;

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Arc, atomic::AtomicBool},
};

use amanat_desk::{Act, Page, Rules};
use amanat_journal::{Access, ConflictKey, Touch};
use amanat_schema::{
    AgencyId, Time,
    audit::{Action, Linkage},
    subject::{MergeStatus, SubjectIdentifierType},
};
use amanat_seal::pseudonym::{Peppers, Pseudonym, PseudonymKey};
use amanat_server::Refusal;

use super::{Reply, Ruled, done, refuse};
use canary::CanaryFacts;
use kinship::{Conflict, Kinship, Pair};
use peppers::PepperFacts;
use resolve::{Answer, Clue, resolve, search};

pub(crate) use canary::{Asked, ListCanaryHits, PlantCanary, SeenHit};
pub use peppers::PepperError;

/// Of the one pseudonym key there is.
pub(crate) const KEY_VERSION: u32 = 1;

/// A token under the peppers, for one agency or as a canary's: all that is kept of an identifier. No Debug,
/// like what it came from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Peppered(pub(crate) [u8; 32]);

/// An agency's name for a person that nobody outside this store sees; 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct SubjectId(pub(crate) [u8; 16]);

/// What makes pseudonyms.
pub(crate) struct Keys {
    pub(crate) peppers: Arc<Peppers>,
    pub(crate) pseudonyms: PseudonymKey,
    /// Whether what is stored is under other peppers than these by now: another replica has put one on top.
    pub(crate) outdated: Arc<AtomicBool>,
}

/// One verb with its checked arguments.
pub(crate) enum SubjectCall {
    Find(FindSubject),
    List(ListMerges),
    Judge(JudgePair),
    Plant(PlantCanary),
    Hits(ListCanaryHits),
    /// Raises the alarm if a canary was asked for.
    CheckCanaries(Asked),
    /// Counts the canaries that nobody can ask for any more.
    CountLapsed,
    /// Puts what is stored under the peppers that were added, before anything is served.
    AdvancePeppers,
}

pub(crate) enum SubjectReply {
    Found(Pseudonym),
    Merges {
        merges: Vec<MergeView>,
        next: Option<i64>,
    },
    Hits {
        hits: Vec<SeenHit>,
        next: Option<i64>,
    },
    /// How many canaries keep silent.
    Lapsed(usize),
    /// How many identifiers were put under another pepper.
    Advanced(Result<usize, PepperError>),
}

pub(crate) struct FindSubject {
    pub(crate) act: Act,
    pub(crate) reason: FindReason,
    pub(crate) identifiers: Vec<Identifier>,
    /// Taken if a subject must be made; drawn before, for decisions draw nothing.
    pub(crate) fresh: SubjectId,
    pub(crate) officer_handle: [u8; 16],
}

/// What an agency asks for a pseudonym for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FindReason {
    /// A new record: what is given is one person's.
    Intake,
    /// Whether the agency has met somebody: what is given may be anybody's.
    Search,
}

/// One identifier under each epoch of its key.
pub(crate) struct Identifier {
    pub(crate) kind: SubjectIdentifierType,
    /// The oldest epoch first.
    pub(crate) tokens: Vec<(u32, Peppered)>,
    /// The same tokens, as a canary's would be stored; never kept.
    pub(crate) as_canary: Vec<Peppered>,
}

pub(crate) struct ListMerges {
    pub(crate) act: Act,
    pub(crate) status: Option<MergeStatus>,
    pub(crate) page: Page,
}

/// A person's word on two of the agency's subjects.
pub(crate) struct JudgePair {
    pub(crate) act: Act,
    pub(crate) judgement: Judgement,
    pub(crate) into: Pseudonym,
    pub(crate) from: Pseudonym,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    OnePerson,
    TwoPersons,
}

/// As its agency sees it.
pub(crate) struct MergeView {
    pub(crate) into: Pseudonym,
    pub(crate) from: Pseudonym,
    pub(crate) status: MergeStatus,
    pub(crate) proposed: Time,
    pub(crate) decided: Option<Time>,
}

/// Pages, by who asked and the request's hash; each row with its sequence number.
type Lists<T> = HashMap<(AgencyId, [u8; 32]), Vec<(i64, T)>>;

/// What a batch rests on, and what it adds.
#[derive(Default)]
pub(in crate::store) struct SubjectFacts {
    known: HashMap<(AgencyId, Peppered), SubjectId>,
    /// Which types of identifiers stand under which subjects.
    carried: BTreeSet<(SubjectId, SubjectIdentifierType)>,
    kinship: Kinship,
    named: HashMap<(AgencyId, Pseudonym), SubjectId>,
    lists: Lists<Pair>,
    canaries: CanaryFacts,
    peppers: Option<PepperFacts>,
    /// Whether the peppers of the calls' tokens are others than those of what is stored.
    outdated: bool,
    made: Vec<Made>,
    joined: Vec<Joined>,
}

struct Made {
    subject: SubjectId,
    agency: AgencyId,
    pseudonym: Pseudonym,
    at: Time,
}

struct Joined {
    agency: AgencyId,
    stored: Peppered,
    kind: SubjectIdentifierType,
    epoch: u32,
    subject: SubjectId,
}

impl SubjectCall {
    pub(crate) fn access(&self) -> Access {
        match self {
            Self::Find(call) => Access {
                keys: call.conflict_keys(),
                touch: Touch::Changes,
                request: call.act.request_key(),
            },
            Self::Judge(call) => Access {
                keys: vec![agency_key(call.act.agency)],
                touch: Touch::Changes,
                request: call.act.request_key(),
            },
            Self::List(call) => Access {
                keys: vec![agency_key(call.act.agency)],
                touch: Touch::Reads,
                request: None,
            },
            Self::Plant(call) => call.access(),
            Self::Hits(_) | Self::CheckCanaries(_) | Self::CountLapsed | Self::AdvancePeppers => {
                Access::default()
            }
        }
    }

    /// Whose act it is; `None` where nobody called.
    pub(crate) fn act(&self) -> Option<&Act> {
        match self {
            Self::Find(call) => Some(&call.act),
            Self::List(call) => Some(&call.act),
            Self::Judge(call) => Some(&call.act),
            Self::Plant(call) => Some(&call.act),
            Self::Hits(call) => Some(&call.act),
            Self::CheckCanaries(_) | Self::CountLapsed | Self::AdvancePeppers => None,
        }
    }

    /// What a remembered mutation answered.
    pub(crate) fn replay(&self, keys: &Keys, answer: &[u8]) -> Result<Reply, Refusal> {
        match self {
            Self::Find(call) => {
                let subject = answer
                    .try_into()
                    .map_err(|_| Refusal::audit_unavailable())?;
                let pseudonym = keys.pseudonyms.pseudonym(call.act.agency, subject);
                Ok(SubjectReply::Found(pseudonym).into())
            }
            Self::Judge(_)
            | Self::List(_)
            | Self::Plant(_)
            | Self::Hits(_)
            | Self::CheckCanaries(_)
            | Self::CountLapsed
            | Self::AdvancePeppers => Ok(Reply::Done),
        }
    }
}

impl From<SubjectReply> for Reply {
    fn from(reply: SubjectReply) -> Self {
        Self::Subject(reply)
    }
}

impl FindSubject {
    /// One agency's calls with a token in common wait for each other; no agency's wait for another's, for
    /// what is stored is never the same, or the wait would tell that both know the person.
    fn conflict_keys(&self) -> Vec<ConflictKey> {
        let tokens = self.identifiers.iter().flat_map(|i| &i.tokens);
        let keys = tokens.filter_map(|(_, stored)| stored.conflict_key("identifier"));
        keys.collect()
    }
}

impl Peppered {
    /// Always there: the half of it that a key takes.
    fn conflict_key(&self, kind: &'static str) -> Option<ConflictKey> {
        let id = *self.0.first_chunk()?;
        Some(ConflictKey { kind, id })
    }
}

fn agency_key(agency: AgencyId) -> ConflictKey {
    ConflictKey {
        kind: "subjects",
        id: *agency.as_bytes(),
    }
}

pub(super) fn decide(
    facts: &mut SubjectFacts,
    rules: &Rules,
    keys: &Keys,
    call: &SubjectCall,
    now: Time,
) -> Ruled {
    match call {
        SubjectCall::Find(call) if facts.outdated => {
            peppers::outdated(&call.act, rules, Action::FindSubject)
        }
        SubjectCall::Plant(call) if facts.outdated => {
            peppers::outdated(&call.act, rules, Action::PlantCanary)
        }
        SubjectCall::Find(call) => find(facts, rules, keys, call, now),
        SubjectCall::List(call) => list(facts, rules, keys, call),
        SubjectCall::Judge(call) => judge(facts, rules, call, now),
        SubjectCall::Plant(call) => canary::plant(&mut facts.canaries, rules, call, now),
        SubjectCall::Hits(call) => canary::hits(&facts.canaries, rules, call),
        SubjectCall::CheckCanaries(asked) => canary::check(&mut facts.canaries, rules, *asked, now),
        SubjectCall::CountLapsed => canary::count_lapsed(&facts.canaries, rules),
        SubjectCall::AdvancePeppers => peppers::advance(&mut facts.peppers, keys),
    }
}

fn find(
    facts: &mut SubjectFacts,
    rules: &Rules,
    keys: &Keys,
    call: &FindSubject,
    now: Time,
) -> Ruled {
    let subject = facts.find(keys, call, now);
    facts.canaries.sight(call, now);
    let pseudonym = keys.pseudonyms.pseudonym(call.act.agency, &subject.0);
    let draft = call
        .act
        .allowed(rules, Action::FindSubject, Linkage::default());
    Ruled {
        answer: Ok(SubjectReply::Found(pseudonym).into()),
        draft: Some(draft),
        // Not the pseudonym: it is made again from this.
        remember: Some(subject.0.to_vec()),
    }
}

fn judge(facts: &mut SubjectFacts, rules: &Rules, call: &JudgePair, now: Time) -> Ruled {
    let agency = call.act.agency;
    let action = match call.judgement {
        Judgement::OnePerson => Action::MergeSubjects,
        Judgement::TwoPersons => Action::SplitSubjects,
    };
    let refuse_with = |refusal: Refusal, truth| {
        let linkage = Linkage::default();
        let draft = call.act.refused(rules, action, linkage, &refusal, truth);
        refuse(refusal, draft)
    };
    let named = |pseudonym| facts.named.get(&(agency, pseudonym)).copied();
    let (Some(into), Some(from)) = (named(call.into), named(call.from)) else {
        return refuse_with(Refusal::access(), "absent or another agency's");
    };
    let judged = match call.judgement {
        Judgement::OnePerson => facts.kinship.merge(agency, into, from, now),
        Judgement::TwoPersons => facts.kinship.split(agency, into, from, now),
    };
    match judged {
        Ok(()) => done(call.act.allowed(rules, action, Linkage::default())),
        Err(Conflict::Held) => {
            let told = "another subject stands for one of the two; name that one, or split them";
            refuse_with(Refusal::state(told), "held")
        }
        Err(Conflict::Joined) => {
            let told = "the two are one through other merges; split those first";
            refuse_with(Refusal::state(told), "one through others")
        }
        Err(Conflict::Crowded) => {
            let told = "more than 64 subjects would stand for one person; split those who are not the same";
            refuse_with(Refusal::state(told), "too many in one family")
        }
    }
}

fn list(facts: &SubjectFacts, rules: &Rules, keys: &Keys, call: &ListMerges) -> Ruled {
    let key = (call.act.agency, call.act.request_sha256);
    let rows = facts.lists.get(&key).map_or(&[][..], Vec::as_slice);
    let next = call.page.next(rows.len(), rows.last().map(|row| row.0));
    let name = |subject: SubjectId| keys.pseudonyms.pseudonym(call.act.agency, &subject.0);
    let views = rows.iter().map(|(_, pair)| {
        // What waits is shown as those whom a person can judge: the ones that stand for others.
        let shown = |subject| match pair.status {
            MergeStatus::Proposed => facts.kinship.root(subject),
            MergeStatus::Unspecified | MergeStatus::Merged | MergeStatus::Split => subject,
        };
        MergeView {
            into: name(shown(pair.into)),
            from: name(shown(pair.from)),
            status: pair.status,
            proposed: pair.proposed,
            decided: pair.decided,
        }
    });
    let merges = views.collect();
    Ruled {
        answer: Ok(SubjectReply::Merges { merges, next }.into()),
        draft: Some(
            call.act
                .allowed(rules, Action::ListMerges, Linkage::default()),
        ),
        remember: None,
    }
}

impl SubjectFacts {
    /// Whom the identifiers lead to, made if they lead to nobody; who stands for it answers.
    fn find(&mut self, keys: &Keys, call: &FindSubject, now: Time) -> SubjectId {
        let agency = call.act.agency;
        let clues: Vec<_> = call
            .identifiers
            .iter()
            .map(|identifier| self.clue(agency, identifier))
            .collect();
        let subject = match call.reason {
            FindReason::Intake => self.take_in(keys, call, &clues, now),
            FindReason::Search => self.search(keys, call, &clues, now),
        };
        // What led somewhere stays there, under a new epoch's key too.
        for (identifier, clue) in call.identifiers.iter().zip(&clues) {
            if let Some(of) = clue.leads.first() {
                self.join(agency, identifier, *of);
            }
        }
        self.kinship.root(subject)
    }

    /// What is new leads to whom the intake is about; what leads to others is put before a person.
    fn take_in(&mut self, keys: &Keys, call: &FindSubject, clues: &[Clue], now: Time) -> SubjectId {
        let agency = call.act.agency;
        let resolution = resolve(clues, |subject, kind| self.carries(subject, kind));
        let subject = resolution
            .subject
            .unwrap_or_else(|| self.make(keys, call, now));
        for other in resolution.others {
            self.kinship.propose(agency, subject, other, now);
        }
        for (identifier, clue) in call.identifiers.iter().zip(clues) {
            if clue.leads.is_empty() {
                self.join(agency, identifier, subject);
            }
        }
        subject
    }

    /// Who is made for a search is made for one identifier, so that it answers again as it did.
    fn search(&mut self, keys: &Keys, call: &FindSubject, clues: &[Clue], now: Time) -> SubjectId {
        match search(clues) {
            Answer::Known(subject) => subject,
            Answer::New { of } => {
                let subject = self.make(keys, call, now);
                if let Some(identifier) = of.and_then(|at| call.identifiers.get(at)) {
                    self.join(call.act.agency, identifier, subject);
                }
                subject
            }
        }
    }

    fn make(&mut self, keys: &Keys, call: &FindSubject, now: Time) -> SubjectId {
        let (subject, agency) = (call.fresh, call.act.agency);
        self.made.push(Made {
            subject,
            agency,
            pseudonym: keys.pseudonyms.pseudonym(agency, &subject.0),
            at: now,
        });
        subject
    }

    fn clue(&self, agency: AgencyId, identifier: &Identifier) -> Clue {
        let tokens = identifier.tokens.iter();
        let mut leads: Vec<_> = tokens
            .filter_map(|(_, stored)| self.known.get(&(agency, *stored)).copied())
            .collect();
        leads.dedup();
        Clue {
            kind: identifier.kind,
            leads,
        }
    }

    /// Whether an identifier of this type stands under the subject, or under one that is the same person.
    fn carries(&self, subject: SubjectId, kind: SubjectIdentifierType) -> bool {
        let root = self.kinship.root(subject);
        let mut carriers = self.carried.iter().filter(|(_, carried)| *carried == kind);
        carriers.any(|(carrier, _)| self.kinship.root(*carrier) == root)
    }

    fn join(&mut self, agency: AgencyId, identifier: &Identifier, subject: SubjectId) {
        self.carried.insert((subject, identifier.kind));
        for (epoch, stored) in &identifier.tokens {
            if let Entry::Vacant(new) = self.known.entry((agency, *stored)) {
                new.insert(subject);
                self.joined.push(Joined {
                    agency,
                    stored: *stored,
                    kind: identifier.kind,
                    epoch: *epoch,
                    subject,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;

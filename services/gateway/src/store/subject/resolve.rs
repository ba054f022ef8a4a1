//! Whom the identifiers of one submission, or of one search, lead to. Pure.

use std::collections::BTreeSet;

use amanat_schema::subject::SubjectIdentifierType;

use super::SubjectId;

/// One identifier of a submission.
pub(super) struct Clue {
    pub(super) kind: SubjectIdentifierType,
    /// To whom it led before: one subject, or none. Two only where an epoch's key came back.
    pub(super) leads: Vec<SubjectId>,
}

#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(super) struct Resolution {
    /// The one that decides; `None`: a new subject must be made.
    pub(super) subject: Option<SubjectId>,
    /// The others that were led to, the strongest clue's first: each may be the same person.
    pub(super) others: Vec<SubjectId>,
}

/// Whom a search is answered with.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(super) enum Answer {
    Known(SubjectId),
    /// A new subject must be made, which carries this one of the clues and no other.
    New {
        of: Option<usize>,
    },
}

impl Clue {
    /// Two persons often share a name, a father's name and a year.
    fn links(&self) -> bool {
        self.kind != SubjectIdentifierType::Composite
    }
}

/// The strongest known clue decides, unless the submission has a stronger one that is new and might be
/// another person's. It might where only a phone is known, for families share phones; and where the subject
/// `carries` another of that type already. Then a subject is made, and a person looks at the two: nothing
/// takes back what a wrong join glued together, and a merge can be taken back.
pub(super) fn resolve(
    clues: &[Clue],
    carries: impl Fn(SubjectId, SubjectIdentifierType) -> bool,
) -> Resolution {
    // Of equals the first listed comes first: the sort is stable, and the types stand by strength.
    let mut clues: Vec<_> = clues.iter().collect();
    clues.sort_by_key(|clue| clue.kind);
    let strongest = clues.iter().find(|clue| clue.links());
    let known = clues
        .iter()
        .filter(|clue| clue.links())
        .find_map(|clue| clue.leads.first().map(|subject| (clue.kind, *subject)));
    let subject = known.and_then(|(kind, subject)| {
        let stronger = strongest.filter(|clue| clue.kind < kind);
        let by_phone = kind == SubjectIdentifierType::Phone;
        let may_be_other = stronger.is_some_and(|clue| by_phone || carries(subject, clue.kind));
        (!may_be_other).then_some(subject)
    });
    let mut seen: BTreeSet<_> = subject.into_iter().collect();
    let leads = clues.iter().flat_map(|clue| &clue.leads);
    Resolution {
        subject,
        others: leads
            .filter(|other| seen.insert(**other))
            .copied()
            .collect(),
    }
}

/// The strongest known clue decides, whatever stronger ones are new: nothing comes of it. A name and a year
/// answer nobody, and are kept for nobody.
pub(super) fn search(clues: &[Clue]) -> Answer {
    let mut linking: Vec<_> = clues
        .iter()
        .enumerate()
        .filter(|(_, clue)| clue.links())
        .collect();
    linking.sort_by_key(|(_, clue)| clue.kind);
    let known = linking.iter().find_map(|(_, clue)| clue.leads.first());
    known.map_or_else(
        || Answer::New {
            of: linking.first().map(|(at, _)| *at),
        },
        |subject| Answer::Known(*subject),
    )
}

#[cfg(test)]
mod tests;

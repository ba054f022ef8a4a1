//! Whom the identifiers of one submission lead to. Pure.

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

impl Clue {
    /// Two persons often share a name, a father's name and a year.
    fn links(&self) -> bool {
        self.kind != SubjectIdentifierType::Composite
    }
}

/// The strongest known clue decides, unless the submission has a stronger one that is new and the subject
/// `carries` another of that type already: two persons who share a phone, say. A person then looks at it.
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
        let is_other = stronger.is_some_and(|clue| carries(subject, clue.kind));
        (!is_other).then_some(subject)
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

#[cfg(test)]
mod tests;

//! Which of an agency's subjects are one person, by a person's word. Merges move nothing: the one that is
//! held answers as the one that stands for it, and a split gives it back whole.

use std::collections::{BTreeMap, BTreeSet};

use amanat_schema::{AgencyId, Time, subject::MergeStatus};

use super::SubjectId;

/// The most subjects that stand for one person. Nobody has so many papers, and whoever merged without end
/// would make every later answer about them slower.
pub(super) const LARGEST_FAMILY: usize = 64;

/// The smaller id first: a pair is the same from both sides.
type PairKey = (SubjectId, SubjectId);

#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) agency: AgencyId,
    /// The one that would stand for both.
    pub(super) into: SubjectId,
    pub(super) from: SubjectId,
    pub(super) status: MergeStatus,
    pub(super) proposed: Time,
    pub(super) decided: Option<Time>,
}

/// Why a judgement cannot stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflict {
    /// One of the two answers as another already.
    Held,
    /// They are one through a third.
    Joined,
    /// Their families would be more than [`LARGEST_FAMILY`] together.
    Crowded,
}

/// The families that a batch needs, each whole, and what it changes in them.
#[derive(Default)]
pub(super) struct Kinship {
    /// From who is held to who stands for it. INVARIANT: a forest, for only roots are merged.
    held: BTreeMap<SubjectId, SubjectId>,
    /// Of everybody who is held, who stands for all of its family: worked out when loaded, and again after
    /// each judgement.
    roots: BTreeMap<SubjectId, SubjectId>,
    /// INVARIANT: MERGED if and only if both answer as the same.
    pairs: BTreeMap<PairKey, Pair>,
    pub(super) merged: Vec<(AgencyId, SubjectId, SubjectId, Time)>,
    /// Those that are no longer held.
    pub(super) released: Vec<(SubjectId, Time)>,
    changed: BTreeSet<PairKey>,
}

impl Pair {
    fn key(&self) -> PairKey {
        (self.into.min(self.from), self.into.max(self.from))
    }
}

impl Kinship {
    pub(super) fn new(
        held: BTreeMap<SubjectId, SubjectId>,
        pairs: impl IntoIterator<Item = Pair>,
    ) -> Self {
        Self {
            roots: roots(&held),
            held,
            pairs: pairs.into_iter().map(|pair| (pair.key(), pair)).collect(),
            ..Self::default()
        }
    }

    /// Who stands for a subject; itself if nobody does.
    pub(super) fn root(&self, subject: SubjectId) -> SubjectId {
        self.roots.get(&subject).copied().unwrap_or(subject)
    }

    /// How many a root stands for, itself too.
    fn size(&self, root: SubjectId) -> usize {
        1 + self.roots.values().filter(|of| **of == root).count()
    }

    pub(super) fn changed(&self) -> impl Iterator<Item = &Pair> {
        self.changed.iter().filter_map(|key| self.pairs.get(key))
    }

    /// Puts a pair before a person, unless their families have met before: a person has decided, or is
    /// going to.
    pub(super) fn propose(
        &mut self,
        agency: AgencyId,
        into: SubjectId,
        from: SubjectId,
        now: Time,
    ) {
        let (into, from) = (self.root(into), self.root(from));
        if into != from && self.between(into, from).is_empty() {
            self.put(Pair {
                agency,
                into,
                from,
                status: MergeStatus::Proposed,
                proposed: now,
                decided: None,
            });
        }
    }

    /// One person: from now on `into` stands for both. What waited between their families is decided by it.
    pub(super) fn merge(
        &mut self,
        agency: AgencyId,
        into: SubjectId,
        from: SubjectId,
        now: Time,
    ) -> Result<(), Conflict> {
        if self.held.contains_key(&into) || self.held.contains_key(&from) || into == from {
            return Err(Conflict::Held);
        }
        if self.size(into) + self.size(from) > LARGEST_FAMILY {
            return Err(Conflict::Crowded);
        }
        self.decide_between(into, from, MergeStatus::Merged, now);
        self.put_decided(agency, (into, from), MergeStatus::Merged, now);
        self.held.insert(from, into);
        self.roots = roots(&self.held);
        self.merged.push((agency, from, into, now));
        Ok(())
    }

    /// Two persons: undoes their merge, or settles that they are none.
    pub(super) fn split(
        &mut self,
        agency: AgencyId,
        one: SubjectId,
        other: SubjectId,
        now: Time,
    ) -> Result<(), Conflict> {
        let holds = |into, from| self.held.get(&from) == Some(&into);
        let held = match (holds(one, other), holds(other, one)) {
            (true, _) => Some(other),
            (false, true) => Some(one),
            (false, false) => None,
        };
        if let Some(held) = held {
            self.held.remove(&held);
            self.roots = roots(&self.held);
            self.released.push((held, now));
        }
        if self.root(one) == self.root(other) {
            return Err(Conflict::Joined);
        }
        self.decide_between(one, other, MergeStatus::Split, now);
        let key = (one.min(other), one.max(other));
        if !self.pairs.contains_key(&key) {
            self.put_decided(agency, (one, other), MergeStatus::Split, now);
        }
        Ok(())
    }

    /// The pairs with one in each of two families.
    fn between(&self, one: SubjectId, other: SubjectId) -> Vec<PairKey> {
        let roots = [self.root(one), self.root(other)];
        let spans = |pair: &Pair| {
            let [into, from] = [self.root(pair.into), self.root(pair.from)];
            roots == [into, from] || roots == [from, into]
        };
        let spanning = self.pairs.iter().filter(|(_, pair)| spans(pair));
        spanning.map(|(key, _)| *key).collect()
    }

    fn decide_between(&mut self, one: SubjectId, other: SubjectId, status: MergeStatus, now: Time) {
        for key in self.between(one, other) {
            if let Some(pair) = self.pairs.get_mut(&key)
                && pair.status != status
            {
                pair.status = status;
                pair.decided = Some(now);
                self.changed.insert(key);
            }
        }
    }

    fn put_decided(
        &mut self,
        agency: AgencyId,
        (into, from): (SubjectId, SubjectId),
        status: MergeStatus,
        now: Time,
    ) {
        let mut pair = Pair {
            agency,
            into,
            from,
            status,
            proposed: now,
            decided: Some(now),
        };
        if let Some(known) = self.pairs.get(&pair.key()) {
            pair.proposed = known.proposed;
        }
        self.put(pair);
    }

    fn put(&mut self, pair: Pair) {
        self.changed.insert(pair.key());
        self.pairs.insert(pair.key(), pair);
    }
}

fn roots(held: &BTreeMap<SubjectId, SubjectId>) -> BTreeMap<SubjectId, SubjectId> {
    let climb = |from: &SubjectId| {
        let mut at = *from;
        // No family is larger; not even a database that somebody bent into a ring hangs the writer.
        for _ in 0..LARGEST_FAMILY {
            let Some(into) = held.get(&at) else {
                break;
            };
            at = *into;
        }
        at
    };
    held.keys().map(|from| (*from, climb(from))).collect()
}

#[cfg(test)]
mod tests;

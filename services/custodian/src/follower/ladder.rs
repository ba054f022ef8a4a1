//! From checkpoints that wait to one chain of proofs, and back.

use std::collections::{BTreeMap, btree_map::Entry};

use amanat_ledger::{Head, LedgerError, SignedCheckpoint, parse_proof, verify_consistency};
use amanat_schema::audit::ConsistencyProof;

use crate::store::head::{Contradiction, Observe, Seen, Standing};

/// New checkpoints and the observed head, by size.
#[derive(Debug)]
pub(super) struct Ladder {
    /// The observed head; [`Head::EMPTY`] for none.
    from: Head,
    rungs: BTreeMap<u64, Rung>,
}

#[derive(Debug)]
enum Rung {
    Observed { head: Head, note: String },
    New(SignedCheckpoint),
}

impl Rung {
    fn head(&self) -> &Head {
        match self {
            Self::Observed { head, .. } => head,
            Self::New(checkpoint) => &checkpoint.head,
        }
    }

    fn note(&self) -> &str {
        match self {
            Self::Observed { note, .. } => note,
            Self::New(checkpoint) => &checkpoint.text,
        }
    }
}

impl Ladder {
    /// `None` if every checkpoint is known.
    ///
    /// # Errors
    /// The first checkpoint that has the size of another, and another root.
    pub(super) fn new(
        seen: &Seen,
        checkpoints: Vec<SignedCheckpoint>,
    ) -> Result<Option<Self>, Contradiction> {
        let mut rungs = BTreeMap::new();
        for checkpoint in checkpoints {
            match seen.standing(&checkpoint.head) {
                Standing::Known => {}
                Standing::Contradicted(observed) => {
                    return Err(two_roots(&observed.note, &checkpoint.text));
                }
                Standing::Unknown => match rungs.entry(checkpoint.head.size) {
                    Entry::Vacant(rung) => {
                        rung.insert(Rung::New(checkpoint));
                    }
                    Entry::Occupied(rung) if *rung.get().head() == checkpoint.head => {}
                    Entry::Occupied(rung) => {
                        return Err(two_roots(rung.get().note(), &checkpoint.text));
                    }
                },
            }
        }
        if rungs.is_empty() {
            return Ok(None);
        }
        let mut from = Head::EMPTY;
        if let Some(observed) = seen.head() {
            let (head, note) = (observed.head, observed.note.clone());
            from = head;
            rungs.insert(head.size, Rung::Observed { head, note });
        }
        Ok(Some(Self { from, rungs }))
    }

    /// The sizes to be proved, each larger than the one before.
    pub(super) fn sizes(&self) -> Vec<u64> {
        self.rungs.keys().copied().collect()
    }

    /// The observation, if every proof holds. `None` if there are not as many as steps: that is no proof at
    /// all, not a bad one.
    pub(super) fn climb(
        self,
        proofs: &[ConsistencyProof],
    ) -> Option<Result<Observe, Contradiction>> {
        if proofs.len() + 1 != self.rungs.len() {
            return None;
        }
        let steps = self.rungs.values().zip(self.rungs.values().skip(1));
        for ((lower, upper), proof) in steps.zip(proofs) {
            if step(lower.head(), upper.head(), proof).is_err() {
                return Some(Err(Contradiction {
                    why: "the gateway's log does not continue what it was",
                    ours: lower.note().to_owned(),
                    theirs: upper.note().to_owned(),
                }));
            }
        }
        let new = self.rungs.into_values().filter_map(|rung| match rung {
            Rung::Observed { .. } => None,
            Rung::New(checkpoint) => Some(checkpoint),
        });
        Some(Ok(Observe {
            from: self.from,
            checkpoints: new.collect(),
        }))
    }
}

fn step(old: &Head, new: &Head, proof: &ConsistencyProof) -> Result<(), LedgerError> {
    verify_consistency(old, new, &parse_proof(&proof.hashes)?)
}

fn two_roots(ours: &str, theirs: &str) -> Contradiction {
    Contradiction {
        why: "the gateway signed two trees of one size",
        ours: ours.to_owned(),
        theirs: theirs.to_owned(),
    }
}

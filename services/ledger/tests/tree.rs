//! Trees, proofs and their verification against `ct-merkle`, which shares no code with us.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use amanat_ledger::{
    Edge, Hash, Head, LedgerError, LogEntry, MAX_PROOF, MAX_SIZE, consistency_indexes,
    consistency_proof, inclusion_indexes, inclusion_proof, parse_proof, sha256, verify_consistency,
    verify_inclusion,
};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

fn entry(n: u64) -> LogEntry {
    LogEntry::new(&sha256(b"salt"), &n.to_be_bytes())
}

/// A log as a journal would hold it, and all its heads.
struct Log {
    edge: Edge,
    stored: BTreeMap<u64, Hash>,
    heads: Vec<Head>,
    oracle: MemoryBackedTree<Sha256, [u8; 34]>,
}

impl Log {
    fn empty() -> Self {
        Self {
            edge: Edge::empty(),
            stored: BTreeMap::new(),
            heads: vec![Head::EMPTY],
            oracle: MemoryBackedTree::new(),
        }
    }

    fn of(size: u64) -> Self {
        let mut log = Self::empty();
        (0..size).for_each(|_| log.grow());
        log
    }

    fn grow(&mut self) {
        let entry = entry(self.edge.size());
        self.oracle.push(*entry.as_bytes());
        self.stored.extend(self.edge.append(&entry));
        self.heads.push(self.edge.head());
    }

    fn size(&self) -> u64 {
        self.edge.size()
    }

    fn head(&self, size: u64) -> &Head {
        self.heads.get(usize::try_from(size).unwrap()).unwrap()
    }

    fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        inclusion_proof(index, size, |i| self.stored.get(&i).copied()).unwrap()
    }

    fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        consistency_proof(old, new, |i| self.stored.get(&i).copied()).unwrap()
    }

    /// Root and every proof of the tree as it stands.
    fn agrees_with_the_oracle(&self) {
        let new = self.edge.head();
        assert_eq!(
            new.root.0.as_slice(),
            self.oracle.root().as_bytes().as_slice()
        );
        for index in 0..new.size {
            let proof = self.inclusion(index, new.size);
            let theirs = self.oracle.prove_inclusion(usize::try_from(index).unwrap());
            assert_eq!(bytes(&proof), theirs.as_bytes(), "{index} in {}", new.size);
            assert_eq!(
                verify_inclusion(entry(index).leaf_hash(), index, &proof, &new),
                Ok(())
            );
        }
        for old in 1..=new.size {
            let proof = self.consistency(old, new.size);
            let theirs = self
                .oracle
                .prove_consistency(usize::try_from(new.size - old).unwrap());
            assert_eq!(bytes(&proof), theirs.as_bytes(), "{old} to {}", new.size);
            assert_eq!(verify_consistency(self.head(old), &new, &proof), Ok(()));
        }
    }
}

fn bytes(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

/// Every proof near this one: a hash flipped, left out, doubled or added.
fn spoilt(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut others = vec![[proof, &[Hash::default()]].concat()];
    for (at, hash) in proof.iter().enumerate() {
        let (before, after) = (
            proof.iter().take(at).copied(),
            proof.iter().skip(at + 1).copied(),
        );
        let mut flipped = *hash;
        flipped.0.reverse();
        for middle in [vec![], vec![flipped], vec![*hash, *hash]] {
            others.push(before.clone().chain(middle).chain(after.clone()).collect());
        }
    }
    others
}

#[test]
fn every_proof_of_every_tree_up_to_300_entries_is_the_oracles_and_verifies() {
    let mut log = Log::empty();
    while log.size() < 300 {
        log.grow();
        log.agrees_with_the_oracle();
    }
}

#[test]
fn so_is_every_proof_of_the_trees_around_a_power_of_two() {
    let mut log = Log::of(300);
    for power in [512, 1024, 2048, 4096] {
        while log.size() < power + 1 {
            log.grow();
            if log.size() >= power - 1 {
                log.agrees_with_the_oracle();
            }
        }
    }
}

#[test]
fn a_proof_of_an_entry_just_appended_needs_the_old_edge_and_the_new_nodes_only() {
    for before in 0..70 {
        let log = Log::of(before);
        for added in [1, 2, 3, 7, 64, 65] {
            let mut edge = log.edge.clone();
            let mut known: BTreeMap<u64, Hash> = Edge::indexes(before)
                .into_iter()
                .map(|i| (i, *log.stored.get(&i).unwrap()))
                .collect();
            for n in before..before + added {
                known.extend(edge.append(&entry(n)));
            }
            for index in before..edge.size() {
                let proof =
                    inclusion_proof(index, edge.size(), |i| known.get(&i).copied()).unwrap();
                let leaf = entry(index).leaf_hash();
                assert_eq!(verify_inclusion(leaf, index, &proof, &edge.head()), Ok(()));
            }
            let proof = consistency_proof(before, edge.size(), |i| known.get(&i).copied()).unwrap();
            assert_eq!(
                verify_consistency(&log.edge.head(), &edge.head(), &proof),
                Ok(())
            );
        }
    }
}

#[test]
fn the_hashes_a_proof_asks_for_are_those_announced() {
    let log = Log::of(70);
    for new in 1..=70 {
        for n in 0..new {
            let announced = inclusion_indexes(n, new).unwrap();
            inclusion_proof(n, new, |i| announced.contains(&i).then(|| log.stored[&i])).unwrap();
            let announced = consistency_indexes(n, new).unwrap();
            consistency_proof(n, new, |i| announced.contains(&i).then(|| log.stored[&i])).unwrap();
        }
    }
}

#[test]
fn a_missing_node_is_named() {
    let refused = inclusion_proof(0, 2, |_| None).unwrap_err();
    assert_eq!(refused, LedgerError::NodeMissing { index: 1 });
    let refused = consistency_proof(1, 2, |_| None).unwrap_err();
    assert_eq!(refused, LedgerError::NodeMissing { index: 1 });
}

#[test]
fn no_other_entry_index_size_root_or_proof_is_included() {
    let log = Log::of(40);
    for size in 1..=40 {
        for index in 0..size {
            let (head, proof) = (*log.head(size), log.inclusion(index, size));
            let leaf = entry(index).leaf_hash();
            let refused = |leaf, index, proof: &[Hash], head: &Head| {
                assert_eq!(
                    verify_inclusion(leaf, index, proof, head),
                    Err(LedgerError::NotIncluded)
                );
            };
            refused(entry(index + 1).leaf_hash(), index, &proof, &head);
            for other in (0..size + 2).filter(|other| *other != index) {
                refused(leaf, other, &proof, &head);
            }
            refused(
                leaf,
                index,
                &proof,
                &Head {
                    root: Hash::default(),
                    ..head
                },
            );
            spoilt(&proof)
                .iter()
                .for_each(|other| refused(leaf, index, other, &head));
        }
    }
}

#[test]
fn no_other_root_or_proof_is_consistent_and_a_log_never_shrinks() {
    let log = Log::of(40);
    for new in 1..=40 {
        for old in 1..=new {
            let proof = log.consistency(old, new);
            let (old, new) = (*log.head(old), *log.head(new));
            let refused = |old: &Head, new: &Head, proof: &[Hash]| {
                assert_eq!(
                    verify_consistency(old, new, proof),
                    Err(LedgerError::NotConsistent)
                );
            };
            refused(
                &Head {
                    root: Hash::default(),
                    ..old
                },
                &new,
                &proof,
            );
            refused(
                &old,
                &Head {
                    root: Hash::default(),
                    ..new
                },
                &proof,
            );
            spoilt(&proof)
                .iter()
                .for_each(|other| refused(&old, &new, other));
            if old.size < new.size {
                refused(&new, &old, &proof);
            }
        }
    }
}

#[test]
fn every_log_extends_the_empty_one_and_no_other_tree_without_entries() {
    let log = Log::of(5);
    let other = Head {
        size: 0,
        root: Hash::default(),
    };
    for head in &log.heads {
        assert_eq!(verify_consistency(&Head::EMPTY, head, &[]), Ok(()));
        assert!(verify_consistency(&Head::EMPTY, head, &[head.root]).is_err());
        assert!(verify_consistency(&other, head, &[]).is_err());
        assert_eq!(consistency_proof(0, head.size, |_| None), Ok(vec![]));
    }
    assert!(verify_consistency(&Head::EMPTY, &other, &[]).is_err());
}

#[test]
fn what_lies_outside_a_tree_has_no_proof() {
    for (index, size) in [
        (0, 0),
        (5, 5),
        (6, 5),
        (0, MAX_SIZE + 1),
        (u64::MAX, u64::MAX),
    ] {
        assert_eq!(inclusion_indexes(index, size), Err(LedgerError::NoSuchTree));
        assert_eq!(
            inclusion_proof(index, size, |_| None),
            Err(LedgerError::NoSuchTree)
        );
    }
    for (old, new) in [(1, 0), (6, 5), (1, MAX_SIZE + 1), (0, u64::MAX)] {
        assert_eq!(consistency_indexes(old, new), Err(LedgerError::NoSuchTree));
        assert_eq!(
            consistency_proof(old, new, |_| None),
            Err(LedgerError::NoSuchTree)
        );
    }
}

#[test]
fn the_longest_proofs_fit() {
    for size in [MAX_SIZE, MAX_SIZE - 1] {
        for n in [1, size / 2, size / 2 + 1, size - 1] {
            let hash = |_| Some(Hash::default());
            assert!(inclusion_proof(n, size, hash).unwrap().len() <= MAX_PROOF);
            assert!(consistency_proof(n, size, hash).unwrap().len() <= MAX_PROOF);
        }
    }
}

#[test]
fn a_proof_of_65_hashes_or_another_length_is_refused() {
    let hash = vec![7; 32];
    assert_eq!(
        parse_proof(&vec![hash.clone(); 64]).unwrap(),
        [Hash([7; 32]); 64]
    );
    for bad in [
        vec![hash; 65],
        vec![vec![7; 31]],
        vec![vec![7; 33]],
        vec![vec![]],
    ] {
        assert_eq!(parse_proof(&bad), Err(LedgerError::ProofMalformed));
    }
    let head = Head {
        size: MAX_SIZE,
        root: Hash::default(),
    };
    let proof = [Hash::default(); 65];
    assert!(verify_inclusion(Hash::default(), 0, &proof, &head).is_err());
    assert!(verify_consistency(&Head { size: 1, ..head }, &head, &proof).is_err());
}

fn anything() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..70_u64,
        (0..64_u32, 0..3_u64).prop_map(|(k, d)| (1_u64 << k).wrapping_add(d).wrapping_sub(1)),
        any::<u64>()
    ]
}

proptest! {
    #[test]
    fn no_numbers_or_hashes_make_a_verifier_panic_or_agree(
        sizes in (anything(), anything()),
        index in anything(),
        proof in prop::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..70),
        roots in any::<([u8; 32], [u8; 32])>(),
    ) {
        let old = Head { size: sizes.0, root: Hash(roots.0) };
        let new = Head { size: sizes.1, root: Hash(roots.1) };
        prop_assert!(verify_inclusion(Hash([1; 32]), index, &proof, &new).is_err());
        prop_assert!(verify_consistency(&old, &new, &proof).is_err());
    }
}

use std::ops::Range;

use tlog_tiles::{check_record, check_tree, sub_tree_index};

use crate::{Hash, Head, LedgerError, MAX_SIZE, tree::join};

/// The most hashes that a proof in a tree of at most [`MAX_SIZE`] entries can need, rounded up.
pub const MAX_PROOF: usize = 64;

/// The numbers of the stored hashes that [`inclusion_proof`] will ask for.
///
/// # Errors
/// [`LedgerError::NoSuchTree`] unless `index < size` ≤ [`MAX_SIZE`].
pub fn inclusion_indexes(index: u64, size: u64) -> Result<Vec<u64>, LedgerError> {
    Ok(audit_path(index, size)?
        .into_iter()
        .flat_map(nodes)
        .collect())
}

/// Proves that entry `index` is in the tree of `size` entries: an RFC 6962 audit path, leaf upwards.
/// For an entry of a batch just appended, the edge before the batch and the nodes that it added hold
/// every hash that is asked for.
///
/// # Errors
/// [`LedgerError::NoSuchTree`] unless `index < size` ≤ [`MAX_SIZE`]; [`LedgerError::NodeMissing`] if
/// `stored` lacks a hash.
pub fn inclusion_proof(
    index: u64,
    size: u64,
    stored: impl Fn(u64) -> Option<Hash>,
) -> Result<Vec<Hash>, LedgerError> {
    audit_path(index, size)?
        .into_iter()
        .map(|range| root(range, &stored))
        .collect()
}

/// The numbers of the stored hashes that [`consistency_proof`] will ask for.
///
/// # Errors
/// [`LedgerError::NoSuchTree`] unless `old` ≤ `new` ≤ [`MAX_SIZE`].
pub fn consistency_indexes(old: u64, new: u64) -> Result<Vec<u64>, LedgerError> {
    Ok(common_ground(old, new)?
        .into_iter()
        .flat_map(nodes)
        .collect())
}

/// Proves that the tree of `new` entries extends that of `old`, as in RFC 6962. Empty from 0.
///
/// # Errors
/// [`LedgerError::NoSuchTree`] unless `old` ≤ `new` ≤ [`MAX_SIZE`]; [`LedgerError::NodeMissing`] if
/// `stored` lacks a hash.
pub fn consistency_proof(
    old: u64,
    new: u64,
    stored: impl Fn(u64) -> Option<Hash>,
) -> Result<Vec<Hash>, LedgerError> {
    common_ground(old, new)?
        .into_iter()
        .map(|range| root(range, &stored))
        .collect()
}

/// A proof from the wire.
///
/// # Errors
/// [`LedgerError::ProofMalformed`] over [`MAX_PROOF`] hashes or if one has not 32 bytes.
pub fn parse_proof(hashes: &[Vec<u8>]) -> Result<Vec<Hash>, LedgerError> {
    if hashes.len() > MAX_PROOF {
        return Err(LedgerError::ProofMalformed);
    }
    let parse = |hash: &Vec<u8>| hash.as_slice().try_into().map(Hash);
    hashes
        .iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .map_err(|_| LedgerError::ProofMalformed)
}

/// Verifies that the tree holds, under `index`, the entry with this leaf hash.
///
/// # Errors
/// [`LedgerError::NotIncluded`] if the proof does not show it.
pub fn verify_inclusion(
    leaf: Hash,
    index: u64,
    proof: &[Hash],
    head: &Head,
) -> Result<(), LedgerError> {
    if head.size > MAX_SIZE || proof.len() > MAX_PROOF {
        return Err(LedgerError::NotIncluded);
    }
    check_record(&proof.to_vec(), head.size, head.root, index, leaf)
        .map_err(|_| LedgerError::NotIncluded)
}

/// Verifies that the first entries of the newer tree are those of the older. The empty tree is the
/// beginning of every other, with an empty proof.
///
/// # Errors
/// [`LedgerError::NotConsistent`] if the proof does not show it: also if the newer tree is the smaller one,
/// or both have one size and two roots.
pub fn verify_consistency(old: &Head, new: &Head, proof: &[Hash]) -> Result<(), LedgerError> {
    if new.size > MAX_SIZE || proof.len() > MAX_PROOF {
        return Err(LedgerError::NotConsistent);
    }
    if *old == Head::EMPTY && proof.is_empty() && (new.size > 0 || new == old) {
        return Ok(());
    }
    check_tree(&proof.to_vec(), new.size, new.root, old.size, old.root)
        .map_err(|_| LedgerError::NotConsistent)
}

// A proof is a list of subtrees, each named by its range of leaves. `tlog_tiles` computes these lists too,
// but keeps them to itself, and a store wants to know every node before it is asked for the first.

/// The siblings of the way from a leaf to the root.
fn audit_path(index: u64, size: u64) -> Result<Vec<Range<u64>>, LedgerError> {
    if index >= size || size > MAX_SIZE {
        return Err(LedgerError::NoSuchTree);
    }
    let mut path = Vec::new();
    let mut at = 0..size;
    while at.end - at.start > 1 {
        let (left, right) = split(&at);
        if index < left.end {
            path.push(right);
            at = left;
        } else {
            path.push(left);
            at = right;
        }
    }
    path.reverse();
    Ok(path)
}

/// The subtrees from which both the old and the new root can be computed.
fn common_ground(old: u64, new: u64) -> Result<Vec<Range<u64>>, LedgerError> {
    if old > new || new > MAX_SIZE {
        return Err(LedgerError::NoSuchTree);
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let mut path = Vec::new();
    let mut at = 0..new;
    while at.end != old {
        let (left, right) = split(&at);
        if old <= left.end {
            path.push(right);
            at = left;
        } else {
            path.push(left);
            at = right;
        }
    }
    // From 0 it is the whole old tree, whose root the verifier has.
    if at.start > 0 {
        path.push(at);
    }
    path.reverse();
    Ok(path)
}

/// The left child takes the largest power of two that leaves something to the right. Of two leaves or more.
fn split(range: &Range<u64>) -> (Range<u64>, Range<u64>) {
    let middle = range.start + (1 << (range.end - range.start - 1).ilog2());
    (range.start..middle, middle..range.end)
}

/// The stored hashes that make up a subtree.
fn nodes(range: Range<u64>) -> Vec<u64> {
    sub_tree_index(range.start, range.end, Vec::new())
}

fn root(range: Range<u64>, stored: &impl Fn(u64) -> Option<Hash>) -> Result<Hash, LedgerError> {
    let hashes = nodes(range)
        .into_iter()
        .map(|index| stored(index).ok_or(LedgerError::NodeMissing { index }))
        .collect::<Result<Vec<_>, _>>()?;
    // No range of a path is empty.
    join(&hashes).ok_or(LedgerError::NoSuchTree)
}

use tlog_tiles::{EMPTY_HASH, node_hash, stored_hash_index, sub_tree_index};

use crate::{Hash, LedgerError, LogEntry};

/// The largest tree that is dealt with: all arithmetic on node numbers stays inside a u64.
pub const MAX_SIZE: u64 = 1 << 62;

/// A tree, named by the number of its entries and its root.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    pub size: u64,
    pub root: Hash,
}

impl Head {
    /// Of the tree without entries.
    pub const EMPTY: Self = Self {
        size: 0,
        root: EMPTY_HASH,
    };
}

/// The right edge of a tree: the roots of its largest full subtrees, left to right, one for each bit set
/// in its size. That is all it takes to append. Cheap to clone, so that a batch can grow a copy and the
/// copy be dropped if the batch fails.
#[derive(Debug, Clone)]
pub struct Edge {
    size: u64,
    // INVARIANT: as many as `size` has bits set.
    roots: Vec<Hash>,
}

impl Edge {
    pub const fn empty() -> Self {
        Self {
            size: 0,
            roots: Vec::new(),
        }
    }

    /// The numbers of the stored hashes that are the edge of a tree, left to right. Empty over [`MAX_SIZE`],
    /// which [`Edge::restore`] refuses.
    pub fn indexes(size: u64) -> Vec<u64> {
        if size > MAX_SIZE {
            Vec::new()
        } else {
            sub_tree_index(0, size, Vec::new())
        }
    }

    /// From the stored hashes of [`Edge::indexes`], in that order. They are taken on trust: compare the
    /// head with a signed one.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchTree`] over [`MAX_SIZE`], [`LedgerError::Edge`] if hashes are missing or left
    /// over.
    pub fn restore(size: u64, hashes: Vec<Hash>) -> Result<Self, LedgerError> {
        if size > MAX_SIZE {
            return Err(LedgerError::NoSuchTree);
        }
        if u32::try_from(hashes.len()) != Ok(size.count_ones()) {
            return Err(LedgerError::Edge { size });
        }
        Ok(Self {
            size,
            roots: hashes,
        })
    }

    /// Appends an entry under the index `size()`, and returns the nodes to store, each with its number.
    pub fn append(&mut self, entry: &LogEntry) -> Vec<(u64, Hash)> {
        let mut index = stored_hash_index(0, self.size);
        let mut node = entry.leaf_hash();
        let mut nodes = vec![(index, node)];
        // As in adding one to a binary number: each trailing bit set is a full subtree as large as the new
        // one, and the two become one. The parent's number follows its right child's.
        let mut carry = self.size;
        while carry & 1 == 1
            && let Some(left) = self.roots.pop()
        {
            node = node_hash(left, node);
            index += 1;
            nodes.push((index, node));
            carry >>= 1;
        }
        self.roots.push(node);
        self.size += 1;
        nodes
    }

    /// The stored hashes that make up the edge, each with its number: with the nodes of a batch, all that a
    /// proof of an entry of that batch needs.
    pub fn nodes(&self) -> impl Iterator<Item = (u64, Hash)> {
        Self::indexes(self.size)
            .into_iter()
            .zip(self.roots.iter().copied())
    }

    /// The number of entries, and the index of the next.
    pub const fn size(&self) -> u64 {
        self.size
    }

    pub fn root(&self) -> Hash {
        join(&self.roots).unwrap_or(EMPTY_HASH)
    }

    pub fn head(&self) -> Head {
        Head {
            size: self.size,
            root: self.root(),
        }
    }
}

/// The root over the roots of full subtrees, left to right; `None` of none.
pub(crate) fn join(roots: &[Hash]) -> Option<Hash> {
    roots
        .iter()
        .rev()
        .copied()
        .reduce(|right, left| node_hash(left, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> LogEntry {
        LogEntry::new(&[0; 32], &n.to_be_bytes())
    }

    #[test]
    fn an_edge_restored_from_stored_hashes_grows_as_if_it_had_never_left() {
        let mut edge = Edge::empty();
        let mut stored = Vec::new();
        for n in 0..200 {
            let hashes = Edge::indexes(n)
                .iter()
                .map(|&i| stored[usize::try_from(i).unwrap()])
                .collect();
            let mut restored = Edge::restore(n, hashes).unwrap();
            assert_eq!(restored.head(), edge.head());
            let nodes = edge.append(&entry(n));
            assert_eq!(restored.append(&entry(n)), nodes);
            for (index, hash) in nodes {
                assert_eq!(
                    usize::try_from(index),
                    Ok(stored.len()),
                    "nodes are numbered without a gap"
                );
                stored.push(hash);
            }
        }
    }

    #[test]
    fn an_edge_with_hashes_missing_or_left_over_is_refused() {
        let hashes = vec![Hash::default(); 2];
        assert!(Edge::restore(5, hashes.clone()).is_ok());
        for size in [0, 4, 7] {
            let refused = Edge::restore(size, hashes.clone()).unwrap_err();
            assert_eq!(refused, LedgerError::Edge { size });
        }
    }

    #[test]
    fn a_size_beyond_all_logs_is_refused_without_a_panic() {
        assert_eq!(Edge::indexes(MAX_SIZE).len(), 1);
        for size in [MAX_SIZE + 1, u64::MAX] {
            assert!(Edge::indexes(size).is_empty());
            assert_eq!(
                Edge::restore(size, Vec::new()).unwrap_err(),
                LedgerError::NoSuchTree
            );
        }
    }

    #[test]
    fn the_empty_edge_has_the_empty_head() {
        assert_eq!(Edge::empty().head(), Head::EMPTY);
    }
}

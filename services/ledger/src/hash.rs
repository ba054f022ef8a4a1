use aws_lc_rs::digest::{Context, SHA256};
/// A node of the tree, or its root: 32 bytes, shown as base64.
pub use tlog_tiles::Hash;

/// SHA-256 of the bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256_of(&[bytes])
}

/// SHA-256 of the parts one after the other. Whoever calls it sees to it that they have one boundary only.
pub(crate) fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::default();
    for part in parts {
        hash.update(part);
    }
    hash.finish()
}

/// SHA-256 of what comes in pieces.
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Sha256 {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> [u8; 32] {
        let mut hash = [0; 32];
        // SHA-256 has 32 bytes.
        hash.copy_from_slice(self.0.finish().as_ref());
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nothing_is_that_of_the_empty_tree() {
        assert_eq!(Hash(sha256(b"")), tlog_tiles::EMPTY_HASH);
        assert_eq!(sha256_of(&[b"ab", b"", b"c"]), sha256(b"abc"));
    }
}

use tlog_tiles::record_hash;

use crate::{Hash, LedgerError, Salt, hash::sha256_of, sha256};

const FORMAT: [u8; 2] = 1_u16.to_be_bytes();
const DOMAIN: &[u8] = b"amanat/leaf/v1";

/// What the log itself holds of an entry: u16 format ‖ SHA-256(domain ‖ salt ‖ body). It is public and
/// shows nothing; a body can be shredded without harm to any proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry([u8; 34]);

impl LogEntry {
    pub fn new(salt: &Salt, body: &[u8]) -> Self {
        let mut bytes = [0; 34];
        let (format, hash) = bytes.split_at_mut(FORMAT.len());
        format.copy_from_slice(&FORMAT);
        // The salt has a fixed length, so the three parts have one reading.
        hash.copy_from_slice(&sha256_of(&[DOMAIN, salt, body]));
        Self(bytes)
    }

    /// From a bundle or a store.
    ///
    /// # Errors
    /// [`LedgerError::Entry`] unless there are 34 bytes of a known format.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let bytes: [u8; 34] = bytes.try_into().map_err(|_| LedgerError::Entry)?;
        bytes
            .starts_with(&FORMAT)
            .then_some(Self(bytes))
            .ok_or(LedgerError::Entry)
    }

    pub const fn as_bytes(&self) -> &[u8; 34] {
        &self.0
    }

    /// The leaf of the tree, as RFC 6962 hashes it.
    pub fn leaf_hash(&self) -> Hash {
        record_hash(&self.0)
    }

    /// How another log's entry names this one.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_depends_on_salt_and_body() {
        let entry = LogEntry::new(&[1; 32], b"body");
        assert_eq!(LogEntry::parse(entry.as_bytes()), Ok(entry));
        assert_ne!(LogEntry::new(&[2; 32], b"body"), entry);
        assert_ne!(LogEntry::new(&[1; 32], b"bodz"), entry);
    }

    #[test]
    fn another_length_or_format_is_refused() {
        let entry = LogEntry::new(&[1; 32], b"body").0;
        let mut other = entry;
        other[1] = 2;
        for bytes in [
            &[][..],
            &entry[..33],
            &[entry.as_slice(), &[0]].concat(),
            &other,
        ] {
            assert_eq!(LogEntry::parse(bytes), Err(LedgerError::Entry));
        }
    }
}

//! The form of a backup file:
//!
//! ```text
//! amanat-backup/v1 ↵
//! header    in clear: whose, when, which steps and tables, the log's signed checkpoint
//! key       the data key, wrapped under the backup key
//! part …    0 or, for the last one, 1; then rows of one table, sealed under the data key
//! trailer   the signed note of the log's key over the SHA-256 of all before it
//! ```
//!
//! All but the first line and the marks stand behind their length, a big-endian `u32`. Key and parts are sealed with
//! what the header says, the parts also with their number and mark: none fits anywhere else.

use amanat_seal::{SealError, WrapKey};

/// The first line; another format has another number.
pub(super) const MAGIC: &str = "amanat-backup/v1";
pub(super) const FAMILY: &str = "amanat-backup/";
/// Longer is no backup: a row of a service is half a MiB at most.
pub(super) const LARGEST: u32 = 64 << 20;

pub(super) const MORE: u8 = 0;
pub(super) const LAST: u8 = 1;

const KEY: &str = "amanat/backup-key/v1";
const PART: &str = "amanat/backup-part/v1";

/// What seals and opens the parts of one file.
pub(super) struct Seal {
    data_key: WrapKey,
    header_sha256: [u8; 32],
}

impl Seal {
    /// For a new file, with the wrapped data key.
    pub(super) fn new(header: &[u8], key: &WrapKey) -> Result<(Self, Vec<u8>), SealError> {
        let header_sha256 = amanat_seal::sha256(header);
        let data_key = WrapKey::generate()?;
        let wrapped = key.wrap(KEY, &[&header_sha256], data_key.expose())?;
        let seal = Self {
            data_key,
            header_sha256,
        };
        Ok((seal, wrapped))
    }

    pub(super) fn open(header: &[u8], wrapped: &[u8], key: &WrapKey) -> Result<Self, SealError> {
        let header_sha256 = amanat_seal::sha256(header);
        let data_key = key.unwrap(KEY, &[&header_sha256], wrapped)?;
        Ok(Self {
            data_key: WrapKey::from_bytes(&data_key)?,
            header_sha256,
        })
    }

    pub(super) fn seal(&self, number: u64, mark: u8, rows: &[u8]) -> Result<Vec<u8>, SealError> {
        let number = number.to_be_bytes();
        self.data_key
            .wrap(PART, &[&self.header_sha256, &number, &[mark]], rows)
    }

    pub(super) fn unseal(
        &self,
        number: u64,
        mark: u8,
        sealed: &[u8],
    ) -> Result<impl AsRef<[u8]> + use<>, SealError> {
        let number = number.to_be_bytes();
        self.data_key
            .unwrap(PART, &[&self.header_sha256, &number, &[mark]], sealed)
    }
}

//! The key of one sealing of one record version, and the field keys under it.

use amanat_schema::{AgencyId, CaseId, RecordId, catalogue::FieldId};
use aws_lc_rs::constant_time;

use crate::{SUITE, SealError, input::Input, secret::Secret};

/// The one record version that a key, a ciphertext or a commitment is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    pub case: CaseId,
    pub record: RecordId,
    /// From 1.
    pub version: u32,
    /// The agency that seals and signs.
    pub source: AgencyId,
}

/// Opens every field of one record version. The custodian alone keeps it; sources forget it once the
/// deposit is acknowledged. Wiped on drop.
pub struct RecordKey(Secret);

impl RecordKey {
    /// For one sealing; see [`seal_record`](crate::seal_record).
    ///
    /// # Errors
    /// [`SealError::Provider`] if the system gives no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        Secret::generate().map(Self)
    }

    /// From a deposit, or from where it was wrapped.
    ///
    /// # Errors
    /// [`SealError::KeyLength`] unless there are 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        Secret::parse(bytes).map(Self)
    }

    /// For a deposit, and for wrapping at rest.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// What the header says of this key: it fits no other key, and tells nothing about this one.
    pub fn commitment(&self, binding: &Binding) -> [u8; 32] {
        let info = Input::new("amanat/commit/v1")
            .fixed(binding.record.as_bytes())
            .number(binding.version);
        *self.0.derive(&info).expose()
    }

    /// Whether the header's commitment is to this key. In constant time.
    pub fn fits(&self, binding: &Binding, commitment: &[u8; 32]) -> bool {
        equal(&self.commitment(binding), commitment)
    }

    pub fn field_key(&self, binding: &Binding, field: FieldId) -> FieldKey {
        let info = Input::new("amanat/field/v1")
            .fixed(binding.case.as_bytes())
            .fixed(binding.record.as_bytes())
            .number(binding.version)
            .path(field)
            .number(SUITE);
        FieldKey(self.0.derive(&info))
    }
}

/// Opens one field of one record version, and has sealed nothing else. Wiped on drop.
pub struct FieldKey(pub(crate) Secret);

impl FieldKey {
    /// From the custodian's release.
    ///
    /// # Errors
    /// [`SealError::KeyLength`] unless there are 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        Secret::parse(bytes).map(Self)
    }

    /// For the custodian's release.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// What the header says of this key. AES-GCM alone does not commit to one: a ciphertext can be made
    /// that opens under two keys to two values.
    pub fn commitment(&self) -> [u8; 32] {
        *self
            .0
            .derive(&Input::new("amanat/field-commit/v1"))
            .expose()
    }

    /// Whether the header's commitment is to this key. In constant time.
    pub fn fits(&self, commitment: &[u8; 32]) -> bool {
        equal(&self.commitment(), commitment)
    }
}

fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

//! Ciphertext at rest. The only way out is against a release that covers it.

use amanat_policy::Release;
use amanat_schema::{catalogue::FieldId, record::SealedFields};
use prost::Message as _;

/// The encoded slots of one record version.
#[derive(Clone)]
pub(crate) struct Sealed(Vec<u8>);

impl Sealed {
    pub(crate) fn new(fields: &SealedFields) -> Self {
        Self(fields.encode_to_vec())
    }

    /// From its row.
    pub(crate) fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// For its row.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The slots that the release covers.
    ///
    /// # Errors
    /// If the stored bytes are damaged.
    pub(crate) fn open_to(&self, release: &Release) -> Result<SealedFields, prost::DecodeError> {
        let mut fields = SealedFields::decode(self.0.as_slice())?;
        fields
            .slots
            .retain(|slot| FieldId::parse(slot.field).is_some_and(|field| release.covers(field)));
        Ok(fields)
    }
}

//! Ciphertext at rest. The only way out is against a release that covers it.

use amanat_policy::Release;
use amanat_schema::{
    catalogue::FieldId,
    record::{SealedFields, SealedSlot},
};
use prost::{Message as _, bytes::Bytes};

/// The encoded slots of one record version, as they are stored.
#[derive(Clone)]
pub(crate) struct Sealed(Vec<u8>);

/// The same taken apart, to be handed out slot by slot.
pub(super) struct Slots(Vec<(FieldId, SealedSlot)>);

impl Sealed {
    pub(crate) fn new(fields: &SealedFields) -> Self {
        Self(fields.encode_to_vec())
    }

    /// For its row.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Slots {
    /// From its row.
    ///
    /// # Errors
    /// If the stored bytes are damaged.
    pub(super) fn stored(bytes: Vec<u8>) -> Result<Self, prost::DecodeError> {
        // Decoded from shared bytes, the slots are views of them.
        let fields = SealedFields::decode(Bytes::from(bytes))?;
        let slots = fields.slots.into_iter();
        Ok(Self(
            slots
                .filter_map(|slot| Some((FieldId::parse(slot.field)?, slot)))
                .collect(),
        ))
    }

    /// What they take in memory.
    pub(super) fn bytes(&self) -> usize {
        let ciphertexts = self.0.iter().map(|(_, slot)| slot.ciphertext.len());
        size_of_val(self.0.as_slice()) + ciphertexts.sum::<usize>()
    }

    /// The slots that the release covers.
    pub(super) fn open_to(&self, release: &Release) -> SealedFields {
        let covered = self.0.iter().filter(|(field, _)| release.covers(*field));
        SealedFields {
            slots: covered.map(|(_, slot)| slot.clone()).collect(),
        }
    }
}

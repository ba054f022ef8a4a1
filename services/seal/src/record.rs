//! All leaves of one record version at once, in the catalogue's order.

use std::collections::BTreeMap;

use amanat_schema::{
    audit::Opening,
    catalogue::{self, FieldId},
    record::{RoutingValue, SealedFields, SealedSlot},
    statement::{RoutingField, SealedField},
};

use crate::{Binding, RecordKey, SealError, field::Slot, input::Input, random, sha256};

/// What one sealing makes. The header takes the commitments, the custodian the key, the gateway the
/// slots.
pub struct SealedRecord {
    pub key: RecordKey,
    pub key_commitment: [u8; 32],
    pub fields: Vec<SealedField>,
    pub slots: SealedFields,
}

/// Seals every leaf that is not ROUTING, absent ones too, so that the slots do not tell which are there.
/// The key is drawn here and used for this sealing only: to seal again is to deposit again.
///
/// # Errors
/// [`SealError::TooLong`] names the field; [`SealError::Provider`].
pub fn seal_record(
    binding: &Binding,
    values: &BTreeMap<FieldId, Vec<u8>>,
) -> Result<SealedRecord, SealError> {
    let key = RecordKey::generate()?;
    let key_commitment = key.commitment(binding);
    let (mut fields, mut slots) = (Vec::new(), Vec::new());
    for leaf in catalogue::sealed() {
        let field = leaf.id.number();
        let field_key = key.field_key(binding, leaf.id);
        let field_commitment = field_key.commitment();
        let slot = Slot {
            binding,
            field: leaf.id,
            key_commitment: &key_commitment,
        };
        let ciphertext = slot.seal(field_key, value(values, leaf.id))?;
        fields.push(SealedField {
            field,
            key_commitment: field_commitment.to_vec(),
            ciphertext_sha256: sha256(&ciphertext).to_vec(),
        });
        slots.push(SealedSlot {
            field,
            ciphertext: ciphertext.into(),
        });
    }
    Ok(SealedRecord {
        key,
        key_commitment,
        fields,
        slots: SealedFields { slots },
    })
}

/// Commits to every ROUTING leaf, absent ones too: the header's `routing`, and the salts and values that
/// open it, for the gateway.
///
/// # Errors
/// [`SealError::TooLong`] names the field; [`SealError::Provider`].
pub fn commit_routing(
    binding: &Binding,
    values: &BTreeMap<FieldId, Vec<u8>>,
) -> Result<(Vec<RoutingField>, Vec<RoutingValue>), SealError> {
    catalogue::routing()
        .map(|leaf| {
            let field = leaf.id.number();
            let (salt, value) = (random::<32>()?, value(values, leaf.id));
            let commitment = routing_commitment(binding, leaf.id, &salt, value)
                .ok_or(SealError::TooLong { path: leaf.path })?;
            let opening = Opening {
                salt: salt.to_vec(),
                value: value.to_vec(),
            };
            Ok((
                RoutingField {
                    field,
                    commitment: commitment.to_vec(),
                },
                RoutingValue {
                    field,
                    opening: Some(opening),
                },
            ))
        })
        .collect()
}

/// `None` if the value is too long to have been committed to.
pub(crate) fn routing_commitment(
    binding: &Binding,
    field: FieldId,
    salt: &[u8; 32],
    value: &[u8],
) -> Option<[u8; 32]> {
    let input = Input::new("amanat/routing/v1")
        .fixed(salt)
        .fixed(binding.record.as_bytes())
        .number(binding.version)
        .path(field)
        .part(value)?;
    Some(sha256(input.as_ref()))
}

fn value(values: &BTreeMap<FieldId, Vec<u8>>, field: FieldId) -> &[u8] {
    values.get(&field).map_or(&[], Vec::as_slice)
}

//! One sealed slot: padding to a bucket, sealing, opening.

use amanat_schema::catalogue::{FieldId, SCHEMA_VERSION, SizeClass};
use zeroize::Zeroizing;

use crate::{Binding, FieldKey, SealError, input::Input, secret::Secret};

/// AES-256-GCM, HKDF-SHA-256. Any other suite is refused.
pub const SUITE: u32 = 1;

/// Of one sealed field, in bytes.
pub const MAX_VALUE_LEN: usize = 64 * 1024;

const LENGTH_LEN: usize = 4;

/// Where a ciphertext belongs; it opens nowhere else.
pub(crate) struct Slot<'a> {
    pub(crate) binding: &'a Binding,
    pub(crate) field: FieldId,
    /// Of the record.
    pub(crate) key_commitment: &'a [u8; 32],
}

impl Slot<'_> {
    /// Takes the key: it seals once. An absent value is an empty one.
    pub(crate) fn seal(&self, key: FieldKey, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let leaf = self.field.field();
        let padded = pad(leaf.size, value).ok_or(SealError::TooLong { path: leaf.path })?;
        key.0.seal(&self.bound_to(), padded)
    }

    /// The caller has checked that the key fits its commitment.
    pub(crate) fn open(
        &self,
        key: &FieldKey,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let leaf = self.field.field();
        let path = leaf.path;
        let padded = key
            .0
            .open(&self.bound_to(), ciphertext)
            .ok_or(SealError::Open { path })?;
        strip(leaf.size, &padded).ok_or(SealError::Padding { path })
    }

    fn bound_to(&self) -> Input {
        Input::new("amanat/seal/v1")
            .number(SUITE)
            .fixed(self.binding.record.as_bytes())
            .fixed(self.binding.case.as_bytes())
            .path(self.field)
            .number(self.binding.version)
            .fixed(self.binding.source.as_bytes())
            .number(SCHEMA_VERSION)
            .fixed(self.key_commitment)
    }
}

/// Length, value, zeros. `None` if the value is too long.
fn pad(size: SizeClass, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if value.len() > MAX_VALUE_LEN {
        return None;
    }
    let length = u32::try_from(value.len()).ok()?;
    // Allocated at its full size: growing would leave a copy of the value behind.
    let mut padded = Zeroizing::new(Vec::with_capacity(bucket(size, value.len())));
    padded.extend(length.to_be_bytes());
    padded.extend(value);
    padded.resize(bucket(size, value.len()), 0);
    Some(padded)
}

/// The inverse of [`pad`]. One value has one padded form, so a slot's size and zeros carry no message.
fn strip(size: SizeClass, padded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (length, rest) = padded.split_first_chunk::<LENGTH_LEN>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, zeros) = rest.split_at_checked(length)?;
    let canonical = length <= MAX_VALUE_LEN
        && padded.len() == bucket(size, length)
        && zeros.iter().all(|byte| *byte == 0);
    canonical.then(|| Zeroizing::new(value.to_vec()))
}

/// The padded size of a value: its class's first bucket, else the next power of two.
fn bucket(size: SizeClass, length: usize) -> usize {
    let first = match size {
        SizeClass::Code => 32,
        SizeClass::Text => 64,
        SizeClass::Address => 256,
        SizeClass::Column => 512,
        // No leaf is unspecified: the schema does not build with one.
        SizeClass::Narrative | SizeClass::Unspecified => 2048,
    };
    (LENGTH_LEN + length).next_power_of_two().max(first)
}

/// Whether a value of this class, sealed, can be so long.
pub(crate) fn is_sealed_length(size: SizeClass, length: usize) -> bool {
    let padded = length.checked_sub(Secret::overhead());
    let buckets = bucket(size, 0)..=bucket(size, MAX_VALUE_LEN);
    padded.is_some_and(|padded| padded.is_power_of_two() && buckets.contains(&padded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_fills_its_first_bucket_then_the_next_power_of_two() {
        for (size, length, padded) in [
            (SizeClass::Code, 0, 32),
            (SizeClass::Code, 28, 32),
            (SizeClass::Code, 29, 64),
            (SizeClass::Text, 60, 64),
            (SizeClass::Address, 253, 512),
            (SizeClass::Column, 508, 512),
            (SizeClass::Narrative, 2044, 2048),
            (SizeClass::Narrative, 2045, 4096),
            (SizeClass::Narrative, MAX_VALUE_LEN, 128 * 1024),
        ] {
            assert_eq!(
                pad(size, &vec![7; length]).unwrap().len(),
                padded,
                "{size:?} {length}"
            );
        }
        assert!(pad(SizeClass::Narrative, &vec![7; MAX_VALUE_LEN + 1]).is_none());
    }

    #[test]
    fn one_value_has_one_padded_form() {
        let good = pad(SizeClass::Code, b"value").unwrap();
        assert_eq!(strip(SizeClass::Code, &good).unwrap().as_slice(), b"value");

        let with = |at: usize, byte: u8| {
            let mut bad = good.to_vec();
            bad[at] = byte;
            bad
        };
        let doubled = [good.as_slice(), &[0; 32]].concat();
        for bad in [
            with(31, 1),
            with(3, 4),
            with(3, 29),
            with(0, 255),
            doubled,
            vec![0; 3],
        ] {
            assert!(strip(SizeClass::Code, &bad).is_none(), "{bad:?}");
        }
    }
}

//! Record keys at rest.

use amanat_seal::{Binding, RecordKey, SealError, WrapKey};

const LABEL: &str = "amanat/record-key/v1";
/// Of the one key-encryption key there is; its number stands beside each wrapped key.
pub(crate) const EPOCH: u32 = 1;

/// The key-encryption key. Nothing that it wrapped opens for another record, version or source.
pub(crate) struct Kek(WrapKey);

impl Kek {
    pub(crate) fn new(key: WrapKey) -> Self {
        Self(key)
    }

    pub(crate) fn wrap(&self, binding: &Binding, key: &RecordKey) -> Result<Vec<u8>, SealError> {
        let version = binding.version.to_be_bytes();
        self.0
            .wrap(LABEL, &context(binding, &version), key.expose())
    }

    pub(crate) fn unwrap(&self, binding: &Binding, wrapped: &[u8]) -> Result<RecordKey, SealError> {
        let version = binding.version.to_be_bytes();
        let bytes = self.0.unwrap(LABEL, &context(binding, &version), wrapped)?;
        RecordKey::from_bytes(&bytes)
    }
}

fn context<'a>(binding: &'a Binding, version: &'a [u8; 4]) -> [&'a [u8]; 3] {
    [
        binding.source.as_bytes(),
        binding.record.as_bytes(),
        version,
    ]
}

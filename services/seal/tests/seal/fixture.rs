//! One invented record version, sealed and described by its header.

use std::collections::BTreeMap;

use amanat_schema::{
    AgencyId, CaseId, RecordId,
    catalogue::{self, FieldId, SCHEMA_VERSION},
    policy::HandlingCode,
    record::{GuardianConflict, MinorBand, RoutingValue, SealedFields},
    statement::{RecordHeader, RoutingField, SealedField, StatementHead},
};
use amanat_seal::{Binding, Header, RecordKey, SUITE, commit_routing, seal_record};

pub(crate) const BINDING: Binding = Binding {
    case: CaseId::new([0xca; 16]),
    record: RecordId::new([0x5e; 16]),
    version: 3,
    source: AgencyId::new([0xa9; 16]),
};

pub(crate) type Values = BTreeMap<FieldId, Vec<u8>>;

pub(crate) fn leaf(path: &str) -> FieldId {
    catalogue::by_path(path).unwrap().id
}

/// Every leaf, each holding its own number.
pub(crate) fn full() -> Values {
    catalogue::FIELDS
        .iter()
        .map(|leaf| (leaf.id, number(leaf.id)))
        .collect()
}

pub(crate) fn number(field: FieldId) -> Vec<u8> {
    field.number().to_be_bytes().to_vec()
}

/// What a source holds after sealing.
pub(crate) struct Sealed {
    pub(crate) wire: RecordHeader,
    pub(crate) key: RecordKey,
    pub(crate) slots: SealedFields,
    pub(crate) routing: Vec<RoutingValue>,
}

impl Sealed {
    pub(crate) fn new(binding: &Binding, values: &Values) -> Self {
        let sealed = seal_record(binding, values).unwrap();
        let (commitments, routing) = commit_routing(binding, values).unwrap();
        Self {
            wire: wire(binding, &sealed.key_commitment, sealed.fields, commitments),
            key: sealed.key,
            slots: sealed.slots,
            routing,
        }
    }

    pub(crate) fn header(&self) -> Header {
        Header::parse(&self.wire).unwrap()
    }

    pub(crate) fn ciphertext(&self, field: FieldId) -> &[u8] {
        let slot = self
            .slots
            .slots
            .iter()
            .find(|slot| slot.field == field.number());
        &slot.unwrap().ciphertext
    }
}

pub(crate) fn wire(
    binding: &Binding,
    key_commitment: &[u8; 32],
    fields: Vec<SealedField>,
    routing: Vec<RoutingField>,
) -> RecordHeader {
    RecordHeader {
        head: Some(StatementHead {
            statement_id: vec![0x57; 16],
            agency_id: binding.source.to_vec(),
            case_id: binding.case.to_vec(),
            follows: if binding.version == 1 {
                vec![]
            } else {
                vec![0xf0; 32]
            },
            ..StatementHead::default()
        }),
        record_id: binding.record.to_vec(),
        version: binding.version,
        schema_version: SCHEMA_VERSION,
        suite: SUITE,
        key_commitment: key_commitment.to_vec(),
        minor_band: MinorBand::Adult.into(),
        guardian_conflict: GuardianConflict::None.into(),
        handling_code: HandlingCode::H0None.into(),
        fields,
        routing,
    }
}

/// One byte changed in its last bit.
pub(crate) fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

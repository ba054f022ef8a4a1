//! The checked form of a record version's header, and what is checked against it.

use std::{collections::BTreeMap, fmt};

use amanat_schema::{
    AgencyId, CaseId, RecordId, StatementId, Violation,
    catalogue::{self, Field, FieldId, SCHEMA_VERSION},
    policy::HandlingCode,
    record::{GuardianConflict, MinorBand, RoutingValue, SealedFields},
    statement::{RecordHeader, StatementHead},
};
use zeroize::Zeroizing;

use crate::{
    Binding, FieldKey, RecordKey, SUITE, SealError,
    field::{Slot, is_sealed_length},
    record::routing_commitment,
    sha256,
};

/// A header whose every part is of the right shape for this schema version and suite.
///
/// It says nothing of who signed it: parse the message of a
/// [`Verified`](crate::statement::Verified) statement.
#[derive(Debug, Clone)]
pub struct Header {
    binding: Binding,
    follows: Option<[u8; 32]>,
    key_commitment: [u8; 32],
    minor_band: MinorBand,
    guardian_conflict: GuardianConflict,
    handling_code: HandlingCode,
    fields: BTreeMap<FieldId, FieldCommitments>,
    routing: BTreeMap<FieldId, [u8; 32]>,
}

/// What a header says of one sealed field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldCommitments {
    /// Fits one field key.
    pub key: [u8; 32],
    /// Of nonce ‖ ciphertext ‖ tag.
    pub ciphertext_sha256: [u8; 32],
}

impl Header {
    /// Reads ids, commitments and codes. The exchange, the officer's token and the signed time are of
    /// every statement's head, and for whoever verifies the statement.
    ///
    /// # Errors
    /// Every violation, by its path in the message; unknown versions, suites, codes and fields are
    /// violations too.
    pub fn parse(header: &RecordHeader) -> Result<Self, Vec<Violation>> {
        let no_head = StatementHead::default();
        let head = header.head.as_ref().unwrap_or(&no_head);
        let mut wrong = Violations::default();

        wrong.take(
            "head.statement_id",
            ID,
            StatementId::parse(&head.statement_id).ok(),
        );
        let case = wrong.take("head.case_id", ID, CaseId::parse(&head.case_id).ok());
        let source = wrong.take("head.agency_id", ID, AgencyId::parse(&head.agency_id).ok());
        let record = wrong.take("record_id", ID, RecordId::parse(&header.record_id).ok());
        let version = (header.version >= 1).then_some(header.version);
        let version = wrong.take("version", "1 or more", version);
        let follows = match (header.version, head.follows.as_slice()) {
            (0 | 1, []) => Some(None),
            (0 | 1, _) => None,
            (_, hash) => hash.try_into().ok().map(Some),
        };
        let follows = wrong.take(
            "head.follows",
            "32 bytes, the hash of the version before; none for version 1",
            follows,
        );
        let schema = (header.schema_version == SCHEMA_VERSION).then_some(());
        wrong.take("schema_version", SCHEMA_VERSION, schema);
        wrong.take("suite", SUITE, (header.suite == SUITE).then_some(()));
        let key_commitment = wrong.hash("key_commitment", &header.key_commitment);

        let minor_band = MinorBand::try_from(header.minor_band)
            .ok()
            .filter(|band| *band != MinorBand::Unspecified);
        let minor_band = wrong.take("minor_band", CODE, minor_band);
        let guardian_conflict = GuardianConflict::try_from(header.guardian_conflict)
            .ok()
            .filter(|conflict| *conflict != GuardianConflict::Unspecified);
        let guardian_conflict = wrong.take("guardian_conflict", CODE, guardian_conflict);
        let handling_code = HandlingCode::try_from(header.handling_code)
            .ok()
            .filter(|code| *code != HandlingCode::Unspecified);
        let handling_code = wrong.take("handling_code", CODE, handling_code);

        wrong.leaves(
            "fields",
            catalogue::sealed(),
            header.fields.iter().map(|of| of.field),
        );
        let mut fields = BTreeMap::new();
        for (at, (leaf, of)) in catalogue::sealed().zip(&header.fields).enumerate() {
            let key = wrong.hash(
                format_args!("fields[{at}].key_commitment"),
                &of.key_commitment,
            );
            let hash = wrong.hash(
                format_args!("fields[{at}].ciphertext_sha256"),
                &of.ciphertext_sha256,
            );
            if let (Some(key), Some(ciphertext_sha256)) = (key, hash) {
                fields.insert(
                    leaf.id,
                    FieldCommitments {
                        key,
                        ciphertext_sha256,
                    },
                );
            }
        }
        wrong.leaves(
            "routing",
            catalogue::routing(),
            header.routing.iter().map(|of| of.field),
        );
        let mut routing = BTreeMap::new();
        for (at, (leaf, of)) in catalogue::routing().zip(&header.routing).enumerate() {
            if let Some(hash) = wrong.hash(format_args!("routing[{at}].commitment"), &of.commitment)
            {
                routing.insert(leaf.id, hash);
            }
        }

        let parsed = (|| {
            Some(Self {
                binding: Binding {
                    case: case?,
                    record: record?,
                    version: version?,
                    source: source?,
                },
                follows: follows?,
                key_commitment: key_commitment?,
                minor_band: minor_band?,
                guardian_conflict: guardian_conflict?,
                handling_code: handling_code?,
                fields,
                routing,
            })
        })();
        parsed.filter(|_| wrong.0.is_empty()).ok_or(wrong.0)
    }

    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// SHA-256 of the payload of the version before; `None` for version 1.
    pub fn follows(&self) -> Option<&[u8; 32]> {
        self.follows.as_ref()
    }

    pub fn key_commitment(&self) -> &[u8; 32] {
        &self.key_commitment
    }

    pub fn minor_band(&self) -> MinorBand {
        self.minor_band
    }

    pub fn guardian_conflict(&self) -> GuardianConflict {
        self.guardian_conflict
    }

    pub fn handling_code(&self) -> HandlingCode {
        self.handling_code
    }

    /// `None` for a ROUTING leaf.
    pub fn sealed_field(&self, field: FieldId) -> Option<&FieldCommitments> {
        self.fields.get(&field)
    }

    /// The commitment to a ROUTING leaf; `None` for a sealed one.
    pub fn routing_field(&self, field: FieldId) -> Option<&[u8; 32]> {
        self.routing.get(&field)
    }

    /// Whether this is the record key that the header commits to. In constant time.
    pub fn fits(&self, key: &RecordKey) -> bool {
        key.fits(&self.binding, &self.key_commitment)
    }

    /// Whether these are the ciphertexts that the header names, all of them and nothing else.
    ///
    /// # Errors
    /// Every violation, by its path in the message.
    pub fn check_slots(&self, sealed: &SealedFields) -> Result<(), Vec<Violation>> {
        let mut wrong = Violations::default();
        wrong.leaves(
            "slots",
            catalogue::sealed(),
            sealed.slots.iter().map(|slot| slot.field),
        );
        for (at, ((field, of), slot)) in self.fields.iter().zip(&sealed.slots).enumerate() {
            // Whoever signs a header could have anything stored under a field otherwise.
            let is_padded = is_sealed_length(field.field().size, slot.ciphertext.len());
            let expected = if is_padded {
                "the bytes whose SHA-256 is in the header"
            } else {
                "a value padded to one of the sizes of its field, of 64 KiB at most, and sealed"
            };
            let named = is_padded && sha256(&slot.ciphertext) == of.ciphertext_sha256;
            wrong.take(
                format_args!("slots[{at}].ciphertext"),
                expected,
                named.then_some(()),
            );
        }
        wrong.none()
    }

    /// Whether these open the header's routing commitments, all of them and nothing else.
    ///
    /// # Errors
    /// Every violation, by its index in the list.
    pub fn check_routing(&self, values: &[RoutingValue]) -> Result<(), Vec<Violation>> {
        let mut wrong = Violations::default();
        wrong.leaves(
            "routing",
            catalogue::routing(),
            values.iter().map(|value| value.field),
        );
        for (at, (_, value)) in self.routing.iter().zip(values).enumerate() {
            let opens = self.open_routing(value).ok();
            wrong.take(
                format_args!("routing[{at}].opening"),
                "the salt and value that the header commits to",
                opens,
            );
        }
        wrong.none()
    }

    /// The field and its value, if the header commits to it.
    ///
    /// # Errors
    /// [`SealError::Routing`] for anything else.
    pub fn open_routing<'a>(
        &self,
        value: &'a RoutingValue,
    ) -> Result<(FieldId, &'a [u8]), SealError> {
        let refused = SealError::Routing { field: value.field };
        let field = FieldId::parse(value.field).ok_or(refused)?;
        let expected = self.routing_field(field).ok_or(refused)?;
        let opening = value.opening.as_ref().ok_or(refused)?;
        let salt = opening.salt.as_slice().try_into().map_err(|_| refused)?;
        let commitment = routing_commitment(&self.binding, field, salt, &opening.value);
        if commitment.as_ref() == Some(expected) {
            Ok((field, &opening.value))
        } else {
            Err(refused)
        }
    }

    /// Opens one field; empty if the field is absent. Checks, before it decrypts, that the key and the
    /// ciphertext are the ones that the source signed, so an opened value is the only one that either
    /// could show.
    ///
    /// # Errors
    /// Each naming the field, in this order: [`SealError::NotSealed`], [`SealError::FieldKey`],
    /// [`SealError::Ciphertext`], [`SealError::Open`], [`SealError::Padding`].
    pub fn open(
        &self,
        field: FieldId,
        key: &FieldKey,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let path = field.field().path;
        let of = self
            .sealed_field(field)
            .ok_or(SealError::NotSealed { path })?;
        if !key.fits(&of.key) {
            return Err(SealError::FieldKey { path });
        }
        if sha256(ciphertext) != of.ciphertext_sha256 {
            return Err(SealError::Ciphertext { path });
        }
        Slot {
            binding: &self.binding,
            field,
            key_commitment: &self.key_commitment,
        }
        .open(key, ciphertext)
    }
}

const ID: &str = "16 bytes";
const HASH: &str = "32 bytes";
const CODE: &str = "a known code";

#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    /// Hands `part` on; one that is not there is a violation, and only then is its path written out.
    fn take<T>(
        &mut self,
        path: impl fmt::Display,
        expected: impl fmt::Display,
        part: Option<T>,
    ) -> Option<T> {
        if part.is_none() {
            self.0.push(Violation {
                path: path.to_string(),
                expected: expected.to_string(),
            });
        }
        part
    }

    fn hash(&mut self, path: impl fmt::Display, bytes: &[u8]) -> Option<[u8; 32]> {
        self.take(path, HASH, bytes.try_into().ok())
    }

    /// One violation for the whole list: after a gap, no entry's place means anything.
    fn leaves(
        &mut self,
        path: &str,
        expected: impl Iterator<Item = &'static Field>,
        found: impl Iterator<Item = u32>,
    ) {
        let exact = expected.map(|leaf| leaf.id.number()).eq(found);
        let all = "every such leaf of the catalogue once, in its order";
        self.take(path, all, exact.then_some(()));
    }

    fn none(self) -> Result<(), Vec<Violation>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0)
        }
    }
}

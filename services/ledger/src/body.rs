//! What stands behind an entry, as the one sequence of bytes that is hashed: the protobuf message with
//! fields in the order of their numbers, defaults left out and nothing unknown.

use amanat_schema::{
    BootId, EntryId, Time,
    audit::{Action, EntryBody, Linkage},
    policy::{AgencyKind, BasisKind, Decision, Purpose, ReferralState, WithheldReason},
};
use prost::Message;

use crate::LedgerError;

/// The `format` of a body.
pub const FORMAT: u32 = 1;

/// The canonical bytes. Of a body that [`parse`] would refuse, they are bytes that it refuses.
pub fn encode(body: &EntryBody) -> Vec<u8> {
    body.encode_to_vec()
}

/// Reads a body.
///
/// # Errors
/// [`LedgerError::NotCanonical`]; [`LedgerError::Field`] naming the first field that is missing, of another
/// format, an unknown code, or an id or a hash of the wrong length.
pub fn parse(bytes: &[u8]) -> Result<EntryBody, LedgerError> {
    let body: EntryBody = canonical(bytes)?;
    check(&[
        ("format", body.format == FORMAT),
        ("entry_id", EntryId::parse(&body.entry_id).is_ok()),
        ("origin", !body.origin.is_empty()),
        ("boot_id", BootId::parse(&body.boot_id).is_ok()),
        ("time", Time::parse(body.time.as_ref()).is_ok()),
        (
            "expire_time",
            body.expire_time.is_none() || Time::parse(body.expire_time.as_ref()).is_ok(),
        ),
        (
            "action",
            Action::try_from(body.action).is_ok_and(|action| action != Action::Unspecified),
        ),
        ("decision", Decision::try_from(body.decision).is_ok()),
        ("agency_id", id_or_absent(&body.agency_id)),
        (
            "agency_kind",
            AgencyKind::try_from(body.agency_kind).is_ok(),
        ),
        (
            "certificate_sha256",
            sha256_or_absent(&body.certificate_sha256),
        ),
        ("purpose", Purpose::try_from(body.purpose).is_ok()),
        (
            "released",
            body.released
                .iter()
                .all(|field| BasisKind::try_from(field.basis_kind).is_ok()),
        ),
        (
            "withheld",
            body.withheld
                .iter()
                .all(|field| WithheldReason::try_from(field.reason).is_ok()),
        ),
        (
            "referral_state",
            ReferralState::try_from(body.referral_state).is_ok(),
        ),
        ("directory_sha256", sha256_or_absent(&body.directory_sha256)),
        ("table_sha256", sha256_or_absent(&body.table_sha256)),
        (
            "linkage_commitment",
            sha256_or_absent(&body.linkage_commitment),
        ),
        (
            "officer_commitment",
            sha256_or_absent(&body.officer_commitment),
        ),
        (
            "reasons_commitment",
            sha256_or_absent(&body.reasons_commitment),
        ),
        (
            "counterpart_entry_sha256",
            sha256_or_absent(&body.counterpart_entry_sha256),
        ),
    ])?;
    Ok(body)
}

/// The canonical bytes of a linkage: the value of an entry's linkage commitment.
pub fn encode_linkage(linkage: &Linkage) -> Vec<u8> {
    linkage.encode_to_vec()
}

/// Reads a linkage.
///
/// # Errors
/// As [`parse`].
pub fn parse_linkage(bytes: &[u8]) -> Result<Linkage, LedgerError> {
    let linkage: Linkage = canonical(bytes)?;
    check(&[
        ("case_id", id_or_absent(&linkage.case_id)),
        ("record_id", id_or_absent(&linkage.record_id)),
        ("referral_id", id_or_absent(&linkage.referral_id)),
        ("consent_id", id_or_absent(&linkage.consent_id)),
        (
            "statement_sha256",
            sha256_or_absent(&linkage.statement_sha256),
        ),
        ("source_id", id_or_absent(&linkage.source_id)),
        ("request_sha256", sha256_or_absent(&linkage.request_sha256)),
        (
            "bases",
            linkage.bases.iter().all(|basis| {
                BasisKind::try_from(basis.kind).is_ok()
                    && id_or_absent(&basis.id)
                    && sha256_or_absent(&basis.statement_sha256)
            }),
        ),
    ])?;
    Ok(linkage)
}

/// Decodes bytes that are what encoding gives again: unknown fields, other orders and longer spellings of
/// a number would be a second body under one meaning.
fn canonical<M: Message + Default>(bytes: &[u8]) -> Result<M, LedgerError> {
    let message = M::decode(bytes).map_err(|_| LedgerError::NotCanonical)?;
    (message.encode_to_vec() == bytes)
        .then_some(message)
        .ok_or(LedgerError::NotCanonical)
}

fn check(fields: &[(&'static str, bool)]) -> Result<(), LedgerError> {
    match fields.iter().find(|(_, good)| !good) {
        Some(&(field, _)) => Err(LedgerError::Field { field }),
        None => Ok(()),
    }
}

fn id_or_absent(bytes: &[u8]) -> bool {
    matches!(bytes.len(), 0 | 16)
}

fn sha256_or_absent(bytes: &[u8]) -> bool {
    matches!(bytes.len(), 0 | 32)
}

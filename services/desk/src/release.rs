//! How a release stands in an entry: alike in the gateway's log and in the custodian's, so that the two
//! can be compared line by line.

use std::collections::BTreeMap;

use amanat_journal::Draft;
use amanat_policy::{RecordFacts, Release, Withheld};
use amanat_schema::{
    audit::{Basis, ReleasedField, WithheldField},
    policy::Purpose,
};
use amanat_seal::Header;

/// What a header tells both servers' decisions.
pub fn record_facts(header: &Header) -> RecordFacts {
    let binding = header.binding();
    RecordFacts {
        case: binding.case,
        record: binding.record,
        version: binding.version,
        source: binding.source,
        minor_band: header.minor_band(),
        guardian_conflict: header.guardian_conflict(),
        handling_code: header.handling_code(),
    }
}

/// Writes paths with the ordinals of their bases, which stand in the linkage.
pub fn log_release(draft: &mut Draft, release: &Release, purpose: Purpose) {
    let bases = release.bases();
    draft.linkage.bases = bases
        .iter()
        .filter_map(|basis| {
            let (id, sha256) = basis.statement()?;
            Some(Basis {
                kind: basis.kind().into(),
                id: id.to_vec(),
                statement_sha256: sha256.to_vec(),
            })
        })
        .collect();
    draft.body.purpose = purpose.into();
    draft.body.released = release
        .fields()
        .map(|(field, basis)| ReleasedField {
            path: field.field().path.to_owned(),
            basis_kind: basis.kind().into(),
            basis: bases
                .binary_search(&basis)
                .ok()
                .and_then(|at| u32::try_from(at).ok()),
        })
        .collect();
}

/// What the reader is told of the rest.
pub fn render_withheld(withheld: &[Withheld]) -> Vec<WithheldField> {
    withheld
        .iter()
        .map(|withheld| WithheldField {
            path: withheld.field.field().path.to_owned(),
            reason: withheld.reason().into(),
        })
        .collect()
}

/// The true reasons, field by field, for the commitment.
pub fn truths(withheld: &[Withheld]) -> String {
    let reasons: BTreeMap<u32, u8> = withheld
        .iter()
        .map(|w| (w.field.number(), w.truth.code()))
        .collect();
    reasons
        .iter()
        .map(|(field, code)| format!("{field}:{code} "))
        .collect()
}

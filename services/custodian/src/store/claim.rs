//! What an entry of the gateway's log claims to have released, in the terms of a decision.

use std::collections::{BTreeMap, BTreeSet};

use amanat_ledger::Proven;
use amanat_policy::Basis;
use amanat_schema::{
    AgencyId, CaseId, ConsentId, RecordId, ReferralId,
    audit::{Linkage, ReleasedField},
    catalogue::{self, FieldId},
    policy::BasisKind,
};
use amanat_seal::Binding;

/// One record version, and on which basis each field of it was released.
pub(crate) struct Claim {
    pub(crate) case: CaseId,
    pub(crate) record: RecordId,
    pub(crate) version: u32,
    pub(crate) source: AgencyId,
    /// Absent for the source.
    pub(crate) referral: Option<ReferralId>,
    pub(crate) released: BTreeMap<FieldId, Basis>,
}

impl Claim {
    /// `None` if ids are missing, a path is unknown or listed twice, or a basis does not stand in the linkage.
    pub(crate) fn parse(proven: &Proven) -> Option<Self> {
        let linkage = proven.linkage.as_ref()?;
        let mut released = BTreeMap::new();
        for field in &proven.body.released {
            let id = catalogue::by_path(&field.path)?.id;
            if released.insert(id, basis(field, linkage)?).is_some() {
                return None;
            }
        }
        let referral = match linkage.referral_id.as_slice() {
            [] => None,
            id => Some(ReferralId::parse(id).ok()?),
        };
        Some(Self {
            case: CaseId::parse(&linkage.case_id).ok()?,
            record: RecordId::parse(&linkage.record_id).ok()?,
            version: linkage.version,
            source: AgencyId::parse(&linkage.source_id).ok()?,
            referral,
            released,
        })
    }

    /// The one record version whose key can open it.
    pub(crate) fn binding(&self) -> Binding {
        Binding {
            case: self.case,
            record: self.record,
            version: self.version,
            source: self.source,
        }
    }

    /// The released fields that have a key.
    pub(crate) fn sealed(&self) -> BTreeSet<FieldId> {
        let fields = self.released.keys().copied();
        fields.filter(|field| field.field().is_sealed()).collect()
    }

    /// The consents that the release rests on.
    pub(crate) fn consents(&self) -> BTreeSet<ConsentId> {
        self.released.values().filter_map(consent).collect()
    }
}

fn consent(basis: &Basis) -> Option<ConsentId> {
    match basis {
        Basis::Consent { id, .. } => Some(*id),
        Basis::Source | Basis::ReferralParty { .. } => None,
    }
}

fn basis(field: &ReleasedField, linkage: &Linkage) -> Option<Basis> {
    let Some(ordinal) = field.basis else {
        return (field.basis_kind() == BasisKind::Source).then_some(Basis::Source);
    };
    let basis = linkage.bases.get(usize::try_from(ordinal).ok()?)?;
    let statement_sha256 = basis.statement_sha256.as_slice().try_into().ok()?;
    match (field.basis_kind(), basis.kind()) {
        (BasisKind::Consent, BasisKind::Consent) => Some(Basis::Consent {
            id: ConsentId::parse(&basis.id).ok()?,
            statement_sha256,
        }),
        (BasisKind::ReferralParty, BasisKind::ReferralParty) => Some(Basis::ReferralParty {
            id: ReferralId::parse(&basis.id).ok()?,
            statement_sha256,
        }),
        _ => None,
    }
}

//! The decision on one read, field by field.

use std::collections::{BTreeMap, BTreeSet};

use amanat_schema::{
    AgencyId, CaseId, ConsentId, RecordId, ReferralId, Time,
    catalogue::{Field, FieldId},
    policy::{AgencyKind, BasisKind, HandlingCode, Purpose, ReferralState, WithheldReason},
    record::{GuardianConflict, MinorBand},
};

use crate::{
    check::is_admissible,
    grant::{Choice, Grant, Lapse},
    referral::{ReferralTerms, is_open, opens_content},
    table::{Context, DecisionTable},
};

/// One read, with every fact that the answer may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// In any order; a field asked twice is answered once.
    pub asked: &'a [FieldId],
    pub purpose: Purpose,
    pub reader: Reader,
    pub record: RecordFacts,
    /// What brings this record to the reader: a referral of this case from the record's source to the
    /// reader, which the caller has made sure of. If there are several, the newest.
    pub referral: Option<ReferralFacts>,
    /// The case's consents; those of other sources, recipients, purposes and paths do not count.
    pub grants: &'a [Grant],
    /// `subject_is_minor` is not read from here but from the record.
    pub context: Context,
    pub table: &'a DecisionTable,
    pub now: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    pub agency: AgencyId,
    /// From the directory, never from a token.
    pub kind: AgencyKind,
}

/// What the header of a record version tells both servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts {
    pub case: CaseId,
    pub record: RecordId,
    pub version: u32,
    /// The agency that signed the header.
    pub source: AgencyId,
    /// Anything but ADULT counts as a minor.
    pub minor_band: MinorBand,
    /// Anything but NONE counts as a conflict.
    pub guardian_conflict: GuardianConflict,
    pub handling_code: HandlingCode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReferralFacts {
    pub id: ReferralId,
    /// SHA-256 of the sender's signed submission.
    pub statement_sha256: [u8; 32],
    pub state: ReferralState,
}

/// The answer. Every field asked is either in the release or withheld, never both.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `None` if nothing may be released.
    pub release: Option<Release>,
    /// In the order of field ids.
    pub withheld: Vec<Withheld>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld {
    pub field: FieldId,
    /// For the log, behind a commitment; the reader gets [`Withheld::reason`] only.
    pub truth: TrueReason,
}

impl Withheld {
    /// What the reader is told.
    pub fn reason(&self) -> WithheldReason {
        self.truth.public()
    }
}

/// Why a field was withheld, as the log keeps it behind a commitment. The codes are stable for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TrueReason {
    PurposeNotAllowed = 1,
    NotAllowedForRole = 2,
    NoReferral = 3,
    ReferralNotAccepted = 4,
    /// Rejected, suspended, completed or revoked.
    ReferralClosed = 5,
    Minor = 6,
    /// A minor whose guardian may not consent either.
    GuardianConflict = 7,
    ConsentDenied = 8,
    ConsentWithdrawn = 9,
    ConsentSuperseded = 10,
    ConsentExpired = 11,
    ConsentNotYetValid = 12,
    ConsentUsedUp = 13,
    /// Oral, where written consent is needed.
    ConsentNotFormal = 14,
    ConsentNeverGiven = 15,
    NotInCourt = 16,
    HandlingUnknown = 17,
}

impl TrueReason {
    /// For the log.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What the reader is told. Whatever became of a consent looks the same: it is the survivor's own
    /// business.
    pub const fn public(self) -> WithheldReason {
        match self {
            Self::PurposeNotAllowed => WithheldReason::PurposeNotAllowed,
            Self::NotAllowedForRole => WithheldReason::NotAllowedForRole,
            Self::NoReferral | Self::ReferralNotAccepted | Self::ReferralClosed => {
                WithheldReason::ReferralNotOpen
            }
            Self::Minor | Self::GuardianConflict => WithheldReason::ApprovalRequired,
            Self::ConsentDenied
            | Self::ConsentWithdrawn
            | Self::ConsentSuperseded
            | Self::ConsentExpired
            | Self::ConsentNotYetValid
            | Self::ConsentUsedUp
            | Self::ConsentNotFormal
            | Self::ConsentNeverGiven => WithheldReason::ConsentNotInForce,
            Self::NotInCourt | Self::HandlingUnknown => WithheldReason::HandlingRestricted,
        }
    }
}

impl From<Lapse> for TrueReason {
    fn from(lapse: Lapse) -> Self {
        match lapse {
            Lapse::Withdrawn => Self::ConsentWithdrawn,
            Lapse::Superseded => Self::ConsentSuperseded,
            Lapse::Expired => Self::ConsentExpired,
            Lapse::NotYetValid => Self::ConsentNotYetValid,
            Lapse::UsedUp => Self::ConsentUsedUp,
            Lapse::NotFormal => Self::ConsentNotFormal,
        }
    }
}

/// On what ground a field is released. The order is that of [`Release::bases`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// The reader is the record's source.
    Source,
    Consent {
        id: ConsentId,
        statement_sha256: [u8; 32],
    },
    /// A ROUTING field, for a party of the referral.
    ReferralParty {
        id: ReferralId,
        statement_sha256: [u8; 32],
    },
}

impl Basis {
    pub const fn kind(&self) -> BasisKind {
        match self {
            Self::Source => BasisKind::Source,
            Self::Consent { .. } => BasisKind::Consent,
            Self::ReferralParty { .. } => BasisKind::ReferralParty,
        }
    }

    /// The id of the statement that it rests on and the SHA-256 of the signed payload; SOURCE rests on
    /// none.
    pub const fn statement(&self) -> Option<(&[u8; 16], &[u8; 32])> {
        match self {
            Self::Source => None,
            Self::Consent {
                id,
                statement_sha256,
            } => Some((id.as_bytes(), statement_sha256)),
            Self::ReferralParty {
                id,
                statement_sha256,
            } => Some((id.as_bytes(), statement_sha256)),
        }
    }
}

/// Proof that [`decide`] released these fields of this record version. A store hands out a field only
/// against a release that covers it, and nothing else can make one:
///
/// ```compile_fail,E0451
/// # fn forge(
/// #     record: amanat_policy::RecordFacts,
/// #     fields: std::collections::BTreeMap<amanat_schema::catalogue::FieldId, amanat_policy::Basis>,
/// # ) -> amanat_policy::Release {
/// amanat_policy::Release { record, fields }
/// # }
/// ```
///
/// It cannot be copied, so it does not outlive the read that it was made for:
///
/// ```compile_fail,E0277
/// # fn keep(release: &amanat_policy::Release) -> amanat_policy::Release {
/// <amanat_policy::Release as Clone>::clone(release)
/// # }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Release {
    record: RecordFacts,
    fields: BTreeMap<FieldId, Basis>,
}

impl Release {
    pub fn case(&self) -> CaseId {
        self.record.case
    }

    /// With [`Release::record`] it names the record: another agency's record of that id is another one.
    pub fn source(&self) -> AgencyId {
        self.record.source
    }

    pub fn record(&self) -> RecordId {
        self.record.record
    }

    pub fn version(&self) -> u32 {
        self.record.version
    }

    pub fn covers(&self, field: FieldId) -> bool {
        self.fields.contains_key(&field)
    }

    /// What is released and on what ground, in the order of field ids; never empty.
    pub fn fields(&self) -> impl Iterator<Item = (FieldId, Basis)> + '_ {
        self.fields.iter().map(|(field, basis)| (*field, *basis))
    }

    /// The statements that the release rests on, each once, in order: a binary search finds a field's.
    /// SOURCE rests on none and is left out.
    pub fn bases(&self) -> Vec<Basis> {
        let bases: BTreeSet<Basis> = self.fields.values().copied().collect();
        bases
            .into_iter()
            .filter(|basis| *basis != Basis::Source)
            .collect()
    }
}

/// Decides a read: released is what was asked, the role ceiling permits, consent opens for this reader and
/// purpose, an accepted referral brings and no handling code forbids. A source reads its own records.
pub fn decide(question: &Question<'_>) -> Outcome {
    let mut fields = BTreeMap::new();
    let mut withheld = Vec::new();
    for field in question.asked.iter().copied().collect::<BTreeSet<_>>() {
        match question.basis(field.field()) {
            Ok(basis) => {
                fields.insert(field, basis);
            }
            Err(truth) => withheld.push(Withheld { field, truth }),
        }
    }
    let release = (!fields.is_empty()).then_some(Release {
        record: question.record,
        fields,
    });
    Outcome { release, withheld }
}

impl Question<'_> {
    /// The ground on which the field is released, or the first thing that forbids it.
    fn basis(&self, field: &Field) -> Result<Basis, TrueReason> {
        if !is_admissible(self.purpose) {
            return Err(TrueReason::PurposeNotAllowed);
        }
        if self.reader.agency == self.record.source {
            return Ok(Basis::Source);
        }
        self.role_permits(field)?;
        let basis = if field.is_sealed() {
            self.content(field)?
        } else {
            self.routing()?
        };
        self.handling_permits()?;
        Ok(basis)
    }

    fn role_permits(&self, field: &Field) -> Result<(), TrueReason> {
        let kind = self.reader.kind;
        let context = Context {
            subject_is_minor: self.subject_is_minor(),
            ..self.context
        };
        if self.table.permits(kind, self.purpose, field.group, context) {
            Ok(())
        } else if self.table.permits_any(kind, self.purpose) {
            Err(TrueReason::NotAllowedForRole)
        } else {
            Err(TrueReason::PurposeNotAllowed)
        }
    }

    /// A sealed field: the survivor's consent, and a referral that was accepted.
    fn content(&self, field: &Field) -> Result<Basis, TrueReason> {
        self.adult()?;
        let consent = self.consent(field)?;
        self.accepted_referral()?;
        Ok(consent)
    }

    /// A ROUTING field: for the recipient of an accepted referral. What it must know to accept stands in
    /// the sender's submission.
    fn routing(&self) -> Result<Basis, TrueReason> {
        let referral = self.accepted_referral()?;
        self.adult()?;
        Ok(Basis::ReferralParty {
            id: referral.id,
            statement_sha256: referral.statement_sha256,
        })
    }

    fn accepted_referral(&self) -> Result<ReferralFacts, TrueReason> {
        let referral = self.referral.ok_or(TrueReason::NoReferral)?;
        if opens_content(referral.state) {
            Ok(referral)
        } else if is_open(referral.state) {
            Err(TrueReason::ReferralNotAccepted)
        } else {
            Err(TrueReason::ReferralClosed)
        }
    }

    fn subject_is_minor(&self) -> bool {
        self.record.minor_band != MinorBand::Adult
    }

    /// A minor's record opens to nobody but its source: a guardian's permit and the child's assent do not
    /// suffice without a court's or child protection's word, which no basis carries yet.
    fn adult(&self) -> Result<(), TrueReason> {
        if !self.subject_is_minor() {
            Ok(())
        } else if self.record.guardian_conflict == GuardianConflict::None {
            Err(TrueReason::Minor)
        } else {
            Err(TrueReason::GuardianConflict)
        }
    }

    fn consent(&self, field: &Field) -> Result<Basis, TrueReason> {
        let asking = Asking {
            grants: self.grants,
            case: self.record.case,
            source: self.record.source,
            recipient: self.reader.agency,
            purpose: self.purpose,
            now: self.now,
        };
        asking.consent(field)
    }

    /// What the contributor forbids beyond the rules. H2, no onward dissemination, needs no check: a field
    /// goes from its source to a recipient that a consent names, and no recipient can pass it on here.
    fn handling_permits(&self) -> Result<(), TrueReason> {
        match self.record.handling_code {
            HandlingCode::H0None | HandlingCode::H2NotOnward => Ok(()),
            HandlingCode::H1NotInCourt if self.is_for_court() => Err(TrueReason::NotInCourt),
            HandlingCode::H1NotInCourt => Ok(()),
            HandlingCode::Unspecified => Err(TrueReason::HandlingUnknown),
        }
    }

    fn is_for_court(&self) -> bool {
        self.purpose == Purpose::Prosecution
            || matches!(
                self.reader.kind,
                AgencyKind::Prosecution | AgencyKind::Court
            )
    }
}

/// The sealed paths of a referral that no consent in force opens to its recipient: it may not be
/// submitted, or rests on nothing any more.
pub fn without_consent(terms: &ReferralTerms, grants: &[Grant], now: Time) -> Vec<Withheld> {
    let asking = Asking {
        grants,
        case: terms.case,
        source: terms.sender,
        recipient: terms.recipient,
        purpose: terms.purpose,
        now,
    };
    let sealed = terms
        .paths
        .iter()
        .copied()
        .filter(|field| field.field().is_sealed());
    sealed
        .filter_map(|field| {
            let truth = asking.consent(field.field()).err()?;
            Some(Withheld { field, truth })
        })
        .collect()
}

/// Who asks for a source's data of one case, and with which consents.
struct Asking<'a> {
    grants: &'a [Grant],
    case: CaseId,
    source: AgencyId,
    recipient: AgencyId,
    purpose: Purpose,
    now: Time,
}

impl Asking<'_> {
    /// The consent in force that opens the field.
    fn consent(&self, field: &Field) -> Result<Basis, TrueReason> {
        let given = || {
            self.grants
                .iter()
                .filter(|grant| self.is_addressed(grant, field))
        };
        if given().any(|grant| grant.denies(self.now)) {
            return Err(TrueReason::ConsentDenied);
        }
        let permits = || given().filter(|grant| grant.terms.choice == Choice::Permit);
        permits()
            .filter(|grant| grant.lapse(field, self.now).is_none())
            // Spares the counted ones; the id makes both servers choose alike.
            .min_by_key(|grant| (grant.terms.max_reads != 0, grant.terms.consent))
            .map(|grant| Basis::Consent {
                id: grant.terms.consent,
                statement_sha256: grant.statement_sha256,
            })
            .ok_or_else(|| {
                let first = permits()
                    .filter_map(|grant| grant.lapse(field, self.now))
                    .min();
                first.map_or(TrueReason::ConsentNeverGiven, TrueReason::from)
            })
    }

    /// Whether the consent speaks of this field, to this recipient, of this source, for this purpose.
    fn is_addressed(&self, grant: &Grant, field: &Field) -> bool {
        let terms = &grant.terms;
        terms.case == self.case
            && terms.source == self.source
            && terms.recipient == self.recipient
            && terms.purpose == self.purpose
            && terms.paths.contains(&field.id)
    }
}

#[cfg(test)]
mod tests;

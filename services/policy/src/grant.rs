//! A survivor's consent: what she permitted or refused, and what has become of it since.

use std::{collections::BTreeSet, time::Duration};

use amanat_schema::{
    AgencyId, CaseId, ConsentId, Time, Violation,
    catalogue::{Field, FieldClass, FieldId},
    policy::Purpose,
    statement::{Consent, ConsentDecision},
};

use crate::check::Check;

const LONGEST: Duration = Duration::from_hours(365 * 24);
const LONGEST_WITH_LOCATION: Duration = Duration::from_hours(7 * 24);

/// What the survivor said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Permit,
    Deny,
}

/// The decision part of a consent statement, checked by [`parse_consent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentTerms {
    pub consent: ConsentId,
    pub case: CaseId,
    pub choice: Choice,
    /// Sealed leaves, listed one by one.
    pub paths: BTreeSet<FieldId>,
    pub recipient: AgencyId,
    pub source: AgencyId,
    pub purpose: Purpose,
    /// The first moment at which it counts.
    pub valid_from: Time,
    /// The first moment at which it no longer counts.
    pub expires_at: Time,
    /// 0: as many as the time allows.
    pub max_reads: u32,
    pub supersedes: Option<ConsentId>,
    /// Given in writing or by thumb impression.
    pub formal_mode: bool,
}

/// A recorded consent as one server's own ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub terms: ConsentTerms,
    /// SHA-256 of the signed payload.
    pub statement_sha256: [u8; 32],
    /// SHA-256 of the public key that signed it.
    pub signed_by: [u8; 32],
    pub recorded: Time,
    /// Reads so far that rested on it.
    pub reads: u32,
    pub withdrawn: bool,
    /// A later consent of the same source names it in `supersedes`.
    pub superseded: bool,
}

/// Why a permit does not count; a permit to which several apply has the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lapse {
    Withdrawn,
    Superseded,
    Expired,
    NotYetValid,
    UsedUp,
    NotFormal,
}

impl Grant {
    /// Whether this refuses what it lists. It cannot be used up, and a withdrawal does not lift it: a
    /// withdrawal is accepted from the recipient too, because it can only close.
    pub(crate) fn denies(&self, now: Time) -> bool {
        let terms = &self.terms;
        terms.choice == Choice::Deny
            && !self.superseded
            && (terms.valid_from..terms.expires_at).contains(&now)
    }

    /// Why this permit does not open `field`, which it lists; `None` if it does.
    pub(crate) fn lapse(&self, field: &Field, now: Time) -> Option<Lapse> {
        let terms = &self.terms;
        [
            (self.withdrawn, Lapse::Withdrawn),
            (self.superseded, Lapse::Superseded),
            (now >= terms.expires_at, Lapse::Expired),
            (now < terms.valid_from, Lapse::NotYetValid),
            (
                terms.max_reads != 0 && self.reads >= terms.max_reads,
                Lapse::UsedUp,
            ),
            (needs_form(field) && !terms.formal_mode, Lapse::NotFormal),
        ]
        .into_iter()
        .find_map(|(holds, lapse)| holds.then_some(lapse))
    }
}

/// Prior written permission is asked for whatever tells who or where a person is.
fn needs_form(field: &Field) -> bool {
    matches!(field.class, FieldClass::Identifying | FieldClass::Location)
}

/// Checks a consent statement's own terms; whether its signer may speak for the records is for the caller.
///
/// The limits on form, duration and a minor's consent bind a permit only: a refusal closes, so it needs no
/// form and may last.
///
/// # Errors
/// Every [`Violation`], by the path in the statement; never a value of it.
pub fn parse_consent(consent: &Consent) -> Result<ConsentTerms, Vec<Violation>> {
    let mut check = Check::new("consent");
    // A missing head is reported as its missing ids.
    let head = consent.head.clone().unwrap_or_default();
    let case = check.id(CaseId::parse(&head.case_id), "head.case_id");
    let signer = check.id(AgencyId::parse(&head.agency_id), "head.agency_id");
    let id = check.id(ConsentId::parse(&consent.consent_id), "consent_id");
    let recipient = check.id(AgencyId::parse(&consent.recipient_id), "recipient_id");
    let source = check.id(AgencyId::parse(&consent.source_id), "source_id");
    if let (Some(signer), Some(recipient), Some(source)) = (signer, recipient, source) {
        check.that(
            signer == source,
            "head.agency_id",
            "the source, which signs",
        );
        check.that(
            recipient != source,
            "recipient_id",
            "another agency than the source",
        );
    }

    let choice = match consent.decision() {
        ConsentDecision::Permit => Some(Choice::Permit),
        ConsentDecision::Deny => Some(Choice::Deny),
        ConsentDecision::Unspecified => None,
    };
    let choice = check.some(choice, "decision", "PERMIT or DENY");
    let purpose = check.purpose(consent.purpose());
    let paths = check.paths(
        &consent.paths,
        |field| field.is_sealed() && !field.derived,
        "a leaf of the shared record, neither ROUTING nor derived",
    );

    let valid_from = Time::parse(consent.valid_from_time.as_ref()).ok();
    let valid_from = check.some(valid_from, "valid_from_time", "a time");
    let expires_at = Time::parse(consent.expire_time.as_ref()).ok();
    let expires_at = check.some(expires_at, "expire_time", "a time");
    if let (Some(from), Some(to)) = (valid_from, expires_at) {
        check.that(from < to, "expire_time", "a time after valid_from_time");
    }
    let supersedes = match consent.supersedes.as_slice() {
        [] => None,
        id => check.id(ConsentId::parse(id), "supersedes"),
    };
    check.that(
        supersedes.is_none() || supersedes != id,
        "supersedes",
        "another consent",
    );
    check.that(!consent.onward_sharing, "onward_sharing", "false");
    check.that(
        consent.evidence_sha256.len() == 32,
        "evidence_sha256",
        "32 bytes",
    );

    match choice {
        Some(Choice::Permit) => {
            check_permit(&mut check, consent, &paths, valid_from.zip(expires_at))
        }
        Some(Choice::Deny) => check.that(consent.max_reads == 0, "max_reads", "0 with DENY"),
        None => {}
    }

    let terms = || {
        Some(ConsentTerms {
            consent: id?,
            case: case?,
            choice: choice?,
            paths,
            recipient: recipient?,
            source: source?,
            purpose: purpose?,
            valid_from: valid_from?,
            expires_at: expires_at?,
            max_reads: consent.max_reads,
            supersedes,
            formal_mode: consent.formal_mode,
        })
    };
    check.finish(terms())
}

/// What only a permit must satisfy, because only a permit opens.
fn check_permit(
    check: &mut Check,
    consent: &Consent,
    paths: &BTreeSet<FieldId>,
    validity: Option<(Time, Time)>,
) {
    let lists = |fits: fn(&Field) -> bool| paths.iter().any(|id| fits(id.field()));
    if let Some((from, to)) = validity {
        check.that(
            from.distance(to) <= LONGEST,
            "expire_time",
            "at most 365 days of validity",
        );
        check.that(
            from.distance(to) <= LONGEST_WITH_LOCATION
                || !lists(|field| field.class == FieldClass::Location),
            "expire_time",
            "at most 7 days of validity with a LOCATION path",
        );
    }
    check.that(
        consent.formal_mode || !lists(needs_form),
        "formal_mode",
        "true with an IDENTIFYING or LOCATION path",
    );
    if consent.minor {
        check.that(consent.guardian_ok, "guardian_ok", "true for a minor");
        check.that(consent.assent_ok, "assent_ok", "true for a minor");
    }
}

#[cfg(test)]
mod tests;

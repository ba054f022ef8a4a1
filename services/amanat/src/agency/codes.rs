//! Codes on the command line: their names in `proto/` without the prefix.

use amanat_schema::{
    Time,
    audit::Action,
    consent::ConsentStatus,
    policy::{AgencyKind, BasisKind, Decision, Purpose, ReferralState, Right, WithheldReason},
    record::{FieldClass, FieldGroup, MinorBand, Need, Province, Urgency},
    statement::{ConsentDecision, ReferralOutcome, RejectionReason},
    subject::{EvaluationReason, IdentifierDomain, MergeStatus},
};
use prost_types::Timestamp;

/// A moment as officers write it: `2026-03-01T09:30:00Z`, or `2026-03-01` for the beginning of that day, UTC.
pub(crate) fn time(text: &str) -> Result<Time, String> {
    let day = format!("{text}T00:00:00Z");
    let full = if text.contains('T') { text } else { &day };
    let timestamp: Option<Timestamp> = full.parse().ok();
    Time::parse(timestamp.as_ref())
        .map_err(|_| "expected a UTC time, as in 2026-03-01T09:30:00Z, or a day".to_owned())
}

/// One code by its short name: `SHELTER` for `PURPOSE_SHELTER`.
fn parse<T: TryFrom<i32>>(
    prefix: &'static str,
    text: &str,
    from_name: fn(&str) -> Option<T>,
    name_of: fn(&T) -> &'static str,
) -> Result<T, String> {
    let upper = text.to_ascii_uppercase().replace('-', "_");
    from_name(&format!("{prefix}{upper}"))
        .filter(|_| upper != "UNSPECIFIED")
        .ok_or_else(|| {
            // The lists are numbered from 1 and shorter than this.
            let codes = (1..64).filter_map(|number| T::try_from(number).ok());
            let known: Vec<_> = codes.map(|code| short(name_of(&code), prefix)).collect();
            format!("expected one of {}", known.join(", "))
        })
}

fn short(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

macro_rules! parsers {
    ($($parse:ident: $code:ty, $prefix:literal);+ $(;)?) => {$(
        pub(crate) fn $parse(text: &str) -> Result<$code, String> {
            parse($prefix, text, <$code>::from_str_name, |code: &$code| code.as_str_name())
        }
    )+};
}

parsers! {
    purpose: Purpose, "PURPOSE_";
    need: Need, "NEED_";
    urgency: Urgency, "URGENCY_";
    minor_band: MinorBand, "MINOR_BAND_";
    rejection: RejectionReason, "REJECTION_REASON_";
    outcome: ReferralOutcome, "REFERRAL_OUTCOME_";
    referral_state: ReferralState, "REFERRAL_STATE_";
    action: Action, "ACTION_";
    merge_status: MergeStatus, "MERGE_STATUS_";
    decision: Decision, "DECISION_";
    agency_kind: AgencyKind, "AGENCY_KIND_";
    province: Province, "PROVINCE_";
    right: Right, "RIGHT_";
    domain: IdentifierDomain, "IDENTIFIER_DOMAIN_";
}

macro_rules! names {
    ($($name:ident: $code:ty, $prefix:literal);+ $(;)?) => {$(
        pub(crate) fn $name(code: $code) -> &'static str {
            short(code.as_str_name(), $prefix)
        }
    )+};
}

names! {
    purpose_name: Purpose, "PURPOSE_";
    need_name: Need, "NEED_";
    urgency_name: Urgency, "URGENCY_";
    minor_band_name: MinorBand, "MINOR_BAND_";
    referral_state_name: ReferralState, "REFERRAL_STATE_";
    action_name: Action, "ACTION_";
    decision_name: Decision, "DECISION_";
    withheld_name: WithheldReason, "WITHHELD_REASON_";
    basis_name: BasisKind, "BASIS_KIND_";
    rejection_name: RejectionReason, "REJECTION_REASON_";
    outcome_name: ReferralOutcome, "REFERRAL_OUTCOME_";
    consent_status_name: ConsentStatus, "CONSENT_STATUS_";
    consent_decision_name: ConsentDecision, "CONSENT_DECISION_";
    class_name: FieldClass, "FIELD_CLASS_";
    group_name: FieldGroup, "FIELD_GROUP_";
    merge_status_name: MergeStatus, "MERGE_STATUS_";
    evaluation_reason_name: EvaluationReason, "EVALUATION_REASON_";
    agency_kind_name: AgencyKind, "AGENCY_KIND_";
    province_name: Province, "PROVINCE_";
    domain_name: IdentifierDomain, "IDENTIFIER_DOMAIN_";
}

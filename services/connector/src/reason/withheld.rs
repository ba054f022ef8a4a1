//! Why a field stays closed while others of the record open.

use amanat_schema::policy::WithheldReason;

/// What is told of a field's public reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld {
    pub meaning: &'static str,
    /// What to do next.
    pub next: &'static str,
    /// Both in plain Urdu, for what a shelter's worker meets.
    pub urdu: Option<&'static str>,
}

/// `None` for no reason at all.
pub const fn withheld(reason: WithheldReason) -> Option<Withheld> {
    let (meaning, next, urdu) = match reason {
        WithheldReason::Unspecified => return None,
        WithheldReason::NotAllowedForRole => (
            "The rules never open this field to an agency of this kind for this purpose, consent or not.",
            "do without it; whoever needs it asks an agency that the rules name",
            Some("آپ کے ادارے کو اس مقصد کے لیے یہ معلومات دیکھنے کی اجازت نہیں۔"),
        ),
        WithheldReason::PurposeNotAllowed => (
            "The rules open nothing to an agency of this kind for this purpose.",
            "ask for the purpose that you have; if it is this one, the request is another agency's to make",
            None,
        ),
        WithheldReason::ConsentNotInForce => (
            "No consent of the survivor is in force. Whether it was never given, has expired, was used up or \
             was withdrawn is her own business and is not told apart.",
            "if she wishes it, her consent is recorded with the record's source; do not press for it",
            Some("اس کے لیے متاثرہ فرد کی رضامندی اس وقت نافذ نہیں۔ اصرار نہ کریں۔"),
        ),
        WithheldReason::ReferralNotOpen => (
            "No accepted referral brings this record to your agency for this purpose, or it is closed again.",
            "see `amanat refer list`; accept the referral, or ask its sender for one",
            Some("اس کیس کا ریفرل ابھی قبول نہیں ہوا، یا بند ہو چکا ہے۔ ریفرل کی فہرست دیکھیں۔"),
        ),
        WithheldReason::HandlingRestricted => (
            "The agency that contributed the record forbids this use, by a handling code.",
            "ask that agency for its permission",
            None,
        ),
        WithheldReason::ApprovalRequired => (
            "A further approval is needed: a court's order for a minor's record.",
            "ask the record's source; the exchange opens a minor's record to its source alone",
            None,
        ),
    };
    Some(Withheld {
        meaning,
        next,
        urdu,
    })
}

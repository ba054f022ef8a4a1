use amanat_schema::statement::StatementHead;

use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn day(day: i64) -> Option<prost_types::Timestamp> {
    Some(Time::from_millis(day * DAY_MS).unwrap().to_timestamp())
}

fn permit() -> Consent {
    Consent {
        head: Some(StatementHead {
            agency_id: vec![1; 16],
            case_id: vec![9; 16],
            ..StatementHead::default()
        }),
        consent_id: vec![7; 16],
        decision: ConsentDecision::Permit.into(),
        paths: vec!["trafficking.narrative".into(), "subject.age_band".into()],
        recipient_id: vec![2; 16],
        source_id: vec![1; 16],
        purpose: Purpose::Shelter.into(),
        valid_from_time: day(100),
        expire_time: day(190),
        max_reads: 3,
        onward_sharing: false,
        supersedes: vec![],
        formal_mode: false,
        guardian_ok: false,
        assent_ok: false,
        minor: false,
        evidence_sha256: vec![5; 32],
    }
}

fn violations(consent: &Consent) -> Vec<String> {
    parse_consent(consent)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_permit_is_read_as_it_was_signed() {
    let terms = parse_consent(&Consent {
        supersedes: vec![6; 16],
        ..permit()
    })
    .unwrap();
    let paths = terms.paths.iter().map(|id| id.field().path);
    assert_eq!(
        paths.collect::<Vec<_>>(),
        ["subject.age_band", "trafficking.narrative"]
    );
    assert_eq!(
        terms,
        ConsentTerms {
            consent: ConsentId::new([7; 16]),
            case: CaseId::new([9; 16]),
            choice: Choice::Permit,
            paths: terms.paths.clone(),
            recipient: AgencyId::new([2; 16]),
            source: AgencyId::new([1; 16]),
            purpose: Purpose::Shelter,
            valid_from: Time::from_millis(100 * DAY_MS).unwrap(),
            expires_at: Time::from_millis(190 * DAY_MS).unwrap(),
            max_reads: 3,
            supersedes: Some(ConsentId::new([6; 16])),
            formal_mode: false,
        }
    );
}

#[test]
fn an_empty_statement_is_told_everything_that_it_lacks() {
    assert_eq!(
        violations(&Consent::default()),
        [
            "consent.head.case_id: expected 16 bytes",
            "consent.head.agency_id: expected 16 bytes",
            "consent.consent_id: expected 16 bytes",
            "consent.recipient_id: expected 16 bytes",
            "consent.source_id: expected 16 bytes",
            "consent.decision: expected PERMIT or DENY",
            "consent.purpose: expected a purpose, and never IMMIGRATION_ENFORCEMENT",
            "consent.paths: expected at least one path",
            "consent.valid_from_time: expected a time",
            "consent.expire_time: expected a time",
            "consent.evidence_sha256: expected 32 bytes",
        ]
    );
}

#[test]
fn only_the_source_signs_and_never_for_itself() {
    let other_signer = Consent {
        source_id: vec![3; 16],
        ..permit()
    };
    assert_eq!(
        violations(&other_signer),
        ["consent.head.agency_id: expected the source, which signs"]
    );
    let to_itself = Consent {
        recipient_id: vec![1; 16],
        ..permit()
    };
    assert_eq!(
        violations(&to_itself),
        ["consent.recipient_id: expected another agency than the source"]
    );
}

#[test]
fn paths_are_sealed_leaves_listed_once() {
    let paths = [
        "needs.needs",
        "case.urgency",
        "subject.minor_band",
        "needs.*",
        "needs",
        "needs.needs",
    ];
    let leaf = "expected a leaf of the shared record, neither ROUTING nor derived";
    assert_eq!(
        violations(&Consent {
            paths: paths.map(String::from).into(),
            ..permit()
        }),
        [
            format!("consent.paths[1]: {leaf}"),
            format!("consent.paths[2]: {leaf}"),
            format!("consent.paths[3]: {leaf}"),
            format!("consent.paths[4]: {leaf}"),
            "consent.paths[5]: expected a path that is not listed before".into(),
        ]
    );
}

#[test]
fn immigration_enforcement_cannot_be_consented_to() {
    let consent = Consent {
        purpose: Purpose::ImmigrationEnforcement.into(),
        ..permit()
    };
    assert_eq!(
        violations(&consent),
        ["consent.purpose: expected a purpose, and never IMMIGRATION_ENFORCEMENT"]
    );
    assert!(
        parse_consent(&Consent {
            purpose: 99,
            ..permit()
        })
        .is_err()
    );
}

#[test]
fn a_permit_lasts_a_year_at_most_and_a_location_a_week() {
    let lasting = |days: i64, path: &str| Consent {
        paths: vec![path.into()],
        formal_mode: true,
        expire_time: day(100 + days),
        ..permit()
    };
    assert!(parse_consent(&lasting(365, "needs.needs")).is_ok());
    assert_eq!(
        violations(&lasting(366, "needs.needs")),
        ["consent.expire_time: expected at most 365 days of validity"]
    );
    assert!(parse_consent(&lasting(7, "placement.room")).is_ok());
    assert_eq!(
        violations(&lasting(8, "placement.room")),
        ["consent.expire_time: expected at most 7 days of validity with a LOCATION path"]
    );
    assert_eq!(
        violations(&lasting(0, "needs.needs")),
        ["consent.expire_time: expected a time after valid_from_time"]
    );
}

#[test]
fn who_or_where_she_is_needs_a_written_permit() {
    for path in [
        "subject.given_name",
        "placement.room",
        "subject.safe_contact",
    ] {
        let oral = Consent {
            paths: vec![path.into()],
            expire_time: day(101),
            ..permit()
        };
        assert_eq!(
            violations(&oral),
            ["consent.formal_mode: expected true with an IDENTIFYING or LOCATION path"],
            "{path}"
        );
        assert!(
            parse_consent(&Consent {
                formal_mode: true,
                ..oral
            })
            .is_ok(),
            "{path}"
        );
    }
}

#[test]
fn a_minors_permit_needs_guardian_and_child() {
    let minor = Consent {
        minor: true,
        ..permit()
    };
    assert_eq!(
        violations(&minor),
        [
            "consent.guardian_ok: expected true for a minor",
            "consent.assent_ok: expected true for a minor"
        ]
    );
    assert!(
        parse_consent(&Consent {
            guardian_ok: true,
            assent_ok: true,
            ..minor
        })
        .is_ok()
    );
}

#[test]
fn nothing_is_shared_onward_and_no_consent_replaces_itself() {
    assert_eq!(
        violations(&Consent {
            onward_sharing: true,
            supersedes: vec![7; 16],
            ..permit()
        }),
        [
            "consent.supersedes: expected another consent",
            "consent.onward_sharing: expected false"
        ]
    );
    assert_eq!(
        violations(&Consent {
            supersedes: vec![7; 15],
            ..permit()
        }),
        ["consent.supersedes: expected 16 bytes"]
    );
}

#[test]
fn a_refusal_needs_no_form_and_may_last() {
    let deny = Consent {
        decision: ConsentDecision::Deny.into(),
        paths: vec!["placement.room".into()],
        expire_time: day(10_000),
        max_reads: 0,
        minor: true,
        ..permit()
    };
    assert_eq!(parse_consent(&deny).unwrap().choice, Choice::Deny);
    assert_eq!(
        violations(&Consent {
            max_reads: 1,
            ..deny
        }),
        ["consent.max_reads: expected 0 with DENY"]
    );
}

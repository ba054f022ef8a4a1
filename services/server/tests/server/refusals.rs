//! Every refusal as its caller reads it: code, published reason, details.

use std::time::Duration;

use amanat_schema::{Violation, audit::WithheldField, error::Reason, policy::WithheldReason};
use amanat_server::Refusal;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

fn told(refusal: Refusal) -> (Status, ErrorDetails) {
    let status = Status::from(refusal);
    let details = status.get_error_details();
    (status, details)
}

#[test]
fn each_has_its_code_its_published_reason_and_whether_to_come_back() {
    let violation = Violation {
        path: "request_id".to_owned(),
        expected: "16 bytes".to_owned(),
    };
    let withheld = [WithheldField {
        path: "subject.given_name".to_owned(),
        reason: WithheldReason::ConsentNotInForce.into(),
    }];
    for (refusal, code, reason, again) in [
        (
            Refusal::credential(),
            Code::Unauthenticated,
            Reason::CredentialInvalid,
            false,
        ),
        (
            Refusal::access(),
            Code::PermissionDenied,
            Reason::AccessDenied,
            false,
        ),
        (
            Refusal::invalid(vec![violation]),
            Code::InvalidArgument,
            Reason::FieldInvalid,
            false,
        ),
        (
            Refusal::field("a", "b"),
            Code::InvalidArgument,
            Reason::FieldInvalid,
            false,
        ),
        (
            Refusal::too_large(),
            Code::InvalidArgument,
            Reason::TooLarge,
            false,
        ),
        (
            Refusal::nothing_releasable(&withheld),
            Code::PermissionDenied,
            Reason::NothingReleasable,
            false,
        ),
        (
            Refusal::without_consent(&withheld),
            Code::PermissionDenied,
            Reason::NothingReleasable,
            false,
        ),
        (
            Refusal::state("closed"),
            Code::FailedPrecondition,
            Reason::StateConflict,
            false,
        ),
        (
            Refusal::request_id_reused(),
            Code::FailedPrecondition,
            Reason::RequestIdReused,
            false,
        ),
        (
            Refusal::version("moved"),
            Code::Aborted,
            Reason::VersionMismatch,
            false,
        ),
        (
            Refusal::audit_unavailable(),
            Code::Unavailable,
            Reason::AuditUnavailable,
            true,
        ),
        (
            Refusal::log_inconsistent(),
            Code::DataLoss,
            Reason::LogInconsistent,
            false,
        ),
        (
            Refusal::ledger_behind(),
            Code::Unavailable,
            Reason::LedgerBehind,
            true,
        ),
    ] {
        let name = refusal.reason();
        assert_eq!(
            Reason::from_str_name(&format!("REASON_{name}")),
            Some(reason)
        );
        let (status, details) = told(refusal);
        assert_eq!(status.code(), code, "{name}");
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (name, "amanat")
        );
        let delay = details.retry_info().and_then(|retry| retry.retry_delay);
        assert_eq!(delay, again.then_some(Duration::from_millis(500)), "{name}");
        assert_eq!(
            details.bad_request().is_some(),
            reason == Reason::FieldInvalid
        );
    }
}

#[test]
fn a_used_up_budget_says_when_to_come_back() {
    let retry_after = Duration::from_secs(3600);
    let refusal = Refusal::quota(retry_after);
    assert_eq!(refusal.reason(), "QUOTA_EXCEEDED");
    let (status, details) = told(refusal);
    assert_eq!(status.code(), Code::ResourceExhausted);
    let told = details.retry_info().unwrap().retry_delay;
    assert_eq!(told, Some(retry_after));
}

#[test]
fn violations_name_field_and_expectation() {
    let violations: Vec<_> = ["a", "b"]
        .map(|path| Violation {
            path: path.to_owned(),
            expected: "16 bytes".to_owned(),
        })
        .into();
    let (status, details) = told(Refusal::invalid(violations));
    assert_eq!(status.message(), "2 fields are not valid");
    let told = &details.bad_request().unwrap().field_violations;
    let told: Vec<_> = told
        .iter()
        .map(|v| (v.field.as_str(), v.description.as_str()))
        .collect();
    assert_eq!(told, [("a", "16 bytes"), ("b", "16 bytes")]);
    assert_eq!(
        Status::from(Refusal::field("a", "16 bytes")).message(),
        "a: expected 16 bytes"
    );
}

#[test]
fn a_flood_of_violations_is_counted_and_cut() {
    let violations = (0..10_000)
        .map(|n| Violation {
            path: format!("paths[{n}]"),
            expected: "a field".to_owned(),
        })
        .collect();
    let (status, details) = told(Refusal::invalid(violations));
    assert_eq!(status.message(), "10000 fields are not valid");
    assert_eq!(details.bad_request().unwrap().field_violations.len(), 50);
    assert!(status.details().len() < 8 * 1024);
}

#[test]
fn metadata_holds_the_entry_and_the_public_reason_of_each_field() {
    let withheld = [WithheldField {
        path: "subject.given_name".to_owned(),
        reason: WithheldReason::ConsentNotInForce.into(),
    }];
    for refusal in [Refusal::nothing_releasable, Refusal::without_consent] {
        let (_, details) = told(refusal(&withheld).logged(Some(41)));
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata.len(), 2);
        assert_eq!(metadata["audit_index"], "41");
        assert_eq!(metadata["field.subject.given_name"], "CONSENT_NOT_IN_FORCE");
    }
    let (_, details) = told(Refusal::access().logged(None));
    assert!(details.error_info().unwrap().metadata.is_empty());
}

//! A refusal on its way to a gRPC status: the one place where code, published reason and details meet.

use std::{collections::HashMap, time::Duration};

use amanat_schema::{Violation, audit::WithheldField, error::Reason, policy::WithheldReason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every ErrorInfo.
const DOMAIN: &str = "amanat";
/// The most violations that a status tells: it travels in a header, and clients refuse large ones.
const MOST_VIOLATIONS: usize = 50;
/// When to come back, where a refusal is about now.
const RETRY: Duration = Duration::from_millis(500);
/// When to come back to a crowd.
const CROWDED: Duration = Duration::from_secs(1);
/// When to come back to a full disk, or with a question that takes too long: later than anybody waits at a terminal.
const FULL: Duration = Duration::from_secs(60);
const SLOW: Duration = Duration::from_secs(60);

/// Why a call is refused. Holds ids and field paths, never values.
#[derive(Debug)]
pub struct Refusal {
    code: Code,
    reason: Reason,
    message: String,
    metadata: HashMap<String, String>,
    violations: Vec<Violation>,
    /// When to come back.
    retry: Option<Duration>,
}

impl Refusal {
    fn new(code: Code, reason: Reason, message: &str) -> Self {
        Self {
            code,
            reason,
            message: message.to_owned(),
            metadata: HashMap::new(),
            violations: Vec::new(),
            retry: None,
        }
    }

    /// No hints: which rule a credential broke is for the operator's log.
    pub fn credential() -> Self {
        Self::new(
            Code::Unauthenticated,
            Reason::CredentialInvalid,
            "the certificate or token is not accepted; check the certificate, the clock and the token",
        )
    }

    /// The same text whether the thing is forbidden or absent.
    pub fn access() -> Self {
        Self::new(
            Code::PermissionDenied,
            Reason::AccessDenied,
            "there is no such thing here for this officer",
        )
    }

    pub fn invalid(violations: Vec<Violation>) -> Self {
        let message = match violations.as_slice() {
            [one] => one.to_string(),
            many => format!("{} fields are not valid", many.len()),
        };
        let mut refusal = Self::new(Code::InvalidArgument, Reason::FieldInvalid, &message);
        refusal.violations = violations;
        refusal
    }

    /// One field.
    pub fn field(path: &str, expected: &str) -> Self {
        Self::invalid(vec![Violation {
            path: path.to_owned(),
            expected: expected.to_owned(),
        }])
    }

    pub fn too_large() -> Self {
        Self::new(
            Code::InvalidArgument,
            Reason::TooLarge,
            "a request may hold at most 512 KiB",
        )
    }

    /// Nothing that was asked could be released; each field with its public reason.
    pub fn nothing_releasable(withheld: &[WithheldField]) -> Self {
        let message = "none of the fields may be released to this agency now";
        Self::withheld(message, withheld)
    }

    /// A sender asks the recipient to read what no consent lets it; each field with its public reason.
    pub fn without_consent(withheld: &[WithheldField]) -> Self {
        let message = "no consent in force lets the recipient read these fields for this purpose; \
                       record one first";
        Self::withheld(message, withheld)
    }

    fn withheld(message: &str, withheld: &[WithheldField]) -> Self {
        let code = Code::PermissionDenied;
        let mut refusal = Self::new(code, Reason::NothingReleasable, message);
        for field in withheld {
            let reason = WithheldReason::try_from(field.reason).unwrap_or_default();
            let name = reason.as_str_name().trim_start_matches("WITHHELD_REASON_");
            refusal
                .metadata
                .insert(format!("field.{}", field.path), name.to_owned());
        }
        refusal
    }

    pub fn state(message: &str) -> Self {
        Self::new(Code::FailedPrecondition, Reason::StateConflict, message)
    }

    pub fn request_id_reused() -> Self {
        Self::new(
            Code::FailedPrecondition,
            Reason::RequestIdReused,
            "this request_id was used for another request; use a new one",
        )
    }

    pub fn version(message: &str) -> Self {
        Self::new(Code::Aborted, Reason::VersionMismatch, message)
    }

    pub fn audit_unavailable() -> Self {
        Self::new(
            Code::Unavailable,
            Reason::AuditUnavailable,
            "the log cannot be written or checked now, so nothing is disclosed; try again",
        )
        .retry(RETRY)
    }

    /// The same for want of space, which a person has to make.
    pub fn out_of_space() -> Self {
        Self::audit_unavailable().retry(FULL)
    }

    /// Too much of the log would have to be looked through.
    pub fn slow_list() -> Self {
        Self::new(
            Code::Unavailable,
            Reason::AuditUnavailable,
            "these entries are not found in time; narrow the filter: name a case, an agency and an action, or times \
             closer together",
        )
        .retry(SLOW)
    }

    /// Frozen: nothing to retry, someone must look.
    pub fn log_inconsistent() -> Self {
        Self::new(
            Code::DataLoss,
            Reason::LogInconsistent,
            "a log contradicts itself; its signer has halted: call the duty contact",
        )
    }

    pub fn ledger_behind() -> Self {
        Self::new(
            Code::Unavailable,
            Reason::LedgerBehind,
            "the custodian has not recorded the consent yet; try again",
        )
        .retry(RETRY)
    }

    /// The entry was decided by a directory that another has just taken the place of: the same entry never
    /// counts again.
    pub fn rules_changing() -> Self {
        let mut refusal = Self::new(
            Code::Unavailable,
            Reason::LedgerBehind,
            "the servers are taking a new directory into use; ask for the read again",
        );
        let directory = "DIRECTORY".to_owned();
        refusal.metadata.insert("superseded".to_owned(), directory);
        refusal.retry(RETRY)
    }

    /// This replica has not been given a key that the others use by now.
    pub fn outdated() -> Self {
        Self::new(
            Code::Unavailable,
            Reason::AuditUnavailable,
            "this server waits to be restarted with a key that others have taken into use, so nothing is disclosed; \
             try again",
        )
        .retry(RETRY)
    }

    /// A budget of the day is used up.
    pub fn quota(retry_after: Duration) -> Self {
        Self::new(
            Code::ResourceExhausted,
            Reason::QuotaExceeded,
            "this is more than what is left of today's budget; nothing was counted",
        )
        .retry(retry_after)
    }

    /// More than an agency may have under way at once; the others are served meanwhile.
    pub fn crowded() -> Self {
        Self::new(
            Code::ResourceExhausted,
            Reason::QuotaExceeded,
            "this agency has as many requests under way as it may at once; nothing was done",
        )
        .retry(CROWDED)
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    /// Names the log entry that the refusal made.
    #[must_use]
    pub fn logged(mut self, index: Option<u64>) -> Self {
        if let Some(index) = index {
            self.metadata
                .insert("audit_index".to_owned(), index.to_string());
        }
        self
    }

    /// The published name, as the log keeps it.
    pub fn reason(&self) -> &'static str {
        self.reason.as_str_name().trim_start_matches("REASON_")
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let reason = refusal.reason();
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, refusal.metadata);
        if !refusal.violations.is_empty() {
            details.set_bad_request(
                refusal
                    .violations
                    .into_iter()
                    .take(MOST_VIOLATIONS)
                    .map(|violation| {
                        tonic_types::FieldViolation::new(violation.path, violation.expected)
                    })
                    .collect::<Vec<_>>(),
            );
        }
        if refusal.retry.is_some() {
            details.set_retry_info(refusal.retry);
        }
        Self::with_error_details(refusal.code, refusal.message, details)
    }
}

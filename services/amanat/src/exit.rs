//! What the program's exit code says: the one place that knows it of every reason.

use amanat_connector::{ConnectorError, Reason};

/// How a command ended, if not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    Denied = 1,
    Usage = 2,
    BadInput = 3,
    Later = 4,
    Inconsistent = 5,
}

impl Exit {
    pub(crate) const ALL: [Self; 5] = [
        Self::Denied,
        Self::Usage,
        Self::BadInput,
        Self::Later,
        Self::Inconsistent,
    ];

    pub(crate) const fn of(reason: Reason) -> Self {
        match reason {
            Reason::CredentialInvalid
            | Reason::AccessDenied
            | Reason::NothingReleasable
            | Reason::StateConflict
            | Reason::RequestIdReused
            | Reason::VersionMismatch
            | Reason::ServerRevoked
            | Reason::VerificationFailed
            | Reason::BackupDamaged
            | Reason::CallUnknown
            | Reason::AnotherPerson
            | Reason::DraftRefused
            | Reason::RotationRefused
            | Reason::PlayFailed => Self::Denied,
            Reason::UsageInvalid => Self::Usage,
            Reason::FieldInvalid
            | Reason::TooLarge
            | Reason::ProfileMissing
            | Reason::ProfileInvalid
            | Reason::DirectoryInvalid
            | Reason::RevocationUnknown
            | Reason::OutboxUnusable
            | Reason::InputInvalid
            | Reason::CardInvalid
            | Reason::FileUnusable
            | Reason::ConfigInvalid
            | Reason::KeyInvalid
            | Reason::DecisionTableInvalid
            | Reason::SuspensionInvalid
            | Reason::DatabaseExists
            | Reason::DatabaseMissing
            | Reason::DatabaseInvalid
            | Reason::ExchangeNotMade => Self::BadInput,
            Reason::QuotaExceeded
            | Reason::AuditUnavailable
            | Reason::LedgerBehind
            | Reason::Unreachable
            | Reason::OutboxBusy
            | Reason::DiskFull
            | Reason::LogUnwritable
            | Reason::AddressUnavailable
            | Reason::SystemRefused
            | Reason::ServerNotStarted
            | Reason::Interrupted => Self::Later,
            Reason::LogInconsistent
            | Reason::DirectoryRolledBack
            | Reason::AnswerUntrustworthy
            | Reason::LogFrozen => Self::Inconsistent,
        }
    }

    /// A newer server's reason is a refusal, unless it says when to come back.
    pub(crate) fn of_connector(error: &ConnectorError) -> Self {
        match error.known_reason() {
            Some(reason) => Self::of(reason),
            None if error.is_retryable() => Self::Later,
            None => Self::Denied,
        }
    }

    /// Of several failures at once: an alarm before a refusal before a mistake, and last what passes by itself.
    pub(crate) fn gravest(failures: impl IntoIterator<Item = Self>) -> Option<Self> {
        failures.into_iter().max_by_key(|exit| match exit {
            Self::Later => 0,
            Self::Usage | Self::BadInput => 1,
            Self::Denied => 2,
            Self::Inconsistent => 3,
        })
    }

    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// What it says, in a line.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Denied => "denied, or a verification failed",
            Self::Usage => "the arguments are not understood",
            Self::BadInput => "bad input: a file, a field, a configuration or a profile",
            Self::Later => "unreachable, or not now: the same command works later",
            Self::Inconsistent => {
                "a log is frozen, or what was signed contradicts itself: call the duty contact"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_failures_the_one_that_needs_a_person_soonest_decides() {
        use Exit::{BadInput, Denied, Inconsistent, Later};
        let gravest = |failures: &[Exit]| Exit::gravest(failures.iter().copied());
        assert_eq!(gravest(&[]), None);
        assert_eq!(gravest(&[Later, Denied, BadInput]), Some(Denied));
        assert_eq!(gravest(&[Denied, Inconsistent, Later]), Some(Inconsistent));
        assert_eq!(gravest(&[Later, BadInput]), Some(BadInput));
        assert_eq!(gravest(&[Later, Later]), Some(Later));
    }
}

//! The reason of every error that a server or the quickstart can end with: one that has none does not compile.

use amanat_config::{ConfigError, FileError};
use amanat_connector::{Reason, of_directory};
use amanat_custodian::{CustodianError, FollowError};
use amanat_desk::{keeping::KeepError, setup::SetupError};
use amanat_gateway::GatewayError;
use amanat_identity::tls::TlsError;
use amanat_journal::{JournalError, backup::BackupError};
use amanat_server::ServeError;

use crate::{
    ceremony::CeremonyError, error::of_output, quickstart::QuickstartError, serve::ServerError,
};

/// An error that the catalogue knows.
pub(crate) trait Reasoned {
    fn reason(&self) -> Reason;

    /// What to do next.
    fn next_step(&self) -> &'static str {
        self.reason().next_step()
    }

    /// The configuration that is not valid, if that is what it is.
    fn config(&self) -> Option<&ConfigError> {
        None
    }
}

impl Reasoned for ServerError {
    fn reason(&self) -> Reason {
        match self {
            Self::Config(_) | Self::Telemetry(_) | Self::Environment(_) => Reason::ConfigInvalid,
            Self::Gateway(error) => error.reason(),
            Self::Custodian(error) => error.reason(),
            Self::Keep(error) => error.reason(),
            Self::Ownerless { .. } => Reason::InputInvalid,
            Self::Listen(error) => error.reason(),
            Self::Made { .. } => Reason::DatabaseExists,
            Self::NotMade { .. } | Self::RanBefore { .. } => Reason::DatabaseMissing,
            Self::Address(_) => Reason::AddressUnavailable,
            Self::Signals(_) => Reason::SystemRefused,
            Self::Output(error) => of_output(error),
        }
    }

    fn next_step(&self) -> &'static str {
        if let Self::RanBefore { .. } = self {
            "restore the newest backup of the database; if all are lost, call the duty contact: its log cannot \
             begin anew under the same key"
        } else if let Self::Keep(error) = self {
            error.next_step()
        } else {
            self.reason().next_step()
        }
    }

    fn config(&self) -> Option<&ConfigError> {
        if let Self::Config(error) = self {
            Some(error)
        } else {
            None
        }
    }
}

impl Reasoned for KeepError {
    fn reason(&self) -> Reason {
        match self {
            Self::Setup(error) => error.reason(),
            Self::File(error) => error.reason(),
            Self::Backup(error) => error.reason(),
            Self::NoKey | Self::UnknownServer => Reason::InputInvalid,
        }
    }

    fn next_step(&self) -> &'static str {
        match self {
            Self::NoKey => "name it with --key FILE, or as key under [backup] in the configuration",
            Self::Backup(error) => error.next_step(),
            Self::Setup(_) | Self::File(_) | Self::UnknownServer => self.reason().next_step(),
        }
    }
}

impl Reasoned for BackupError {
    fn reason(&self) -> Reason {
        match self {
            Self::NoBackup
            | Self::Format { .. }
            | Self::Another { .. }
            | Self::Steps
            | Self::Table(_)
            | Self::NoCheckpoint { .. }
            | Self::Seen
            | Self::Exists { .. } => Reason::InputInvalid,
            Self::CutOff
            | Self::Longer
            | Self::Header
            | Self::Part(_)
            | Self::Form(_)
            | Self::Signature(_)
            | Self::Log(_) => Reason::BackupDamaged,
            Self::Key => Reason::KeyInvalid,
            Self::InUse => Reason::LogUnwritable,
            Self::File { source, .. } => Reason::of_io(source),
            Self::Copy(_) => Reason::DatabaseInvalid,
            Self::Seal(_) => Reason::SystemRefused,
            Self::Journal(error) => error.reason(),
        }
    }

    fn next_step(&self) -> &'static str {
        if let Self::NoCheckpoint { .. } = self {
            "name with --seen FILE the newest checkpoint that others hold; `restore --help` says who does"
        } else if let Self::InUse = self {
            "stop every replica, then run the same command again: what was copied does not count yet"
        } else {
            self.reason().next_step()
        }
    }
}

impl Reasoned for GatewayError {
    fn reason(&self) -> Reason {
        match self {
            Self::Setup(error) => error.reason(),
            Self::File(error) => error.reason(),
            Self::NoPepper => Reason::ConfigInvalid,
            Self::Key { .. } | Self::Pepper(_) => Reason::KeyInvalid,
            Self::Journal(error) => error.reason(),
            Self::Serve(error) => error.reason(),
        }
    }
}

impl Reasoned for CustodianError {
    fn reason(&self) -> Reason {
        match self {
            Self::Setup(error) => error.reason(),
            Self::File(error) => error.reason(),
            Self::Key { .. }
            | Self::OtherStatementKey
            | Self::OtherOprfKey { .. }
            | Self::NoOprfKey { .. } => Reason::KeyInvalid,
            Self::Follow(FollowError::Address) => Reason::ConfigInvalid,
            Self::Follow(FollowError::Contradicted) => Reason::LogFrozen,
            Self::Follow(FollowError::Journal(error)) | Self::Journal(error) => error.reason(),
            Self::Serve(error) => error.reason(),
        }
    }
}

impl Reasoned for SetupError {
    fn reason(&self) -> Reason {
        match self {
            Self::File(error) => error.reason(),
            Self::Directory(error) => of_directory(error),
            Self::Tls(TlsError::Authority(_)) | Self::OtherExchange | Self::Unfit(_) => {
                Reason::DirectoryInvalid
            }
            Self::Tls(TlsError::Version(_)) => Reason::SystemRefused,
            Self::Tls(TlsError::Revocation(_)) => Reason::RevocationUnknown,
            Self::Suspension(_) => Reason::SuspensionInvalid,
            Self::Table { .. } | Self::OtherTable { .. } => Reason::DecisionTableInvalid,
            Self::Certificate { .. }
            | Self::OwnCertificate { .. }
            | Self::Unlisted(_)
            | Self::SigningKey { .. }
            | Self::OtherLogKey => Reason::KeyInvalid,
        }
    }
}

impl Reasoned for FileError {
    fn reason(&self) -> Reason {
        match self {
            Self::Io { source, .. } => Reason::of_io(source),
            Self::Open { .. } | Self::OpenFolder { .. } | Self::NoKey { .. } => Reason::KeyInvalid,
        }
    }
}

impl Reasoned for JournalError {
    fn reason(&self) -> Reason {
        match self {
            Self::Frozen(_) => Reason::LogFrozen,
            Self::Full => Reason::DiskFull,
            Self::Unwritable(_)
            | Self::Unreachable(_)
            | Self::Busy
            | Self::Crowded
            | Self::Slow => Reason::LogUnwritable,
            Self::RequestIdReused => Reason::RequestIdReused,
            Self::Database(_) => Reason::DatabaseInvalid,
            Self::OtherOpeningsKey => Reason::KeyInvalid,
            Self::Log(_) => Reason::LogInconsistent,
            Self::File { .. } => Reason::FileUnusable,
        }
    }
}

impl Reasoned for ServeError {
    fn reason(&self) -> Reason {
        match self {
            Self::Listen { .. } => Reason::AddressUnavailable,
            Self::Transport(_) => Reason::SystemRefused,
        }
    }
}

impl Reasoned for CeremonyError {
    fn reason(&self) -> Reason {
        match self {
            Self::NotEmpty { .. }
            | Self::HoldsKeys { .. }
            | Self::FileThere { .. }
            | Self::NoFolder { .. }
            | Self::TooFewRegistrars
            | Self::Threshold { .. }
            | Self::Suspension(_) => Reason::InputInvalid,
            Self::Io { source, .. } | Self::Confirmation(source) => Reason::of_io(source),
            Self::File(error) => error.reason(),
            Self::Config(_) => Reason::ConfigInvalid,
            Self::Directory(error) => of_directory(error),
            Self::Changed { .. } => Reason::FileUnusable,
            Self::Certificate(_) | Self::Key(_) | Self::Oprf(_) | Self::Log(_) => {
                Reason::KeyInvalid
            }
            Self::Toml { .. } => Reason::SystemRefused,
            Self::Card { .. } | Self::CardForm(_) => Reason::CardInvalid,
            Self::Draft { .. } => Reason::DraftRefused,
            Self::Rotation { .. } => Reason::RotationRefused,
        }
    }

    fn next_step(&self) -> &'static str {
        if let Self::Suspension(_) = self {
            "`amanat directory show FILE` lists the agencies of a directory, and their keys"
        } else {
            self.reason().next_step()
        }
    }

    fn config(&self) -> Option<&ConfigError> {
        if let Self::Config(error) | Self::CardForm(error) = self {
            Some(error)
        } else {
            None
        }
    }
}

impl Reasoned for QuickstartError {
    fn reason(&self) -> Reason {
        match self {
            Self::Development(_) => Reason::ExchangeNotMade,
            Self::File { source, .. } => Reason::of_io(source),
            Self::Start { .. } => Reason::ServerNotStarted,
            Self::Signals(_) => Reason::SystemRefused,
            Self::Stopped => Reason::Interrupted,
            Self::CaseFile | Self::Surprise { .. } => Reason::PlayFailed,
        }
    }
}

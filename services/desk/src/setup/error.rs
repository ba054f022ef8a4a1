//! Why a server does not start, or does not take a newer file into use.

use amanat_config::FileError;
use amanat_identity::{CertificateFault, DirectoryError, SuspensionError, tls::TlsError};

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "{0}; until it can be read this server does not start, for it may close an agency that is not to be \
         trusted"
    )]
    Suspension(SuspensionError),
    #[error("{path}: {message}")]
    Table { path: String, message: String },
    #[error(
        "{path} is not the decision table that the directory names; put the table there that was published \
         with the directory"
    )]
    OtherTable { path: String },
    #[error("the directory is of another exchange; fetch that of this one from your registrars")]
    OtherExchange,
    #[error(
        "the directory lists another {0} than this server works with; change the configuration to fit it, \
         and restart the server"
    )]
    Unfit(&'static str),
    #[error("{path} holds no certificate in PEM form")]
    Certificate { path: String },
    #[error("{path}, the certificate of this server: {fault}")]
    OwnCertificate {
        path: String,
        fault: CertificateFault,
    },
    #[error(
        "by it the certificate that this server shows does not count: {0}. Have the directory list the old \
         authority too until the certificate of the new one is in use"
    )]
    Unlisted(CertificateFault),
    #[error("{path} holds no usable signing key")]
    SigningKey { path: String },
    #[error("the log's signing key is not the one that the directory lists for this server")]
    OtherLogKey,
}

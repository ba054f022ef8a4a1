//! Revocation lists (CRLs): one file for each authority that the directory lists, put into a folder by the
//! operator. What an authority's certificates count for is a function of its file and of the clock: without
//! a list of its own that is in date, none of them counts.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject as _};
use webpki::OwnedCertRevocationList;

use crate::PeerName;

/// Why an authority's certificates are refused, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {fault}; until then no certificate of {of} is accepted")]
pub struct CrlError {
    pub path: String,
    /// Whose list it is, as in `the gateway`.
    pub of: String,
    pub fault: CrlFault,
}

/// What is wrong with a revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CrlFault {
    #[error(
        "there is no such file: ask the authority's owner for its revocation list (CRL) and put it there"
    )]
    Missing,
    #[error("it cannot be read ({0}): check the file's owner and permissions")]
    Unreadable(io::ErrorKind),
    #[error(
        "it is no revocation list in DER or PEM: ask the authority's owner for it again and put it there \
         whole"
    )]
    Malformed,
    #[error(
        "it is not signed by the authority that the directory lists: ask the authority's owner for its own \
         revocation list (CRL) and put it there"
    )]
    Foreign,
    #[error(
        "it is out of date: ask the authority's owner for a newer revocation list (CRL) and put it there"
    )]
    Stale,
}

impl CrlFault {
    /// What a failed verification says of the list that it was made with; `None` if the list is not to
    /// blame.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library may add kinds; whatever is not of the list is of the certificate"
    )]
    fn of(error: &Error) -> Option<Self> {
        match error {
            // There is a list, so it speaks for another authority.
            Error::InvalidCertificate(CertificateError::UnknownRevocationStatus)
            | Error::InvalidCertRevocationList(_) => Some(Self::Foreign),
            Error::InvalidCertificate(
                CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. },
            ) => Some(Self::Stale),
            _ => None,
        }
    }
}

/// The files of a folder, as they were when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationFolder {
    path: PathBuf,
}

impl RevocationFolder {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The list of those whom an agency or the custodian certifies as clients.
    pub fn of_peer(&self, peer: PeerName) -> RevocationList {
        match peer {
            PeerName::Agency(id) => self.read(&id.to_string(), format!("agency {id}")),
            PeerName::Custodian => self.of_custodian(),
        }
    }

    /// The list of the gateway's authority.
    pub fn of_gateway(&self) -> RevocationList {
        self.read("gateway", "the gateway".to_owned())
    }

    /// The list of the custodian's authority.
    pub fn of_custodian(&self) -> RevocationList {
        self.read("custodian", "the custodian".to_owned())
    }

    fn read(&self, name: &str, of: String) -> RevocationList {
        let path = self.path.join(format!("{name}.crl"));
        RevocationList {
            found: read(&path),
            path,
            of,
            told: AtomicBool::new(false),
        }
    }
}

/// One authority's list, or why there is none.
#[derive(Debug)]
pub struct RevocationList {
    found: Result<CertificateRevocationListDer<'static>, CrlFault>,
    path: PathBuf,
    of: String,
    /// Whether the operator was told what its use brought to light; once is enough for one reading.
    told: AtomicBool,
}

impl RevocationList {
    /// # Errors
    /// [`CrlError`] if there is no list to be had from the file.
    pub fn list(&self) -> Result<CertificateRevocationListDer<'static>, CrlError> {
        self.found.clone().map_err(|fault| self.error(fault))
    }

    /// What is wrong with the list by a verification that failed; `None` if the list is not to blame.
    pub fn judge(&self, error: &Error) -> Option<CrlError> {
        CrlFault::of(error).map(|fault| self.error(fault))
    }

    /// The same, but the first time only.
    pub(crate) fn judge_once(&self, error: &Error) -> Option<CrlError> {
        let found = self.judge(error)?;
        (!self.told.swap(true, Ordering::Relaxed)).then_some(found)
    }

    fn error(&self, fault: CrlFault) -> CrlError {
        CrlError {
            path: self.path.display().to_string(),
            of: self.of.clone(),
            fault,
        }
    }
}

fn read(path: &Path) -> Result<CertificateRevocationListDer<'static>, CrlFault> {
    let bytes = fs::read(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            CrlFault::Missing
        } else {
            CrlFault::Unreadable(error.kind())
        }
    })?;
    let list = if bytes.starts_with(b"-----BEGIN") {
        CertificateRevocationListDer::from_pem_slice(&bytes).map_err(|_| CrlFault::Malformed)?
    } else {
        CertificateRevocationListDer::from(bytes)
    };
    OwnedCertRevocationList::from_der(&list).map_err(|_| CrlFault::Malformed)?;
    Ok(list)
}

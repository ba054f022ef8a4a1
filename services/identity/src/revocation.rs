//! Revocation lists (CRLs): one file for each party that the directory lists, put into a folder by the
//! operator, with a list of each of the party's authorities. What an authority's certificates count for is a
//! function of that file and of the clock: without a list of its own that is in date, none of them counts.

mod life;

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
        "it holds no list that is signed by the authority of the certificate: ask the authority's owner for \
         its own revocation list (CRL) and put it there; where the directory lists two authorities, put both \
         lists there in PEM, one after the other"
    )]
    Foreign,
    #[error(
        "it is out of date: ask the authority's owner for a newer revocation list (CRL) and put it there"
    )]
    Stale,
}

impl CrlFault {
    /// What a failed verification says of the lists that it was made with; `None` if they are not to blame.
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

    /// The lists of those whom an agency or the custodian certifies as clients.
    pub fn of_peer(&self, peer: PeerName) -> RevocationLists {
        match peer {
            PeerName::Agency(id) => self.read(&id.to_string(), format!("agency {id}")),
            PeerName::Custodian => self.of_custodian(),
        }
    }

    /// The lists of the gateway's authorities.
    pub fn of_gateway(&self) -> RevocationLists {
        self.read("gateway", "the gateway".to_owned())
    }

    /// The lists of the custodian's authorities.
    pub fn of_custodian(&self) -> RevocationLists {
        self.read("custodian", "the custodian".to_owned())
    }

    fn read(&self, name: &str, of: String) -> RevocationLists {
        let path = self.path.join(format!("{name}.crl"));
        RevocationLists {
            found: read(&path),
            path,
            of,
            told: AtomicBool::new(false),
        }
    }
}

/// The lists of one party's authorities, or why there are none.
#[derive(Debug)]
pub struct RevocationLists {
    found: Result<Vec<CertificateRevocationListDer<'static>>, CrlFault>,
    path: PathBuf,
    of: String,
    /// Whether the operator was told what its use brought to light; once is enough for one reading.
    told: AtomicBool,
}

impl RevocationLists {
    /// Never empty.
    ///
    /// # Errors
    /// [`CrlError`] if there is no list to be had from the file.
    pub fn lists(&self) -> Result<&[CertificateRevocationListDer<'static>], CrlError> {
        let found = self.found.as_deref();
        found.map_err(|fault| self.error(*fault))
    }

    /// What is wrong with the lists by a verification that failed; `None` if they are not to blame.
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

/// A file in DER is one list; one in PEM may hold several.
fn read(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, CrlFault> {
    let bytes = fs::read(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            CrlFault::Missing
        } else {
            CrlFault::Unreadable(error.kind())
        }
    })?;
    let lists = if bytes.starts_with(b"-----BEGIN") {
        CertificateRevocationListDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| CrlFault::Malformed)?
    } else {
        vec![CertificateRevocationListDer::from(bytes)]
    };
    let mut parsed = lists
        .iter()
        .map(|list| OwnedCertRevocationList::from_der(list));
    if lists.is_empty() || parsed.any(|list| list.is_err()) {
        return Err(CrlFault::Malformed);
    }
    Ok(lists)
}

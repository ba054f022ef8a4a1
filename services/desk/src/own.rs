//! The server's own certificate, from its two files. Whoever replaces them cannot replace both at once, so a
//! pair that does not fit is refused and looked at again.

use amanat_config::{private_key_pem, read_file};
use amanat_identity::{
    CertificateFault, Directory, OwnCertificate, PeerName, Service, ShownCertificate,
    token::Audience,
};
use amanat_schema::Time;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::{settings::Listen, setup::error::SetupError};

/// What a server shows of itself, and which server it is.
pub(crate) struct Own {
    pub(crate) shown: ShownCertificate,
    listen: Listen,
    audience: Audience,
}

impl Own {
    /// # Errors
    /// [`SetupError`], naming the file.
    pub(crate) fn load(
        listen: &Listen,
        audience: Audience,
        directory: &Directory,
        now: Time,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            shown: certificate(listen, audience, directory, now)?.into(),
            listen: listen.clone(),
            audience,
        })
    }

    /// Which files it is in.
    pub(crate) fn settings(&self) -> &Listen {
        &self.listen
    }

    /// Takes into use what lies in the files; returns whether that is another one.
    ///
    /// # Errors
    /// [`SetupError`]: then the one in use stays.
    pub(crate) fn take(&self, directory: &Directory, now: Time) -> Result<bool, SetupError> {
        let own = certificate(&self.listen, self.audience, directory, now)?;
        let is_another = own.sha256() != self.shown.current().sha256();
        self.shown.replace(own);
        Ok(is_another)
    }

    /// Whether the one in use is still of a name and an authority that a newer directory lists.
    ///
    /// # Errors
    /// [`SetupError::Unlisted`].
    pub(crate) fn fits(&self, directory: &Directory, now: Time) -> Result<(), SetupError> {
        match check(&self.shown.current(), self.audience, directory, now) {
            Err(fault @ (CertificateFault::Authority | CertificateFault::Name(_))) => {
                Err(SetupError::Unlisted(fault))
            }
            // A certificate that has run out is no reason to keep an old directory.
            _ => Ok(()),
        }
    }
}

/// The certificate that the settings name, as a server of the directory can show it now.
///
/// # Errors
/// [`SetupError`], naming the file.
pub fn certificate(
    listen: &Listen,
    audience: Audience,
    directory: &Directory,
    now: Time,
) -> Result<OwnCertificate, SetupError> {
    let chain = chain(listen)?;
    let key = private_key_pem(&listen.private_key)?;
    let refused = |fault| SetupError::OwnCertificate {
        path: listen.certificate.display().to_string(),
        fault,
    };
    let own = OwnCertificate::new(chain, key).map_err(refused)?;
    check(&own, audience, directory, now).map_err(refused)?;
    Ok(own)
}

/// The certificates of the file.
pub(crate) fn chain(listen: &Listen) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let pem = read_file(&listen.certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    chain
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| SetupError::Certificate {
            path: listen.certificate.display().to_string(),
        })
}

fn check(
    own: &OwnCertificate,
    audience: Audience,
    directory: &Directory,
    now: Time,
) -> Result<(), CertificateFault> {
    own.serves_as(service(audience, directory), now)?;
    match audience {
        Audience::Gateway => Ok(()),
        Audience::Custodian => own.calls_as(PeerName::Custodian, directory, now),
    }
}

pub(crate) fn service(audience: Audience, directory: &Directory) -> &Service {
    match audience {
        Audience::Gateway => directory.gateway(),
        Audience::Custodian => directory.custodian(),
    }
}

//! How long a party's lists last, told before a certificate brings it to light.

use amanat_schema::Time;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::{CrlError, CrlFault, RevocationLists};
use crate::OwnCertificate;

impl RevocationLists {
    /// Until when each of the authorities has a list of its own that is in date.
    ///
    /// # Errors
    /// [`CrlError`] if one has none, so that its certificates are refused.
    pub fn end(&self, authorities: &[CertificateDer<'_>], now: Time) -> Result<Time, CrlError> {
        let lists = self.lists()?;
        let mut first = None;
        for authority in authorities {
            let ends = lists.iter().filter_map(|list| next_update(list, authority));
            let ends = ends.max().ok_or_else(|| self.error(CrlFault::Foreign))?;
            if ends <= now {
                return Err(self.error(CrlFault::Stale));
            }
            first = Some(first.map_or(ends, |first: Time| first.min(ends)));
        }
        // A party has an authority; without one, nothing of it counts.
        first.ok_or_else(|| self.error(CrlFault::Foreign))
    }

    /// Whether a list of one of the authorities names the certificate.
    ///
    /// # Errors
    /// [`CrlError`] if none of the lists is one of theirs.
    pub fn revoke(
        &self,
        authorities: &[CertificateDer<'_>],
        own: &OwnCertificate,
    ) -> Result<bool, CrlError> {
        let found = self.lists()?;
        let pairs = authorities.iter().flat_map(|authority| {
            let lists = found.iter();
            lists.filter_map(move |list| of_authority(list, authority))
        });
        let lists: Vec<_> = pairs.collect();
        if lists.is_empty() {
            return Err(self.error(CrlFault::Foreign));
        }
        let certificate = own.end_entity();
        let certificate = certificate.and_then(|der| X509Certificate::from_der(der).ok());
        Ok(certificate
            .is_some_and(|(_, certificate)| lists.iter().any(|list| names(list, &certificate))))
    }
}

/// `None` if the list is not the authority's.
fn of_authority<'a>(list: &'a [u8], authority: &[u8]) -> Option<CertificateRevocationList<'a>> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    let (_, authority) = X509Certificate::from_der(authority).ok()?;
    if list.issuer().as_raw() != authority.subject().as_raw() {
        return None;
    }
    list.verify_signature(authority.public_key()).ok()?;
    Some(list)
}

fn names(list: &CertificateRevocationList<'_>, certificate: &X509Certificate<'_>) -> bool {
    list.issuer().as_raw() == certificate.issuer().as_raw()
        && list
            .iter_revoked_certificates()
            .any(|revoked| revoked.serial() == &certificate.tbs_certificate.serial)
}

fn next_update(list: &[u8], authority: &[u8]) -> Option<Time> {
    let list = of_authority(list, authority)?;
    let seconds = list.next_update()?.timestamp();
    Time::from_millis(seconds.checked_mul(1000)?).ok()
}

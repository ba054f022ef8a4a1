//! How long a party's lists last, told before a certificate brings it to light.

use amanat_schema::Time;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::{CrlError, CrlFault, RevocationLists};

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
}

/// `None` if the list is not the authority's.
fn next_update(list: &[u8], authority: &[u8]) -> Option<Time> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    let (_, authority) = X509Certificate::from_der(authority).ok()?;
    if list.issuer().as_raw() != authority.subject().as_raw() {
        return None;
    }
    list.verify_signature(authority.public_key()).ok()?;
    let seconds = list.next_update()?.timestamp();
    Time::from_millis(seconds.checked_mul(1000)?).ok()
}

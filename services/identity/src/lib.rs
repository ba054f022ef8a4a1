//! Who is calling: the signed directory, certificates, officer tokens and statement signatures, joined
//! into a [`Caller`]. Gateway, custodian and connector check with the same code.
//!
//! Nothing here trusts a name that someone gives themselves: an agency is what the directory's registrars
//! signed, its certificate chains to the authority that the directory lists for it alone, and its kind
//! comes from there, never from a token.

mod authorities;
pub mod caller;
pub mod certificate;
pub mod directory;
pub mod inspect;
pub mod revocation;
pub mod statement;
pub mod suspension;
pub mod tls;
pub mod token;
pub mod trust;

pub use caller::{Caller, Officer, Peer, PeerName};
pub use certificate::{CertificateFault, OwnCertificate, ShownCertificate};
pub use directory::{Agency, Directory, DirectoryError, Registrars, RetiredKey, Service};
pub use revocation::{CrlError, CrlFault, RevocationFolder, RevocationLists};
pub use statement::{Signed, SignedError};
pub use suspension::{InForce, SuspensionError, SuspensionFault, Suspensions};
pub use token::{TokenError, TokenIssuer, TokenVerifier};
pub use trust::{Trust, Trusted};

/// What a receipt's linkage names its request by: SHA-256 over the message's name, a zero byte and the
/// request's bytes. Caller and server compute it alike, so an answer cannot be spliced to another request.
pub fn request_sha256<T: prost::Message + prost::Name>(request: &T) -> [u8; 32] {
    let mut bytes = zeroize::Zeroizing::new(T::full_name().into_bytes());
    bytes.push(0);
    // A deposit holds a record key; growing would leave copies of it behind.
    bytes.reserve_exact(request.encoded_len());
    // There is room for all of it.
    request.encode(&mut *bytes).ok();
    amanat_seal::sha256(&bytes)
}

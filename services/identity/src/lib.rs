//! Who is calling: the signed directory, certificates, officer tokens and statement signatures, joined
//! into a [`Caller`]. Gateway, custodian and connector check with the same code.
//!
//! Nothing here trusts a name that someone gives themselves: an agency is what the directory's registrars
//! signed, its certificate chains to the authority that the directory lists for it alone, and its kind
//! comes from there, never from a token.

pub mod caller;
pub mod directory;
pub mod statement;
pub mod tls;
pub mod token;

pub use caller::{Caller, Officer, Peer, PeerName};
pub use directory::{Agency, Directory, DirectoryError, Registrars, Service};
pub use statement::{Signed, SignedError};
pub use token::{TokenError, TokenIssuer, TokenVerifier};

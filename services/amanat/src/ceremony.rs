//! The ceremony: how an exchange comes into being, and how it changes. Each party makes its own keys on its own
//! machine and hands out a card; registrars draft a directory from the cards, sign it, each with a key that
//! nobody else holds, and publish it. No private key leaves the folder that it was made in.
//!
//! ```text
//! registrar   registrar.key  registrar.card.toml
//! gateway     gateway.toml   gateway.card.toml   gateway.crl    ca/ keys/ tls/ data/ state/
//! custodian   custodian.toml custodian.card.toml custodian.crl  ca/ keys/ tls/ data/ state/
//! agency      profile.toml   agency.card.toml    ID.crl         ca/ keys/ tls/ outbox/ state/
//! public      directory.bin  decision-table.txt  crls/ suspensions/
//! ```

mod agency;
mod authority;
mod card;
mod changes;
mod config;
mod draft;
mod enrolment;
mod error;
mod folder;
mod history;
mod keys;
mod leaf;
mod party;
mod profile;
mod publish;
mod renew;
mod rotate;
mod server;
mod suspend;
pub(crate) mod verbs;

use std::path::Path;

use amanat_identity::Registrars;
use amanat_schema::Time;

pub use agency::{Joining, Officer, Tokens, agency, registrar};
pub use card::Card;
pub use changes::{Change, Direction, Fact};
pub use draft::{Cards, Draft, first, next};
pub use enrolment::{Compromised, Known};
pub use error::{
    CardFault, CeremonyError, DraftFault, Forgotten, RotationFault, SuspensionRefusal,
};
pub use party::Party;
pub use publish::publish;
pub use renew::{InUse, Renewed, Revocation, renew, revoke, revoke_until};
pub use rotate::{Rotated, Step, authority, statements, tokens};
pub use server::{Host, custodian, gateway};
pub use suspend::suspend;

pub(crate) use card::is_card;
pub(crate) use config::{CRLS, DIRECTORY, SUSPENSIONS};
pub(crate) use folder::{Folder, read, replace};
pub(crate) use keys::KeyFile;

/// What a party is told of its exchange before it makes its keys.
pub struct Ground<'a> {
    /// The exchange's name and SPIFFE trust domain, in the form of a host name.
    pub exchange_id: &'a str,
    /// Who must have signed the directory, for as long as the party does not pin others.
    pub registrars: &'a Registrars,
    /// Where the directory and the lists will lie, from the root.
    pub public: &'a Path,
    pub now: Time,
}

/// The registrars whom cards name, to be pinned.
///
/// # Errors
/// [`CeremonyError::Card`], [`CeremonyError::TooFewRegistrars`], [`CeremonyError::Threshold`].
pub fn registrars(cards: &[(&Path, Card)], threshold: usize) -> Result<Registrars, CeremonyError> {
    let mut keys = Vec::new();
    for (path, card) in cards {
        card.registrar().map_err(|fault| CeremonyError::Card {
            path: path.to_path_buf(),
            fault,
        })?;
        keys.extend(card.signing_keys());
    }
    keys.sort_unstable();
    keys.dedup();
    if keys.len() < 2 || keys.len() != cards.len() {
        return Err(CeremonyError::TooFewRegistrars);
    }
    if !(2..=keys.len()).contains(&threshold) {
        return Err(CeremonyError::Threshold {
            registrars: keys.len(),
        });
    }
    Ok(Registrars { keys, threshold })
}

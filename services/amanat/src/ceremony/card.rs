//! Cards: what a party says of itself before the directory lists it, in TOML for people to read and compare.
//! Each of its signing keys signs it, so nobody can hand in a key that another one holds.

mod file;

use std::{io::ErrorKind, path::Path};

use amanat_config::{ConfigError, outline};
use amanat_schema::{
    AgencyId,
    directory::{self, card},
    policy::AgencyKind,
    statement::{Envelope, Signature},
};
use amanat_seal::statement::{SigningKey, key_id, verify_threshold};
use prost::{Message as _, Name as _};

use super::{CeremonyError, error::CardFault};

/// A card whose signatures hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    content: directory::Card,
    party: card::Party,
    /// In the order of the keys that it names.
    signatures: Vec<Vec<u8>>,
}

impl Card {
    /// Signed by the keys that it names, in their order.
    pub(crate) fn sign(content: directory::Card, keys: &[&SigningKey]) -> Self {
        let mut envelope = envelope(&content, Vec::new());
        for key in keys {
            key.cosign(&mut envelope);
        }
        let signatures = envelope.signatures.into_iter();
        Self {
            party: content.party.clone().unwrap_or_else(nobody),
            content,
            signatures: signatures.map(|signature| signature.signature).collect(),
        }
    }

    /// Reads a card and checks that it is its maker's own.
    ///
    /// # Errors
    /// [`CeremonyError::CardForm`] with every mistake and its line, [`CeremonyError::Card`].
    pub fn read(path: &Path) -> Result<Self, CeremonyError> {
        let file::Written {
            fingerprint,
            content,
            signatures,
        } = written(path)?;
        let refused = |fault| CeremonyError::Card {
            path: path.to_owned(),
            fault,
        };
        let card = Self {
            party: content.party.clone().unwrap_or_else(nobody),
            content,
            signatures,
        };
        let keys = card.signing_keys();
        let signed = keys.iter().zip(&card.signatures);
        let signed = signed.map(|(key, signature)| Signature {
            key_id: key_id(key).to_vec(),
            signature: signature.clone(),
        });
        let envelope = envelope(&card.content, signed.collect());
        if keys.len() != card.signatures.len() {
            return Err(refused(CardFault::Signature));
        }
        verify_threshold::<directory::Card>(&envelope, &keys, keys.len())
            .map_err(|_| refused(CardFault::Signature))?;
        if fingerprint != card.fingerprint() {
            return Err(refused(CardFault::Fingerprint));
        }
        if let card::Party::Agency(agency) = &card.party {
            check_display_name(agency.kind(), &agency.display_name).map_err(refused)?;
        }
        Ok(card)
    }

    /// # Errors
    /// [`CeremonyError::Toml`].
    pub(crate) fn to_toml(&self) -> Result<String, CeremonyError> {
        file::write(self)
    }

    pub(crate) fn content(&self) -> &directory::Card {
        &self.content
    }

    pub fn party(&self) -> &card::Party {
        &self.party
    }

    pub fn name(&self) -> &str {
        &self.content.name
    }

    /// Empty on a registrar's.
    pub fn exchange_id(&self) -> &str {
        &self.content.exchange_id
    }

    /// `registrar`, `agency`, `gateway` or `custodian`.
    pub fn kind(&self) -> &'static str {
        match self.party {
            card::Party::Registrar(_) => "registrar",
            card::Party::Agency(_) => "agency",
            card::Party::Gateway(_) => "gateway",
            card::Party::Custodian(_) => "custodian",
        }
    }

    /// Half of the SHA-256 of what it says, in groups of four digits: short enough to be read out, and nobody
    /// finds another card to it.
    pub fn fingerprint(&self) -> String {
        let sha256 = amanat_seal::sha256(&self.content.encode_to_vec());
        let groups = sha256.chunks(2).take(8).map(hex::encode);
        groups.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn authorities(&self) -> &[Vec<u8>] {
        match &self.party {
            card::Party::Registrar(_) => &[],
            card::Party::Agency(agency) => &agency.issuing_cas,
            card::Party::Gateway(service) | card::Party::Custodian(service) => &service.issuing_cas,
        }
    }

    /// The public keys that sign it: for statements, or the registrar's.
    pub(crate) fn signing_keys(&self) -> Vec<[u8; 32]> {
        let keys = match &self.party {
            card::Party::Registrar(registrar) => std::slice::from_ref(&registrar.public_key),
            card::Party::Agency(agency) => &agency.statement_keys,
            card::Party::Gateway(service) | card::Party::Custodian(service) => {
                &service.statement_keys
            }
        };
        let keys = keys.iter().filter_map(|key| key.as_slice().try_into().ok());
        keys.collect()
    }

    /// # Errors
    /// [`CardFault::Party`].
    pub fn agency(&self) -> Result<&directory::Agency, CardFault> {
        match &self.party {
            card::Party::Agency(agency) => Ok(agency),
            card::Party::Registrar(_) | card::Party::Gateway(_) | card::Party::Custodian(_) => {
                Err(CardFault::Party {
                    expected: "an agency",
                })
            }
        }
    }

    /// # Errors
    /// [`CeremonyError::Card`].
    pub fn agency_id(&self, path: &Path) -> Result<AgencyId, CeremonyError> {
        let id = self
            .agency()
            .map(|agency| AgencyId::parse(&agency.agency_id));
        let refused = |fault| CeremonyError::Card {
            path: path.to_owned(),
            fault,
        };
        id.map_err(refused)?
            .map_err(|_| refused(CardFault::Signature))
    }

    /// # Errors
    /// [`CardFault::Party`].
    pub fn registrar(&self) -> Result<&directory::Registrar, CardFault> {
        match &self.party {
            card::Party::Registrar(registrar) => Ok(registrar),
            card::Party::Agency(_) | card::Party::Gateway(_) | card::Party::Custodian(_) => {
                Err(CardFault::Party {
                    expected: "a registrar",
                })
            }
        }
    }
}

/// What a card's file says.
fn written(path: &Path) -> Result<file::Written, CeremonyError> {
    let no_card = || CeremonyError::Card {
        path: path.to_owned(),
        fault: CardFault::NoCard,
    };
    let names = outline(path).map_err(|error| match error {
        ConfigError::File { path, source } if source.kind() != ErrorKind::InvalidData => {
            CeremonyError::Io { path, source }
        }
        ConfigError::File { .. } | ConfigError::Invalid { .. } => no_card(),
    })?;
    if !is_card(&names) {
        return Err(no_card());
    }
    amanat_config::read(path, file::read).map_err(CeremonyError::CardForm)
}

/// By the names at the top of a file, which tell a card from all else that parties keep.
pub(crate) fn is_card(names: &[String]) -> bool {
    let has = |card_only| names.iter().any(|name| name == card_only);
    has("fingerprint") || has("signatures")
}

/// The directory never shows where a shelter is.
pub(crate) fn check_display_name(kind: AgencyKind, name: &str) -> Result<(), CardFault> {
    let is_shelter = matches!(kind, AgencyKind::DarulAman | AgencyKind::NgoShelter);
    if is_shelter && !name.is_empty() {
        return Err(CardFault::ShelterNamed);
    }
    Ok(())
}

/// What a message without a party says; it has no keys, so no signature can hold.
fn nobody() -> card::Party {
    card::Party::Registrar(directory::Registrar::default())
}

fn envelope(content: &directory::Card, signatures: Vec<Signature>) -> Envelope {
    Envelope {
        payload_type: directory::Card::full_name(),
        payload: content.encode_to_vec(),
        signatures,
    }
}

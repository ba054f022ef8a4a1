//! A party's own folder: what `keys init` made, and what changes in it later. The card there says what the
//! directory is to list of the party.

use std::path::{Path, PathBuf};

use amanat_schema::{
    AgencyId, Time,
    directory::{self, card},
};
use rcgen::SanType;

use super::{
    CeremonyError,
    authority::{self, AUTHORITIES, Authority, LIST_LIFE, Usage},
    card::Card,
    error::RotationFault,
    folder::{self, Folder},
    leaf,
};

/// A party that was made.
pub struct Party {
    /// From the root.
    pub folder: PathBuf,
    pub card: Card,
}

/// What the process of a party shows.
pub(crate) struct Shown {
    /// Of the files: `server` or `connector`.
    pub(crate) file: &'static str,
    pub(crate) names: Vec<SanType>,
    pub(crate) usage: Usage,
}

/// Finishes a party's folder: the certificate of its process, an empty revocation list, the card.
pub(crate) fn make(
    folder: Folder,
    card: Card,
    authority: &Authority,
    now: Time,
) -> Result<Party, CeremonyError> {
    let party = Party {
        folder: folder.as_path().to_owned(),
        card,
    };
    let Shown { file, names, usage } = party.shown()?;
    let pair = authority.issue(file, names, usage, now)?;
    leaf::first(&folder, &Folder::at(party.keys()), file, &pair)?;
    let list = authority.list(&[], now, now + LIST_LIFE)?;
    folder::write_new(&party.list()?, list.as_bytes())?;
    folder::write_new(&party.card_file(), party.card.to_toml()?.as_bytes())?;
    Ok(party)
}

impl Party {
    /// The party whose folder it is.
    ///
    /// # Errors
    /// [`CeremonyError`] without a card of a party that has certificates.
    pub fn open(path: &Path) -> Result<Self, CeremonyError> {
        let path = folder::absolute(path)?;
        let card = ["gateway", "custodian", "agency"]
            .map(|kind| path.join(format!("{kind}.card.toml")))
            .into_iter()
            .find(|card| card.exists());
        let Some(card) = card else {
            return Err(CeremonyError::Rotation {
                folder: path,
                fault: RotationFault::NoParty,
            });
        };
        Ok(Self {
            card: Card::read(&card)?,
            folder: path,
        })
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// Where its authorities lie.
    pub(crate) fn authority_folder(&self) -> PathBuf {
        self.folder.join(AUTHORITIES)
    }

    /// `gateway.toml`, `custodian.toml` or `profile.toml`.
    pub fn config(&self) -> PathBuf {
        self.folder.join(match self.card.party() {
            card::Party::Gateway(_) => "gateway.toml",
            card::Party::Custodian(_) => "custodian.toml",
            card::Party::Agency(_) | card::Party::Registrar(_) => "profile.toml",
        })
    }

    pub fn card_file(&self) -> PathBuf {
        self.folder.join(format!("{}.card.toml", self.card.kind()))
    }

    /// Its own revocation list, to be put into the public folder's `crls/` under the same name.
    ///
    /// # Errors
    /// [`CeremonyError::Changed`].
    pub fn list(&self) -> Result<PathBuf, CeremonyError> {
        let name = match self.card.party() {
            card::Party::Agency(agency) => self.id(agency)?.to_string(),
            card::Party::Gateway(_) | card::Party::Custodian(_) | card::Party::Registrar(_) => {
                self.card.kind().to_owned()
            }
        };
        Ok(self.folder.join(format!("{name}.crl")))
    }

    /// The authorities that the card names, the one that issues first.
    pub(crate) fn authorities(&self) -> Result<Vec<Authority>, CeremonyError> {
        let mut found = Vec::new();
        for listed in self.card.authorities() {
            let mut number = 1;
            found.push(loop {
                match Authority::open(&self.authority_folder(), number)? {
                    Some(authority) if authority.certificate == *listed => break authority,
                    Some(_) => number += 1,
                    None => return Err(self.changed()),
                }
            });
        }
        Ok(found)
    }

    pub(crate) fn issuing(&self) -> Result<Authority, CeremonyError> {
        let first = self.authorities()?.into_iter().next();
        first.ok_or_else(|| self.changed())
    }

    /// Puts a card in the place of the one that is there.
    pub(crate) fn replace_card(&mut self, card: Card) -> Result<(), CeremonyError> {
        folder::replace(&self.card_file(), card.to_toml()?.as_bytes())?;
        self.card = card;
        Ok(())
    }

    /// What its process' certificate says.
    pub(crate) fn shown(&self) -> Result<Shown, CeremonyError> {
        let exchange = self.card.exchange_id();
        Ok(match self.card.party() {
            card::Party::Agency(agency) => Shown {
                file: "connector",
                names: vec![authority::uri(format!(
                    "spiffe://{exchange}/agency/{}",
                    self.id(agency)?
                ))?],
                usage: Usage::Client,
            },
            card::Party::Gateway(service) => Shown {
                file: "server",
                names: vec![authority::host(&service.server_name)?],
                usage: Usage::Server,
            },
            // The gateway's client too.
            card::Party::Custodian(service) => Shown {
                file: "server",
                names: vec![
                    authority::host(&service.server_name)?,
                    authority::uri(format!("spiffe://{exchange}/service/custodian"))?,
                ],
                usage: Usage::Both,
            },
            card::Party::Registrar(_) => return Err(self.changed()),
        })
    }

    pub(crate) fn id(&self, agency: &directory::Agency) -> Result<AgencyId, CeremonyError> {
        AgencyId::parse(&agency.agency_id).map_err(|_| self.changed())
    }

    /// Who issues an agency's officer tokens.
    pub(crate) fn token_issuer(&self) -> Option<String> {
        let issuers = &self.card.agency().ok()?.token_issuers;
        issuers.last().map(|issuer| issuer.issuer.clone())
    }

    pub(crate) fn refused(&self, fault: RotationFault) -> CeremonyError {
        CeremonyError::Rotation {
            folder: self.folder.clone(),
            fault,
        }
    }

    fn changed(&self) -> CeremonyError {
        CeremonyError::Changed {
            path: self.card_file(),
        }
    }
}

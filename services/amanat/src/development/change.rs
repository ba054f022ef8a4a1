//! What changes in an exchange after it was made: certificates revoked, a newer directory, a suspension, an
//! agency that joins.

use std::{path::PathBuf, time::Duration};

use amanat_schema::{AgencyId, Time, directory};
use prost::Message as _;

use super::{AgencyPlan, DIRECTORY_DAYS, DevelopmentError, Exchange, publish_list};
use crate::ceremony::{self, CRLS, Draft, Ground, InUse, Party, Revocation, SUSPENSIONS};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A party whose authority issues revocation lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certifier<'a> {
    /// By the plan's name.
    Agency(&'a str),
    Gateway,
    Custodian,
}

/// One of the two who sign the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registrar {
    One,
    Two,
}

impl Registrar {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
        }
    }
}

impl Exchange {
    /// Where the revocation lists lie.
    pub fn crls(&self) -> PathBuf {
        self.public().join(CRLS)
    }

    /// Where the suspensions lie.
    pub fn suspensions(&self) -> PathBuf {
        self.public().join(SUSPENSIONS)
    }

    /// The file of a party's revocation list.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file.
    pub fn list(&self, of: Certifier<'_>) -> Result<PathBuf, DevelopmentError> {
        let list = self.party(of)?.list()?;
        Ok(self.crls().join(list.file_name().unwrap_or_default()))
    }

    /// Revokes the certificate that a party's process uses.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file.
    pub fn revoke(&self, of: Certifier<'_>, now: Time) -> Result<(), DevelopmentError> {
        let party = self.party(of)?;
        let certificate = party.folder.join("keys").join(match of {
            Certifier::Agency(_) => "connector.pem",
            Certifier::Gateway | Certifier::Custodian => "server.pem",
        });
        let what = Revocation::Certificate(certificate);
        ceremony::revoke(&party, &what, InUse::Revoke, now)?;
        Ok(publish_list(&party, &self.crls())?)
    }

    /// Publishes a party's revocation list: all the serial numbers that it revokes, and until when the list
    /// is good.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file.
    pub fn publish_list(
        &self,
        of: Certifier<'_>,
        serials: &[Vec<u8>],
        now: Time,
        until: Time,
    ) -> Result<(), DevelopmentError> {
        let party = self.party(of)?;
        ceremony::revoke_until(&party, serials, now, until)?;
        Ok(publish_list(&party, &self.crls())?)
    }

    /// Publishes the next version of the directory, in force for 30 days from `now` and signed by both
    /// registrars. `change` may change all of it, also into what no registrar would sign.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file.
    pub fn publish(
        &self,
        now: Time,
        change: impl FnOnce(&mut directory::Directory),
    ) -> Result<(), DevelopmentError> {
        let mut next = self.published()?;
        next.version += 1;
        next.not_before_time = Some(now.to_timestamp());
        next.valid_until_time = Some((now + DAY * DIRECTORY_DAYS).to_timestamp());
        change(&mut next);
        let mut signed = self.registrar(Registrar::One)?.key.sign(&next);
        self.registrar(Registrar::Two)?.key.cosign(&mut signed);
        Ok(ceremony::replace(&self.directory, &signed.encode_to_vec())?)
    }

    /// What the directory that was published last says.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file.
    pub fn published(&self) -> Result<directory::Directory, DevelopmentError> {
        Ok(Draft::read(&self.directory)?.content().clone())
    }

    /// One registrar suspends an agency, or one of its statement keys; returns the file.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file.
    pub fn suspend(
        &self,
        registrar: Registrar,
        agency: AgencyId,
        statement_key: Option<[u8; 32]>,
        now: Time,
    ) -> Result<PathBuf, DevelopmentError> {
        let key = self.registrar(registrar)?.key;
        let in_force = Draft::read(&self.directory)?;
        let out = self.suspensions();
        Ok(ceremony::suspend(
            agency,
            statement_key,
            &key,
            &in_force,
            &out,
            now,
        )?)
    }

    /// Makes another agency, and returns how the next directory is to list it.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file or folder.
    pub fn join(
        &mut self,
        plan: &AgencyPlan,
        now: Time,
    ) -> Result<directory::Agency, DevelopmentError> {
        let exchange_id = self.published()?.exchange_id;
        let known = self.agencies.iter();
        let mut ids: std::collections::BTreeMap<_, _> = known
            .map(|(name, member)| (name.clone(), member.id))
            .collect();
        let id = AgencyId::new(amanat_seal::random().map_err(ceremony::CeremonyError::from)?);
        ids.insert(plan.name.clone(), id);
        let (registrars, public) = (self.registrars.clone(), self.public());
        let ground = Ground {
            exchange_id: &exchange_id,
            registrars: &registrars,
            public: &public,
            now,
        };
        let party = self.found(plan, &ids, &ground)?;
        publish_list(&party, &self.crls())?;
        let agency = party.card.agency().cloned();
        agency.map_err(|_| DevelopmentError::UnknownAgency(plan.name.clone()))
    }

    /// A party's own folder, as the ceremony changes it.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file.
    pub fn party(&self, of: Certifier<'_>) -> Result<Party, DevelopmentError> {
        let folder = match of {
            Certifier::Agency(name) => {
                let member = self.agencies.get(name);
                let member = member.ok_or_else(|| DevelopmentError::UnknownAgency(name.to_owned()));
                &member?.folder
            }
            Certifier::Gateway => &self.gateway.folder,
            Certifier::Custodian => &self.custodian.folder,
        };
        Ok(Party::open(folder)?)
    }

    fn public(&self) -> PathBuf {
        self.folder.join("public")
    }
}

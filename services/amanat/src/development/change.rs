//! What changes in an exchange after it was made: certificates revoked, a newer directory, a suspension, an
//! agency that joins.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use amanat_schema::{AgencyId, Time, directory, statement::Envelope};
use amanat_seal::statement::SigningKey;
use prost::Message as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use webpki::EndEntityCert;

use super::{
    AgencyPlan, CRLS, DIRECTORY_LIFE, DevelopmentError, Exchange, Ground, Member, SUSPENSIONS,
    TABLE_FILE, agency, authority,
    folder::{self, Folder},
};

/// As long as a directory may be.
const LIST_LIFE: Duration = DIRECTORY_LIFE;

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
    /// [`DevelopmentError::UnknownAgency`].
    pub fn list(&self, of: Certifier<'_>) -> Result<PathBuf, DevelopmentError> {
        Ok(self.crls().join(format!("{}.crl", self.list_name(of)?)))
    }

    /// Revokes the certificate that a party's process uses.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file.
    pub fn revoke(&self, of: Certifier<'_>, now: Time) -> Result<(), DevelopmentError> {
        let path = self.keys(of)?.join(match of {
            Certifier::Agency(_) => "connector.pem",
            Certifier::Gateway | Certifier::Custodian => "server.pem",
        });
        let serial = serial(&path)?;
        self.publish_list(of, &[serial], now, now + LIST_LIFE)
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
        let (keys, name) = (self.keys(of)?, self.list_name(of)?);
        authority::revoke(&keys, &self.crls(), &name, serials, now, until)
    }

    /// Publishes the next version of the directory, in force for 30 days from `now` and signed by both
    /// registrars. `change` may change all of it.
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
        next.valid_until_time = Some((now + DIRECTORY_LIFE).to_timestamp());
        change(&mut next);
        let mut signed = self.registrar(Registrar::One)?.sign(&next);
        self.registrar(Registrar::Two)?.cosign(&mut signed);
        folder::replace(&self.directory, &signed.encode_to_vec())
    }

    /// What the directory that was published last says.
    ///
    /// # Errors
    /// [`DevelopmentError`], naming the file.
    pub fn published(&self) -> Result<directory::Directory, DevelopmentError> {
        let changed = |_| DevelopmentError::Changed {
            path: self.directory.clone(),
        };
        let bytes = folder::read(&self.directory)?;
        let envelope = Envelope::decode(bytes.as_slice()).map_err(changed)?;
        directory::Directory::decode(envelope.payload.as_slice()).map_err(changed)
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
        let in_force = self.published()?;
        let id: [u8; 16] = amanat_seal::random()?;
        let suspension = directory::Suspension {
            exchange_id: in_force.exchange_id,
            suspension_id: id.to_vec(),
            agency_id: agency.to_vec(),
            statement_key: statement_key.map(Vec::from).unwrap_or_default(),
            directory_version: in_force.version,
            suspend_time: Some(now.to_timestamp()),
        };
        let signed = self.registrar(registrar)?.sign(&suspension);
        let path = self.suspensions().join(format!("{}.bin", hex::encode(id)));
        folder::replace(&path, &signed.encode_to_vec())?;
        Ok(path)
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
        let id = AgencyId::new(amanat_seal::random()?);
        let exchange_id = self.published()?.exchange_id;
        let known = self
            .agencies
            .iter()
            .map(|(name, member)| (name.clone(), member.id));
        let agencies: BTreeMap<_, _> = known.chain([(plan.name.clone(), id)]).collect();
        let ground = Ground {
            exchange_id: &exchange_id,
            now,
            registrars: self.registrars.keys.iter().map(hex::encode).collect(),
            threshold: self.registrars.threshold,
            directory: self.directory.clone(),
            decision_table: self.public().join(TABLE_FILE),
            crls: self.crls(),
            suspensions: self.suspensions(),
            gateway: self.gateway.address,
            custodian: self.custodian.address,
            agencies,
        };
        let parent = Folder::at(self.folder.join("agencies"));
        let (member, entry) = agency::make(&parent, &ground, plan, id)?;
        self.agencies.insert(plan.name.clone(), member);
        Ok(entry)
    }

    fn public(&self) -> PathBuf {
        self.folder.join("public")
    }

    fn member(&self, name: &str) -> Result<&Member, DevelopmentError> {
        let member = self.agencies.get(name);
        member.ok_or_else(|| DevelopmentError::UnknownAgency(name.to_owned()))
    }

    fn keys(&self, of: Certifier<'_>) -> Result<PathBuf, DevelopmentError> {
        let folder = match of {
            Certifier::Agency(name) => &self.member(name)?.folder,
            Certifier::Gateway => &self.gateway.folder,
            Certifier::Custodian => &self.custodian.folder,
        };
        Ok(folder.join("keys"))
    }

    fn list_name(&self, of: Certifier<'_>) -> Result<String, DevelopmentError> {
        Ok(match of {
            Certifier::Agency(name) => self.member(name)?.id.to_string(),
            Certifier::Gateway => "gateway".to_owned(),
            Certifier::Custodian => "custodian".to_owned(),
        })
    }

    fn registrar(&self, registrar: Registrar) -> Result<SigningKey, DevelopmentError> {
        let path = self.folder.join("registrars").join(match registrar {
            Registrar::One => "one.pem",
            Registrar::Two => "two.pem",
        });
        Ok(SigningKey::from_pem(&folder::read(&path)?)?)
    }
}

/// The serial number of the first certificate in a PEM file.
fn serial(path: &Path) -> Result<Vec<u8>, DevelopmentError> {
    let changed = || DevelopmentError::Changed {
        path: path.to_owned(),
    };
    let certificate =
        CertificateDer::from_pem_slice(&folder::read(path)?).map_err(|_| changed())?;
    let parsed = EndEntityCert::try_from(&certificate).map_err(|_| changed())?;
    Ok(parsed.serial().to_vec())
}

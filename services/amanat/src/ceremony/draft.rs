//! Drafts of a directory: the envelope that will be published, while signatures are missing. It is edited until
//! the first registrar has signed it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use amanat_identity::{Directory, DirectoryError, Registrars, directory::LONGEST_LIFE};
use amanat_schema::{
    AgencyId, Time,
    directory::{self, card},
    statement::Envelope,
};
use amanat_seal::statement::{SigningKey, verify_threshold};
use prost::{Message as _, Name as _};

use super::{
    Card, CeremonyError, Known,
    changes::{self, Change},
    enrolment,
    error::{CardFault, DraftFault},
    folder, history,
    verbs::party_name,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A directory or a draft of one, as its file has it.
#[derive(Debug, Clone)]
pub struct Draft {
    pub(crate) path: PathBuf,
    pub(crate) envelope: Envelope,
    pub(crate) content: directory::Directory,
}

/// The cards that a directory is made from, each with its file.
pub struct Cards<'a> {
    pub registrars: &'a [(&'a Path, Card)],
    pub gateway: (&'a Path, Card),
    pub custodian: (&'a Path, Card),
}

/// The first directory of an exchange, with nobody in it but the servers.
///
/// # Errors
/// [`CeremonyError::Card`], [`CeremonyError::Threshold`], [`CeremonyError::Directory`].
pub fn first(
    path: &Path,
    exchange_id: &str,
    cards: &Cards<'_>,
    threshold: usize,
    table: &[u8],
    now: Time,
    days: u32,
) -> Result<Draft, CeremonyError> {
    super::registrars(cards.registrars, threshold)?;
    let registrars = cards.registrars.iter();
    let content = directory::Directory {
        exchange_id: exchange_id.to_owned(),
        version: 1,
        registrars: registrars
            .filter_map(|(_, card)| card.registrar().ok().cloned())
            .collect(),
        // No more than there are cards.
        threshold: u32::try_from(threshold).unwrap_or(u32::MAX),
        table_sha256: amanat_seal::sha256(table).to_vec(),
        ..directory::Directory::default()
    };
    let mut draft = Draft::of(path, content);
    draft.set_time(now, days);
    for (path, card) in [&cards.gateway, &cards.custodian] {
        draft.set_server(path, card, &Known::default(), now)?;
    }
    draft.settle()?;
    folder::write_new(path, &draft.bytes())?;
    Ok(draft)
}

/// The next after a directory: the same, one version on and with a time of its own, with what is given changed.
/// A server's card that no listed key of its signed is taken only if it is known that this server's keys are lost.
///
/// # Errors
/// [`CeremonyError::Draft`] unless its registrars signed it; [`CeremonyError::Card`].
pub fn next(
    path: &Path,
    from: &Draft,
    table: Option<&[u8]>,
    servers: &[(&Path, Card, Known)],
    now: Time,
    days: u32,
) -> Result<Draft, CeremonyError> {
    from.is_signed_by(&from.registrars())?;
    let mut draft = Draft::of(path, from.content.clone());
    draft.content.version += 1;
    draft.set_time(now, days);
    if let Some(table) = table {
        draft.content.table_sha256 = amanat_seal::sha256(table).to_vec();
    }
    for (path, card, known) in servers {
        draft.set_server(path, card, known, now)?;
    }
    draft.settle()?;
    folder::write_new(path, &draft.bytes())?;
    Ok(draft)
}

impl Draft {
    fn of(path: &Path, content: directory::Directory) -> Self {
        Self {
            path: path.to_owned(),
            envelope: Envelope::default(),
            content,
        }
    }

    /// Reads a directory or a draft of one. Nothing is checked but its form.
    ///
    /// # Errors
    /// [`DraftFault::Malformed`].
    pub fn read(path: &Path) -> Result<Self, CeremonyError> {
        let malformed = || CeremonyError::Draft {
            path: path.to_owned(),
            fault: DraftFault::Malformed,
        };
        let bytes = folder::read(path)?;
        let envelope = Envelope::decode(bytes.as_slice()).map_err(|_| malformed())?;
        let content = directory::Directory::decode(envelope.payload.as_slice());
        let content = content.map_err(|_| malformed())?;
        if envelope.payload_type != directory::Directory::full_name() {
            return Err(malformed());
        }
        Ok(Self {
            path: path.to_owned(),
            envelope,
            content,
        })
    }

    /// What it says.
    pub fn content(&self) -> &directory::Directory {
        &self.content
    }

    pub fn version(&self) -> u64 {
        self.content.version
    }

    /// Of the bytes that are signed, hexadecimal.
    pub fn digest(&self) -> String {
        hex::encode(amanat_seal::sha256(&self.envelope.payload))
    }

    /// What will be signed is what it says now.
    fn settle(&mut self) -> Result<(), CeremonyError> {
        self.check()?;
        self.envelope = Envelope {
            payload_type: directory::Directory::full_name(),
            payload: self.content.encode_to_vec(),
            signatures: Vec::new(),
        };
        Ok(())
    }

    fn check(&self) -> Result<(), CeremonyError> {
        for registrar in &self.content.registrars {
            if party_name(&registrar.name).is_err() {
                let key = hex::encode(&registrar.public_key);
                return Err(self.refused(DraftFault::RegistrarName(key)));
            }
        }
        Ok(Directory::check_fields(&self.content)?)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.envelope.encode_to_vec()
    }

    pub(crate) fn registrars(&self) -> Registrars {
        let keys = self.content.registrars.iter();
        Registrars {
            keys: keys
                .filter_map(|registrar| registrar.public_key.as_slice().try_into().ok())
                .collect(),
            threshold: usize::try_from(self.content.threshold).unwrap_or(usize::MAX),
        }
    }

    fn set_time(&mut self, now: Time, days: u32) {
        self.content.not_before_time = Some(now.to_timestamp());
        self.content.valid_until_time = Some((now + DAY * days).to_timestamp());
    }

    fn set_server(
        &mut self,
        path: &Path,
        card: &Card,
        known: &Known,
        now: Time,
    ) -> Result<(), CeremonyError> {
        self.is_of_exchange(path, card)?;
        let refused = |fault| CeremonyError::Card {
            path: path.to_owned(),
            fault,
        };
        let content = &mut self.content;
        let (service, place, same_keys) = match card.party() {
            card::Party::Gateway(service) => (service, &mut content.gateway, true),
            card::Party::Custodian(service) => {
                let next = &card.content().oprf_keys;
                let same_keys = content.oprf_keys == *next;
                content.oprf_keys.clone_from(next);
                (service, &mut content.custodian, same_keys)
            }
            card::Party::Agency(_) | card::Party::Registrar(_) => {
                let expected = "a server";
                return Err(refused(CardFault::Party { expected }));
            }
        };
        match place {
            Some(listed) => {
                let same = same_keys && listed == service;
                enrolment::server(listed, service, same, known, now).map_err(refused)?;
            }
            None => drop(enrolment::made(service.card_time.as_ref(), now).map_err(refused)?),
        }
        *place = Some(service.clone());
        Ok(())
    }

    /// Lists an agency as its card says, or anew if it is listed: that is how its keys change. A statement key
    /// that the card names no more is retired at `now`; what it signed until then still verifies, unless it is
    /// known to be compromised since an earlier time. An agency that was listed once comes back with its old
    /// keys.
    ///
    /// # Errors
    /// [`CeremonyError::Card`], [`CeremonyError::Draft`], [`CeremonyError::Directory`].
    pub fn enrol(
        &mut self,
        path: &Path,
        card: &Card,
        known: &Known,
        now: Time,
    ) -> Result<Vec<Change>, CeremonyError> {
        let refused = |fault| CeremonyError::Card {
            path: path.to_owned(),
            fault,
        };
        self.is_of_exchange(path, card)?;
        let said = card.agency().map_err(refused)?;
        let agency = enrolment::agency(&self.content, said, known, now).map_err(refused)?;
        self.edit(|next| {
            let id = agency.agency_id.as_slice();
            next.former_agencies.retain(|a| a.agency_id != id);
            match next.agencies.iter_mut().find(|a| a.agency_id == id) {
                Some(listed) => *listed = agency,
                None => next.agencies.push(agency),
            }
            Ok(())
        })
    }

    /// Lists an agency no more. Its keys stay known, so that its return forgets none of them. They are retired at
    /// a time when surely nobody works by an earlier directory: until then the agency goes on signing, what it signs
    /// is accepted, and after its return that still has to verify.
    ///
    /// # Errors
    /// [`DraftFault::UnknownAgency`], [`DraftFault::IsSigned`].
    pub fn remove(&mut self, id: AgencyId) -> Result<Vec<Change>, CeremonyError> {
        self.edit(|next| {
            let mut agencies = next.agencies.iter();
            let place = agencies.position(|a| a.agency_id == id.as_bytes());
            let place = place.ok_or(DraftFault::UnknownAgency(id))?;
            let gone = next.agencies.remove(place);
            let drafted = Time::parse(next.not_before_time.as_ref());
            let unused = drafted.map_err(|_| DraftFault::Malformed)? + LONGEST_LIFE;
            let mut keys = gone.retired_statement_keys;
            keys.extend(enrolment::retired_at(&gone.statement_keys, unused));
            next.former_agencies.push(directory::FormerAgency {
                agency_id: gone.agency_id,
                statement_keys: keys,
                card_time: gone.card_time,
                removed_version: next.version,
            });
            Ok(())
        })
    }

    fn edit(
        &mut self,
        change: impl FnOnce(&mut directory::Directory) -> Result<(), DraftFault>,
    ) -> Result<Vec<Change>, CeremonyError> {
        if !self.envelope.signatures.is_empty() {
            return Err(self.refused(DraftFault::IsSigned));
        }
        let mut next = self.clone();
        change(&mut next.content).map_err(|fault| self.refused(fault))?;
        next.settle()?;
        let changes = changes::between(Some(&self.content), &next.content);
        folder::replace(&self.path, &next.bytes())?;
        *self = next;
        Ok(changes)
    }

    /// What a registrar changes by signing it: against the directory in use, or all of it for the first.
    ///
    /// A directory that the registrar did not sign could have been made up to hide a change that stands in the
    /// draft too; then all of it is shown as well.
    ///
    /// # Errors
    /// [`CeremonyError::Draft`] if it does not follow, forgets what the directory in use says of keys, is not in
    /// time, or bears a signature that does not hold;
    /// [`CeremonyError::Directory`] if a field is not valid.
    pub fn examine(
        &self,
        in_use: Option<&Self>,
        registrar: &[u8; 32],
        now: Time,
    ) -> Result<Vec<Change>, CeremonyError> {
        self.check()?;
        match in_use {
            Some(in_use) => {
                in_use.is_signed_by(&in_use.registrars())?;
                self.follows(in_use)?;
                if self.content.version != in_use.content.version + 1 {
                    return Err(self.refused(DraftFault::Version {
                        in_use: in_use.content.version,
                        found: self.content.version,
                    }));
                }
                history::is_kept(&in_use.content, &self.content)
                    .map_err(|fault| self.refused(fault))?;
            }
            None if self.content.version != 1 => {
                return Err(self.refused(DraftFault::InUseMissing(self.content.version)));
            }
            None => {}
        }
        let ends = Time::parse(self.content.valid_until_time.as_ref()).ok();
        if let Some(ends) = ends.filter(|ends| *ends <= now) {
            return Err(self.refused(DraftFault::Expired(ends)));
        }
        let registrars = self.registrars();
        if !self.envelope.signatures.is_empty() {
            verify_threshold::<directory::Directory>(&self.envelope, &registrars.keys, 1)
                .map_err(|_| self.refused(DraftFault::Signatures))?;
        }
        let known = in_use.filter(|in_use| in_use.bears(registrar));
        Ok(changes::between(
            known.map(|known| &known.content),
            &self.content,
        ))
    }

    /// Adds a registrar's signature to a draft that [`Draft::examine`] found in order.
    ///
    /// # Errors
    /// [`DraftFault::UnknownRegistrar`], [`DraftFault::SignedAlready`].
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), CeremonyError> {
        if !self.registrars().keys.contains(&key.public_key()) {
            return Err(self.refused(DraftFault::UnknownRegistrar));
        }
        let mut signatures = self.envelope.signatures.iter();
        if signatures.any(|signature| signature.key_id == key.key_id()) {
            return Err(self.refused(DraftFault::SignedAlready));
        }
        key.cosign(&mut self.envelope);
        folder::replace(&self.path, &self.bytes())
    }

    /// The registrars who have signed it, as it lists them.
    pub fn signers(&self) -> impl Iterator<Item = &directory::Registrar> {
        let registrars = self.content.registrars.iter();
        registrars.filter(|registrar| {
            let key = registrar.public_key.as_slice().try_into().ok();
            key.is_some_and(|key| self.bears(key))
        })
    }

    /// Whether this key has signed it.
    fn bears(&self, key: &[u8; 32]) -> bool {
        let mut alone = self.envelope.clone();
        let id = amanat_seal::statement::key_id(key);
        alone.signatures.retain(|signature| signature.key_id == id);
        verify_threshold::<directory::Directory>(&alone, &[*key], 1).is_ok()
    }

    /// Whether it may take the place of a directory.
    pub(crate) fn follows(&self, in_use: &Self) -> Result<(), CeremonyError> {
        if self.content.exchange_id != in_use.content.exchange_id {
            return Err(self.refused(DraftFault::Exchange {
                expected: in_use.content.exchange_id.clone(),
                found: self.content.exchange_id.clone(),
            }));
        }
        // Every party pins the registrars in its own configuration: a directory cannot change them.
        if self.content.registrars != in_use.content.registrars
            || self.content.threshold != in_use.content.threshold
        {
            return Err(self.refused(DraftFault::Registrars));
        }
        Ok(())
    }

    /// Whether enough of these registrars have signed it, and nobody else.
    pub(crate) fn is_signed_by(&self, registrars: &Registrars) -> Result<Directory, CeremonyError> {
        if self.envelope.signatures.len() < registrars.threshold {
            return Err(self.refused(DraftFault::Unsigned {
                threshold: self.content.threshold,
            }));
        }
        Directory::verify(&self.envelope, registrars).map_err(|error| {
            if matches!(error, DirectoryError::Signatures { .. }) {
                self.refused(DraftFault::Signatures)
            } else {
                error.into()
            }
        })
    }

    fn is_of_exchange(&self, path: &Path, card: &Card) -> Result<(), CeremonyError> {
        if card.exchange_id() == self.content.exchange_id {
            return Ok(());
        }
        Err(CeremonyError::Card {
            path: path.to_owned(),
            fault: CardFault::Exchange {
                expected: self.content.exchange_id.clone(),
                found: card.exchange_id().to_owned(),
            },
        })
    }

    pub(crate) fn refused(&self, fault: DraftFault) -> CeremonyError {
        CeremonyError::Draft {
            path: self.path.clone(),
            fault,
        }
    }
}

//! Keys in overlap: a new one is made beside the old, the card names both, and once the directory lists both the
//! party changes over and its next card names the new one alone. Nothing signed under either is refused in
//! between.

use std::{fs, path::PathBuf, time::Duration};

use amanat_identity::Directory;
use amanat_schema::{
    Time,
    directory::{self, card},
};
use amanat_seal::statement::SigningKey;
use prost::Message as _;
use prost_types::Timestamp;

use super::{
    Card, CeremonyError, Party,
    agency::ISSUER_KEY,
    authority::Authority,
    enrolment::AHEAD,
    error::RotationFault,
    folder::{Folder, failed},
    keys::KeyFile,
    leaf,
    profile::{self, Pinned},
    renew::{self, InUse, Revocation},
};

const STATEMENT_KEY: &str = "statement.key";
const NEW_STATEMENT_KEY: &str = "statement-new.key";

/// Which half of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new one beside the old.
    Begin,
    /// The new one alone, once the directory lists it.
    Finish,
}

/// What was changed, and what is to be done with it.
pub struct Rotated {
    /// Made or changed, the card first.
    pub files: Vec<PathBuf>,
    pub next: &'static str,
}

const HAVE_ENROLLED: &str = "have the card enrolled, signed and published; then say --finish";
const HAVE_DROPPED: &str =
    "have the card enrolled, signed and published, so that the old one is listed no more";

/// Rotates the key that signs an agency's statements, or a server's.
///
/// # Errors
/// [`CeremonyError::Rotation`].
pub fn statements(party: &mut Party, step: Step, now: Time) -> Result<Rotated, CeremonyError> {
    let keys = Folder::at(party.keys());
    let new = keys.path(NEW_STATEMENT_KEY);
    match step {
        Step::Begin if new.exists() => under_way(party, now),
        Step::Begin => {
            let made = KeyFile::make(&keys, NEW_STATEMENT_KEY)?;
            let next = edited(party, |lists| lists.statement_keys.push(made.public_key()));
            hand_in(party, next, now)?;
            Ok(Rotated {
                files: vec![party.card_file(), made.path],
                next: HAVE_ENROLLED,
            })
        }
        Step::Finish if !new.exists() => Err(party.refused(RotationFault::NotBegun)),
        Step::Finish => {
            let key = KeyFile::open(&new)?.public_key();
            if !Listed::in_force(party, now)?.statement_keys.contains(&key) {
                return Err(party.refused(RotationFault::NotListed));
            }
            let next = edited(party, |lists| *lists.statement_keys = vec![key]);
            hand_in(party, next, now)?;
            // Last, so that a run that broke off is made again: the card is found as it is to be.
            let old = keys.path(STATEMENT_KEY);
            fs::rename(&new, &old).map_err(|source| failed(&old, source))?;
            Ok(Rotated {
                files: vec![party.card_file(), old],
                next: HAVE_DROPPED,
            })
        }
    }
}

/// Rotates the key that an agency's officer tokens are signed with: its own, or its identity provider's.
///
/// # Errors
/// [`CeremonyError::Rotation`].
pub fn tokens(
    party: &mut Party,
    step: Step,
    provider: Option<directory::TokenIssuer>,
    now: Time,
) -> Result<Rotated, CeremonyError> {
    let agency = party.card.agency();
    let issuers = agency
        .map_err(|_| party.refused(RotationFault::OtherParty("an agency")))?
        .token_issuers
        .clone();
    match step {
        Step::Begin if issuers.len() > 1 => under_way(party, now),
        Step::Begin => {
            let mut files = vec![party.card_file()];
            let issuer = match provider {
                Some(provider) => provider,
                None => {
                    let (issuer, file) = own_issuer(party, &issuers)?;
                    files.push(file);
                    issuer
                }
            };
            name_issuers(party, issuers.into_iter().chain([issuer]).collect(), now)?;
            Ok(Rotated {
                files,
                next: HAVE_ENROLLED,
            })
        }
        Step::Finish => {
            let Some(new) = issuers.last().filter(|_| issuers.len() > 1).cloned() else {
                return Err(party.refused(RotationFault::NotBegun));
            };
            if !Listed::in_force(party, now)?.token_issuers.contains(&new) {
                return Err(party.refused(RotationFault::NotListed));
            }
            let mut files = vec![party.card_file()];
            if let Some(file) = issuer_file(party, &new.key_id) {
                profile::issue_with(&party.config(), &new.key_id, &file)?;
                files.push(party.config());
            }
            // Last, so that a run that broke off is made again.
            name_issuers(party, vec![new], now)?;
            Ok(Rotated {
                files,
                next: HAVE_DROPPED,
            })
        }
    }
}

/// Rotates a party's certificate authority.
///
/// # Errors
/// [`CeremonyError::Rotation`].
pub fn authority(party: &mut Party, step: Step, now: Time) -> Result<Rotated, CeremonyError> {
    let authorities = party.card.authorities().to_vec();
    match step {
        Step::Begin if authorities.len() > 1 => Err(party.refused(RotationFault::UnderWay)),
        Step::Begin => {
            let folder = Folder::at(party.authority_folder());
            let mut number = 1;
            while Authority::open(folder.as_path(), number)?.is_some() {
                number += 1;
            }
            let made = Authority::make(&folder, party.card.name(), number, now)?;
            let next = edited(party, |lists| lists.authorities.push(made.certificate));
            hand_in(party, next, now)?;
            let list = renew::revoke(party, &Revocation::None, InUse::Keep, now)?;
            Ok(Rotated {
                files: vec![party.card_file(), list],
                next: "put the revocation list where the old one lies, have the card enrolled, signed and \
                       published; then say --finish",
            })
        }
        Step::Finish => {
            let Some(new) = authorities.last().filter(|_| authorities.len() > 1) else {
                return Err(party.refused(RotationFault::NotBegun));
            };
            if !Listed::in_force(party, now)?.authorities.contains(new) {
                return Err(party.refused(RotationFault::NotListed));
            }
            let issuing = party.authorities()?.pop();
            let issuing = issuing.ok_or_else(|| party.refused(RotationFault::NotBegun))?;
            let shown = party.shown()?;
            let pair = issuing.issue(shown.file, shown.names, shown.usage, now)?;
            let folder = leaf::put(&party.folder, shown.file, &pair)?;
            let next = edited(party, |lists| *lists.authorities = vec![new.clone()]);
            hand_in(party, next, now)?;
            Ok(Rotated {
                files: vec![
                    party.card_file(),
                    folder.join(leaf::certificate(shown.file)),
                ],
                next: HAVE_DROPPED,
            })
        }
    }
}

/// A new one is made already. If that was by a clock far ahead no directory takes its card: it is dated anew.
fn under_way(party: &mut Party, now: Time) -> Result<Rotated, CeremonyError> {
    let mut next = party.card.content().clone();
    let mut made = None;
    change(&mut next, |lists| {
        made = Time::parse(lists.card_time.as_ref()).ok();
    });
    if made.is_none_or(|made| made <= now + AHEAD) {
        return Err(party.refused(RotationFault::UnderWay));
    }
    hand_in(party, next, now)?;
    Ok(Rotated {
        files: vec![party.card_file()],
        next: HAVE_ENROLLED,
    })
}

/// The agency's own next key, if it has an issuer of its own.
fn own_issuer(
    party: &Party,
    issuers: &[directory::TokenIssuer],
) -> Result<(directory::TokenIssuer, PathBuf), CeremonyError> {
    let Some(old) = issuers
        .last()
        .filter(|_| party.keys().join(ISSUER_KEY).exists())
    else {
        return Err(party.refused(RotationFault::Provider("no new key was made")));
    };
    let keys = Folder::at(party.keys());
    let mut number = 2;
    while keys.path(&format!("issuer-{number}.key")).exists() {
        number += 1;
    }
    let made = KeyFile::make(&keys, &format!("issuer-{number}.key"))?;
    let issuer = directory::TokenIssuer {
        issuer: old.issuer.clone(),
        key_id: format!("key-{number}"),
        public_key: made.public_key(),
    };
    Ok((issuer, made.path))
}

/// The file of the agency's own issuer key of that name.
fn issuer_file(party: &Party, key_id: &str) -> Option<String> {
    let file = format!("keys/issuer-{}.key", key_id.strip_prefix("key-")?);
    party.folder.join(&file).exists().then_some(file)
}

fn name_issuers(
    party: &mut Party,
    issuers: Vec<directory::TokenIssuer>,
    now: Time,
) -> Result<(), CeremonyError> {
    let mut next = party.card.content().clone();
    if let Some(card::Party::Agency(agency)) = &mut next.party {
        agency.token_issuers = issuers;
    }
    hand_in(party, next, now)
}

/// What agencies and servers have alike.
struct Lists<'a> {
    authorities: &'a mut Vec<Vec<u8>>,
    statement_keys: &'a mut Vec<Vec<u8>>,
    card_time: &'a mut Option<Timestamp>,
}

/// What the party's card is to say, with its keys changed.
fn edited(party: &Party, edit: impl FnOnce(Lists<'_>)) -> directory::Card {
    let mut next = party.card.content().clone();
    change(&mut next, edit);
    next
}

fn change(card: &mut directory::Card, edit: impl FnOnce(Lists<'_>)) {
    match &mut card.party {
        Some(card::Party::Agency(agency)) => edit(Lists {
            authorities: &mut agency.issuing_cas,
            statement_keys: &mut agency.statement_keys,
            card_time: &mut agency.card_time,
        }),
        Some(card::Party::Gateway(service) | card::Party::Custodian(service)) => edit(Lists {
            authorities: &mut service.issuing_cas,
            statement_keys: &mut service.statement_keys,
            card_time: &mut service.card_time,
        }),
        // It has no folder of this kind; `Party::open` finds none.
        Some(card::Party::Registrar(_)) | None => {}
    }
}

/// Signs what the party says now with every statement key that it names, and puts the card in place.
fn hand_in(party: &mut Party, mut next: directory::Card, now: Time) -> Result<(), CeremonyError> {
    // Later than the card before also by a clock that was put back, or the directory would not take it. A card made
    // by a clock far ahead was never listed: those after it are not to be kept out with it.
    change(&mut next, |lists| {
        let before = Time::parse(lists.card_time.as_ref()).ok();
        let before = before.filter(|before| *before <= now + AHEAD);
        let next = before.map_or(now, |before| now.max(before + Duration::from_millis(1)));
        *lists.card_time = Some(next.to_timestamp());
    });
    let mut held = Vec::new();
    for name in [STATEMENT_KEY, NEW_STATEMENT_KEY] {
        let path = party.keys().join(name);
        if path.exists() {
            held.push(KeyFile::open(&path)?);
        }
    }
    let named = Listed::of(next.party.as_ref()).statement_keys;
    let signers = named.iter().map(|key| {
        let signer = held.iter().find(|file| file.public_key() == *key);
        signer.map(|file| &file.key)
    });
    let signers: Option<Vec<&SigningKey>> = signers.collect();
    let signers = signers.ok_or_else(|| CeremonyError::Changed {
        path: party.card_file(),
    })?;
    let card = Card::sign(next, &signers);
    party.replace_card(card)
}

/// What is listed of a party.
#[derive(Default)]
struct Listed {
    authorities: Vec<Vec<u8>>,
    statement_keys: Vec<Vec<u8>>,
    token_issuers: Vec<directory::TokenIssuer>,
}

impl Listed {
    fn of(party: Option<&card::Party>) -> Self {
        match party {
            Some(card::Party::Agency(agency)) => Self {
                authorities: agency.issuing_cas.clone(),
                statement_keys: agency.statement_keys.clone(),
                token_issuers: agency.token_issuers.clone(),
            },
            Some(card::Party::Gateway(service) | card::Party::Custodian(service)) => Self {
                authorities: service.issuing_cas.clone(),
                statement_keys: service.statement_keys.clone(),
                token_issuers: Vec::new(),
            },
            Some(card::Party::Registrar(_)) | None => Self::default(),
        }
    }

    /// By the directory that the party works by.
    fn in_force(party: &Party, now: Time) -> Result<Self, CeremonyError> {
        let Pinned {
            file,
            seen,
            registrars,
        } = profile::pinned(party)?;
        let directory = Directory::check(&file, &seen, &registrars, now)?;
        let payload = directory.envelope().payload.as_slice();
        let directory = directory::Directory::decode(payload)
            .map_err(|_| CeremonyError::Changed { path: file })?;
        let listed = match party.card.party() {
            card::Party::Agency(own) => {
                let mut agencies = directory.agencies.into_iter();
                let listed = agencies.find(|agency| agency.agency_id == own.agency_id);
                listed.map(card::Party::Agency)
            }
            card::Party::Gateway(_) => directory.gateway.map(card::Party::Gateway),
            card::Party::Custodian(_) => directory.custodian.map(card::Party::Custodian),
            card::Party::Registrar(_) => None,
        };
        Ok(Self::of(listed.as_ref()))
    }
}

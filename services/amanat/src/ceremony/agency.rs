//! Registrars and agencies: their keys, an agency's profile, and their cards.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use amanat_config::ServerAddresses;
use amanat_schema::{
    AgencyId,
    directory::{self, card},
    policy::{AgencyKind, Right},
    record::{Need, Province},
};

use super::{
    CeremonyError, Ground, Party,
    authority::{AUTHORITIES, Authority},
    card::{Card, check_display_name},
    config::{self, Home},
    folder::Folder,
    keys::{self, KeyFile},
    leaf, party,
};

/// The first key of an agency's own issuer of tokens.
pub(crate) const ISSUER_KEY: &str = "issuer.key";
const ISSUER_KEY_ID: &str = "key-1";

/// What an agency says of itself when it joins.
pub struct Joining<'a> {
    pub id: AgencyId,
    /// Lower-case letters, digits and hyphens.
    pub name: &'a str,
    pub kind: AgencyKind,
    pub province: Province,
    /// Empty for shelters: the directory never shows where one is.
    pub display_name: &'a str,
    pub services: &'a [Need],
    /// Where the servers answer.
    pub gateway: &'a ServerAddresses,
    pub custodian: &'a ServerAddresses,
    pub tokens: Tokens<'a>,
    /// Whom it knows by a name of its own.
    pub agencies: &'a BTreeMap<String, AgencyId>,
}

/// Who issues an agency's officer tokens.
pub enum Tokens<'a> {
    /// A key in the agency's own folder, for those whom the profile names: whoever can read it is every officer.
    Own(&'a [Officer]),
    /// The agency's identity provider.
    Provider(directory::TokenIssuer),
}

/// An officer whom the profile names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Officer {
    /// As commands name them.
    pub name: String,
    pub rights: Vec<Right>,
    pub station: String,
}

/// Makes a registrar's key and card; returns both files.
///
/// # Errors
/// [`CeremonyError`], naming the file or folder.
pub fn registrar(out: &Path, name: &str) -> Result<(PathBuf, PathBuf), CeremonyError> {
    let folder = Folder::outermost(out)?;
    let KeyFile { path, key } = KeyFile::make(&folder, "registrar.key")?;
    let card = directory::Card {
        exchange_id: String::new(),
        name: name.to_owned(),
        party: Some(card::Party::Registrar(directory::Registrar {
            name: name.to_owned(),
            public_key: key.public_key().to_vec(),
        })),
        oprf_keys: Vec::new(),
    };
    let card = Card::sign(card, &[&key]).to_toml()?;
    Ok((path, folder.public("registrar.card.toml", card.as_bytes())?))
}

/// Makes an agency's keys, profile and card.
///
/// # Errors
/// [`CeremonyError`], naming the file or folder.
pub fn agency(
    out: &Path,
    ground: &Ground<'_>,
    joining: &Joining<'_>,
) -> Result<Party, CeremonyError> {
    let Joining { id, name, .. } = *joining;
    check_display_name(joining.kind, joining.display_name).map_err(|fault| {
        CeremonyError::Card {
            path: out.to_owned(),
            fault,
        }
    })?;
    let folder = Folder::outermost(out)?;
    let keys = folder.folder("keys")?;
    let (outbox, state) = (folder.folder("outbox")?, folder.folder("state")?);
    let home = Home(&folder);
    let authority = Authority::make(&folder.folder(AUTHORITIES)?, name, 1, ground.now)?;
    let statement = KeyFile::make(&keys, "statement.key")?;
    let (token_issuer, tokens) = token_issuer(joining, &keys, &home)?;
    let profile = config::Profile {
        name,
        agency: id,
        gateway: joining.gateway,
        custodian: joining.custodian,
        outbox: home.named(&outbox.path("outbox.sqlite")),
        evidence_key: home.named(&keys::secret(&keys, "evidence.key")?),
        directory: config::Directory::new(ground, &home, &state.path("directory.seen")),
        tls: config::Tls {
            certificate: home.named(&keys.path(&leaf::certificate("connector"))),
            private_key: home.named(&keys.path(&leaf::private_key("connector"))),
        },
        statements: config::Statements {
            signing_key: home.named(&statement.path),
        },
        tokens,
        officers: officers(joining),
        agencies: joining.agencies,
    };
    home.write("profile.toml", &profile)?;
    let entry = directory::Agency {
        agency_id: id.to_vec(),
        kind: joining.kind.into(),
        province: joining.province.into(),
        display_name: joining.display_name.to_owned(),
        services: joining.services.iter().map(|need| (*need).into()).collect(),
        issuing_cas: vec![authority.certificate.clone()],
        statement_keys: vec![statement.public_key()],
        token_issuers: vec![token_issuer],
        retired_statement_keys: Vec::new(),
        card_time: Some(ground.now.to_timestamp()),
    };
    let card = directory::Card {
        exchange_id: ground.exchange_id.to_owned(),
        name: name.to_owned(),
        party: Some(card::Party::Agency(entry)),
        oprf_keys: Vec::new(),
    };
    party::make(
        folder,
        Card::sign(card, &[&statement.key]),
        &authority,
        ground.now,
    )
}

/// How the directory lists the issuer, and how the profile names it if it is the agency's own.
fn token_issuer(
    joining: &Joining<'_>,
    keys: &Folder,
    home: &Home<'_>,
) -> Result<(directory::TokenIssuer, Option<config::Tokens>), CeremonyError> {
    if let Tokens::Provider(provider) = &joining.tokens {
        return Ok((provider.clone(), None));
    }
    let key = KeyFile::make(keys, ISSUER_KEY)?;
    let own = config::Tokens {
        issuer: format!("urn:amanat:agency:{}", joining.id),
        key_id: ISSUER_KEY_ID.to_owned(),
        signing_key: home.named(&key.path),
    };
    let listed = directory::TokenIssuer {
        issuer: own.issuer.clone(),
        key_id: own.key_id.clone(),
        public_key: key.public_key(),
    };
    Ok((listed, Some(own)))
}

fn officers<'a>(joining: &'a Joining<'_>) -> BTreeMap<&'a str, config::Officer<'a>> {
    let named: &[Officer] = match &joining.tokens {
        Tokens::Own(officers) => officers,
        Tokens::Provider(_) => &[],
    };
    let named = (1..).zip(named).map(|(number, officer)| {
        let rights = officer.rights.iter().map(|right| right.as_str_name());
        let settings = config::Officer {
            id: format!("officer-{}-{number}", joining.name),
            rights: rights
                .map(|name| name.trim_start_matches("RIGHT_"))
                .collect(),
            station: &officer.station,
        };
        (officer.name.as_str(), settings)
    });
    named.collect()
}

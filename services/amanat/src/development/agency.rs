//! An agency: keys, certificate, the profile of its connector, and how the directory lists it.

use std::collections::BTreeMap;

use amanat_schema::{AgencyId, directory, policy::Right};

use super::{
    AgencyPlan, DevelopmentError, Ground, Member,
    authority::{self, Authority, Usage},
    config,
    folder::Folder,
    keys::{self, KeyFile},
};

/// The development issuer's one key.
const ISSUER_KEY_ID: &str = "dev-1";

/// Makes the agency `id` of the plan in a folder of its name.
pub(super) fn make(
    parent: &Folder,
    ground: &Ground<'_>,
    plan: &AgencyPlan,
    id: AgencyId,
) -> Result<(Member, directory::Agency), DevelopmentError> {
    let name = plan.name.as_str();
    let folder = parent.folder(name)?;
    let keys = folder.folder("keys")?;
    let outbox = folder.folder("outbox")?;

    let uri = authority::uri(format!("spiffe://{}/agency/{id}", ground.exchange_id))?;
    let authority = Authority::make(&keys, name, ground.now)?;
    let issued = authority.issue(&keys, "connector", vec![uri], Usage::Client)?;
    authority.empty_list(&ground.crls, &id.to_string())?;
    let statement = KeyFile::make(&keys, "statement.key")?;
    let issuer = KeyFile::make(&keys, "issuer.key")?;
    let token_issuer = format!("https://tokens.{name}.example");
    let entry = directory::Agency {
        agency_id: id.to_vec(),
        kind: plan.kind.into(),
        province: plan.province.into(),
        display_name: plan.display_name.clone(),
        services: plan
            .services
            .iter()
            .map(|service| i32::from(*service))
            .collect(),
        issuing_ca: authority.certificate,
        statement_keys: vec![statement.public_key()],
        token_issuers: vec![directory::TokenIssuer {
            issuer: token_issuer.clone(),
            key_id: ISSUER_KEY_ID.to_owned(),
            public_key: issuer.public_key(),
        }],
    };

    let officer = |number: u32, rights: &[Right]| config::Officer {
        id: format!("officer-{name}-{number}"),
        rights: rights
            .iter()
            .map(|right| right.as_str_name().trim_start_matches("RIGHT_"))
            .collect(),
        station: format!("{name} desk"),
    };
    let profile = config::Profile {
        name,
        agency: id,
        gateway: format!("https://{}", ground.gateway),
        custodian: format!("https://{}", ground.custodian),
        outbox: outbox.path("outbox.sqlite"),
        evidence_key: keys::secret(&keys, "evidence.key")?,
        directory: config::Directory::new(ground, folder.path("directory.seen")),
        tls: config::Tls {
            certificate: issued.certificate,
            private_key: issued.private_key,
        },
        statements: config::Statements {
            signing_key: statement.path,
        },
        tokens: config::Tokens {
            issuer: token_issuer,
            key_id: ISSUER_KEY_ID,
            signing_key: issuer.path,
        },
        officers: BTreeMap::from([
            ("default", officer(1, plan.rights())),
            ("junior", officer(2, plan.junior_rights())),
        ]),
        agencies: &ground.agencies,
    };
    config::write(&folder, "profile.toml", &profile)?;
    Ok((
        Member {
            id,
            folder: folder.into_path(),
        },
        entry,
    ))
}

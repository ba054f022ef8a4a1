//! The two servers: keys, certificate, configuration and card.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use amanat_config::ServerAddresses;
use amanat_schema::{
    directory::{self, card},
    subject::IdentifierDomain,
};

use super::{
    CeremonyError, Ground, Party,
    authority::{AUTHORITIES, Authority},
    card::Card,
    config::{self, Home},
    folder::Folder,
    keys::{self, KeyFile},
    leaf, party,
};

/// Soon enough for whoever watches.
const RELOAD_S: u64 = 2;

/// Where a server runs.
pub struct Host<'a> {
    /// The name in its certificate.
    pub server_name: &'a str,
    pub listen: SocketAddr,
    /// For the database; `data` in the party's folder if absent.
    pub data: Option<&'a Path>,
    /// For what must not be restored along with it; `state` in the party's folder if absent.
    pub state: Option<&'a Path>,
}

/// What the servers have in common.
struct Parts {
    folder: Folder,
    keys: Folder,
    state: PathBuf,
    listen: config::Listen,
    directory: config::ServerDirectory,
    log: config::Log,
    statement_key: KeyFile,
    authority: Authority,
    entry: directory::Service,
}

/// Makes the gateway's keys, configuration and card. The directory lists a statement key for every server; the
/// gateway signs nothing with its own yet.
///
/// # Errors
/// [`CeremonyError`], naming the file or folder.
pub fn gateway(out: &Path, ground: &Ground<'_>, host: &Host<'_>) -> Result<Party, CeremonyError> {
    let parts = Parts::make(out, ground, host, "gateway")?;
    let home = Home(&parts.folder);
    let config = config::Gateway {
        subjects: config::Subjects {
            peppers: vec![home.named(&keys::secret(&parts.keys, "pepper-1.key")?)],
            pseudonym_key: home.named(&keys::secret(&parts.keys, "pseudonym.key")?),
        },
        server: parts.listen,
        directory: parts.directory,
        log: parts.log,
        telemetry: config::TELEMETRY,
    };
    home.write("gateway.toml", &config)?;
    let card = directory::Card {
        exchange_id: ground.exchange_id.to_owned(),
        name: "gateway".to_owned(),
        party: Some(card::Party::Gateway(parts.entry)),
        oprf_keys: Vec::new(),
    };
    party::make(
        parts.folder,
        Card::sign(card, &[&parts.statement_key.key]),
        &parts.authority,
        ground.now,
    )
}

/// Makes the custodian's: it is the gateway's client too, and has OPRF keys. `gateway` is where it fetches
/// proofs.
///
/// # Errors
/// [`CeremonyError`], naming the file or folder.
pub fn custodian(
    out: &Path,
    ground: &Ground<'_>,
    host: &Host<'_>,
    gateway: &ServerAddresses,
) -> Result<Party, CeremonyError> {
    let parts = Parts::make(out, ground, host, "custodian")?;
    let home = Home(&parts.folder);
    let (oprf, oprf_keys) = oprf(&parts.keys, &home)?;
    let config = config::Custodian {
        custody: config::Custody {
            gateway: gateway.clone(),
            kek: home.named(&keys::secret(&parts.keys, "kek.key")?),
            statement_key: home.named(&parts.statement_key.path),
            observed_head_file: home.named(&parts.state.join("observed-head")),
        },
        oprf,
        server: parts.listen,
        directory: parts.directory,
        log: parts.log,
        telemetry: config::TELEMETRY,
    };
    home.write("custodian.toml", &config)?;
    let card = directory::Card {
        exchange_id: ground.exchange_id.to_owned(),
        name: "custodian".to_owned(),
        party: Some(card::Party::Custodian(parts.entry)),
        oprf_keys,
    };
    party::make(
        parts.folder,
        Card::sign(card, &[&parts.statement_key.key]),
        &parts.authority,
        ground.now,
    )
}

/// The first key of each domain.
fn oprf(
    keys: &Folder,
    home: &Home<'_>,
) -> Result<(config::Oprf, Vec<directory::OprfKey>), CeremonyError> {
    let mut oprf = config::Oprf {
        officer_per_day: 60,
        agency_per_day: 2000,
        deposit_within_h: 72,
        keys: Vec::new(),
    };
    let mut listed = Vec::new();
    for (domain, name) in [
        (IdentifierDomain::Victim, "VICTIM"),
        (IdentifierDomain::Suspect, "SUSPECT"),
        (IdentifierDomain::Composite, "COMPOSITE"),
    ] {
        let (file, epoch) = (format!("oprf-{}-1.key", name.to_lowercase()), 1);
        let (seed, public_key) = keys::oprf_seed(keys, &file)?;
        oprf.keys.push(config::OprfKey {
            domain: name,
            epoch,
            seed: home.named(&seed),
        });
        listed.push(directory::OprfKey {
            domain: domain.into(),
            epoch,
            public_key: public_key.to_vec(),
        });
    }
    Ok((oprf, listed))
}

impl Parts {
    fn make(
        out: &Path,
        ground: &Ground<'_>,
        host: &Host<'_>,
        name: &str,
    ) -> Result<Self, CeremonyError> {
        let folder = Folder::outermost(out)?;
        let keys = folder.folder("keys")?;
        let place = |named: Option<&Path>, own: &str| match named {
            Some(path) => Folder::made(path),
            None => folder.folder(own),
        };
        let (data, state) = (place(host.data, "data")?, place(host.state, "state")?);
        let home = Home(&folder);

        let authority = Authority::make(&folder.folder(AUTHORITIES)?, name, 1, ground.now)?;
        let statement_key = KeyFile::make(&keys, "statement.key")?;
        let log_origin = format!("{}/log", host.server_name);
        let (log_key, log_verifier_key) = keys::log_key(&keys, "log.key", &log_origin)?;
        let file = |name: &str| home.named(&ground.public.join(name));
        Ok(Self {
            listen: config::Listen {
                listen: host.listen,
                certificate: home.named(&keys.path(&leaf::certificate("server"))),
                private_key: home.named(&keys.path(&leaf::private_key("server"))),
            },
            directory: config::ServerDirectory {
                directory: config::Directory::new(ground, &home, &state.path("directory.seen")),
                decision_table: file(config::TABLE),
                suspensions: file(config::SUSPENSIONS),
                reload_s: RELOAD_S,
            },
            log: config::Log {
                database: home.named(&data.path(&format!("{name}.sqlite"))),
                checkpoint_file: home.named(&state.path("checkpoint")),
                signing_key: home.named(&log_key),
                openings_key: home.named(&keys::secret(&keys, "openings.key")?),
            },
            entry: directory::Service {
                server_name: host.server_name.to_owned(),
                issuing_cas: vec![authority.certificate.clone()],
                log_origin,
                log_verifier_key,
                statement_keys: vec![statement_key.public_key()],
                card_time: Some(ground.now.to_timestamp()),
            },
            state: state.as_path().to_owned(),
            statement_key,
            authority,
            folder,
            keys,
        })
    }
}

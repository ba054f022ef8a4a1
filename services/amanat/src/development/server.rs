//! The two servers: keys, certificate, configuration, and how the directory lists them.

use std::{net::SocketAddr, path::PathBuf};

use amanat_schema::{directory, subject::IdentifierDomain};

use super::{
    DevelopmentError, Ground, Server,
    authority::{self, Authority, Usage},
    config,
    folder::Folder,
    keys::{self, KeyFile},
};

/// Soon enough for whoever watches.
const RELOAD_S: u64 = 2;

/// What the servers have in common.
struct Parts<'a> {
    folder: Folder,
    keys: Folder,
    state: Folder,
    listen: config::Listen,
    directory: config::ServerDirectory<'a>,
    log: config::Log,
    statement_key: PathBuf,
    entry: directory::Service,
}

/// Makes the gateway. The directory lists a statement key for every server; the gateway signs nothing
/// with its own yet.
pub(super) fn gateway(
    root: &Folder,
    ground: &Ground<'_>,
) -> Result<(Server, directory::Service), DevelopmentError> {
    let address = ground.gateway;
    let Parts {
        folder,
        keys,
        listen,
        directory,
        log,
        entry,
        ..
    } = Parts::make(root, ground, "gateway", address, Usage::Server)?;
    let config = config::Gateway {
        server: listen,
        directory,
        log,
        subjects: config::Subjects {
            peppers: vec![keys::secret(&keys, "pepper-1.key")?],
            pseudonym_key: keys::secret(&keys, "pseudonym.key")?,
        },
        telemetry: config::TELEMETRY,
    };
    let config = config::write(&folder, "gateway.toml", &config)?;
    Ok((
        Server {
            folder: folder.into_path(),
            config,
            address,
        },
        entry,
    ))
}

/// Makes the custodian, which is the gateway's client too, and its OPRF keys.
pub(super) fn custodian(
    root: &Folder,
    ground: &Ground<'_>,
) -> Result<(Server, directory::Service, Vec<directory::OprfKey>), DevelopmentError> {
    let address = ground.custodian;
    let Parts {
        folder,
        keys,
        state,
        listen,
        directory,
        log,
        statement_key,
        entry,
    } = Parts::make(root, ground, "custodian", address, Usage::Both)?;
    let (oprf, oprf_keys) = oprf(&keys)?;
    let config = config::Custodian {
        server: listen,
        directory,
        log,
        custody: config::Custody {
            gateway: format!("https://{}", ground.gateway),
            kek: keys::secret(&keys, "kek.key")?,
            statement_key,
            observed_head_file: state.path("observed-head"),
        },
        oprf,
        telemetry: config::TELEMETRY,
    };
    let config = config::write(&folder, "custodian.toml", &config)?;
    Ok((
        Server {
            folder: folder.into_path(),
            config,
            address,
        },
        entry,
        oprf_keys,
    ))
}

/// The first key of each domain.
fn oprf(keys: &Folder) -> Result<(config::Oprf, Vec<directory::OprfKey>), DevelopmentError> {
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
            seed,
        });
        listed.push(directory::OprfKey {
            domain: domain.into(),
            epoch,
            public_key: public_key.to_vec(),
        });
    }
    Ok((oprf, listed))
}

impl<'a> Parts<'a> {
    fn make(
        root: &Folder,
        ground: &'a Ground<'_>,
        name: &str,
        address: SocketAddr,
        usage: Usage,
    ) -> Result<Self, DevelopmentError> {
        let folder = root.folder(name)?;
        let keys = folder.folder("keys")?;
        let data = folder.folder("data")?;
        let state = folder.folder("state")?;

        let server_name = format!("{name}.{}", ground.exchange_id);
        let mut names = vec![authority::host(&server_name)?];
        if usage == Usage::Both {
            names.push(authority::uri(format!(
                "spiffe://{}/service/{name}",
                ground.exchange_id
            ))?);
        }
        let authority = Authority::make(&keys, name, ground.now)?;
        let issued = authority.issue(&keys, "server", names, usage)?;
        authority.empty_list(&ground.crls, name)?;
        let statement = KeyFile::make(&keys, "statement.key")?;
        let log_origin = format!("{server_name}/log");
        let (log_key, log_verifier_key) = keys::log_key(&keys, "log.key", &log_origin)?;
        Ok(Self {
            listen: config::Listen {
                listen: address,
                certificate: issued.certificate,
                private_key: issued.private_key,
            },
            directory: config::ServerDirectory {
                directory: config::Directory::new(ground, state.path("directory.seen")),
                decision_table: &ground.decision_table,
                suspensions: &ground.suspensions,
                reload_s: RELOAD_S,
            },
            log: config::Log {
                database: data.path(&format!("{name}.sqlite")),
                checkpoint_file: state.path("checkpoint"),
                signing_key: log_key,
                openings_key: keys::secret(&keys, "openings.key")?,
            },
            entry: directory::Service {
                server_name,
                issuing_ca: authority.certificate,
                log_origin,
                log_verifier_key,
                statement_key: statement.public_key(),
            },
            statement_key: statement.path,
            folder,
            keys,
            state,
        })
    }
}

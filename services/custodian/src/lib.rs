//! The custodian: it holds the record keys and no data, follows the gateway's log, and releases a key only
//! against an entry of that log, after deciding again on its own facts.
//!
//! A release passes three rooms. The edge verifies the gateway's receipt and hands its checkpoint to the
//! follower, which proves that the log only ever grew. The store makes the ordered checks, decides, logs and
//! commits. Back at the edge, with the entry durable, the record key is unwrapped and the field keys derived.
//!
//! It also evaluates identifiers that it cannot see into tokens that it never sees: within a budget, each call
//! on the log first, and what never became a record is told to oversight.
//!
//! What cannot come from honest parties is logged as an ALARM. Two words of the gateway that cannot both be
//! true are kept as evidence, and freeze the custodian until a person acts.

mod config;
mod follower;
mod kek;
mod key;
mod oprf;
mod store;

use std::{future::Future, sync::Arc, time::Duration};

use amanat_config::{FileError, private_key_pem, secret_hex};
use amanat_desk::{
    Desk,
    audit::AuditDesk,
    consent::{ConsentDesk, Evidence},
    setup::{Setup, SetupError, certificates},
};
use amanat_identity::{Directory, RevocationFolder, token::Audience};
use amanat_journal::{JournalError, note_file};
use amanat_schema::{
    audit::audit_service_server::AuditServiceServer, clock::Clock,
    consent::consent_service_server::ConsentServiceServer,
    key::key_service_server::KeyServiceServer, subject::oprf_service_server::OprfServiceServer,
};
use amanat_seal::{WrapKey, statement::SigningKey};
use amanat_server::{LARGEST_MESSAGE, LARGEST_QUESTION, ServeError, Served};
use tokio::net::TcpListener;

pub use amanat_config::ConfigError;
pub use config::{Config, Custody, Domain, Oprf, OprfKeyFile};
pub use follower::FollowError;

use follower::Follower;
use kek::Kek;
use key::KeyDesk;
use oprf::{OprfDesk, OprfKeys};

const EACH_MINUTE: Duration = Duration::from_secs(60);
const EACH_HOUR: Duration = Duration::from_secs(3600);
/// For all the tasks that write the last word to their files.
const ENDING: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum CustodianError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path} holds no usable key")]
    Key { path: String },
    #[error("custody.statement_key is not the one that the directory lists for the custodian")]
    OtherStatementKey,
    #[error(
        "oprf.keys: the directory lists another {domain} key of epoch {epoch}, or none; take the seed of the \
         key that it lists, or have its registrars list {public_key}, the public key of {path}"
    )]
    OtherOprfKey {
        domain: &'static str,
        epoch: u32,
        path: String,
        /// Hexadecimal.
        public_key: String,
    },
    #[error(
        "oprf.keys lacks the {domain} key of epoch {epoch} that the directory lists; add its seed"
    )]
    NoOprfKey { domain: &'static str, epoch: u32 },
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Makes the custodian's empty database, and the file of the observed head unless there is one.
///
/// # Errors
/// [`CustodianError::Journal`], also if the database exists; [`CustodianError::File`].
pub async fn init(config: &Config) -> Result<(), CustodianError> {
    amanat_journal::init(&config.log.journal(store::MIGRATIONS)).await?;
    let seen = &config.custody.observed_head_file;
    // One that is there stays: a new database behind it starts frozen.
    if !seen.exists() {
        note_file::begin(seen, "")?;
    }
    Ok(())
}

/// Serves on `listener` until `stop` completes; every answered request is durable by then.
///
/// # Errors
/// [`CustodianError`] naming what to mend.
pub async fn serve(
    config: &Config,
    listener: TcpListener,
    clock: Clock,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Served, CustodianError> {
    let Setup {
        rules,
        guard,
        tls,
        reload,
    } = Setup::load(
        &config.server,
        &config.directory,
        Audience::Custodian,
        Arc::clone(&clock),
    )?;
    let custody = &config.custody;
    let directory = Arc::clone(&rules.current().directory);
    let statement_key = Arc::new(statement_key(custody, &directory)?);
    let kek = kek(custody)?;
    let oprf_keys = Arc::new(OprfKeys::load(&config.oprf, &directory)?);
    let handles = Arc::new(config.log.handles()?);
    let gateway = follower::connect(
        &custody.gateway,
        follower::Client {
            chain: certificates(&config.server.certificate)?,
            key: private_key_pem(&config.server.private_key)?,
            directory: Arc::clone(&directory),
            lists: RevocationFolder::new(&config.directory.crls),
            clock: Arc::clone(&clock),
        },
    )?;
    let keys = config.log.keys(&directory.custodian().log)?;
    let reload = {
        let (directory, oprf) = (Arc::clone(&directory), Arc::clone(&oprf_keys));
        Arc::new(reload.fitting(move |new| fits(&directory, &oprf, new)))
    };
    let book = store::Custody {
        rules: rules.clone(),
        statement_key: Arc::clone(&statement_key),
        evaluation: terms(&config.oprf),
    };
    let journal = config.log.journal(store::MIGRATIONS);
    let opened = amanat_journal::open(&journal, keys, book, clock).await?;
    let (follower, following) = Follower::start(
        opened.journal.clone(),
        gateway,
        &directory.gateway().log,
        &custody.observed_head_file,
    )
    .await?;
    let desk = Desk {
        guard: guard.clone(),
        rules,
        journal: opened.journal,
        reader: opened.reader,
        openings: Arc::new(config.log.openings()?),
    };
    let reloading = tokio::spawn(Arc::clone(&reload).run());
    let minutes = tokio::spawn(each_minute(desk.clone()));
    let hours = tokio::spawn(each_hour(desk.clone()));
    let served = amanat_server::serve(
        listener,
        tls,
        guard,
        |routes| {
            let key = KeyDesk {
                desk: desk.clone(),
                kek,
                follower,
                statement_key,
                reload,
            };
            let consent = ConsentDesk {
                desk: desk.clone(),
                evidence: Evidence::NotKept,
            };
            let oprf = OprfDesk {
                desk: desk.clone(),
                keys: oprf_keys,
                handles,
            };
            let audit = AuditDesk { desk };
            routes
                .add_service(KeyServiceServer::new(key).max_decoding_message_size(LARGEST_MESSAGE))
                .add_service(
                    ConsentServiceServer::new(consent).max_decoding_message_size(LARGEST_MESSAGE),
                )
                .add_service(
                    OprfServiceServer::new(oprf).max_decoding_message_size(LARGEST_QUESTION),
                )
                .add_service(
                    AuditServiceServer::new(audit).max_decoding_message_size(LARGEST_QUESTION),
                );
        },
        stop,
    )
    .await;
    reloading.abort();
    minutes.abort();
    hours.abort();
    // The last holders of follower and journal are gone or going; their tasks end with their files written.
    let tasks = async {
        for task in following.into_iter().chain(opened.tasks) {
            task.await.ok();
        }
    };
    if tokio::time::timeout(ENDING, tasks).await.is_err() {
        tracing::warn!("a task did not end in time; the database is durable all the same");
    }
    Ok(served?)
}

/// The key that the directory lists, or none: others would not believe another one's receipts.
fn statement_key(custody: &Custody, directory: &Directory) -> Result<SigningKey, CustodianError> {
    let path = &custody.statement_key;
    let der = private_key_pem(path)?;
    let key = SigningKey::from_pkcs8(der.secret_der()).map_err(|_| CustodianError::Key {
        path: path.display().to_string(),
    })?;
    if key.public_key() == directory.custodian().statement_key {
        Ok(key)
    } else {
        Err(CustodianError::OtherStatementKey)
    }
}

/// The custodian's keys, and the gateway that it follows, keep their place in a newer directory.
fn fits(old: &Directory, oprf: &OprfKeys, new: &Directory) -> Result<(), SetupError> {
    let (own, gateway) = (old.custodian(), old.gateway());
    if new.custodian().statement_key != own.statement_key {
        Err(SetupError::Unfit("statement key of the custodian"))
    } else if new.custodian().log != own.log {
        Err(SetupError::Unfit("log key of the custodian"))
    } else if new.custodian().issuing_ca != own.issuing_ca
        || new.custodian().server_name != own.server_name
    {
        Err(SetupError::Unfit("name or authority of the custodian"))
    } else if new.gateway().log != gateway.log {
        Err(SetupError::Unfit("log key of the gateway"))
    } else if new.gateway().issuing_ca != gateway.issuing_ca
        || new.gateway().server_name != gateway.server_name
    {
        Err(SetupError::Unfit("name or authority of the gateway"))
    } else if oprf.lacks(new).is_some() {
        Err(SetupError::Unfit("OPRF key of the custodian"))
    } else {
        Ok(())
    }
}

fn kek(custody: &Custody) -> Result<Kek, CustodianError> {
    let bytes = secret_hex(&custody.kek)?;
    let key = WrapKey::from_bytes(bytes.as_slice()).map_err(|_| CustodianError::Key {
        path: custody.kek.display().to_string(),
    })?;
    Ok(Kek::new(key))
}

fn terms(oprf: &Oprf) -> store::evaluation::Terms {
    store::evaluation::Terms {
        limits: store::budget::Limits {
            officer: oprf.officer_per_day.get(),
            agency: oprf.agency_per_day.get(),
        },
        deposit_within: Duration::from_hours(oprf.deposit_within_h.get().into()),
    }
}

async fn each_minute(desk: Desk<store::Custody>) {
    let mut ticks = tokio::time::interval(EACH_MINUTE);
    loop {
        ticks.tick().await;
        desk.log_refused_credentials().await;
        if desk.journal.call(store::Call::AlarmMissing).await.is_err() {
            tracing::error!("consents that never came could not be looked for");
        }
    }
}

async fn each_hour(desk: Desk<store::Custody>) {
    let mut ticks = tokio::time::interval(EACH_HOUR);
    loop {
        ticks.tick().await;
        if desk.journal.call(store::Call::Expire).await.is_err() {
            tracing::error!("keys that were never activated could not be deleted");
        }
    }
}

#[cfg(test)]
mod tests;

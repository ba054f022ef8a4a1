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
mod inspect;
mod kek;
mod key;
mod metrics;
mod oprf;
mod proofs;
mod store;

use std::{future::Future, sync::Arc, time::Duration};

use amanat_config::{FileError, private_key_pem, secret_hex};
use amanat_database::Place;
use amanat_desk::{
    Desk, Lifetimes,
    audit::AuditDesk,
    consent::{ConsentDesk, Evidence},
    keeping::Keeping,
    setup::{Setup, SetupError},
    vitals::Disks,
};
use amanat_identity::{Directory, RevocationFolder, token::Audience};
use amanat_journal::{JournalError, note_file};
use amanat_schema::{
    audit::audit_service_server::AuditServiceServer, clock::Clock,
    consent::consent_service_server::ConsentServiceServer,
    key::key_service_server::KeyServiceServer, subject::oprf_service_server::OprfServiceServer,
};
use amanat_seal::{WrapKey, statement::SigningKey};
use amanat_server::{
    Health, LARGEST_MESSAGE, LARGEST_QUESTION, Operation, ServeError, Served, Signs,
};
use tokio::net::TcpListener;

pub use amanat_config::ConfigError;
pub use config::{Config, Custody, Domain, Oprf, OprfKeyFile};
pub use follower::FollowError;
pub use inspect::inspect;
pub use metrics::METRICS;

use follower::{Follower, Pulse};
use kek::Kek;
use key::KeyDesk;
use oprf::{OprfDesk, OprfKeys};
use proofs::Proofs;

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
pub async fn init(config: &Config, owner: Option<&Place>) -> Result<(), CustodianError> {
    amanat_journal::init(&journal(config), owner).await?;
    begin_state(config)
}

/// Makes the file of the observed head. One that is there stays: a database behind it starts frozen.
///
/// # Errors
/// [`CustodianError::Journal`] if it cannot be written.
pub fn begin_state(config: &Config) -> Result<(), CustodianError> {
    let seen = &config.custody.observed_head_file;
    if !seen.exists() {
        note_file::begin(seen, "")?;
    }
    Ok(())
}

/// Brings the custodian's database up to date: the names of the steps taken. Nothing may serve from it meanwhile.
///
/// # Errors
/// [`CustodianError::Journal`].
pub async fn migrate(
    config: &Config,
    owner: Option<&Place>,
) -> Result<Vec<&'static str>, CustodianError> {
    Ok(amanat_journal::migrate(&journal(config), owner).await?)
}

/// What there is to keep of the custodian over the years.
pub fn keeping(config: &Config) -> Keeping<'_> {
    Keeping {
        audience: Audience::Custodian,
        directory: &config.directory,
        log: &config.log,
        backups: config.backup.as_ref(),
        journal: journal(config),
    }
}

fn journal(config: &Config) -> amanat_journal::Config {
    config
        .log
        .journal(store::STEPS, store::CHANGING, &config.limits)
}

/// Serves on `listener` until `stop` completes; every answered request is durable by then.
///
/// # Errors
/// [`CustodianError`] naming what to mend; [`JournalError::Frozen`] or [`FollowError::Contradicted`] when it
/// stops, if it is frozen by then.
pub async fn serve(
    config: &Config,
    listener: TcpListener,
    clock: Clock,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Served, CustodianError> {
    // First of all, to tell that the rest takes its time.
    let health = Health::start(config.health).await?;
    let Setup {
        rules,
        guard,
        tls,
        certificate,
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
    let gateway = || {
        let client = follower::Client {
            own: certificate.clone(),
            rules: rules.clone(),
            lists: RevocationFolder::new(&config.directory.crls),
            clock: Arc::clone(&clock),
        };
        follower::Gateway::new(&custody.gateway, client)
    };
    let pulse = Pulse::default();
    let beats = tokio::spawn(pulse.clone().watch(gateway()?, Arc::clone(&clock)));
    let gateway = gateway()?;
    let keys = config.log.keys(&directory.custodian().log)?;
    let reload = {
        let (directory, oprf) = (Arc::clone(&directory), Arc::clone(&oprf_keys));
        let statement_key = Arc::clone(&statement_key);
        Arc::new(reload.fitting(move |new| fits(&directory, &statement_key, &oprf, new)))
    };
    let book = store::Custody {
        rules: rules.clone(),
        statement_key: Arc::clone(&statement_key),
        evaluation: terms(&config.oprf),
        memory: store::Memory::default(),
    };
    let opened = amanat_journal::open(&journal(config), keys, book, clock).await?;
    let (follower, following) = Follower::start(
        opened.journal.clone(),
        gateway,
        &directory.gateway().log,
        &custody.observed_head_file,
        config.log.database.engine(),
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
    let followed = follower.clone();
    let more = move |signs: &mut Signs| {
        pulse.look(signs);
        followed.look(signs);
    };
    let disks = Disks::new(&config.log, config.limits.free_mib);
    let vitals = desk.clone().watch_health(health.clone(), disks, more);
    let vitals = tokio::spawn(vitals);
    let lifetimes = Lifetimes::new(guard.clone(), certificate, &config.directory.crls);
    let lifetimes = tokio::spawn(lifetimes.run());
    let hours = tokio::spawn(each_hour(desk.clone()));
    let operation = Operation {
        health,
        limits: config.limits,
    };
    let (log_frozen, contradicted) = (desk.journal.freezing(), follower.contradicted());
    desk.begins().await;
    let served = amanat_server::serve(
        listener,
        tls,
        guard,
        operation,
        |routes| {
            let key = KeyDesk {
                proofs: Proofs::default(),
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
                identifiers: metrics::IDENTIFIERS_EVALUATED.counter(),
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
    vitals.abort();
    lifetimes.abort();
    beats.abort();
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
    let served = served?;
    // Its exit code is the last that its operator hears of it.
    if let Some(why) = log_frozen() {
        return Err(JournalError::Frozen(why).into());
    }
    if contradicted() {
        return Err(FollowError::Contradicted.into());
    }
    Ok(served)
}

/// The key that the directory lists, or none: others would not believe another one's receipts.
fn statement_key(custody: &Custody, directory: &Directory) -> Result<SigningKey, CustodianError> {
    let path = &custody.statement_key;
    let der = private_key_pem(path)?;
    let key = SigningKey::from_pkcs8(der.secret_der()).map_err(|_| CustodianError::Key {
        path: path.display().to_string(),
    })?;
    if directory
        .custodian()
        .statement_keys
        .contains(&key.public_key())
    {
        Ok(key)
    } else {
        Err(CustodianError::OtherStatementKey)
    }
}

/// The custodian's keys, and the log of the gateway that it follows, keep their place in a newer directory.
fn fits(
    old: &Directory,
    statement_key: &SigningKey,
    oprf: &OprfKeys,
    new: &Directory,
) -> Result<(), SetupError> {
    let keys = &new.custodian().statement_keys;
    if !keys.contains(&statement_key.public_key()) {
        Err(SetupError::Unfit("statement key of the custodian"))
    } else if new.custodian().log != old.custodian().log {
        Err(SetupError::Unfit("log key of the custodian"))
    } else if new.gateway().log != old.gateway().log {
        Err(SetupError::Unfit("log key of the gateway"))
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
        desk.log_refused().await;
        let looked = desk.journal.call(store::Call::AlarmMissing).await;
        if looked.is_err_and(|error| !is_frozen(&error)) {
            tracing::error!("consents that never came could not be looked for");
        }
    }
}

async fn each_hour(desk: Desk<store::Custody>) {
    let mut ticks = tokio::time::interval(EACH_HOUR);
    loop {
        ticks.tick().await;
        let deleted = desk.journal.call(store::Call::Expire).await;
        if deleted.is_err_and(|error| !is_frozen(&error)) {
            tracing::error!("keys that were never activated could not be deleted");
        }
    }
}

/// Of that its operator has heard.
const fn is_frozen(error: &JournalError) -> bool {
    matches!(error, JournalError::Frozen(_))
}

#[cfg(test)]
mod tests;

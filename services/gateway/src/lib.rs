//! The exchange: sealed records, referrals, consents, each agency's pseudonyms and the log of every decision.
//! It holds the data and no key that opens any of it.
//!
//! A request passes four rooms: the server's layers, the service's own file here (parse, one verb,
//! render), the store (facts, the pure decision, the entry, one transaction), and back.

mod config;
mod directory;
mod inspect;
mod metrics;
mod record;
mod referral;
mod store;
mod subject;

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use amanat_config::{FileError, secret_hex};
use amanat_database::Place;
use amanat_desk::{
    Desk, Lifetimes, Rulebook,
    audit::AuditDesk,
    consent::{ConsentDesk, Evidence},
    keeping::Keeping,
    setup::{Setup, SetupError},
    vitals::Disks,
};
use amanat_identity::{Directory, token::Audience};
use amanat_journal::{Journal, JournalError};
use amanat_schema::{
    audit::audit_service_server::AuditServiceServer, clock::Clock,
    consent::consent_service_server::ConsentServiceServer,
    directory::directory_service_server::DirectoryServiceServer,
    record::record_service_server::RecordServiceServer,
    referral::referral_service_server::ReferralServiceServer,
    subject::subject_service_server::SubjectServiceServer,
};
use amanat_seal::pseudonym::{Peppers, PseudonymKey};
use amanat_server::{Health, LARGEST_MESSAGE, LARGEST_QUESTION, Operation, ServeError, Served};
use tokio::{net::TcpListener, sync::Notify};

pub use amanat_config::ConfigError;
pub use config::{Config, Subjects};
pub use inspect::inspect;
pub use metrics::METRICS;
pub use store::subject::PepperError;

use directory::DirectoryDesk;
use record::RecordDesk;
use referral::ReferralDesk;
use store::{
    Call, Exchange, Memory, Reply,
    subject::{Asked, Keys, SubjectCall, SubjectReply},
};
use subject::SubjectDesk;

const EACH_MINUTE: Duration = Duration::from_secs(60);
/// How long answers about subjects gather before canaries are looked for among them.
const GATHERING: Duration = Duration::from_secs(3);
const OUTDATED: &str = "another replica has put a pepper on top of what is stored, so nobody can be looked up here: \
                        name its file last in subjects.peppers, and restart";
/// For all the tasks that write the last word to their files.
const ENDING: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("subjects.peppers names no file; name at least one")]
    NoPepper,
    #[error("{path} holds no usable key")]
    Key { path: String },
    #[error(transparent)]
    Pepper(#[from] PepperError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Makes the gateway's empty database, as `owner` if that is another role than its own.
///
/// # Errors
/// [`GatewayError::Journal`], also if it exists.
pub async fn init(config: &Config, owner: Option<&Place>) -> Result<(), GatewayError> {
    Ok(amanat_journal::init(&journal(config), owner).await?)
}

/// Brings the gateway's database up to date: the names of the steps taken. Nothing may serve from it meanwhile.
///
/// # Errors
/// [`GatewayError::Journal`].
pub async fn migrate(
    config: &Config,
    owner: Option<&Place>,
) -> Result<Vec<&'static str>, GatewayError> {
    Ok(amanat_journal::migrate(&journal(config), owner).await?)
}

/// What there is to keep of the gateway over the years.
pub fn keeping(config: &Config) -> Keeping<'_> {
    Keeping {
        audience: Audience::Gateway,
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
/// [`GatewayError`] naming what to mend; [`JournalError::Frozen`] when it stops, if its log is frozen by then.
pub async fn serve(
    config: &Config,
    listener: TcpListener,
    clock: Clock,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Served, GatewayError> {
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
        Audience::Gateway,
        Arc::clone(&clock),
    )?;
    let directory = Arc::clone(&rules.current().directory);
    let keys = config.log.keys(&directory.gateway().log)?;
    let reload = Arc::new(reload.fitting(move |new| fits(&directory, new)));
    let subjects = subject_keys(&config.subjects)?;
    let peppers = Arc::clone(&subjects.peppers);
    let outdated = Arc::clone(&subjects.outdated);
    let book = Exchange {
        rules: rules.clone(),
        subjects,
        memory: Memory::default(),
    };
    let opened = amanat_journal::open(&journal(config), keys, book, clock).await?;
    advance_peppers(&opened.journal).await?;
    let handles = config.log.handles()?;
    let desk = Desk {
        guard: guard.clone(),
        rules,
        journal: opened.journal,
        reader: opened.reader,
        openings: Arc::new(config.log.openings()?),
    };
    let reloading = tokio::spawn(reload.run());
    let minutes = tokio::spawn(each_minute(desk.clone()));
    let disks = Disks::new(&config.log, config.limits.free_mib);
    let vitals = desk
        .clone()
        .watch_health(health.clone(), disks, move |signs| {
            if outdated.load(Ordering::Relaxed) {
                signs.reasons.push(OUTDATED.to_owned());
            }
        });
    let vitals = tokio::spawn(vitals);
    let lifetimes = Lifetimes::new(guard.clone(), certificate, &config.directory.crls);
    let lifetimes = tokio::spawn(lifetimes.run());
    let counts = tokio::spawn(metrics::count(desk.clone()));
    let answered = Arc::new(Notify::new());
    let canaries = tokio::spawn(watch_canaries(
        desk.journal.clone(),
        desk.rules.clone(),
        Arc::clone(&answered),
    ));
    let operation = Operation {
        health,
        limits: config.limits,
    };
    let frozen = desk.journal.freezing();
    desk.begins().await;
    let served = amanat_server::serve(
        listener,
        tls,
        guard,
        operation,
        |routes| {
            let record = RecordDesk { desk: desk.clone() };
            let consent = ConsentDesk {
                desk: desk.clone(),
                evidence: Evidence::Kept,
            };
            let referral = ReferralDesk { desk: desk.clone() };
            let directory = DirectoryDesk {
                rules: desk.rules.clone(),
            };
            let subject = SubjectDesk {
                desk: desk.clone(),
                peppers,
                handles,
                answered,
            };
            let audit = AuditDesk { desk };
            routes
                .add_service(
                    RecordServiceServer::new(record).max_decoding_message_size(LARGEST_MESSAGE),
                )
                .add_service(
                    ConsentServiceServer::new(consent).max_decoding_message_size(LARGEST_MESSAGE),
                )
                .add_service(
                    ReferralServiceServer::new(referral).max_decoding_message_size(LARGEST_MESSAGE),
                )
                .add_service(
                    SubjectServiceServer::new(subject).max_decoding_message_size(LARGEST_QUESTION),
                )
                .add_service(
                    AuditServiceServer::new(audit).max_decoding_message_size(LARGEST_QUESTION),
                )
                .add_service(
                    DirectoryServiceServer::new(directory)
                        .max_decoding_message_size(LARGEST_QUESTION),
                );
        },
        stop,
    )
    .await;
    reloading.abort();
    minutes.abort();
    vitals.abort();
    lifetimes.abort();
    counts.abort();
    canaries.abort();
    // The last holder of the journal is gone or going; its tasks end with the checkpoint file written.
    let tasks = async {
        for task in opened.tasks {
            task.await.ok();
        }
    };
    if tokio::time::timeout(ENDING, tasks).await.is_err() {
        tracing::warn!("a task did not end in time; the database is durable all the same");
    }
    let served = served?;
    // Its exit code is the last that its operator hears of it.
    match frozen() {
        Some(why) => Err(JournalError::Frozen(why).into()),
        None => Ok(served),
    }
}

/// The gateway's log keeps its place in a newer directory.
fn fits(old: &Directory, new: &Directory) -> Result<(), SetupError> {
    if new.gateway().log == old.gateway().log {
        Ok(())
    } else {
        Err(SetupError::Unfit("log key of the gateway"))
    }
}

fn subject_keys(files: &Subjects) -> Result<Keys, GatewayError> {
    let peppers: Result<Vec<_>, _> = files.peppers.iter().map(|file| secret_hex(file)).collect();
    let peppers = Peppers::from_keys(peppers?).map_err(|_| GatewayError::NoPepper)?;
    Ok(Keys {
        peppers: Arc::new(peppers),
        pseudonyms: pseudonym_key(files)?,
        outdated: Arc::default(),
    })
}

fn pseudonym_key(files: &Subjects) -> Result<PseudonymKey, GatewayError> {
    let key = secret_hex(&files.pseudonym_key)?;
    PseudonymKey::from_bytes(key.as_slice()).map_err(|_| GatewayError::Key {
        path: files.pseudonym_key.display().to_string(),
    })
}

/// Before the first request, so that none is looked up under other peppers than what is stored.
async fn advance_peppers(journal: &Journal<Exchange>) -> Result<(), GatewayError> {
    let call = SubjectCall::AdvancePeppers;
    match journal.call(Call::Subject(Box::new(call))).await {
        Ok(committed) => {
            if let Ok(Reply::Subject(SubjectReply::Advanced(outcome))) = committed.answer {
                let count = outcome?;
                if count > 0 {
                    tracing::info!(
                        count,
                        "stored identifiers are under the pepper that was added"
                    );
                }
            }
            Ok(())
        }
        // Nothing will be decided; the proofs are served all the same.
        Err(JournalError::Frozen(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Looks for canaries that were asked for: some time after an answer, whatever it was about, once for all that
/// were given meanwhile; and, at the start and each minute, for what was left when a process ended, another
/// replica's too. Under each new directory those that it silences are counted first.
async fn watch_canaries(journal: Journal<Exchange>, rules: Rulebook, answered: Arc<Notify>) {
    let (mut asked, mut counted_under) = (Asked::NotSince, None);
    loop {
        let directory = *rules.current().directory.sha256();
        if counted_under != Some(directory) && warn_of_lapsed(&journal).await {
            counted_under = Some(directory);
        }
        let call = SubjectCall::CheckCanaries(asked);
        match journal.call(Call::Subject(Box::new(call))).await {
            Ok(_) => {}
            // Until the next start nothing is disclosed that could be asked for.
            Err(JournalError::Frozen(_)) => return,
            Err(_) => {
                tracing::error!("canaries that were asked for could not be looked for");
                answered.notify_one();
            }
        }
        asked = match tokio::time::timeout(EACH_MINUTE, answered.notified()).await {
            Ok(()) => {
                tokio::time::sleep(GATHERING).await;
                Asked::SinceTheLast
            }
            Err(_) => Asked::NotSince,
        };
    }
}

/// Whether they could be counted.
async fn warn_of_lapsed(journal: &Journal<Exchange>) -> bool {
    let call = Call::Subject(Box::new(SubjectCall::CountLapsed));
    let Ok(committed) = journal.call(call).await else {
        return false;
    };
    if let Ok(Reply::Subject(SubjectReply::Lapsed(count))) = committed.answer
        && count > 0
    {
        tracing::warn!(
            count,
            "canaries under no listed epoch of their key keep silent; plant them again by their labels"
        );
    }
    true
}

async fn each_minute(desk: Desk<Exchange>) {
    let mut ticks = tokio::time::interval(EACH_MINUTE);
    loop {
        ticks.tick().await;
        desk.log_refused().await;
    }
}

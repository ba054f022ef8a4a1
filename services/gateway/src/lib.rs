//! The exchange: sealed records, referrals, consents and the log of every decision. It holds the data
//! and no keys.
//!
//! A request passes four rooms: the server's layers, the service's own file here (parse, one verb,
//! render), the store (facts, the pure decision, the entry, one transaction), and back.

mod config;
mod directory;
mod record;
mod referral;
mod store;

use std::{future::Future, sync::Arc, time::Duration};

use amanat_desk::{
    Desk,
    audit::AuditDesk,
    consent::{ConsentDesk, Evidence},
    setup::{Setup, SetupError},
};
use amanat_identity::token::Audience;
use amanat_journal::JournalError;
use amanat_schema::{
    audit::audit_service_server::AuditServiceServer, clock::Clock,
    consent::consent_service_server::ConsentServiceServer,
    directory::directory_service_server::DirectoryServiceServer,
    record::record_service_server::RecordServiceServer,
    referral::referral_service_server::ReferralServiceServer,
};
use amanat_server::{LARGEST_MESSAGE, LARGEST_QUESTION, ServeError, Served};
use tokio::net::TcpListener;

pub use amanat_desk::setup::ConfigError;
pub use config::Config;

use directory::DirectoryDesk;
use record::RecordDesk;
use referral::ReferralDesk;
use store::Exchange;

const EACH_MINUTE: Duration = Duration::from_secs(60);
/// For all the tasks that write the last word to their files.
const ENDING: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Makes the gateway's empty database.
///
/// # Errors
/// [`GatewayError::Journal`], also if it exists.
pub async fn init(config: &Config) -> Result<(), GatewayError> {
    Ok(amanat_journal::init(&config.log.journal(store::MIGRATIONS)).await?)
}

/// Serves on `listener` until `stop` completes; every answered request is durable by then.
///
/// # Errors
/// [`GatewayError`] naming what to mend.
pub async fn serve(
    config: &Config,
    listener: TcpListener,
    clock: Clock,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Served, GatewayError> {
    let Setup {
        rules,
        directory,
        guard,
        tls,
    } = Setup::load(
        &config.server,
        &config.directory,
        Audience::Gateway,
        Arc::clone(&clock),
    )?;
    let keys = config.log.keys(&rules.current().directory.gateway().log)?;
    let book = Exchange {
        rules: rules.clone(),
    };
    let journal = config.log.journal(store::MIGRATIONS);
    let opened = amanat_journal::open(&journal, keys, book, clock).await?;
    let desk = Desk {
        guard: guard.clone(),
        rules,
        journal: opened.journal,
        reader: opened.reader,
        openings: Arc::new(config.log.openings()?),
    };
    let minutes = tokio::spawn(each_minute(desk.clone()));
    let served = amanat_server::serve(
        listener,
        tls,
        guard,
        |routes| {
            let record = RecordDesk { desk: desk.clone() };
            let consent = ConsentDesk {
                desk: desk.clone(),
                evidence: Evidence::Kept,
            };
            let referral = ReferralDesk { desk: desk.clone() };
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
                    AuditServiceServer::new(audit).max_decoding_message_size(LARGEST_QUESTION),
                )
                .add_service(
                    DirectoryServiceServer::new(DirectoryDesk { directory })
                        .max_decoding_message_size(LARGEST_QUESTION),
                );
        },
        stop,
    )
    .await;
    minutes.abort();
    // The last holder of the journal is gone or going; its tasks end with the checkpoint file written.
    let tasks = async {
        for task in opened.tasks {
            task.await.ok();
        }
    };
    if tokio::time::timeout(ENDING, tasks).await.is_err() {
        tracing::warn!("a task did not end in time; the database is durable all the same");
    }
    Ok(served?)
}

async fn each_minute(desk: Desk<Exchange>) {
    let mut ticks = tokio::time::interval(EACH_MINUTE);
    loop {
        ticks.tick().await;
        desk.log_refused_credentials().await;
    }
}

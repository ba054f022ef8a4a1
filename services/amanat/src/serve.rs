//! The servers' subcommands: make the database once, then serve until told to stop.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use amanat_config::ConfigError;
use amanat_database::Place;
use amanat_desk::{keeping::KeepError, settings::Log};
use amanat_server::{ExportError, Reporting, Served, Telemetry};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    clock::system_clock,
    keep,
    output::{Printer, Report},
    unswayed::unswayed,
};

const INIT: &str = "\
Examples:
  amanat gateway init --config gateway.toml
  amanat custodian init --config custodian.toml
  amanat gateway init --config gateway.toml \\
    --as 'postgres://amanat_owner@db.example/amanat?…'

A database that is there already is left as it is. A server that has run
before gets no new one: its log goes on or is restored.";

const MIGRATE: &str = "\
Examples:
  amanat gateway migrate --config gateway.toml
  amanat custodian migrate --config custodian.toml
  amanat gateway migrate --config gateway.toml \\
    --as 'postgres://amanat_owner@db.example/amanat?…'

The server must be stopped. Keep a copy of its data folder first: there is no
way back but that. What is up to date already is left as it is.";

const SERVE: &str = "\
Examples:
  amanat gateway serve --config gateway.toml
  amanat custodian serve --config custodian.toml

Exit codes: 0 stopped, 3 the configuration or a file that it names is not
valid, 4 the address is taken or the log cannot be written now, 5 the log was
frozen, also when a frozen server is stopped: only 4 is worth another start.";

/// What a server can be told to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes the empty database that the configuration names; once, before the first start
    #[command(after_help = INIT)]
    Init(Made),
    /// Brings the database up to date after an upgrade of the program
    #[command(after_help = MIGRATE)]
    Migrate(Made),
    /// Writes a sealed and signed backup of the database
    #[command(after_help = keep::BACKUP)]
    Backup(keep::BackUp),
    /// Makes the database anew from a backup
    #[command(after_help = keep::RESTORE)]
    Restore(keep::Restore),
    /// Copies the database to another place, as from SQLite to PostgreSQL
    #[command(after_help = keep::MOVE)]
    Move(keep::Move),
    /// Serves until SIGTERM or SIGINT
    ///
    /// Prints one line, {"listening":"127.0.0.1:8443"}, when the log is open and requests are answered;
    /// then only logs, on standard error. On SIGTERM or SIGINT it answers what is under way and ends, within
    /// ten seconds. On SIGHUP it takes the log filter, directory, decision table, revocation lists, suspensions
    /// and its own certificate into use as they are in their files now, and says in the log what it did.
    #[command(after_help = SERVE)]
    Serve(Configured),
}

#[derive(Debug, Args)]
pub(crate) struct Configured {
    /// The server's configuration, TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Made {
    #[command(flatten)]
    configured: Configured,
    #[command(flatten)]
    role: keep::Role,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error(transparent)]
    Config(#[from] amanat_gateway::ConfigError),
    #[error(transparent)]
    Gateway(#[from] amanat_gateway::GatewayError),
    #[error(transparent)]
    Custodian(#[from] amanat_custodian::CustodianError),
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error(transparent)]
    Telemetry(#[from] ExportError),
    #[error(transparent)]
    Listen(#[from] amanat_server::ServeError),
    #[error("there is a database at {database} already, and it was left as it is")]
    Made { database: Place },
    #[error("the environment variable {0} would count beside log.database; unset it")]
    Environment(&'static str),
    #[error("there is no database at {database}")]
    NotMade { database: Place },
    #[error("{file} says that this server has signed before; restore its database to {database}")]
    RanBefore { file: PathBuf, database: Place },
    #[error("{file} is a file: --as names who owns the tables of a PostgreSQL database")]
    Ownerless { file: PathBuf },
    #[error("the bound address cannot be read: {0}")]
    Address(io::Error),
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
}

/// `amanat gateway`.
pub(crate) async fn gateway(verb: Verb, printer: Printer) -> Result<(), ServerError> {
    match verb {
        Verb::Init(Made { configured, role }) => {
            let config = amanat_gateway::Config::load(&configured.config)?;
            not_made(&config.log)?;
            amanat_gateway::init(&config, role.of(&config.log.database)?).await?;
            printer
                .print(&made(&config.log.database))
                .map_err(ServerError::Output)
        }
        Verb::Migrate(Made { configured, role }) => {
            let config = amanat_gateway::Config::load(&configured.config)?;
            let _stopped = at_rest(config.server.listen, &config.log.database).await?;
            let role = role.of(&config.log.database)?;
            let taken = amanat_gateway::migrate(&config, role).await?;
            printer
                .print(&migrated(&config.log.database, &taken))
                .map_err(ServerError::Output)
        }
        Verb::Backup(args) => {
            let config = amanat_gateway::Config::load(&args.config)?;
            keep::back_up(&amanat_gateway::keeping(&config), &args, printer).await
        }
        Verb::Restore(args) => {
            let config = amanat_gateway::Config::load(&args.config)?;
            let _stopped = amanat_server::listen(config.server.listen).await?;
            keep::restore(&amanat_gateway::keeping(&config), &args, printer).await
        }
        Verb::Move(args) => {
            let config = amanat_gateway::Config::load(&args.config)?;
            let _stopped = at_rest(config.server.listen, &config.log.database).await?;
            keep::transfer(&amanat_gateway::keeping(&config), &args, printer).await
        }
        Verb::Serve(Configured { config }) => {
            let path = config;
            let config = amanat_gateway::Config::load(&path)?;
            let reporting = Reporting::start("amanat-gateway", &config.telemetry)?;
            let (listener, hangups, stop) =
                start(config.server.listen, &config.log.database).await?;
            let telemetry = || Ok(amanat_gateway::Config::load(&path)?.telemetry);
            let served = tokio::select! {
                served = amanat_gateway::serve(&config, listener, system_clock(), stop) => served,
                never = refilter(hangups, telemetry, &reporting) => match never {},
            };
            reporting.end().await;
            note(served?);
            Ok(())
        }
    }
}

/// `amanat custodian`.
pub(crate) async fn custodian(verb: Verb, printer: Printer) -> Result<(), ServerError> {
    match verb {
        Verb::Init(Made { configured, role }) => {
            let config = amanat_custodian::Config::load(&configured.config)?;
            not_made(&config.log)?;
            amanat_custodian::init(&config, role.of(&config.log.database)?).await?;
            printer
                .print(&made(&config.log.database))
                .map_err(ServerError::Output)
        }
        Verb::Migrate(Made { configured, role }) => {
            let config = amanat_custodian::Config::load(&configured.config)?;
            let _stopped = at_rest(config.server.listen, &config.log.database).await?;
            let role = role.of(&config.log.database)?;
            let taken = amanat_custodian::migrate(&config, role).await?;
            printer
                .print(&migrated(&config.log.database, &taken))
                .map_err(ServerError::Output)
        }
        Verb::Backup(args) => {
            let config = amanat_custodian::Config::load(&args.config)?;
            keep::back_up(&amanat_custodian::keeping(&config), &args, printer).await
        }
        Verb::Restore(args) => {
            let config = amanat_custodian::Config::load(&args.config)?;
            let _stopped = amanat_server::listen(config.server.listen).await?;
            keep::restore(&amanat_custodian::keeping(&config), &args, printer).await?;
            Ok(amanat_custodian::begin_state(&config)?)
        }
        Verb::Move(args) => {
            let config = amanat_custodian::Config::load(&args.config)?;
            let _stopped = at_rest(config.server.listen, &config.log.database).await?;
            keep::transfer(&amanat_custodian::keeping(&config), &args, printer).await
        }
        Verb::Serve(Configured { config }) => {
            let path = config;
            let config = amanat_custodian::Config::load(&path)?;
            let reporting = Reporting::start("amanat-custodian", &config.telemetry)?;
            let (listener, hangups, stop) =
                start(config.server.listen, &config.log.database).await?;
            let telemetry = || Ok(amanat_custodian::Config::load(&path)?.telemetry);
            let served = tokio::select! {
                served = amanat_custodian::serve(&config, listener, system_clock(), stop) => served,
                never = refilter(hangups, telemetry, &reporting) => match never {},
            };
            reporting.end().await;
            note(served?);
            Ok(())
        }
    }
}

/// `init` makes a database and never touches one, nor begins a log anew that others have seen.
fn not_made(log: &Log) -> Result<(), ServerError> {
    let database = log.database.clone();
    unswayed(&database).map_err(ServerError::Environment)?;
    // On servers only its tables are made, by who looks for them there first.
    if database.file().is_some_and(Path::exists) {
        return Err(ServerError::Made { database });
    }
    // The first start writes it: with another database beside it the server would be frozen.
    let file = log.checkpoint_file.clone();
    if file.exists() {
        return Err(ServerError::RanBefore { file, database });
    }
    Ok(())
}

fn made(database: &Place) -> Report {
    let text = format!("made the empty database {database}");
    Report::new(text, json!({ "database": database.to_string() }))
}

fn migrated(database: &Place, taken: &[&str]) -> Report {
    let text = if taken.is_empty() {
        format!("{database} is up to date")
    } else {
        format!("brought {database} up to date: {}", taken.join(", "))
    };
    let json = json!({ "database": database.to_string(), "steps": taken });
    Report::new(text, json)
}

/// The server's address, held: with it nothing else can serve from its database. Taken before the log is opened, a
/// second server on the same files ends here, and leaves the log to the first.
async fn at_rest(listen: SocketAddr, database: &Place) -> Result<TcpListener, ServerError> {
    unswayed(database).map_err(ServerError::Environment)?;
    if database.file().is_some_and(|file| !file.exists()) {
        return Err(ServerError::NotMade {
            database: database.clone(),
        });
    }
    Ok(amanat_server::listen(listen).await?)
}

/// The bound listener, what has the log filter read again, and what ends the server.
async fn start(
    listen: SocketAddr,
    database: &Place,
) -> Result<
    (
        TcpListener,
        Signal,
        impl Future<Output = ()> + Send + 'static,
    ),
    ServerError,
> {
    // Before anything slow, so that a signal during the start is not lost, and none ends the process.
    let hangups = signal(SignalKind::hangup()).map_err(ServerError::Signals)?;
    let signals = Signals::handle().map_err(ServerError::Signals)?;
    let listener = at_rest(listen, database).await?;
    let listening = listener.local_addr().map_err(ServerError::Address)?;
    Ok((listener, hangups, stop(listening, signals)))
}

/// Takes the configuration's log filter into use with each SIGHUP; the files that it names are looked at where
/// they are used, and all else counts from the next start.
async fn refilter(
    mut hangups: Signal,
    telemetry: impl Fn() -> Result<Telemetry, ConfigError>,
    reporting: &Reporting,
) -> Infallible {
    while hangups.recv().await.is_some() {
        match telemetry() {
            Ok(telemetry) => {
                reporting.filter(&telemetry);
                tracing::info!("SIGHUP: the log filter is that of the configuration");
            }
            Err(error) => {
                tracing::error!("SIGHUP: the log filter in use stays, for {error}");
            }
        }
    }
    std::future::pending().await
}

/// The signals that end a server, or a play.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they are waited for, and no longer end the process on their own.
    pub(crate) fn handle() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Completes with the next of them.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Completes when the server is to stop. A server first waits for it when it serves, with its log open:
/// that is when it says that it is listening.
async fn stop(listening: SocketAddr, mut signals: Signals) {
    let ready = Report::new(
        format!("listening on {listening}"),
        json!({ "listening": listening }),
    );
    // For whoever started it, most often a program: JSON, whatever was asked for.
    if let Err(error) = Printer::Json.print(&ready) {
        // Nobody reads it; those who call are served all the same.
        tracing::warn!(%error, "standard output cannot be written");
    }
    signals.received().await;
    tracing::info!("stopping");
}

fn note(served: Served) {
    match served {
        Served::Drained => tracing::info!("stopped; every request under way was answered"),
        Served::CutOff => tracing::warn!("stopped; some requests took too long and were cut off"),
    }
}

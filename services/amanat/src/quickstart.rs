//! `amanat quickstart`: a whole exchange on this machine, played through once.
//!
//! Gateway and custodian run as processes of their own, as they do in earnest; each agency acts through
//! its own connector over mutual TLS. Every step asserts what it shows, so a step that goes otherwise ends
//! the play with a failure.

mod scenario;
mod stage;

use std::path::PathBuf;

use clap::Args;

use crate::{CommandError, clock::system_clock, output::Printer};

use scenario::Scenario;
use stage::Stage;

const EXAMPLES: &str = "\
Examples:
  amanat quickstart                      play it, then keep the services up to try things
  amanat quickstart --exit               play it and stop; the exit code tells whether it held
  amanat quickstart --dir /tmp/amanat    keep keys, configurations, databases and logs there";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Quickstart {
    /// Stop when it was played, with an exit code that tells whether every step held
    #[arg(long)]
    exit: bool,
    /// Keep everything in this folder, which must be empty; otherwise it is removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What the services log, as in `info` or `trace`
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log: String,
}

/// What can go wrong in a play.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuickstartError {
    #[error(transparent)]
    Development(#[from] crate::development::DevelopmentError),
    #[error("cannot make or write {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the {name} did not start; its log is {log}")]
    Start { name: &'static str, log: PathBuf },
    #[error("a case file of the quickstart is not valid")]
    CaseFile,
    #[error("step {step} did not go as it must: {what}")]
    Surprise { step: u32, what: String },
}

pub(crate) async fn run(args: Quickstart, printer: Printer) -> Result<(), CommandError> {
    let stage = Stage::set(args.dir, &args.log, printer).await?;
    let played = Scenario::open(&stage, system_clock(), printer).await?.play().await?;
    if args.exit {
        stage.strike().await;
        return Ok(());
    }
    stage.print_next(&played).map_err(CommandError::Output)?;
    if tokio::signal::ctrl_c().await.is_err() {
        tracing::warn!("no signal can be waited for; stopping");
    }
    stage.strike().await;
    Ok(())
}

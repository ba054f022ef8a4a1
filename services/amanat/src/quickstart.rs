//! `amanat quickstart`: a whole exchange on this machine, played through once.
//!
//! Gateway and custodian run as processes of their own, as they do in earnest; each agency acts through
//! its own connector over mutual TLS. Every step asserts what it shows, so a step that goes otherwise ends
//! the play with a failure.

mod play;
mod prosecution;
mod servitude;
mod stage;
mod walker;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{CommandError, clock::system_clock, output::Printer, serve::Signals};

use play::Play;
use servitude::Played;
use stage::Stage;

const EXAMPLES: &str = "\
Examples:
  amanat quickstart                    play it, then leave the servers running
  amanat quickstart --exit             play it and stop; 0 if every step held
  amanat quickstart --scenario all     play the scenarios, one after the other
  amanat quickstart --dir /tmp/amanat  keep keys, databases and logs there";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Quickstart {
    /// Which scenario: 1 a survivor of domestic servitude is referred, 5 a prosecutor reads and a consent is
    /// withdrawn, 6 a corrupt officer walks through identity numbers
    #[arg(long, value_enum, default_value_t = Chosen::One)]
    scenario: Chosen,
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

/// The scenarios, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Chosen {
    #[value(name = "1")]
    One,
    #[value(name = "5")]
    Five,
    #[value(name = "6")]
    Six,
    All,
}

impl Chosen {
    fn has(self, scenario: Self) -> bool {
        self == Self::All || self == scenario
    }
}

/// What can go wrong in a play.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuickstartError {
    #[error(transparent)]
    Development(#[from] crate::development::DevelopmentError),
    #[error("cannot make or write {path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the {name} did not start; its log is {log}")]
    Start { name: &'static str, log: PathBuf },
    #[error("a case file of the quickstart is not valid")]
    CaseFile,
    #[error("signals cannot be handled: {0}")]
    Signals(std::io::Error),
    #[error("stopped before it was played to its end")]
    Stopped,
    #[error("step {step} did not go as it must: {what}")]
    Surprise { step: u32, what: String },
}

pub(crate) async fn run(args: Quickstart, printer: Printer) -> Result<(), CommandError> {
    // Before anything is started: its servers are not in its process group, so a signal that ended it
    // here and now would leave them behind.
    let mut signals = Signals::handle().map_err(QuickstartError::Signals)?;
    let stage = tokio::select! {
        stage = Stage::set(args.dir, &args.log, printer) => stage?,
        () = signals.received() => return Err(QuickstartError::Stopped.into()),
    };
    let played = tokio::select! {
        played = play(args.scenario, &stage, printer) => played,
        () = signals.received() => Err(QuickstartError::Stopped.into()),
    };
    let shown = match played {
        Ok(played) if !args.exit => stage
            .print_next(played.as_ref())
            .map_err(CommandError::Output),
        played => played.map(drop),
    };
    if shown.is_ok() && !args.exit {
        signals.received().await;
    }
    stage.strike().await;
    shown
}

/// Plays what was chosen; answers the ids of scenario 1, if it was.
async fn play(
    chosen: Chosen,
    stage: &Stage,
    printer: Printer,
) -> Result<Option<Played>, CommandError> {
    let mut play = Play::open(stage, system_clock(), printer).await?;
    let mut played = None;
    if chosen.has(Chosen::One) {
        played = Some(servitude::play(&mut play).await?);
    }
    if chosen.has(Chosen::Five) {
        prosecution::play(&mut play).await?;
    }
    if chosen.has(Chosen::Six) {
        walker::play(&mut play).await?;
    }
    play.verify().await?;
    Ok(played)
}

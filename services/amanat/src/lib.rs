//! The one program: the servers of an exchange, and what an agency does with them.
//!
//! `amanat --help` lists the subcommands. Each turns its arguments into calls of a room and prints the
//! result; what is decided, sealed or stored is decided, sealed and stored there.

mod agency;
mod clock;
pub mod development;
mod error;
mod output;
mod quickstart;
mod serve;

use std::process::ExitCode;

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

pub use clock::system_clock;

use error::CommandError;
use output::Printer;

const EXAMPLES: &str = "\
Examples:
  amanat quickstart                                a whole exchange on this machine, played through
  amanat gateway serve --config gateway.toml       serve the exchange
  amanat custodian serve --config custodian.toml   serve the keys
  amanat --profile DIR case submit case.json       seal a record and submit it
  amanat --profile DIR audit verify                verify both logs

Exit codes: 0 done, 1 failed or refused (standard error says why), 2 the arguments are not
understood.";

/// Shares sealed case records of trafficking survivors between agencies, by consent and on the record
#[derive(Debug, Parser)]
#[command(name = "amanat", version, after_help = EXAMPLES)]
struct Cli {
    /// Print results and failures as JSON, one value a line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    acting: agency::As,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the exchange: it holds the data and no keys
    #[command(subcommand)]
    Gateway(serve::Verb),
    /// Run the custodian: it holds the keys and no data
    #[command(subcommand)]
    Custodian(serve::Verb),
    /// Play a whole exchange through on this machine
    Quickstart(quickstart::Quickstart),
    #[command(flatten)]
    Agency(agency::Verb),
}

/// The program: arguments in, exit code out.
pub fn main() -> ExitCode {
    let Cli {
        json,
        acting,
        command,
    } = Cli::try_parse().unwrap_or_else(|error| without_values(error).exit());
    let printer = if json { Printer::Json } else { Printer::Human };
    match run(command, acting, printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer.fail(&error);
            ExitCode::FAILURE
        }
    }
}

/// A value on the command line can be anybody's number or pseudonym: what is wrong with it is said without it.
fn without_values(mut error: clap::Error) -> clap::Error {
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    let mut hide = |kind, is_value: fn(&str) -> bool| {
        if matches!(error.get(kind), Some(ContextValue::String(text)) if is_value(text)) {
            error.insert(kind, ContextValue::String("(not shown)".to_owned()));
        }
    };
    // An empty one is told as such.
    hide(ContextKind::InvalidValue, |text| !text.is_empty());
    // What stands where no argument was expected is a value too, unless it is a flag.
    if is_unknown {
        hide(ContextKind::InvalidArg, |text| !text.starts_with('-'));
    }
    error
}

fn run(command: Command, acting: agency::As, printer: Printer) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Runtime::new().map_err(CommandError::Runtime)?;
    runtime.block_on(async {
        match command {
            Command::Gateway(verb) => serve::gateway(verb, printer).await?,
            Command::Custodian(verb) => serve::custodian(verb, printer).await?,
            Command::Quickstart(args) => quickstart::run(args, printer).await?,
            Command::Agency(verb) => {
                let report = agency::run(verb, acting).await?;
                printer.print(&report).map_err(CommandError::Output)?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}

//! The one program: the servers of an exchange, and what an agency does with them.
//!
//! `amanat --help` lists the subcommands. Each turns its arguments into calls of a room and prints the
//! result; what is decided, sealed or stored is decided, sealed and stored there.

mod agency;
mod catalogue;
pub mod ceremony;
mod clock;
mod config;
pub mod development;
mod error;
mod exit;
mod keep;
mod manual;
mod output;
mod quickstart;
mod reasoned;
mod serve;
mod unswayed;
mod version;

use std::{env, process::ExitCode, time::Duration};

use clap::{
    CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

pub use clock::system_clock;

use error::CommandError;
use output::{Printer, Report};

/// For what still runs when all that was asked for is done.
const ENDING: Duration = Duration::from_secs(2);
const EXAMPLES: &str = "\
Examples:
  amanat quickstart                                play a whole exchange here
  amanat gateway serve --config gateway.toml       serve the exchange
  amanat custodian serve --config custodian.toml   serve the keys
  amanat --profile DIR case submit case.json       seal a record and submit it
  amanat --profile DIR audit verify                verify both logs

Exit codes: 0 done, 1 denied or a verification failed, 2 the arguments are not
understood, 3 bad input (a file, a field, a configuration, a profile), 4
unreachable or not now: the same command works later, 5 a log is frozen or
what was signed contradicts itself. Standard error says the reason; `amanat
errors REASON` explains it.";

/// Shares sealed case records of trafficking survivors between agencies, by consent and on the record
#[derive(Debug, Parser)]
#[command(name = "amanat", version, long_version = version::LONG.as_str(), after_help = EXAMPLES)]
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
    /// Make, renew, revoke and rotate a party's own keys
    #[command(subcommand)]
    Keys(ceremony::verbs::KeysVerb),
    /// Draft, sign, publish and show the directory; for registrars
    #[command(subcommand)]
    Directory(ceremony::verbs::DirectoryVerb),
    /// Enrol, revoke and suspend agencies; for registrars
    #[command(subcommand, name = "agency")]
    Enrolment(ceremony::verbs::AgencyVerb),
    /// Look at a configuration before a server or a connector starts with it
    #[command(subcommand)]
    Config(config::Verb),
    /// Verify a server's backup, without the server
    #[command(subcommand)]
    Backup(keep::Verb),
    /// Explain a reason: what it means, its exit code, what to do next
    Errors(catalogue::Errors),
    /// Write the manual's pages
    Man(manual::Man),
    /// Print a shell's completion script
    Completions(manual::Completions),
}

/// The program: arguments in, exit code out.
pub fn main() -> ExitCode {
    let Cli {
        json,
        acting,
        command,
    } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(without_values(error)),
    };
    let printer = if json { Printer::Json } else { Printer::Human };
    match run(command, acting, printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(printer, &error),
    }
}

fn fail(printer: Printer, error: &CommandError) -> ExitCode {
    let (exit, report) = error.told();
    printer.fail(&report);
    exit.code().into()
}

/// Asked-for help and version are no failure. A program that wants JSON gets it of this failure too.
fn not_understood(error: clap::Error) -> ExitCode {
    let wants_json = env::args_os().any(|argument| argument == "--json");
    let printer = if wants_json {
        Printer::Json
    } else {
        Printer::Human
    };
    if error.use_stderr() {
        let command = command_meant();
        return fail(printer, &CommandError::Usage { error, command });
    }
    if wants_json && error.kind() == ErrorKind::DisplayVersion {
        return match printer.print(&version::report()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(printer, &CommandError::Output(error)),
        };
    }
    error.exit()
}

/// As in `amanat case read`: what of the arguments names a command, and nothing else of them.
fn command_meant() -> String {
    let mut command = Cli::command();
    let mut name = command.get_name().to_owned();
    for argument in env::args_os().skip(1) {
        if let Some(found) = command.find_subcommand(argument).cloned() {
            name.push_str(&format!(" {}", found.get_name()));
            command = found;
        }
    }
    name
}

/// Options whose values are nobody's: a wrong one is shown.
const IMPERSONAL: [&str; 9] = [
    "--at",
    "--days",
    "--kind",
    "--limit",
    "--listen",
    "--province",
    "--purpose",
    "--scenario",
    "--threshold",
];

/// A value on the command line can be anybody's number or pseudonym: what is wrong with it is said without it.
fn without_values(mut error: clap::Error) -> clap::Error {
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    let is_impersonal = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(argument))
            if argument.split(' ').next().is_some_and(|option| IMPERSONAL.contains(&option))
    );
    let mut hide = |kind, is_value: fn(&str) -> bool| {
        if matches!(error.get(kind), Some(ContextValue::String(text)) if is_value(text)) {
            error.insert(kind, ContextValue::String("(not shown)".to_owned()));
        }
    };
    // An empty one is told as such; an identity number can stand behind any option.
    if is_impersonal {
        hide(ContextKind::InvalidValue, has_five_digits);
    } else {
        hide(ContextKind::InvalidValue, |text| !text.is_empty());
    }
    // No command has a digit in its name.
    hide(ContextKind::InvalidSubcommand, |text| {
        text.contains(|character: char| character.is_ascii_digit())
    });
    // What stands where no argument was expected is a value too, unless it is a flag.
    if is_unknown {
        hide(ContextKind::InvalidArg, |text| !text.starts_with('-'));
    }
    error
}

/// One after the other.
fn has_five_digits(text: &str) -> bool {
    let is_digits = |five: &[u8]| five.iter().all(u8::is_ascii_digit);
    text.as_bytes().windows(5).any(is_digits)
}

fn run(command: Command, acting: agency::As, printer: Printer) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Runtime::new().map_err(CommandError::Runtime)?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Gateway(verb) => serve::gateway(verb, printer).await?,
            Command::Custodian(verb) => serve::custodian(verb, printer).await?,
            Command::Quickstart(args) => quickstart::run(args, printer).await?,
            Command::Agency(verb) => print(printer, &agency::run(verb, acting).await?)?,
            Command::Keys(verb) => print(printer, &ceremony::verbs::keys(verb)?)?,
            Command::Directory(verb) => print(printer, &ceremony::verbs::directory(verb)?)?,
            Command::Enrolment(verb) => print(printer, &ceremony::verbs::agency(verb)?)?,
            Command::Config(verb) => print(printer, &config::run(&verb)?)?,
            Command::Backup(verb) => print(printer, &keep::run(&verb)?)?,
            Command::Errors(args) => print(printer, &catalogue::run(&args)?)?,
            Command::Man(args) => print(printer, &manual::man(args)?)?,
            Command::Completions(args) => print(printer, &manual::completions(&args))?,
        }
        Ok(())
    });
    // What hangs, a disk say, does not keep the process from its end.
    runtime.shutdown_timeout(ENDING);
    outcome
}

fn print(printer: Printer, report: &Report) -> Result<(), CommandError> {
    printer.print(report).map_err(CommandError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }

    /// Wider ones would be wrapped where a terminal is narrow, and what was wrapped cannot be pasted.
    #[test]
    fn every_example_of_the_help_fits_a_terminal() {
        const COLUMNS: usize = 78;
        let mut commands = vec![Cli::command()];
        let mut wide = Vec::new();
        while let Some(command) = commands.pop() {
            let texts = [command.get_after_help(), command.get_after_long_help()];
            for text in texts.into_iter().flatten().map(ToString::to_string) {
                let lines = text.lines().filter(|line| line.chars().count() > COLUMNS);
                wide.extend(lines.map(|line| format!("{}: {line}", command.get_name())));
            }
            commands.extend(command.get_subcommands().cloned());
        }
        assert!(wide.is_empty(), "{}", wide.join("\n"));
    }
}

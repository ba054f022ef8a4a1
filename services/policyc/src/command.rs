//! The commands: arguments in, text and exit code out.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use amanat_policy::Context;
use amanat_schema::{
    catalogue::FieldGroup,
    policy::{AgencyKind, Purpose},
};
use clap::{Args, Parser, Subcommand};

use crate::{
    diff::Difference,
    domain::{Cell, Named},
    evaluate::EngineError,
    explain::explain,
    folder::{self, FolderError, TABLE},
    rules::{Rules, RulesError},
};

const EXAMPLES: &str = "\
Examples:
  amanat-policy explain HEALTH HEALTH NEEDS_RISK    may health services read her needs, and why?
  amanat-policy diff OLD-TABLE deploy/policies      what do the rules open and close?
  amanat-policy compile                             write the table and its pages
  amanat-policy check                               are they what the rules come to?

Exit codes: 0 done, and nothing differs; 1 check or diff found a difference; 2 the arguments are not
understood, or the rules or a table are refused (standard error says why).";

/// Compiles the rules of deploy/policies into the decision table that the servers load
#[derive(Debug, Parser)]
#[command(name = "amanat-policy", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Policies {
    /// The folder of the rules
    #[arg(long, value_name = "DIR", default_value = "deploy/policies")]
    policies: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Writes the table and its pages beside the rules; nothing at all if a rule is refused, fails anywhere or
    /// decides no cell
    #[command(after_help = "Example:\n  amanat-policy compile --policies deploy/policies")]
    Compile(Policies),
    /// Compares the table and its pages with the rules, and names every cell that differs
    #[command(
        after_help = "Example:\n  amanat-policy check && echo the table is what the rules say"
    )]
    Check(Policies),
    /// Names every cell that a change opens or closes, and in which circumstances
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(Diff),
    /// Tells whether an agency may read, which rules decide, on whose authority, and what would open it
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
}

const DIFF_EXAMPLES: &str = "\
Examples:
  amanat-policy diff deploy/policies/decision-table.txt deploy/policies   before compiling
  amanat-policy diff --json SIGNED-TABLE NEW-TABLE                        before signing

Exit codes, as those of diff(1): 0 no cell differs, 1 some do, 2 trouble.";

#[derive(Debug, Args)]
struct Diff {
    /// A table, or a folder of rules
    old: PathBuf,
    /// A table, or a folder of rules
    new: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  amanat-policy explain PROSECUTION PROSECUTION IDENTITY
  amanat-policy explain CHILD_PROTECTION CHILD_PROTECTION CONTACT --minor --holds-placement";

#[derive(Debug, Args)]
struct Explain {
    #[command(flatten)]
    rules: Policies,
    /// The kind of agency that reads
    #[arg(value_parser = named::<AgencyKind>)]
    kind: AgencyKind,
    /// What it reads for
    #[arg(value_parser = named::<Purpose>)]
    purpose: Purpose,
    /// The group of fields
    #[arg(value_parser = named::<FieldGroup>)]
    group: FieldGroup,
    /// The survivor is a minor
    #[arg(long)]
    minor: bool,
    /// The reader keeps her: the placement is its own
    #[arg(long)]
    holds_placement: bool,
    /// The investigation is the reader's own
    #[arg(long)]
    owns_investigation: bool,
    /// A court order is in force
    #[arg(long)]
    court_order: bool,
    /// Break-glass is open: an emergency, approved by a second officer
    #[arg(long)]
    break_glass: bool,
}

/// What was found; it is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Difference,
}

#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(
        "cannot read {path}: {source}\n`--policies DIR` names the folder of the rules; it is deploy/policies \
         in the root of the repository"
    )]
    Policies { path: PathBuf, source: io::Error },
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
}

/// The program: arguments in, exit code out.
pub fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    match run(verb) {
        Ok(Found::Nothing) => ExitCode::SUCCESS,
        Ok(Found::Difference) => ExitCode::FAILURE,
        Err(error) => {
            // A closed standard error leaves the exit code to tell.
            writeln!(io::stderr().lock(), "amanat-policy: {error}").ok();
            ExitCode::from(2)
        }
    }
}

fn run(verb: Verb) -> Result<Found, CommandError> {
    let (text, found) = match verb {
        Verb::Compile(policies) => write(policies.folder()?)?,
        Verb::Check(policies) => check(policies.folder()?)?,
        Verb::Diff(args) => diff(&args)?,
        Verb::Explain(args) => {
            let (cell, context) = args.question();
            let rules = Rules::read(args.rules.folder()?)?;
            let explanation = explain(&rules, cell, context)?;
            (
                explanation.to_string().trim_end().to_owned(),
                Found::Nothing,
            )
        }
    };
    print(&text).map_err(CommandError::Output)?;
    Ok(found)
}

fn write(policies: &Path) -> Result<(String, Found), CommandError> {
    let compiled = folder::compiled(policies)?;
    folder::write(policies, &compiled)?;
    let (cells, pages) = (compiled.table.cells().count(), compiled.pages.len());
    let table = policies.join(TABLE);
    let text = format!("{}: {cells} cells open, {pages} pages", table.display());
    Ok((text, Found::Nothing))
}

fn check(policies: &Path) -> Result<(String, Found), CommandError> {
    let compiled = folder::compiled(policies)?;
    let differences = folder::differences(policies, &compiled)?;
    let folder = policies.display();
    if differences.is_empty() {
        let text = format!("{folder}: the table and its pages are what the rules come to");
        return Ok((text, Found::Nothing));
    }
    let differences = differences.join("\n");
    let text = format!(
        "{differences}\n{folder}: not what the rules come to; `amanat-policy compile` writes what they do"
    );
    Ok((text, Found::Difference))
}

fn diff(args: &Diff) -> Result<(String, Found), CommandError> {
    let difference = Difference::between(&folder::table(&args.old)?, &folder::table(&args.new)?);
    let found = if difference.0.is_empty() {
        Found::Nothing
    } else {
        Found::Difference
    };
    let text = if args.json {
        difference.to_json().to_string()
    } else {
        difference.to_string()
    };
    Ok((text, found))
}

impl Policies {
    /// The folder, once it is seen to be one: whoever runs the program elsewhere is told what to do.
    fn folder(&self) -> Result<&Path, CommandError> {
        let path = self.policies.as_path();
        match fs::read_dir(path) {
            Ok(_) => Ok(path),
            Err(source) => Err(CommandError::Policies {
                path: path.to_owned(),
                source,
            }),
        }
    }
}

impl Explain {
    fn question(&self) -> (Cell, Context) {
        let cell = Cell {
            kind: self.kind,
            purpose: self.purpose,
            group: self.group,
        };
        let context = Context {
            subject_is_minor: self.minor,
            recipient_holds_placement: self.holds_placement,
            recipient_owns_investigation: self.owns_investigation,
            court_order_in_force: self.court_order,
            break_glass_open: self.break_glass,
        };
        (cell, context)
    }
}

/// A name of the domain, as the rules write it.
fn named<T: Named>(name: &str) -> Result<T, String> {
    T::from_name(name).ok_or_else(|| {
        let names: Vec<_> = T::every().map(T::name).collect();
        format!("no such {}; there are {}", T::WHAT, names.join(", "))
    })
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
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

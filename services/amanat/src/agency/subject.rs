//! `amanat subject`.

use std::{fmt, path::PathBuf, str::FromStr};

use amanat_connector::{Connector, Delivery, DocumentFile, IdentifierFile, MergeSeen};
use amanat_schema::{CaseId, subject::MergeStatus};
use amanat_seal::pseudonym::Pseudonym;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    codes::{self, merge_status_name},
    entries, own_cases,
};
use crate::{CommandError, output::Report};

const FIND: &str = "\
Examples:
  amanat --profile DIR subject find --file - < identifiers.json
  amanat --profile DIR subject find --file identifiers.json --case CASE
  amanat --profile DIR subject find --cnic 00000-1234567-8 --phone 03000000123
  amanat --profile DIR subject find --name \"Noor Example\" --father \"Karim Example\" --birth-year 1994

Prefer standard input: what stands on a command line is kept in the shell's history, and
whoever is on this machine can see it while the command runs. The file names one person, in
any spelling:
  { \"cnic\": \"00000-1234567-8\", \"document\": { \"type\": \"PASSPORT\", \"number\": \"ZZ0000000\" },
    \"phone\": \"0300 0000123\", \"name\": \"Noor Example\", \"father\": \"Karim Example\", \"birth_year\": 1994 }

A pseudonym does not tell whether anybody knew the person. A search counts against your
budget of the day, and oversight sees one that no record follows: submit the record with
--case and the case that is printed.";

const MERGES: &str = "\
Examples:
  amanat --profile DIR subject merges
  amanat --profile DIR subject merges --status PROPOSED";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows this agency's pseudonym of a person, and its own cases that bear it
    #[command(after_help = FIND)]
    Find(FindArgs),
    /// Lists the pairs of pseudonyms that may be one person
    #[command(after_help = MERGES)]
    Merges {
        /// Only these: PROPOSED, MERGED or SPLIT
        #[arg(long, value_parser = codes::merge_status)]
        status: Option<MergeStatus>,
    },
    /// Says that two pseudonyms are one person; `subject split` takes it back
    #[command(after_help = "Example:\n  amanat --profile DIR subject merge INTO FROM")]
    Merge {
        /// Stands for both from now on
        #[arg(value_name = "INTO")]
        into: PseudonymArg,
        #[arg(value_name = "FROM")]
        from: PseudonymArg,
    },
    /// Says that two pseudonyms are two persons: undoes a merge, or declines a proposed one
    #[command(after_help = "Example:\n  amanat --profile DIR subject split ONE OTHER")]
    Split {
        #[arg(value_name = "ONE")]
        one: PseudonymArg,
        #[arg(value_name = "OTHER")]
        other: PseudonymArg,
    },
}

#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    /// The identifiers as JSON; `-` reads standard input
    #[arg(long, value_name = "FILE", required_unless_present_any = ["cnic", "document", "phone", "name"],
        conflicts_with_all = ["cnic", "document", "phone", "name", "father", "birth_year"])]
    file: Option<PathBuf>,
    #[arg(long, value_name = "NUMBER")]
    cnic: Option<Private>,
    /// CNIC, B_FORM, PASSPORT, AFGHAN_POR or AFGHAN_ACC, and its number
    #[arg(long, num_args = 2, value_names = ["TYPE", "NUMBER"])]
    document: Option<Vec<Private>>,
    #[arg(long, value_name = "NUMBER")]
    phone: Option<Private>,
    /// Together with --father and --birth-year
    #[arg(long, requires_all = ["father", "birth_year"])]
    name: Option<Private>,
    /// The father's or husband's name
    #[arg(long, requires = "name")]
    father: Option<Private>,
    #[arg(long, requires = "name", value_name = "YEAR")]
    birth_year: Option<u16>,
    /// The case that the search is made for; a new one if absent
    #[arg(long)]
    case: Option<CaseId>,
}

/// An argument that names somebody: its `Debug` shows nothing.
#[derive(Clone)]
pub(crate) struct Private(String);

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(..)")
    }
}

impl FromStr for Private {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// A pseudonym as it is printed, or typed in by hand: a slip is caught by its check symbol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PseudonymArg(Pseudonym);

impl FromStr for PseudonymArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.parse().map(Self);
        parsed.map_err(|_| "expected the 27 characters of a pseudonym; one of them is mistyped")
    }
}

pub(super) async fn run(verb: Verb, connector: &Connector) -> Result<Report, CommandError> {
    match verb {
        Verb::Find(args) => find(connector, args).await,
        Verb::Merges { status } => {
            let merges = connector.list_merges(status).await?;
            let reports = merges.iter().map(render).collect();
            Ok(Report::list(reports, "no pairs"))
        }
        Verb::Merge { into, from } => {
            let delivery = connector.merge_subjects(into.0, from.0).await?;
            Ok(decided(
                &format!("{} now stands for {}", into.0, from.0),
                "MERGED",
                &delivery,
            ))
        }
        Verb::Split { one, other } => {
            let delivery = connector.split_subjects(one.0, other.0).await?;
            Ok(decided(
                &format!("{} and {} are two persons", one.0, other.0),
                "SPLIT",
                &delivery,
            ))
        }
    }
}

async fn find(connector: &Connector, args: FindArgs) -> Result<Report, CommandError> {
    let case = args.case;
    let file = match &args.file {
        Some(path) => super::identifier_file(path)?,
        None => typed(args),
    };
    let found = connector.find_subject(&file.identifiers()?, case).await?;
    let (text, entries) = entries(&found.delivery);
    let own = own_cases(&found.own_cases);
    Ok(Report::new(
        format!(
            "pseudonym {}\n{own}\nsearched for case {}\n{text}",
            found.pseudonym, found.case
        ),
        json!({
            "pseudonym": found.pseudonym.to_string(), "own_cases": found.own_cases,
            "case": found.case, "entries": entries,
        }),
    ))
}

/// What stood on the command line.
fn typed(args: FindArgs) -> IdentifierFile {
    let text = |private: Option<Private>| private.map(|private| private.0);
    let document = args.document.map(|parts| {
        let mut parts = parts.into_iter().map(|part| part.0);
        DocumentFile {
            kind: parts
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase()
                .replace('-', "_"),
            number: parts.next().unwrap_or_default(),
        }
    });
    IdentifierFile {
        cnic: text(args.cnic),
        document,
        phone: text(args.phone),
        name: text(args.name),
        father: text(args.father),
        birth_year: args.birth_year,
    }
}

fn render(merge: &MergeSeen) -> Report {
    let status = merge_status_name(merge.status);
    let decided = merge.decided.map(|time| time.to_string());
    let shown = decided
        .as_ref()
        .map_or_else(String::new, |time| format!("  decided {time}"));
    Report::new(
        format!(
            "{}  {}  {status}  proposed {}{shown}",
            merge.into, merge.from, merge.proposed
        ),
        json!({
            "into": merge.into.to_string(), "from": merge.from.to_string(), "status": status,
            "propose_time": merge.proposed.to_string(), "decide_time": decided,
        }),
    )
}

fn decided(what: &str, status: &str, delivery: &Delivery) -> Report {
    let (text, entries) = entries(delivery);
    Report::new(
        format!("{what}\n{text}"),
        json!({ "status": status, "entries": entries }),
    )
}

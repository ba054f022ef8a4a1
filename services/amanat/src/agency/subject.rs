//! `amanat subject`.

use std::{path::PathBuf, str::FromStr};

use amanat_connector::{Connector, ConnectorError, Delivery, MergeSeen};
use amanat_schema::{CaseId, subject::MergeStatus};
use amanat_seal::pseudonym::Pseudonym;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    codes::{self, merge_status_name},
    entries, joined, own_cases,
};
use crate::{CommandError, output::Report};

const FIND: &str = "\
Examples:
  amanat --profile DIR subject find --file - < identifiers.json
  amanat --profile DIR subject find --file identifiers.json --case CASE

No identifier goes on the command line: the shell's history would keep it, and
whoever is on this machine could see it while the command runs. The file names
one person, in any spelling:
  { \"cnic\": \"00000-1234567-8\",
    \"document\": { \"type\": \"PASSPORT\", \"number\": \"ZZ0000000\" },
    \"phone\": \"0300 0000123\", \"name\": \"Noor Example\",
    \"father\": \"Karim Example\", \"birth_year\": 1994 }

A pseudonym does not tell whether anybody knew the person, and a search ties
no two identifiers together: the strongest document or phone that your agency
knows answers. It counts against your budget of the day, and oversight sees
one that no record follows: submit the record with --case and the case that is
printed.";

const MERGES: &str = "\
Examples:
  amanat --profile DIR subject merges
  amanat --profile DIR subject merges --status PROPOSED

Beside each pseudonym stand this agency's own cases of it, as far as this
connector handed them in.";

const MERGE: &str = "\
Example:
  amanat --profile DIR subject merge 'INTO' 'FROM'

Put each pseudonym in single quotes: it may end in *, ~, $ or =, which the
shell takes for its own.";

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
    #[command(after_help = MERGE)]
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
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The case that the search is made for; a new one if absent
    #[arg(long)]
    case: Option<CaseId>,
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
            let mut reports = Vec::new();
            for merge in connector.list_merges(status).await? {
                reports.push(render(connector, &merge).await?);
            }
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
    let identifiers = super::identifier_file(&args.file)?.identifiers()?;
    let found = connector.find_subject(&identifiers, args.case).await?;
    let (text, entries) = entries(&found.delivery);
    let doubts = doubts(connector, found.pseudonym).await;
    let mut lines = vec![
        format!("pseudonym {}", found.pseudonym),
        own_cases(&found.own_cases, found.by_phone_alone),
    ];
    lines.extend(doubts.text);
    lines.extend([format!("searched for case {}", found.case), text]);
    Ok(Report::new(
        lines.join("\n"),
        json!({
            "pseudonym": found.pseudonym.to_string(), "own_cases": found.own_cases,
            "by_phone_alone": found.by_phone_alone, "proposed_merges": doubts.count,
            "case": found.case, "entries": entries,
        }),
    ))
}

/// Whether somebody may have other pseudonyms too.
#[derive(Default)]
pub(super) struct Doubts {
    /// What is said of it, if anything.
    pub(super) text: Option<String>,
    /// How many pairs wait; `None` if that could not be asked.
    pub(super) count: Option<usize>,
}

/// The pairs with a pseudonym that wait for a person to decide. Whatever was done before stands, so not to
/// learn of them is no failure.
pub(super) async fn doubts(connector: &Connector, pseudonym: Pseudonym) -> Doubts {
    let proposed = connector.list_merges(Some(MergeStatus::Proposed)).await;
    match proposed.map(|pairs| count(&pairs, pseudonym)) {
        Ok(0) => Doubts {
            text: None,
            count: Some(0),
        },
        Ok(some) => Doubts {
            text: Some("pairs that may be one person wait in `amanat subject merges`".to_owned()),
            count: Some(some),
        },
        Err(error) => Doubts {
            text: Some(format!(
                "whether she may have another pseudonym is not known: {}; see `amanat subject merges`",
                error.reason()
            )),
            count: None,
        },
    }
}

fn count(pairs: &[MergeSeen], pseudonym: Pseudonym) -> usize {
    let names = |pair: &&MergeSeen| [pair.into, pair.from].contains(&pseudonym);
    pairs.iter().filter(names).count()
}

async fn render(connector: &Connector, merge: &MergeSeen) -> Result<Report, ConnectorError> {
    let into_cases = connector.own_cases(merge.into).await?;
    let from_cases = connector.own_cases(merge.from).await?;
    let status = merge_status_name(merge.status);
    let decided = merge.decided.map(|time| time.to_string());
    let shown = decided
        .as_ref()
        .map_or_else(String::new, |time| format!("  decided {time}"));
    Ok(Report::new(
        format!(
            "{}{}  {}{}  {status}  proposed {}{shown}",
            merge.into,
            beside(&into_cases),
            merge.from,
            beside(&from_cases),
            merge.proposed
        ),
        json!({
            "into": merge.into.to_string(), "into_cases": into_cases,
            "from": merge.from.to_string(), "from_cases": from_cases, "status": status,
            "propose_time": merge.proposed.to_string(), "decide_time": decided,
        }),
    ))
}

fn beside(cases: &[CaseId]) -> String {
    if cases.is_empty() {
        " (no case known here)".to_owned()
    } else {
        format!(" (case {})", joined(cases))
    }
}

fn decided(what: &str, status: &str, delivery: &Delivery) -> Report {
    let (text, entries) = entries(delivery);
    Report::new(
        format!("{what}\n{text}"),
        json!({ "status": status, "entries": entries }),
    )
}

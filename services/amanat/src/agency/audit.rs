//! `amanat audit`.

use std::io::IsTerminal as _;

use amanat_connector::{Connector, EntryQuery, LogReport, SeenEntry, Server};
use amanat_schema::{AgencyId, CaseId, Time, audit::Action, policy::Decision};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    codes::{self, action_name, basis_name, decision_name, purpose_name, withheld_name},
    consent::At,
};
use crate::{CommandError, output::Report};

const VERIFY: &str = "\
Examples:
  amanat --profile DIR audit verify
  amanat --profile DIR --json audit verify --log custodian

Recomputes the tree from every entry, re-hashes every body that this officer
may read, and compares with the checkpoints seen before and with the head that
the custodian observed. Ends with exit code 1 and the first bad index if the
log does not hold what its server signed: an entry is altered or missing. Ends
with exit code 5 if the server signed two things that contradict each other:
it took back what was seen before, or shows others another log.";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the entries whose bodies this officer may read
    #[command(
        after_help = "Examples:\n  amanat --profile DIR audit list --decision DENY\n  amanat --profile DIR audit list --log custodian --action RELEASE_KEYS\n  amanat --profile DIR audit list --from 2026-03-01 --to 2026-03-08"
    )]
    List(ListArgs),
    /// Shows one entry, verified against the signed checkpoint
    #[command(after_help = "Example:\n  amanat --profile DIR audit get 17")]
    Get {
        #[arg(value_name = "INDEX")]
        index: u64,
        #[arg(long, value_enum, default_value_t = At::Gateway)]
        log: At,
    },
    /// Prints an entry's receipt, which anyone can verify with the log's public key
    #[command(
        after_help = "Example:\n  amanat --profile DIR --json audit proof 17 --log custodian"
    )]
    Proof {
        #[arg(value_name = "INDEX")]
        index: u64,
        #[arg(long, value_enum, default_value_t = At::Gateway)]
        log: At,
    },
    /// Verifies the logs
    #[command(after_help = VERIFY)]
    Verify {
        /// Only this log; otherwise both
        #[arg(long, value_enum)]
        log: Option<At>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[arg(long, value_enum, default_value_t = At::Gateway)]
    log: At,
    /// A name of the profile or an id
    #[arg(long)]
    agency: Option<String>,
    #[arg(long)]
    case: Option<CaseId>,
    #[arg(long, value_parser = codes::action)]
    action: Option<Action>,
    #[arg(long, value_parser = codes::decision)]
    decision: Option<Decision>,
    /// Entries from this time on: 2026-03-01T09:30:00Z, or a day, UTC
    #[arg(long, value_name = "TIME", value_parser = codes::time)]
    from: Option<Time>,
    /// Entries before this time
    #[arg(long, value_name = "TIME", value_parser = codes::time)]
    to: Option<Time>,
    /// The first index
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from_index: u64,
    /// At most this many, oldest first
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

pub(super) async fn run(verb: Verb, connector: &Connector) -> Result<Report, CommandError> {
    match verb {
        Verb::List(args) => list(connector, args).await,
        Verb::Get { index, log } => {
            let (entry, _) = connector.get_entry(log.into(), index).await?;
            Ok(render(connector, &entry))
        }
        Verb::Proof { index, log } => proof(connector, log.into(), index).await,
        Verb::Verify { log } => verify(connector, log).await,
    }
}

async fn list(connector: &Connector, args: ListArgs) -> Result<Report, CommandError> {
    let agency = args
        .agency
        .map(|name| connector.agency_named(&name))
        .transpose()?;
    let query = EntryQuery {
        agency,
        case: args.case,
        action: args.action,
        decision: args.decision,
        since: args.from,
        until: args.to,
        from: args.from_index,
        limit: args.limit,
    };
    let entries = connector.list_entries(args.log.into(), &query).await?;
    let reports = entries
        .iter()
        .map(|entry| render(connector, entry))
        .collect();
    Ok(Report::list(reports, "no entries"))
}

fn render(connector: &Connector, entry: &SeenEntry) -> Report {
    let body = &entry.body;
    let agency = AgencyId::parse(&body.agency_id);
    let agency = agency.map_or_else(|_| "-".to_owned(), |id| connector.name_of(id));
    let (action, decision) = (action_name(body.action()), decision_name(body.decision()));
    let released: Vec<_> = body
        .released
        .iter()
        .map(|field| json!({ "path": field.path, "basis": basis_name(field.basis_kind()) }))
        .collect();
    let withheld: Vec<_> = body
        .withheld
        .iter()
        .map(|field| json!({ "path": field.path, "reason": withheld_name(field.reason()) }))
        .collect();
    let case = entry
        .linkage
        .as_ref()
        .and_then(|linkage| CaseId::parse(&linkage.case_id).ok());
    let mut text = format!(
        "{:>6}  {}  {agency}  {action}  {decision}",
        entry.index, entry.time
    );
    if !body.public_reason.is_empty() {
        text.push_str(&format!("  {}", body.public_reason));
    }
    if !released.is_empty() || !withheld.is_empty() {
        text.push_str(&format!(
            "  {} released, {} withheld",
            released.len(),
            withheld.len()
        ));
    }
    let count = (body.count != 0).then_some(body.count);
    if let Some(count) = count {
        text.push_str(&format!("  count {count}"));
    }
    if let Some(case) = case {
        text.push_str(&format!("  case {case}"));
    }
    let purpose = (body.purpose != 0).then(|| purpose_name(body.purpose()));
    Report::new(
        text,
        json!({
            "audit_index": entry.index, "time": entry.time.to_string(), "agency": agency,
            "action": action, "decision": decision, "reason": body.public_reason,
            "purpose": purpose, "released": released, "withheld": withheld,
            "count": count, "case": case,
        }),
    )
}

async fn proof(connector: &Connector, server: Server, index: u64) -> Result<Report, CommandError> {
    let (_, receipt) = connector.get_entry(server, index).await?;
    let hashes: Vec<_> = receipt.inclusion_proof.iter().map(hex::encode).collect();
    let text = format!(
        "index {}\nbody {}\nsalt {}\n{}\n\n{}",
        receipt.index,
        hex::encode(&receipt.body),
        hex::encode(&receipt.salt),
        hashes.join("\n"),
        receipt.checkpoint.trim_end(),
    );
    Ok(Report::new(
        text,
        json!({
            "audit_index": receipt.index, "body": hex::encode(&receipt.body),
            "salt": hex::encode(&receipt.salt), "inclusion_proof": hashes,
            "checkpoint": receipt.checkpoint,
        }),
    ))
}

async fn verify(connector: &Connector, log: Option<At>) -> Result<Report, CommandError> {
    let logs = log.map_or_else(|| vec![At::Gateway, At::Custodian], |log| vec![log]);
    let mut reports = Vec::new();
    for log in logs {
        let report = connector.verify_log(log.into(), progress).await?;
        reports.push(report);
    }
    Ok(Report::all(reports.iter().map(verified).collect()))
}

/// Long logs take a while; a person at a terminal sees how far it is.
fn progress(done: u64, of: u64) {
    if of > 100_000 && std::io::stderr().is_terminal() {
        crate::output::progress(&format!("{done} of {of} entries"));
    }
}

pub(crate) fn verified(report: &LogReport) -> Report {
    Report::new(
        format!(
            "the {} log holds: {} entries, root {}\n  {} bodies re-hashed; complete against {}",
            report.server.name(),
            report.entries,
            report.root,
            report.bodies,
            if report.compared.is_empty() {
                "nothing yet".to_owned()
            } else {
                report.compared.join(", ")
            },
        ),
        json!({
            "verified": true, "log": report.server.name(), "origin": report.origin,
            "entries": report.entries, "root": report.root, "bodies": report.bodies,
            "compared_with": report.compared,
        }),
    )
}

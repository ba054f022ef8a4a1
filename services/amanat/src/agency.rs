//! What an agency's officer does: cases, consents, referrals, the logs. Each command is one call of the
//! connector and one report.

mod audit;
mod case;
mod codes;
mod consent;
mod history;
mod oversight;
mod refer;
mod subject;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use amanat_connector::{Acting, Connector, ConnectorError, Delivery, IdentifierFile, Profile};
use amanat_schema::CaseId;
use clap::{Args, Subcommand};
use serde_json::json;

pub(crate) use codes::{purpose_name, withheld_name};

use crate::{CommandError, clock::system_clock, output::Report};

/// Who acts.
#[derive(Debug, Args)]
pub(crate) struct As {
    /// The agency's profile: the folder that holds profile.toml
    #[arg(long, global = true, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// The officer who acts, as the profile names them
    #[arg(long, global = true, value_name = "NAME", default_value = "default")]
    officer: String,
    /// A token of the agency's identity provider, instead of the profile's development issuer
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "officer")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Submit, read, correct and list case records
    #[command(subcommand)]
    Case(case::Verb),
    /// Find this agency's pseudonym of a person; merge and split pseudonyms
    #[command(subcommand)]
    Subject(subject::Verb),
    /// Grant, withdraw and list a survivor's consents
    #[command(subcommand)]
    Consent(consent::Verb),
    /// Submit, answer and list referrals
    #[command(subcommand)]
    Refer(refer::Verb),
    /// Read and verify the logs of gateway and custodian
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Plant canaries and see who walks identifiers; for an oversight desk
    #[command(subcommand)]
    Oversight(oversight::Verb),
    /// Officer tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// What was handed in and is not delivered yet
    #[command(subcommand)]
    Outbox(OutboxVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Issues a token for 15 minutes with the profile's development issuer
    #[command(after_help = "Example:\n  amanat --profile DIR token issue --officer default")]
    Issue,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxVerb {
    /// Lists what waits, and what a server refused
    #[command(after_help = "Example:\n  amanat --profile DIR outbox list")]
    List,
    /// Delivers what waits; ends with exit code 1 if something still waits or was refused
    #[command(after_help = "Example:\n  amanat --profile DIR outbox deliver")]
    Deliver,
}

/// Opens the profile and does what was asked.
pub(crate) async fn run(verb: Verb, acting: As) -> Result<Report, CommandError> {
    let connector = open(acting).await?;
    match verb {
        Verb::Case(verb) => case::run(verb, &connector).await,
        Verb::Subject(verb) => subject::run(verb, &connector).await,
        Verb::Consent(verb) => consent::run(verb, &connector).await,
        Verb::Refer(verb) => refer::run(verb, &connector).await,
        Verb::Audit(verb) => audit::run(verb, &connector).await,
        Verb::Oversight(verb) => oversight::run(verb, &connector).await,
        Verb::Token(TokenVerb::Issue) => {
            let token = connector.token()?;
            Ok(Report::new(token.clone(), json!({ "token": token })))
        }
        Verb::Outbox(OutboxVerb::List) => list_outbox(&connector).await,
        Verb::Outbox(OutboxVerb::Deliver) => deliver_outbox(&connector).await,
    }
}

async fn open(acting: As) -> Result<Connector, CommandError> {
    let folder = acting.profile.ok_or(CommandError::NoProfile)?;
    let profile = Profile::load(&folder).map_err(ConnectorError::from)?;
    let officer = match acting.token_file {
        None => Acting::Officer(acting.officer),
        Some(file) => Acting::Token(
            fs::read_to_string(&file)
                .map_err(|source| CommandError::File { path: file, source })?
                .trim()
                .to_owned(),
        ),
    };
    Ok(Connector::open(profile, officer, system_clock()).await?)
}

async fn list_outbox(connector: &Connector) -> Result<Report, CommandError> {
    let waiting = connector.pending().await?.into_iter().map(|job| {
        Report::new(
            format!(
                "{:>6}  {}  {}  {} answered",
                job.seq, job.kind, job.subject, job.progress
            ),
            json!({
                "job": job.seq, "kind": job.kind, "subject": job.subject, "answered": job.progress,
            }),
        )
    });
    let refused = connector.refused().await?.into_iter().map(|job| {
        Report::new(
            format!(
                "{:>6}  {}  {}  refused: {}",
                job.seq, job.kind, job.subject, job.reason
            ),
            json!({
                "job": job.seq, "kind": job.kind, "subject": job.subject, "refused": job.reason,
            }),
        )
    });
    Ok(Report::list(
        waiting.chain(refused).collect(),
        "nothing waits",
    ))
}

async fn deliver_outbox(connector: &Connector) -> Result<Report, CommandError> {
    let mut failed = false;
    let mut reports = Vec::new();
    for (job, outcome) in connector.deliver_pending().await? {
        failed |= outcome.is_err();
        let state = match &outcome {
            Ok(_) => "delivered".to_owned(),
            Err(error) => format!("{}: {error}; {}", error.reason(), error.next_step()),
        };
        let reason = outcome.as_ref().err().map(ConnectorError::reason);
        reports.push(Report::new(
            format!("{:>6}  {}  {}  {state}", job.seq, job.kind, job.subject),
            json!({
                "job": job.seq, "kind": job.kind, "subject": job.subject,
                "delivered": outcome.is_ok(), "reason": reason,
            }),
        ));
    }
    let report = Report::list(reports, "nothing waits");
    if failed {
        Err(CommandError::Undelivered(Box::new(report)))
    } else {
        Ok(report)
    }
}

/// The entries that a delivery made, as every report shows them.
pub(crate) fn entries(delivery: &Delivery) -> (String, serde_json::Value) {
    let text: Vec<_> = delivery
        .entries
        .iter()
        .map(|(server, index)| format!("{} entry {index}", server.name()))
        .collect();
    let json: serde_json::Value = delivery
        .entries
        .iter()
        .map(|(server, index)| json!({ "server": server.name(), "audit_index": index }))
        .collect::<Vec<_>>()
        .into();
    (text.join(", "), json)
}

/// This agency's other cases of a person, as every report shows them.
pub(crate) fn own_cases(cases: &[CaseId]) -> String {
    if cases.is_empty() {
        "no other case of this agency is known here to be hers".to_owned()
    } else {
        let cases: Vec<_> = cases.iter().map(CaseId::to_string).collect();
        format!("also in this agency's case {}", cases.join(", "))
    }
}

/// A person's identifiers, from a file or, for `-`, from standard input.
fn identifier_file(path: &Path) -> Result<IdentifierFile, CommandError> {
    let text = if path == Path::new("-") {
        io::read_to_string(io::stdin().lock())
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|source| CommandError::File {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|error| consent::not_the_form(&error))
}

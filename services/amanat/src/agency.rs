//! What an agency's officer does: cases, consents, referrals, the logs. Each command is one call of the
//! connector and one report.

mod audit;
mod case;
pub(crate) mod codes;
mod consent;
mod history;
mod outbox;
mod oversight;
mod refer;
mod subject;
mod submitted;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use amanat_connector::{
    Acting, Connector, ConnectorError, Delivery, IdentifierFile, PROFILE_FILE, Profile,
};
use amanat_schema::CaseId;
use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{CommandError, clock::system_clock, output::Report};

/// Who acts. Every command takes it, and most are an agency's: it has a heading of its own in the help of others.
#[derive(Debug, Args)]
#[command(next_help_heading = "Who acts, for an agency")]
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
    /// What was handed in and is not delivered, or was refused
    #[command(subcommand)]
    Outbox(outbox::Verb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Issues a token for 15 minutes with the profile's development issuer
    #[command(after_help = "Example:\n  amanat --profile DIR token issue --officer default")]
    Issue,
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
        Verb::Outbox(verb) => outbox::run(verb, &connector).await,
    }
}

async fn open(acting: As) -> Result<Connector, CommandError> {
    let folder = acting.profile.ok_or(CommandError::NoProfile)?;
    let profile = Profile::load(folder_of(&folder)).map_err(ConnectorError::from)?;
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

/// Of a profile.toml that was named itself, its folder.
fn folder_of(profile: &Path) -> &Path {
    let is_file = profile.is_file() && profile.ends_with(PROFILE_FILE);
    profile.parent().filter(|_| is_file).unwrap_or(profile)
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
pub(crate) fn own_cases(cases: &[CaseId], by_phone_alone: bool) -> String {
    if cases.is_empty() {
        return "no other case of this agency is known here to be hers".to_owned();
    }
    let doubt = if by_phone_alone {
        "; by a phone alone: it may be another person's"
    } else {
        ""
    };
    format!("also in this agency's case {}{doubt}", joined(cases))
}

fn joined(cases: &[CaseId]) -> String {
    let cases: Vec<_> = cases.iter().map(CaseId::to_string).collect();
    cases.join(", ")
}

/// A person's identifiers, from a file or, for `-`, from standard input.
fn identifier_file(path: &Path) -> Result<IdentifierFile, CommandError> {
    let text = if path == Path::new("-") {
        io::read_to_string(io::stdin().lock())
    } else {
        fs::read_to_string(path)
    };
    let text = text.map(Zeroizing::new);
    let text = text.map_err(|source| CommandError::File {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|error| consent::not_the_form(&error))
}

//! `amanat consent`.

use std::{fs, path::PathBuf};

use amanat_connector::{Connector, ConsentFile, ConsentQuery, Server};
use amanat_schema::{CaseId, ConsentId, policy::Purpose};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{
    codes::{self, consent_decision_name, consent_status_name, purpose_name},
    entries,
};
use crate::{CommandError, output::Report};

const GRANT: &str = "\
Example:
  amanat --profile DIR consent grant consent-to-shelter.json --case CASE

The file names one recipient, one purpose and the fields, as the survivor
agreed to them:
  { \"recipient\": \"darul-aman-lahore\", \"purpose\": \"SHELTER\",
    \"mode\": \"THUMB_IMPRESSION\",
    \"paths\": [\"subject.given_name\", \"needs.needs\"], \"valid_days\": 30 }";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Signs a survivor's consent and hands it to both ledgers
    #[command(after_help = GRANT)]
    Grant {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[arg(long)]
        case: CaseId,
    },
    /// Withdraws a consent at both ledgers; what was released before cannot be recalled
    #[command(after_help = "Example:\n  amanat --profile DIR consent withdraw CONSENT")]
    Withdraw {
        #[arg(value_name = "CONSENT")]
        consent: ConsentId,
    },
    /// Lists the consents that this agency signed or is the recipient of
    #[command(
        after_help = "Examples:\n  amanat --profile DIR consent list\n  amanat --profile DIR consent list --case CASE --at custodian\n  amanat --profile DIR consent list --recipient darul-aman-lahore --limit 10"
    )]
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[arg(long)]
    case: Option<CaseId>,
    /// A name of the profile or an id
    #[arg(long, value_name = "AGENCY")]
    recipient: Option<String>,
    #[arg(long, value_parser = codes::purpose)]
    purpose: Option<Purpose>,
    /// At most this many, oldest first; otherwise all
    #[arg(long)]
    limit: Option<usize>,
    /// Whose ledger
    #[arg(long, value_enum, default_value_t = At::Gateway)]
    at: At,
}

/// A server on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum At {
    Gateway,
    Custodian,
}

impl From<At> for Server {
    fn from(at: At) -> Self {
        match at {
            At::Gateway => Self::Gateway,
            At::Custodian => Self::Custodian,
        }
    }
}

pub(super) async fn run(verb: Verb, connector: &Connector) -> Result<Report, CommandError> {
    match verb {
        Verb::Grant { file, case } => grant(connector, file, case).await,
        Verb::Withdraw { consent } => {
            let delivery = connector.withdraw_consent(consent).await?;
            let (text, entries) = entries(&delivery);
            Ok(Report::new(
                format!("withdrawn {consent}\n{text}"),
                json!({ "consent": consent, "entries": entries }),
            ))
        }
        Verb::List(args) => list(connector, args).await,
    }
}

async fn grant(connector: &Connector, path: PathBuf, case: CaseId) -> Result<Report, CommandError> {
    let text = fs::read_to_string(&path).map_err(|source| CommandError::File { path, source })?;
    let file: ConsentFile = serde_json::from_str(&text).map_err(|error| not_the_form(&error))?;
    let granted = connector.grant_consent(case, &file).await?;
    let (text, entries) = entries(&granted.delivery);
    Ok(Report::new(
        format!(
            "consent {}\n{} fields to {} for {} until {}\n{text}",
            granted.consent,
            granted.paths.len(),
            connector.name_of(granted.recipient),
            purpose_name(granted.purpose),
            granted.expires,
        ),
        json!({
            "consent": granted.consent, "recipient": connector.name_of(granted.recipient),
            "purpose": purpose_name(granted.purpose), "paths": granted.paths,
            "expire_time": granted.expires.to_string(), "entries": entries,
        }),
    ))
}

/// What is wrong, and where: never the key or the value found, which may be anyone's name or number.
pub(super) fn not_the_form(error: &serde_json::Error) -> CommandError {
    let (line, column) = (error.line(), error.column());
    if !error.is_data() {
        return CommandError::Json { line, column };
    }
    let text = error.to_string();
    // What was found stands before the last of these words, what the form has stands after it.
    let message = match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None if text.starts_with("missing field") => text,
        None => format!("a value is not valid at line {line} column {column}"),
    };
    CommandError::Form { message }
}

async fn list(connector: &Connector, args: ListArgs) -> Result<Report, CommandError> {
    let recipient = args
        .recipient
        .map(|name| connector.agency_named(&name))
        .transpose()?;
    let query = ConsentQuery {
        case: args.case,
        recipient,
        purpose: args.purpose,
        limit: args.limit,
    };
    let consents = connector.list_consents(args.at.into(), query).await?;
    let reports = consents.iter().map(|consent| {
        let (source, recipient) =
            (connector.name_of(consent.source), connector.name_of(consent.recipient));
        let (decision, purpose) =
            (consent_decision_name(consent.decision), purpose_name(consent.purpose));
        let status = consent_status_name(consent.status);
        let mark = if consent.verified {
            ""
        } else {
            "  (signed with a key that the directory does not list: not verified)"
        };
        Report::new(
            format!(
                "{}  {decision} {source} → {recipient} for {purpose}  {} fields  until {}  {status}{mark}",
                consent.consent,
                consent.paths.len(),
                consent.expires,
            ),
            json!({
                "consent": consent.consent, "case": consent.case, "source": source,
                "recipient": recipient, "decision": decision, "purpose": purpose,
                "paths": consent.paths, "expire_time": consent.expires.to_string(),
                "status": status, "verified": consent.verified,
            }),
        )
    });
    Ok(Report::list(reports.collect(), "no consents"))
}

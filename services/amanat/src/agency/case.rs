//! `amanat case`.

use std::{fs, path::PathBuf};

use amanat_connector::{Connector, ConnectorError, Read, ReadRequest};
use amanat_schema::{AgencyId, CaseId, RecordId, case_file, catalogue, policy::Purpose};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    codes::{self, basis_name, withheld_name},
    entries,
};
use crate::{CommandError, output::Report};

const SUBMIT: &str = "\
Examples:
  amanat --profile DIR case submit police-case.json
  amanat --profile DIR case submit shelter-case.json --case 0123456789abcdef0123456789abcdef

A case file is JSON: sections with snake_case names, codes by their names. Every mistake is reported at
once, with its path. What is submitted is kept in the outbox until both servers have answered.";

const READ: &str = "\
Examples:
  amanat --profile DIR case read CASE --fields needs.needs,subject.given_name --purpose SHELTER
  amanat --profile DIR case read CASE --record RECORD --fields case.urgency --purpose SHELTER

Name each field; there is no wildcard. `amanat case fields` lists them.";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Seals a case file and submits it as a new record
    #[command(after_help = SUBMIT)]
    Submit {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Add the record to a case instead of opening a new one
        #[arg(long)]
        case: Option<CaseId>,
    },
    /// Reads named fields of a case's records, for one purpose
    #[command(after_help = READ)]
    Read(ReadArgs),
    /// Lists the records that this agency may know of
    #[command(
        after_help = "Examples:\n  amanat --profile DIR case list\n  amanat --profile DIR case list --case CASE"
    )]
    List {
        /// Only this case
        #[arg(long)]
        case: Option<CaseId>,
    },
    /// Lists the fields of the shared record with their class and group
    #[command(after_help = "Example:\n  amanat --profile DIR case fields")]
    Fields,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    #[arg(value_name = "CASE")]
    case: CaseId,
    /// Only this record; otherwise every record of the case that this agency may know of
    #[arg(long)]
    record: Option<RecordId>,
    /// The record's source, where it is not listed yet; a name of the profile or an id
    #[arg(long, requires = "record", value_name = "AGENCY")]
    source: Option<String>,
    /// Leaf paths, comma-separated
    #[arg(long, required = true, value_delimiter = ',')]
    fields: Vec<String>,
    /// What the data is for
    #[arg(long, value_parser = codes::purpose)]
    purpose: Purpose,
}

pub(super) async fn run(verb: Verb, connector: &Connector) -> Result<Report, CommandError> {
    match verb {
        Verb::Submit { file, case } => submit(connector, file, case).await,
        Verb::Read(args) => read(connector, args).await,
        Verb::List { case } => list(connector, case).await,
        Verb::Fields => Ok(fields()),
    }
}

async fn submit(
    connector: &Connector,
    path: PathBuf,
    case: Option<CaseId>,
) -> Result<Report, CommandError> {
    let text = fs::read_to_string(&path).map_err(|source| CommandError::File { path, source })?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| CommandError::Json {
            line: error.line(),
            column: error.column(),
        })?;
    let file = case_file::parse(&json).map_err(ConnectorError::Invalid)?;
    let submitted = connector.submit_case(file, case).await?;
    let (text, entries) = entries(&submitted.delivery);
    Ok(Report::new(
        format!(
            "case {}\nrecord {}, version {}\n{text}",
            submitted.case, submitted.record, submitted.version
        ),
        json!({
            "case": submitted.case, "record": submitted.record, "version": submitted.version,
            "entries": entries,
        }),
    ))
}

async fn read(connector: &Connector, args: ReadArgs) -> Result<Report, CommandError> {
    let mut reports = Vec::new();
    let mut refused = None;
    for (record, source) in records(connector, &args).await? {
        let request = ReadRequest {
            case: args.case,
            record,
            source,
            fields: args.fields.clone(),
            purpose: args.purpose,
        };
        match connector.read_case(&request).await {
            Ok(read) => reports.push(render(connector, &read)),
            // One record of the case may be closed while another is open; both are reported.
            Err(ConnectorError::Refused(refusal)) if refusal.reason == "NOTHING_RELEASABLE" => {
                refused = Some(ConnectorError::Refused(refusal));
            }
            Err(error) => return Err(error.into()),
        }
    }
    match refused {
        Some(error) if reports.is_empty() => Err(error.into()),
        _ => Ok(Report::all(reports)),
    }
}

/// The records to read: the one named, or the case's.
async fn records(
    connector: &Connector,
    args: &ReadArgs,
) -> Result<Vec<(RecordId, AgencyId)>, CommandError> {
    if let (Some(record), Some(source)) = (args.record, &args.source) {
        return Ok(vec![(record, connector.agency_named(source)?)]);
    }
    let mut records: Vec<_> = connector
        .list_versions(Some(args.case))
        .await?
        .iter()
        .map(|version| (version.record, version.source))
        .filter(|(record, _)| args.record.is_none_or(|wanted| wanted == *record))
        .collect();
    records.sort_unstable();
    records.dedup();
    if records.is_empty() {
        let known =
            "this agency knows of no such record; if you expect one, accept its referral first";
        return Err(ConnectorError::Input(known.to_owned()).into());
    }
    Ok(records)
}

fn render(connector: &Connector, read: &Read) -> Report {
    let source = connector.name_of(read.source);
    let released: Vec<_> = read
        .released
        .iter()
        .map(|(path, basis)| json!({ "path": path, "basis": basis_name(*basis) }))
        .collect();
    let withheld: Vec<_> = read
        .withheld
        .iter()
        .map(|(path, reason)| json!({ "path": path, "reason": withheld_name(*reason) }))
        .collect();
    let mut text = format!(
        "record {} of {source}, version {}\n",
        read.record_id, read.version
    );
    text.push_str(&serde_json::to_string_pretty(&read.record).unwrap_or_default());
    for (path, reason) in &read.withheld {
        text.push_str(&format!("\nwithheld {path}: {}", withheld_name(*reason)));
    }
    text.push_str(&format!("\ngateway entry {}", read.gateway_index));
    if let Some(index) = read.custodian_index {
        text.push_str(&format!(", custodian entry {index}"));
    }
    Report::new(
        text,
        json!({
            "case": read.case, "record": read.record_id, "source": source, "version": read.version,
            "values": read.record, "released": released, "withheld": withheld,
            "audit_index": read.gateway_index, "custodian_audit_index": read.custodian_index,
        }),
    )
}

async fn list(connector: &Connector, case: Option<CaseId>) -> Result<Report, CommandError> {
    let versions = connector.list_versions(case).await?;
    let reports = versions.iter().map(|version| {
        let source = connector.name_of(version.source);
        Report::new(
            format!(
                "case {}  record {}  version {}  {source}  {}",
                version.case, version.record, version.version, version.put
            ),
            json!({
                "case": version.case, "record": version.record, "version": version.version,
                "source": source, "put_time": version.put.to_string(),
            }),
        )
    });
    Ok(Report::list(reports.collect(), "no records"))
}

fn fields() -> Report {
    let reports = catalogue::FIELDS.iter().map(|field| {
        let class = codes::class_name(field.class);
        let group = codes::group_name(field.group);
        Report::new(
            format!("{:<40} {class:<12} {group}", field.path),
            json!({ "path": field.path, "class": class, "group": group }),
        )
    });
    Report::list(reports.collect(), "")
}

//! `amanat case`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use amanat_connector::{
    Connector, ConnectorError, Read, ReadRequest, Reason, SamePerson, VersionQuery,
};
use amanat_schema::{
    AgencyId, CaseId, RecordId,
    case_file::{self, CaseFile},
    catalogue,
    policy::Purpose,
};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    codes::{self, basis_name, withheld_name},
    history,
    submitted::submitted,
};
use crate::{CommandError, output::Report};

const SUBMIT: &str = "\
Examples:
  amanat --profile DIR case submit police-case.json
  amanat --profile DIR case submit shelter-case.json --case CASE

A case file is JSON: sections with snake_case names, codes by their names.
Every mistake is reported at once, with its path. Identifiers in it make this
agency's pseudonym of the person; one without any works.

What is submitted is kept in the outbox until both servers have answered. If
one cannot answer now, the command still names the case and the record, and
ends with exit code 4: `amanat outbox deliver` sends it.";

const CORRECT: &str = "\
Example:
  amanat --profile DIR case correct RECORD corrected-case.json

The file is the whole record as it should be: what it leaves out is gone from
the new version. Readers see the newest version only; consents and referrals
stay as they are. So her documents in the file, or without any her phone, are
searched for first: if they lead to somebody else than the record is known
here to be of, the command ends with ANOTHER_PERSON; if a server does not
answer, or your budget of the day is used up, with its reason. Nothing is
handed in then, nor where the file has neither, or another connector handed
the record in: make sure that it is the same person, and pass
--person-checked. If somebody else corrected the record meanwhile, the command
ends with VERSION_MISMATCH and nothing was changed: read the newest version
and correct that.";

const HISTORY: &str = "\
Example:
  amanat --profile DIR case history CASE

Shows what this agency may know of a case, in the order of time: record
versions, consents, referrals with each signed step, and this agency's own
pseudonym of the person. Every signature is checked.";

const LIST: &str = "\
Examples:
  amanat --profile DIR case list
  amanat --profile DIR case list --case CASE
  amanat --profile DIR case list --source police-lahore --limit 20";

const READ: &str = "\
Examples:
  amanat --profile DIR case read CASE --purpose SHELTER \\
    --fields needs.needs,subject.given_name
  amanat --profile DIR case read CASE --record RECORD --purpose SHELTER \\
    --fields case.urgency

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
    /// Submits the next version of a record of this agency
    #[command(after_help = CORRECT)]
    Correct {
        #[arg(value_name = "RECORD")]
        record: RecordId,
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// You have checked yourself that the file is of the record's own person
        #[arg(long)]
        person_checked: bool,
    },
    /// Shows what happened in a case, as far as this agency may know
    #[command(after_help = HISTORY)]
    History {
        #[arg(value_name = "CASE")]
        case: CaseId,
    },
    /// Lists the record versions that this agency may know of
    #[command(after_help = LIST)]
    List(ListArgs),
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

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this case
    #[arg(long)]
    case: Option<CaseId>,
    /// Only this record
    #[arg(long)]
    record: Option<RecordId>,
    /// Only records of this agency; a name of the profile or an id
    #[arg(long, value_name = "AGENCY")]
    source: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub(super) async fn run(verb: Verb, connector: &Connector) -> Result<Report, CommandError> {
    match verb {
        Verb::Submit { file, case } => {
            let file = case_file(&file)?;
            submitted(connector, connector.submit_case(file, case).await?).await
        }
        Verb::Read(args) => read(connector, args).await,
        Verb::Correct {
            record,
            file,
            person_checked,
        } => {
            let file = case_file(&file)?;
            let person = if person_checked {
                SamePerson::Checked
            } else {
                SamePerson::Compare
            };
            let corrected = connector.correct_case(record, file, person).await?;
            submitted(connector, corrected).await
        }
        Verb::History { case } => history::show(connector, case).await,
        Verb::List(args) => list(connector, args).await,
        Verb::Fields => Ok(fields()),
    }
}

fn case_file(path: &Path) -> Result<CaseFile, CommandError> {
    let text = fs::read_to_string(path).map_err(|source| CommandError::File {
        path: path.to_owned(),
        source,
    })?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| CommandError::Json {
            line: error.line(),
            column: error.column(),
        })?;
    case_file::parse(&json).map_err(|violations| {
        if looks_like_consent(&json) {
            CommandError::ConsentFile
        } else {
            ConnectorError::Invalid(violations).into()
        }
    })
}

/// No section of a case file is called so.
fn looks_like_consent(json: &serde_json::Value) -> bool {
    ["recipient", "purpose"]
        .iter()
        .all(|name| json.get(name).is_some())
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
            Err(error) if error.known_reason() == Some(Reason::NothingReleasable) => {
                refused = Some(error);
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
    let query = VersionQuery {
        case: Some(args.case),
        record: args.record,
        ..VersionQuery::default()
    };
    let mut records: Vec<_> = connector
        .list_versions(query)
        .await?
        .iter()
        .map(|version| (version.record, version.source))
        .filter(|(record, _)| args.record.is_none_or(|wanted| wanted == *record))
        .collect();
    records.sort_unstable();
    records.dedup();
    if records.is_empty() {
        let unknown = ConnectorError::Unfit {
            what: "this agency knows of no such record".to_owned(),
            next: "if you expect one, accept its referral first",
        };
        return Err(unknown.into());
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

async fn list(connector: &Connector, args: ListArgs) -> Result<Report, CommandError> {
    let source = args.source.map(|name| connector.agency_named(&name));
    let query = VersionQuery {
        case: args.case,
        record: args.record,
        source: source.transpose()?,
        limit: args.limit,
    };
    let versions = connector.list_versions(query).await?;
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

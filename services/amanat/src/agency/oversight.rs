//! `amanat oversight`.

use std::path::PathBuf;

use amanat_connector::{CanaryHitSeen, Connector, ConnectorError, UnusedSeen};
use amanat_schema::AgencyId;
use clap::Subcommand;
use serde_json::json;

use super::{codes::evaluation_reason_name, entries};
use crate::{CommandError, output::Report};

const CANARY: &str = "\
Example:
  amanat --profile DIR oversight canary --file canary.json --label \"ledger 7\"

The file names one identifier of an invented person; `-` reads standard input:
  { \"cnic\": \"00000-7654321-0\" }
A colleague must plant the same identifier too: until then nothing happens.
From then on whoever asks for it raises an alarm, and is not told. The label
is for your own list; the first one stands.";

const EVALUATIONS: &str = "\
Examples:
  amanat --profile DIR oversight evaluations
  amanat --profile DIR oversight evaluations --running --agency police-lahore

The officer is a code: the same for the same officer. Ask the agency which
officer it is.";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Plants an invented person's identifier as a bait; it takes two officers
    #[command(after_help = CANARY)]
    Canary {
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// At most 64 bytes
        #[arg(long)]
        label: String,
    },
    /// Lists who asked for a canary
    #[command(after_help = "Example:\n  amanat --profile DIR oversight hits")]
    Hits,
    /// Lists identifiers that were evaluated and became no record in time
    #[command(after_help = EVALUATIONS)]
    Evaluations {
        /// Also those whose time still runs
        #[arg(long)]
        running: bool,
        /// Only this one; a name of the profile or an id
        #[arg(long)]
        agency: Option<String>,
    },
}

pub(super) async fn run(verb: Verb, connector: &Connector) -> Result<Report, CommandError> {
    match verb {
        Verb::Canary { file, label } => canary(connector, file, &label).await,
        Verb::Hits => {
            let hits = connector.canary_hits().await?;
            let reports = hits.iter().map(|hit| render_hit(connector, hit)).collect();
            Ok(Report::list(reports, "nobody asked for a canary"))
        }
        Verb::Evaluations { running, agency } => {
            let agency = agency.map(|name| connector.agency_named(&name));
            evaluations(connector, running, agency.transpose()?).await
        }
    }
}

async fn evaluations(
    connector: &Connector,
    running: bool,
    agency: Option<AgencyId>,
) -> Result<Report, CommandError> {
    let unused = connector.unused_evaluations(running, agency).await?;
    // None overdue is not none at all: what runs is a walk too, as long as it lasts.
    let still = if unused.is_empty() && !running {
        connector.unused_evaluations(true, agency).await?.len()
    } else {
        0
    };
    let none = match still {
        0 => "every evaluation became a record".to_owned(),
        1 => "none is overdue; 1 still has time: --running".to_owned(),
        some => format!("none is overdue; {some} still have time: --running"),
    };
    let reports = unused
        .iter()
        .map(|unused| render_unused(connector, unused))
        .collect();
    Ok(Report::list(reports, &none))
}

async fn canary(connector: &Connector, path: PathBuf, label: &str) -> Result<Report, CommandError> {
    let mut identifiers = super::identifier_file(&path)?.identifiers()?;
    let (Some(identifier), true) = (identifiers.pop(), identifiers.is_empty()) else {
        let one = ConnectorError::Input {
            what: "a canary is exactly one identifier".to_owned(),
            next: "leave one in the file, and plant it again",
        };
        return Err(one.into());
    };
    let delivery = connector.plant_canary(identifier, label).await?;
    let (text, entries) = entries(&delivery);
    Ok(Report::new(
        format!("planted {label}\n{text}"),
        json!({ "label": label, "entries": entries }),
    ))
}

fn render_hit(connector: &Connector, hit: &CanaryHitSeen) -> Report {
    let agency = connector.name_of(hit.agency);
    Report::new(
        format!(
            "{}  {agency}  officer {}  {}",
            hit.hit, hit.officer, hit.label
        ),
        json!({
            "label": hit.label, "agency": agency, "officer": hit.officer,
            "hit_time": hit.hit.to_string(),
        }),
    )
}

fn render_unused(connector: &Connector, unused: &UnusedSeen) -> Report {
    let agency = connector.name_of(unused.agency);
    let reason = evaluation_reason_name(unused.reason);
    Report::new(
        format!(
            "{}  {agency}  officer {}  {reason}  {} unaccounted for  deposit by {}",
            unused.evaluated, unused.officer, unused.count, unused.deposit_by,
        ),
        json!({
            "agency": agency, "officer": unused.officer, "reason": reason, "count": unused.count,
            "evaluate_time": unused.evaluated.to_string(),
            "deposit_by_time": unused.deposit_by.to_string(),
        }),
    )
}

//! `amanat outbox`.

use amanat_connector::{Connector, ConnectorError, Delivery, PendingJob, Recognised};
use clap::Subcommand;
use serde_json::{Value, json};

use super::own_cases;
use crate::{CommandError, clock::system_clock, error, exit::Exit, output::Report};

const LIST: &str = "\
Example:
  amanat --profile DIR outbox list

Ends with exit code 0, whatever it lists.";

const METRICS: &str = "\
Example, each minute from a timer:
  amanat --profile DIR outbox metrics > FOLDER/amanat.prom.new
  mv FOLDER/amanat.prom.new FOLDER/amanat.prom

FOLDER is the one that the node exporter's textfile collector reads. The
numbers say nothing of what waits, nor whose it is.";

const DELIVER: &str = "\
Example:
  amanat --profile DIR outbox deliver

Ends with exit code 4 if some still wait for a server that cannot answer now,
and with the code of the gravest failure if one was refused just now, or waits
for what must be mended first. What was refused before is not tried again, and
does not count: `amanat outbox list` shows it.";

const DROP: &str = "\
Example:
  amanat --profile DIR outbox drop 12

JOB is the number that `amanat outbox list` shows. Its contents are gone for
good; what waits is never dropped. Ends with exit code 1 if no such job was
refused.";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists what waits, and what a server refused
    #[command(after_help = LIST)]
    List,
    /// Prints how much waits and for how long, for a Prometheus node exporter
    #[command(after_help = METRICS)]
    Metrics,
    /// Delivers what waits
    #[command(after_help = DELIVER)]
    Deliver,
    /// Forgets what a server refused
    #[command(after_help = DROP)]
    Drop {
        #[arg(value_name = "JOB")]
        job: i64,
    },
}

pub(super) async fn run(verb: Verb, connector: &Connector) -> Result<Report, CommandError> {
    match verb {
        Verb::List => list(connector).await,
        Verb::Metrics => metrics(connector).await,
        Verb::Deliver => deliver(connector).await,
        Verb::Drop { job } => {
            connector.drop_refused(job).await?;
            Ok(Report::new(
                format!("dropped job {job}"),
                json!({ "job": job, "dropped": true }),
            ))
        }
    }
}

async fn list(connector: &Connector) -> Result<Report, CommandError> {
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

async fn metrics(connector: &Connector) -> Result<Report, CommandError> {
    let backlog = connector.backlog().await?;
    let text = backlog.to_openmetrics(system_clock()());
    let oldest = backlog.oldest.map(|oldest| oldest.to_string());
    Ok(Report::new(
        text,
        json!({ "waiting": backlog.waiting, "refused": backlog.refused, "oldest": oldest }),
    ))
}

async fn deliver(connector: &Connector) -> Result<Report, CommandError> {
    let mut failures = Vec::new();
    let mut reports = Vec::new();
    for (job, outcome) in connector.deliver_pending().await? {
        failures.extend(outcome.as_ref().err().map(Exit::of_connector));
        let whose = connector.recognised(job.seq).await?;
        reports.push(delivered(&job, &outcome, whose));
    }
    let report = Report::list(reports, "nothing waits");
    match Exit::gravest(failures) {
        Some(exit) => Err(CommandError::Undelivered(Box::new(report), exit)),
        None => Ok(report),
    }
}

fn delivered(
    job: &PendingJob,
    outcome: &Result<Delivery, ConnectorError>,
    whose: Option<Recognised>,
) -> Report {
    let mut state = match outcome {
        Ok(_) => "delivered".to_owned(),
        Err(error) => {
            let (reason, next) = (error.reason(), error.next_step_of_kept());
            format!("{reason}: {}; {next}", error::in_words(error))
        }
    };
    let mut json = json!({
        "job": job.seq, "kind": job.kind, "subject": job.subject, "delivered": outcome.is_ok(),
        "reason": outcome.as_ref().err().map(ConnectorError::reason),
    });
    if let (Some(whose), Some(object)) = (whose, json.as_object_mut()) {
        // Of the identifiers nothing is kept, so it is not known whether it was a phone alone.
        let own = own_cases(&whose.own_cases, false);
        state.push_str(&format!(
            "\n        pseudonym {}\n        {own}",
            whose.pseudonym
        ));
        let pseudonym: Value = whose.pseudonym.to_string().into();
        object.insert("pseudonym".to_owned(), pseudonym);
        object.insert("own_cases".to_owned(), json!(whose.own_cases));
    }
    Report::new(
        format!("{:>6}  {}  {}  {state}", job.seq, job.kind, job.subject),
        json,
    )
}

//! Why a command failed, as a person and as a program read it: the reason, the field, what to do next.

use std::{fmt, io, path::PathBuf, time::Duration};

use amanat_config::ConfigError;
use amanat_connector::{ConnectorError, ProfileError, Reason};
use clap::error::ErrorKind;
use serde_json::{Value, json};

use crate::{
    ceremony::CeremonyError, clock::system_clock, exit::Exit, output::Report,
    quickstart::QuickstartError, reasoned::Reasoned as _, serve::ServerError,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// What clap says of it, without values, and which command was meant.
    #[error("{error}")]
    Usage { error: clap::Error, command: String },
    #[error("the program cannot start: {0}")]
    Runtime(io::Error),
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
    #[error("which agency acts? Give its profile folder with --profile DIR")]
    NoProfile,
    #[error("cannot read or write {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is a file; name a folder")]
    NotFolder { path: PathBuf },
    #[error("the file is not JSON (line {line}, column {column})")]
    Json { line: usize, column: usize },
    #[error("the file is not in the form expected: {message}")]
    Form { message: String },
    #[error("this looks like a consent file, not a case file")]
    ConsentFile,
    #[error("there is no reason of that name")]
    UnknownReason,
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// Jobs that are still in the outbox or were refused; the report says which, the code how bad it is.
    #[error("not everything was delivered")]
    Undelivered(Box<Report>, Exit),
    /// Configurations that are not in order; the report says why.
    #[error("a configuration is not in order")]
    Unfit(Box<Report>),
    #[error(transparent)]
    Quickstart(#[from] QuickstartError),
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
}

impl CommandError {
    /// The exit code, and the failure in full.
    pub(crate) fn told(&self) -> (Exit, Report) {
        match self {
            Self::Usage { error, command } => {
                (Exit::of(Reason::UsageInvalid), usage(error, command))
            }
            Self::Runtime(_) => plain(Reason::SystemRefused, self),
            Self::Output(error) => plain(of_output(error), self),
            Self::NoProfile => plain(Reason::ProfileMissing, self),
            Self::File { source, .. } => plain(Reason::of_io(source), self),
            Self::NotFolder { .. } => {
                told(Reason::InputInvalid, self, "name a folder, or a new one")
            }
            Self::Json { .. } => told(
                Reason::InputInvalid,
                self,
                "mend the file at that place; it must be one JSON object, as the command's --help shows",
            ),
            Self::Form { .. } => told(
                Reason::InputInvalid,
                self,
                "mend the file; the command's --help shows its form",
            ),
            Self::ConsentFile => told(
                Reason::InputInvalid,
                self,
                "`amanat consent grant FILE --case CASE` records a consent; give the case file here",
            ),
            Self::UnknownReason => told(
                Reason::InputInvalid,
                self,
                "`amanat errors` lists them all; a newer server may have more",
            ),
            Self::Server(error) => {
                let (exit, report) = told(error.reason(), error, error.next_step());
                (
                    exit,
                    report.with_values("violations", settings(error.config())),
                )
            }
            Self::Connector(error) => (Exit::of_connector(error), connector(error)),
            Self::Undelivered(report, exit) => (*exit, report.as_ref().clone()),
            Self::Unfit(report) => (Exit::of(Reason::ConfigInvalid), report.as_ref().clone()),
            Self::Quickstart(error) => plain(error.reason(), error),
            Self::Ceremony(error) => {
                let (exit, report) = told(error.reason(), error, error.next_step());
                (
                    exit,
                    report.with_values("violations", settings(error.config())),
                )
            }
        }
    }
}

/// What clap says: the mistake, then its hint and how the command is used, or all of its help where most of it
/// is missing.
fn usage(error: &clap::Error, command: &str) -> Report {
    let text = error.render().to_string();
    let (message, hint) = if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let message = format!("`{command}` alone is not enough");
        (message, vec![text.trim_end()])
    } else {
        let mut paragraphs = text.trim_end().split("\n\n");
        let first = paragraphs.next().unwrap_or_default();
        let words: Vec<_> = first.split_whitespace().collect();
        let message = words.join(" ").replacen("error: ", "", 1);
        let is_hint = |paragraph: &&str| !paragraph.starts_with("For more information");
        (message, paragraphs.filter(is_hint).collect())
    };
    let (reason, next) = (Reason::UsageInvalid, format!("see `{command} --help`"));
    let told = [
        &[format!("amanat: {reason}: {message}").as_str()],
        hint.as_slice(),
    ]
    .concat()
    .join("\n\n");
    Report::new(
        format!("{told}\n\n  next: {next}"),
        json!({ "error": reason.name(), "message": message, "next": next }),
    )
}

/// Why standard output could not be written.
pub(crate) fn of_output(error: &io::Error) -> Reason {
    if Reason::of_io(error) == Reason::DiskFull {
        Reason::DiskFull
    } else {
        Reason::SystemRefused
    }
}

fn plain(reason: Reason, error: &dyn fmt::Display) -> (Exit, Report) {
    told(reason, error, reason.next_step())
}

fn told(reason: Reason, error: &dyn fmt::Display, next: &str) -> (Exit, Report) {
    let message = error.to_string();
    let message = message.trim_end();
    // What follows the first line is told to a program in values of its own.
    let first = message.lines().next().unwrap_or_default();
    let report = Report::new(
        format!("amanat: {reason}: {message}\n  next: {next}"),
        json!({ "error": reason.name(), "message": first, "next": next }),
    );
    (Exit::of(reason), report)
}

/// A configuration's settings that are not valid, for a program.
fn settings(error: Option<&ConfigError>) -> Vec<Value> {
    match error {
        Some(ConfigError::Invalid { violations, .. }) => violations
            .iter()
            .map(|v| json!({ "path": v.setting, "line": v.line, "expected": v.expected }))
            .collect(),
        Some(ConfigError::File { .. }) | None => Vec::new(),
    }
}

/// A crowd passes within moments; the budget of a day is there again on the next.
const MOMENTS: Duration = Duration::from_secs(60);

/// What happened, beside its reason, and when the same works again if a quota is used up.
pub(crate) fn in_words(error: &ConnectorError) -> String {
    let message = error.message();
    match works_after(error) {
        Some(after) if after < MOMENTS => {
            format!("{message}; try again in {} s", after.as_secs().max(1))
        }
        Some(after) => format!(
            "{message}; it works again from {}",
            system_clock()() + after
        ),
        None => message,
    }
}

/// Other refusals pass within moments, or the server cannot tell.
fn works_after(error: &ConnectorError) -> Option<Duration> {
    let refusal = error.refusal()?;
    let spent = refusal.known_reason() == Some(Reason::QuotaExceeded);
    refusal.retry_after.filter(|_| spent)
}

fn connector(error: &ConnectorError) -> Report {
    if let ConnectorError::Profile(ProfileError::Config(config)) = error
        && let Some(reason) = error.known_reason()
    {
        let (_, report) = plain(reason, config);
        return report.with_values("violations", settings(Some(config)));
    }
    let (reason, next) = (error.reason(), error.next_step());
    let refusal = error.refusal();
    let violations = match (error, refusal) {
        (ConnectorError::Invalid(violations), _) => violations.as_slice(),
        (_, Some(refusal)) => refusal.violations.as_slice(),
        (_, None) => &[],
    };
    let message = match violations {
        // Each is shown in full below.
        [_] => "one field is not valid".to_owned(),
        [_, _, ..] => format!("{} fields are not valid", violations.len()),
        [] => in_words(error),
    };
    let mut text = format!("amanat: {reason}: {message}");
    let mut json = json!({ "error": reason, "message": message, "next": next });
    let mut add = |key: &str, value: Value| {
        if let Some(object) = json.as_object_mut() {
            object.insert(key.to_owned(), value);
        }
    };
    for violation in violations {
        text.push_str(&format!("\n  {violation}"));
    }
    if !violations.is_empty() {
        add("violations", json!(violations));
    }
    if let Some(refusal) = refusal {
        for (path, why) in &refusal.withheld {
            text.push_str(&format!("\n  {path}: {why}"));
        }
        if !refusal.withheld.is_empty() {
            add("withheld", json!(refusal.withheld));
        }
        if let Some(index) = refusal.audit_index {
            text.push_str(&format!("\n  logged as entry {index}"));
            add("audit_index", json!(index));
        }
    }
    if let ConnectorError::Verify(bad) = error {
        add("verified", json!(false));
        add("log", json!(bad.server.name()));
        add("first_bad_index", json!(bad.index));
    }
    if let ConnectorError::Undelivered { job, cause } = error {
        text.push_str(&if cause.is_refused_for_good() {
            format!("\n  kept in the outbox as refused: `amanat outbox drop {job}` forgets it")
        } else {
            format!("\n  kept in the outbox as job {job}")
        });
        add("job", json!(job));
    }
    text.push_str(&format!("\n  next: {next}"));
    Report::new(text, json)
}

//! Why a command failed, as a person and as a program read it: the reason, the field, what to do next.

use std::{io, path::PathBuf};

use amanat_connector::ConnectorError;
use amanat_schema::Time;
use serde_json::{Value, json};

use crate::{clock::system_clock, output::Report, quickstart::QuickstartError, serve::ServerError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("the program cannot start: {0}")]
    Runtime(io::Error),
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
    #[error("which agency acts? Give its profile folder with --profile DIR")]
    NoProfile,
    #[error("cannot read {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("the file is not JSON (line {line}, column {column})")]
    Json { line: usize, column: usize },
    #[error("the file is not in the form expected: {message}")]
    Form { message: String },
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// Jobs that are still in the outbox or were refused; the report says which.
    #[error("not everything was delivered")]
    Undelivered(Box<Report>),
    #[error(transparent)]
    Quickstart(#[from] QuickstartError),
}

impl CommandError {
    /// The failure in full.
    pub(crate) fn report(&self) -> Report {
        if let Self::Connector(error) = self {
            return connector(error);
        }
        if let Self::Undelivered(report) = self {
            return report.as_ref().clone();
        }
        let message = self.to_string();
        let message = message.trim_end();
        Report::new(format!("amanat: {message}"), json!({ "error": message }))
    }
}

/// What happened, beside its reason, and from when the same works again if the budget of a day is used up.
pub(crate) fn in_words(error: &ConnectorError) -> String {
    let message = error.message();
    match works_from(error) {
        Some(from) => format!("{message}; it works again from {from}"),
        None => message,
    }
}

/// Other refusals pass within moments, or the server cannot tell.
fn works_from(error: &ConnectorError) -> Option<Time> {
    let refusal = error.refusal()?;
    let spent = refusal.reason == "QUOTA_EXCEEDED";
    let after = refusal.retry_after.filter(|_| spent)?;
    Some(system_clock()() + after)
}

fn connector(error: &ConnectorError) -> Report {
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
    text.push_str(&format!("\n  next: {next}"));
    Report::new(text, json)
}

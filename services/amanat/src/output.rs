//! What the program says: results on standard output, failures on standard error. Nothing else prints.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use serde_json::Value;

/// The result of a command, for a person and for a program.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    text: String,
    json: Value,
}

impl Report {
    pub(crate) fn new(text: impl Into<String>, json: Value) -> Self {
        Self {
            text: text.into(),
            json,
        }
    }

    /// With one more line for a person, and one more value for a program.
    pub(crate) fn with(mut self, text: &str, key: &str, value: Value) -> Self {
        self.text.push('\n');
        self.text.push_str(text);
        self.with_value(key, value)
    }

    /// With one more value for a program.
    pub(crate) fn with_value(mut self, key: &str, value: Value) -> Self {
        if let Some(object) = self.json.as_object_mut() {
            object.insert(key.to_owned(), value);
        }
        self
    }

    /// With a list for a program, unless it is empty.
    pub(crate) fn with_values(mut self, key: &str, values: Vec<Value>) -> Self {
        if let Some(object) = self.json.as_object_mut()
            && !values.is_empty()
        {
            object.insert(key.to_owned(), values.into());
        }
        self
    }

    /// Several results: one after the other for a person; a program gets one as it is, else a list.
    pub(crate) fn all(mut reports: Vec<Self>) -> Self {
        match reports.len() {
            1 => reports.remove(0),
            _ => Self::list(reports, ""),
        }
    }

    /// A list, whatever its length; `none` is said of an empty one.
    pub(crate) fn list(reports: Vec<Self>, none: &str) -> Self {
        let texts: Vec<_> = reports.iter().map(|report| report.text.as_str()).collect();
        let text = if texts.is_empty() {
            none.to_owned()
        } else {
            texts.join("\n")
        };
        let json = reports
            .into_iter()
            .map(|report| report.json)
            .collect::<Vec<_>>()
            .into();
        Self { text, json }
    }
}

/// For whom the results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Printer {
    /// A person at a terminal.
    Human,
    /// A program: one JSON value a line.
    Json,
}

impl Printer {
    /// A result, in the reader's form.
    ///
    /// # Errors
    /// If standard output is closed or full.
    pub(crate) fn print(self, report: &Report) -> io::Result<()> {
        match self {
            Self::Human => line(&report.text),
            Self::Json => line(&report.json),
        }
    }

    /// Why the command failed. A closed standard error leaves the exit code to tell.
    pub(crate) fn fail(self, report: &Report) {
        let text = match self {
            Self::Human => report.text.clone(),
            Self::Json => report.json.to_string(),
        };
        writeln!(io::stderr().lock(), "{text}").ok();
    }
}

/// How far a long work is, on one line of a terminal.
pub(crate) fn progress(text: &str) {
    write!(io::stderr().lock(), "\r{text}").ok();
}

fn line(text: &impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

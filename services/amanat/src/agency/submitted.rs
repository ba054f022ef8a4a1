//! What a submitted or corrected case came to.

use amanat_connector::{Connector, Submitted, Undelivered};
use serde_json::{Value, json};

use super::{
    entries, own_cases,
    subject::{Doubts, doubts},
};
use crate::{CommandError, error, exit::Exit, output::Report};

/// What was handed in. What waits is a failure that still names the case and the record.
pub(super) async fn submitted(
    connector: &Connector,
    submitted: Submitted,
) -> Result<Report, CommandError> {
    let doubts = match submitted.pseudonym {
        Some(pseudonym) => doubts(connector, pseudonym).await,
        None => Doubts::default(),
    };
    let (subject_text, subject_entries) = entries(&submitted.subject);
    let (record_text, record_entries) = entries(&submitted.delivery);
    let undelivered: Vec<_> = submitted.undelivered.iter().map(waits).collect();

    let mut lines = vec![
        format!("case {}", submitted.case),
        format!("record {}, version {}", submitted.record, submitted.version),
    ];
    lines.extend(whose(&submitted));
    lines.extend(doubts.text);
    let made = [subject_text, record_text];
    lines.extend(made.into_iter().filter(|made| !made.is_empty()));
    lines.extend(undelivered.iter().map(|(text, _)| text.clone()));
    let report = Report::new(
        lines.join("\n"),
        json!({
            "case": submitted.case, "record": submitted.record, "version": submitted.version,
            "pseudonym": submitted.pseudonym.map(|pseudonym| pseudonym.to_string()),
            "pseudonym_before": submitted.before.map(|pseudonym| pseudonym.to_string()),
            "own_cases": submitted.own_cases,
            "by_phone_alone": submitted.by_phone_alone, "proposed_merges": doubts.count,
            "entries": record_entries, "subject_entries": subject_entries,
            "undelivered": undelivered.into_iter().map(|(_, json)| json).collect::<Vec<_>>(),
        }),
    );
    let failures = submitted.undelivered.iter().map(|part| &part.error);
    match Exit::gravest(failures.map(Exit::of_connector)) {
        Some(exit) => Err(CommandError::Undelivered(Box::new(report), exit)),
        None => Ok(report),
    }
}

/// What is said of the person.
fn whose(submitted: &Submitted) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(pseudonym) = submitted.pseudonym {
        lines.push(match submitted.before {
            Some(before) => format!("pseudonym {pseudonym}; until now the record's was {before}"),
            None => format!("pseudonym {pseudonym}"),
        });
        lines.push(own_cases(&submitted.own_cases, submitted.by_phone_alone));
    }
    lines
}

/// A part that is not delivered.
fn waits(part: &Undelivered) -> (String, Value) {
    let (kind, reason) = (part.kind, part.error.reason());
    let next = part.error.next_step_of_kept();
    let (message, waits) = (error::in_words(&part.error), !part.is_refused());
    let state = if waits {
        "kept in the outbox"
    } else {
        "refused"
    };
    (
        format!("{kind}: {state}: {reason}: {message}\n  next: {next}"),
        json!({
            "kind": kind, "waits": waits, "reason": reason, "message": message, "next": next,
        }),
    )
}

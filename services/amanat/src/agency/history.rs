//! `amanat case history`.

use amanat_connector::{
    CaseEvent, Connector, ConsentSeen, Happened, ReferralSeen, StepSeen, VersionSeen,
};
use amanat_schema::{CaseId, ReferralId};
use serde_json::{Value, json};

use super::codes::{consent_decision_name, consent_status_name, purpose_name, referral_state_name};
use crate::{CommandError, output::Report};

/// A line for a person, and what a program gets of the same event.
type Line = (String, Value);

pub(super) async fn show(connector: &Connector, case: CaseId) -> Result<Report, CommandError> {
    let history = connector.case_history(case).await?;
    let reports = history
        .events
        .iter()
        .map(|event| render(connector, event))
        .collect();
    let none = "this agency knows of nothing in that case";
    Ok(Report::list(reports, none))
}

fn render(connector: &Connector, event: &CaseEvent) -> Report {
    let (text, mut json) = match &event.happened {
        Happened::Named { record, pseudonym } => (
            format!("the person of record {record} has the pseudonym {pseudonym}"),
            json!({
                "event": "PSEUDONYM", "record": record, "pseudonym": pseudonym.to_string(),
            }),
        ),
        Happened::Put(version) => put(connector, version),
        Happened::Consented(consent) => consented(connector, consent),
        Happened::Referred(referral) => referred(connector, referral),
        Happened::Moved { referral, step } => moved(connector, *referral, step),
    };
    let time = event.time.to_string();
    let text = format!("{time}  {text}");
    if let Some(object) = json.as_object_mut() {
        object.insert("time".to_owned(), time.into());
    }
    Report::new(text, json)
}

fn put(connector: &Connector, version: &VersionSeen) -> Line {
    let source = connector.name_of(version.source);
    (
        format!(
            "{source} put record {} version {}",
            version.record, version.version
        ),
        json!({
            "event": "VERSION", "record": version.record, "version": version.version,
            "source": source,
        }),
    )
}

fn consented(connector: &Connector, consent: &ConsentSeen) -> Line {
    let source = connector.name_of(consent.source);
    let recipient = connector.name_of(consent.recipient);
    let (decision, purpose) = (
        consent_decision_name(consent.decision),
        purpose_name(consent.purpose),
    );
    let status = consent_status_name(consent.status);
    (
        format!(
            "{source} recorded consent {}: {decision} {recipient} for {purpose}, {} fields, until {}; \
             now {status}{}",
            consent.consent,
            consent.paths.len(),
            consent.expires,
            doubt(consent.verified),
        ),
        json!({
            "event": "CONSENT", "consent": consent.consent, "decision": decision, "source": source,
            "recipient": recipient, "purpose": purpose, "paths": consent.paths,
            "expire_time": consent.expires.to_string(), "status": status,
            "verified": consent.verified,
        }),
    )
}

fn referred(connector: &Connector, referral: &ReferralSeen) -> Line {
    let sender = connector.name_of(referral.sender);
    let recipient = connector.name_of(referral.recipient);
    let (purpose, state) = (
        purpose_name(referral.purpose),
        referral_state_name(referral.state),
    );
    (
        format!(
            "{sender} submitted referral {} to {recipient} for {purpose}{}; now {state}{}",
            referral.referral,
            taking_up(referral),
            doubt(referral.verified),
        ),
        json!({
            "event": "REFERRAL", "referral": referral.referral, "sender": sender,
            "recipient": recipient, "purpose": purpose, "state": state,
            "previous": referral.previous, "verified": referral.verified,
        }),
    )
}

fn moved(connector: &Connector, referral: ReferralId, step: &StepSeen) -> Line {
    let (agency, state) = (
        connector.name_of(step.agency),
        referral_state_name(step.to_state),
    );
    (
        format!(
            "{agency} signed referral {referral} {state}{}",
            doubt(step.verified)
        ),
        json!({
            "event": "REFERRAL_STEP", "referral": referral, "agency": agency, "state": state,
            "verified": step.verified,
        }),
    )
}

/// Said of one that follows a closed one.
fn taking_up(referral: &ReferralSeen) -> String {
    referral.previous.map_or_else(String::new, |previous| {
        format!(", taking up referral {previous}")
    })
}

/// Said of what was signed with a key that the directory does not list.
fn doubt(verified: bool) -> &'static str {
    if verified {
        ""
    } else {
        " (signed with a key that the directory does not list: not verified)"
    }
}

//! Scenario 6: a corrupt officer walks through identity numbers to find out whom the shelter knows. Every
//! answer looks alike and none is the shelter's; he runs into a canary and out of his budget; oversight sees
//! the canary's alarm, and a list of numbers that never became a case.

use std::{collections::BTreeSet, time::Duration};

use amanat_connector::{Connector, ConnectorError, EntryQuery, Reason, Server};
use amanat_schema::{audit::Action, identifier::Identifier, subject::SubjectIdentifierType};

use super::{
    QuickstartError,
    play::{Line, Play},
};
use crate::CommandError;

const SHELTER: &str = "darul-aman-lahore";
const POLICE: &str = "police-lahore";
const OVERSIGHT: &str = "oversight";
/// At the police he may work on cases, and no more; at the oversight desk he is the other auditor.
const OTHER: &str = "junior";

/// He walks from here.
const FIRST: u64 = 12_345_600;
/// Whom the shelter knows.
const KNOWN: u64 = FIRST + 7;
/// Nobody: oversight planted it.
const CANARY: u64 = FIRST + 23;
const LABEL: &str = "a number that nobody has";
/// More than a day's budget.
const MOST: u64 = 100;
/// How often, and how long, oversight looks for the alarm.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Plays it to its end.
pub(super) async fn play(play: &mut Play) -> Result<(), CommandError> {
    play.begin(6, "an officer walks through identity numbers")?;
    let planted = play
        .connector(OVERSIGHT)?
        .plant_canary(cnic(CANARY)?, LABEL)
        .await?;
    let text = "plants a canary: an identity number that nobody has".to_owned();
    play.allowed(OVERSIGHT, "PLANT_CANARY", text, &planted)?;
    let colleague = play.connect(OVERSIGHT, OTHER).await?;
    let planted = colleague.plant_canary(cnic(CANARY)?, LABEL).await?;
    let text = "plants it too, by another officer: from now on it is live".to_owned();
    play.allowed(OVERSIGHT, "PLANT_CANARY", text, &planted)?;
    let hers = play
        .connector(SHELTER)?
        .find_subject(&[cnic(KNOWN)?], None)
        .await?;
    let text = "meets a woman and gets its own pseudonym for her".to_owned();
    play.allowed(SHELTER, "FIND_SUBJECT", text, &hers.delivery)?;

    let officer = play.connect(POLICE, OTHER).await?;
    let walked = walk(play, &officer).await?;
    if walked.contains(&hers.pseudonym.to_string()) {
        return Err(play
            .surprise("two agencies share a pseudonym".to_owned())
            .into());
    }

    let hits = play.connector(OVERSIGHT)?.canary_hits().await?;
    let police = play.id(POLICE)?;
    if !hits
        .iter()
        .any(|hit| hit.agency == police && hit.label == LABEL)
    {
        return Err(play.surprise("the canary kept silent".to_owned()).into());
    }
    let alarm = alarm(play).await?;
    play.say(&Line {
        text: format!("hears the canary: asked for by an officer of {POLICE}"),
        audit_index: Some(alarm),
        ..Line::allowed(OVERSIGHT, "LIST_CANARY_HITS")
    })?;
    let oversight = play.connector(OVERSIGHT)?;
    let unused = oversight.unused_evaluations(true, Some(police)).await?;
    let (count, handles) = unused
        .iter()
        .fold((0, BTreeSet::new()), |(n, mut of), row| {
            of.insert(row.officer.as_str());
            (n + u64::from(row.count), of)
        });
    if count < walked.len() as u64 || handles.is_empty() {
        return Err(play.surprise(format!("{count} numbers are listed")).into());
    }
    play.say(&Line {
        text: format!(
            "sees {count} numbers of {POLICE} without a case, asked for by {} officer",
            handles.len()
        ),
        ..Line::allowed(OVERSIGHT, "LIST_EVALUATIONS")
    })
}

/// Asks for one number after the other until the budget is used up; the pseudonyms that were answered.
async fn walk(play: &mut Play, officer: &Connector) -> Result<BTreeSet<String>, CommandError> {
    let mut answers = BTreeSet::new();
    let mut last = None;
    for number in FIRST..FIRST + MOST {
        match officer.find_subject(&[cnic(number)?], None).await {
            Ok(found) => {
                if !found.own_cases.is_empty() || !answers.insert(found.pseudonym.to_string()) {
                    return Err(play.surprise("an answer tells something".to_owned()).into());
                }
                last = Some(found.delivery);
            }
            Err(ConnectorError::Refused(refusal))
                if refusal.known_reason() == Some(Reason::QuotaExceeded) =>
            {
                let Some(last) = last else { break };
                let text = format!(
                    "asks for {} numbers, hers among them: every answer is a new pseudonym",
                    answers.len()
                );
                play.allowed(POLICE, "FIND_SUBJECT", text, &last)?;
                play.say(&Line {
                    decision: "DENY",
                    text: "is out of numbers for today: QUOTA_EXCEEDED".to_owned(),
                    custodian_audit_index: refusal.audit_index,
                    ..Line::allowed(POLICE, "EVALUATE_IDENTIFIERS")
                })?;
                return Ok(answers);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(play
        .surprise("no budget stopped the officer".to_owned())
        .into())
}

/// The alarm is written off the answer's path, so it is waited for.
async fn alarm(play: &Play) -> Result<u64, CommandError> {
    let query = EntryQuery {
        action: Some(Action::Alarm),
        limit: 1,
        ..EntryQuery::default()
    };
    for _ in 0..LOOKS {
        let oversight = play.connector(OVERSIGHT)?;
        if let Some(entry) = oversight.list_entries(Server::Gateway, &query).await?.pop() {
            return Ok(entry.index);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(play.surprise("no alarm is on the log".to_owned()).into())
}

fn cnic(number: u64) -> Result<Identifier, QuickstartError> {
    Identifier::parse(SubjectIdentifierType::Cnic, &format!("{number:013}"))
        .map_err(|_| QuickstartError::CaseFile)
}

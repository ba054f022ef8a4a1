//! Scenario 5, its reading half: a prosecution file in Karachi. The prosecutor reads the case and the
//! medico-legal conclusions; she withdraws her consent to the latter, and the second read has the case and
//! not her health.

use amanat_schema::{policy::Purpose, record::Need};

use super::play::{Play, paths};
use crate::CommandError;

const POLICE: &str = "police-karachi";
const PROSECUTION: &str = "prosecution-karachi";

const FILE: &str = include_str!("../../../../deploy/quickstart/karachi-case.json");
const TO_THE_CASE: &str = include_str!("../../../../deploy/quickstart/consent-karachi-case.json");
const TO_HER_HEALTH: &str =
    include_str!("../../../../deploy/quickstart/consent-karachi-health.json");

/// What the prosecutor asks for, both times.
const ASKED: [&str; 6] = [
    "trafficking.exploitation_types",
    "suspects.role",
    "suspects.identifiers",
    "case.fir_number",
    "case.offence_sections",
    "needs.disability",
];

/// Plays it to its end.
pub(super) async fn play(play: &mut Play) -> Result<(), CommandError> {
    play.begin(
        5,
        "a prosecution file in Karachi, its health consent withdrawn",
    )?;
    let submitted = play.submit(POLICE, FILE, None).await?;
    let case = submitted.case;
    let record = (submitted.record, play.id(POLICE)?);
    play.grant(POLICE, case, TO_THE_CASE).await?;
    let health = play.grant(POLICE, case, TO_HER_HEALTH).await?;
    let mut asked = paths(TO_THE_CASE)?;
    asked.extend(paths(TO_HER_HEALTH)?);
    let purpose = Purpose::Prosecution;
    let services = [Need::LegalAid];
    play.refer(POLICE, PROSECUTION, case, purpose, &services, asked)
        .await?;

    play.read(PROSECUTION, case, record, purpose, &ASKED, &[])
        .await?;
    play.withdraw(POLICE, health).await?;
    let closed = [("needs.disability", "CONSENT_NOT_IN_FORCE")];
    play.read(PROSECUTION, case, record, purpose, &ASKED, &closed)
        .await
}

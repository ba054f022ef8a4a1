//! Scenario 1: domestic servitude in Lahore, an adult. The police refer her to a Dar-ul-Aman: it gets
//! her needs, not the FIR. The Dar-ul-Aman shares what she told with the police: they never get the
//! address. The prosecution gets the case without her name.

use amanat_schema::{CaseId, ConsentId, RecordId, ReferralId, policy::Purpose, record::Need};

use super::play::{Play, paths};
use crate::CommandError;

const POLICE: &str = "police-lahore";
const FIA: &str = "fia-ahtc-lahore";
const PROSECUTION: &str = "prosecution-lahore";
const SHELTER: &str = "darul-aman-lahore";
const NGO: &str = "ngo-shelter";

const POLICE_CASE: &str = include_str!("../../../../deploy/quickstart/police-case.json");
const SHELTER_CASE: &str = include_str!("../../../../deploy/quickstart/shelter-case.json");
const POLICE_TO_SHELTER: &str =
    include_str!("../../../../deploy/quickstart/consent-police-to-shelter.json");
const SHELTER_TO_POLICE: &str =
    include_str!("../../../../deploy/quickstart/consent-shelter-to-police.json");
const POLICE_TO_PROSECUTION: &str =
    include_str!("../../../../deploy/quickstart/consent-police-to-prosecution.json");

/// Ids to go on with.
pub(crate) struct Played {
    pub(crate) case: CaseId,
    /// The police's.
    pub(crate) record: RecordId,
    pub(crate) consent: ConsentId,
    pub(crate) referral: ReferralId,
}

/// Plays it to its end.
pub(super) async fn play(play: &mut Play) -> Result<Played, CommandError> {
    play.begin(1, "domestic servitude in Lahore")?;
    let police = play.submit(POLICE, POLICE_CASE, None).await?;
    let case = police.case;
    let police_record = (police.record, play.id(POLICE)?);

    let consent = play.grant(POLICE, case, POLICE_TO_SHELTER).await?;
    play.denied_read(
        SHELTER,
        case,
        police_record,
        Purpose::Shelter,
        &["needs.needs"],
        "ACCESS_DENIED",
    )
    .await?;
    let needs = [Need::Safehouse, Need::LegalAid];
    play.refer(
        POLICE,
        SHELTER,
        case,
        Purpose::Shelter,
        &needs,
        paths(POLICE_TO_SHELTER)?,
    )
    .await?;
    let asked = [
        "subject.given_name",
        "trafficking.exploitation_types",
        "trafficking.narrative",
        "needs.needs",
        "needs.narrative",
        "case.urgency",
        "case.fir_number",
    ];
    let closed = [
        ("trafficking.narrative", "NOT_ALLOWED_FOR_ROLE"),
        ("case.fir_number", "NOT_ALLOWED_FOR_ROLE"),
    ];
    play.read(
        SHELTER,
        case,
        police_record,
        Purpose::Shelter,
        &asked,
        &closed,
    )
    .await?;

    let shelter = play.submit(SHELTER, SHELTER_CASE, Some(case)).await?;
    let shelter_record = (shelter.record, play.id(SHELTER)?);
    let to_police = play.grant(SHELTER, case, SHELTER_TO_POLICE).await?;
    let purpose = Purpose::Investigation;
    let needs = [Need::LegalAid];
    let referral = play
        .refer(
            SHELTER,
            POLICE,
            case,
            purpose,
            &needs,
            paths(SHELTER_TO_POLICE)?,
        )
        .await?;
    let asked = [
        "trafficking.status",
        "trafficking.methods_of_control",
        "trafficking.narrative",
        "subject.safe_contact",
        "placement.address",
    ];
    let closed = [
        ("subject.safe_contact", "NOT_ALLOWED_FOR_ROLE"),
        ("placement.address", "NOT_ALLOWED_FOR_ROLE"),
    ];
    play.read(POLICE, case, shelter_record, purpose, &asked, &closed)
        .await?;

    play.grant(POLICE, case, POLICE_TO_PROSECUTION).await?;
    let prosecution = Purpose::Prosecution;
    play.refer(
        POLICE,
        PROSECUTION,
        case,
        prosecution,
        &needs,
        paths(POLICE_TO_PROSECUTION)?,
    )
    .await?;
    let read_by_prosecution = [
        "subject.given_name",
        "trafficking.exploitation_types",
        "suspects.role",
        "suspects.identifiers",
        "case.fir_number",
        "case.offence_sections",
    ];
    let closed = [("subject.given_name", "NOT_ALLOWED_FOR_ROLE")];
    play.read(
        PROSECUTION,
        case,
        police_record,
        prosecution,
        &read_by_prosecution,
        &closed,
    )
    .await?;

    // Nobody referred her to the FIA or to the NGO; deportation is no purpose at all.
    let name = ["subject.given_name"];
    play.denied_read(FIA, case, police_record, purpose, &name, "ACCESS_DENIED")
        .await?;
    play.denied_read(
        NGO,
        case,
        police_record,
        Purpose::Shelter,
        &name,
        "ACCESS_DENIED",
    )
    .await?;
    let deport = Purpose::ImmigrationEnforcement;
    play.denied_read(
        POLICE,
        case,
        shelter_record,
        deport,
        &name,
        "PURPOSE_NOT_ALLOWED",
    )
    .await?;

    play.withdraw(SHELTER, to_police).await?;
    let told = ["trafficking.narrative"];
    play.denied_read(
        POLICE,
        case,
        shelter_record,
        purpose,
        &told,
        "CONSENT_NOT_IN_FORCE",
    )
    .await?;

    Ok(Played {
        case,
        record: police_record.0,
        consent,
        referral,
    })
}

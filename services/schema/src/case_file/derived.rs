//! What the source's connector derives from a case file, so that the servers can decide on sealed facts
//! without seeing them. Every doubt counts against disclosure.

use serde_json::Value as Json;
use time::{Date, OffsetDateTime};

use super::{CaseFile, decode, encode, format};
use crate::{
    AgencyId, Time,
    catalogue::by_path,
    record::{AgeBand, GuardianConflict, GuardianRelation, MinorBand, TraffickerRelationship},
};

impl CaseFile {
    /// From the birth date, without one from the age band. An age that is not known, or a birth date that
    /// is yet to come, counts as under 15.
    ///
    /// A birthday begins when it does in UTC, in Pakistan some hours late: on the side of the child.
    pub fn minor_band(&self, today: Time) -> MinorBand {
        if let Some(birth) = self.text("subject.birth_date") {
            return match format::date(&birth).and_then(|birth| age(birth, today)) {
                Some(18..) => MinorBand::Adult,
                Some(15..18) => MinorBand::From15To17,
                Some(..15) | None => MinorBand::Under15,
            };
        }
        let age_band = self
            .text("subject.age_band")
            .and_then(|name| AgeBand::from_str_name(&format!("AGE_BAND_{name}")));
        match age_band.unwrap_or(AgeBand::Unknown) {
            AgeBand::From18To24 | AgeBand::From25To34 | AgeBand::From35To49 | AgeBand::From50 => {
                MinorBand::Adult
            }
            AgeBand::From15To17 => MinorBand::From15To17,
            AgeBand::Under12 | AgeBand::From12To14 | AgeBand::Unknown | AgeBand::Unspecified => {
                MinorBand::Under15
            }
        }
    }

    /// Whether the guardian may not consent: there is a conflict when guardian and trafficker may be one,
    /// or of one family, and none when the source checked that there is none. Without a guardian there is
    /// nobody to be in conflict.
    pub fn guardian_conflict(&self) -> GuardianConflict {
        use GuardianRelation::{
            Brother, Father, Grandparent, Husband, Mother, Sister, UncleOrAunt,
        };
        use TraffickerRelationship::{Family, IntimatePartner};

        let Some(guardian) = self.get("subject.guardian") else {
            return GuardianConflict::None;
        };
        let checked = guardian.get("conflict_checked") == Some(&Json::Bool(true));
        let relation = guardian
            .get("relation")
            .and_then(Json::as_str)
            .and_then(|name| GuardianRelation::from_str_name(&format!("GUARDIAN_RELATION_{name}")));
        let trafficker = self
            .text("trafficking.relationship_to_trafficker")
            .and_then(|name| {
                TraffickerRelationship::from_str_name(&format!("TRAFFICKER_RELATIONSHIP_{name}"))
            });
        match (trafficker, relation) {
            (
                Some(Family),
                Some(Father | Mother | Brother | Sister | Husband | Grandparent | UncleOrAunt),
            )
            | (Some(IntimatePartner), Some(Husband)) => GuardianConflict::Conflict,
            (Some(Family), None) => GuardianConflict::Unknown,
            _ if checked => GuardianConflict::None,
            _ => GuardianConflict::Unknown,
        }
    }

    /// Adds the derived `subject.minor_band` and, where the file names no owner, `case.owner_agency`.
    /// UNSPECIFIED is written as UNDER_15.
    #[must_use]
    pub fn with_derived(mut self, minor_band: MinorBand, owner_agency: AgencyId) -> Self {
        let minor_band = match minor_band {
            MinorBand::Adult => "ADULT",
            MinorBand::From15To17 => "FROM_15_TO_17",
            MinorBand::Under15 | MinorBand::Unspecified => "UNDER_15",
        };
        self.put("subject.minor_band", &minor_band.into());
        if self.get("case.owner_agency").is_none() {
            self.put("case.owner_agency", &owner_agency.to_string().into());
        }
        self
    }

    pub(crate) fn get(&self, path: &str) -> Option<Json> {
        let field = by_path(path)?;
        decode::leaf(field, self.values.get(&field.id)?)
            .ok()?
            .pop()?
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.get(path)?.as_str().map(str::to_owned)
    }

    fn put(&mut self, path: &str, value: &Json) {
        if let Some(field) = by_path(path) {
            // A code of the catalogue, or the text of an id: neither can be in violation.
            let plaintext = encode::leaf(field, &[Some(value)], &mut Vec::new());
            self.values.insert(field.id, plaintext);
        }
    }
}

/// In completed years, negative before birth. Who is born on 29 February ages on 1 March.
fn age(birth: Date, today: Time) -> Option<i32> {
    let today = OffsetDateTime::from_unix_timestamp(today.millis() / 1000)
        .ok()?
        .date();
    let birthday = (u8::from(birth.month()), birth.day());
    let to_come = (u8::from(today.month()), today.day()) < birthday;
    Some(today.year() - birth.year() - i32::from(to_come))
}

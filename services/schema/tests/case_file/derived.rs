use amanat_schema::{
    AgencyId, Time,
    case_file::{CaseFile, parse, render},
    record::{GuardianConflict, MinorBand},
};
use serde_json::{Value as Json, json};

use crate::{full, id};

const DAY: i64 = 24 * 60 * 60 * 1000;
/// 2026-03-01T00:00:00Z.
const MARCH_2026: i64 = 1_772_323_200_000;

fn time(millis: i64) -> Time {
    Time::from_millis(millis).unwrap()
}

fn file(json: Json) -> CaseFile {
    parse(&json).unwrap()
}

fn born(date: &str, today: i64) -> MinorBand {
    file(json!({"subject": {"birth_date": date}})).minor_band(time(today))
}

#[test]
fn a_band_changes_on_the_birthday() {
    for (date, band) in [
        ("2008-03-01", MinorBand::Adult),
        ("2008-03-02", MinorBand::From15To17),
        ("2011-03-01", MinorBand::From15To17),
        ("2011-03-02", MinorBand::Under15),
        ("1900-01-01", MinorBand::Adult),
        ("2026-03-01", MinorBand::Under15),
    ] {
        assert_eq!(born(date, MARCH_2026), band, "{date}");
    }
    assert_eq!(born("2008-03-01", MARCH_2026 - 1), MinorBand::From15To17);
}

#[test]
fn who_is_born_on_29_february_ages_on_1_march() {
    assert_eq!(born("2008-02-29", MARCH_2026 - DAY), MinorBand::From15To17);
    assert_eq!(born("2008-02-29", MARCH_2026), MinorBand::Adult);
}

#[test]
fn a_birth_yet_to_come_is_no_age() {
    assert_eq!(born("2026-03-02", MARCH_2026), MinorBand::Under15);
    assert_eq!(born("9999-12-31", MARCH_2026), MinorBand::Under15);
}

#[test]
fn without_a_birth_date_the_age_band_decides_and_the_unknown_is_a_child() {
    for (age_band, band) in [
        ("UNDER_12", MinorBand::Under15),
        ("FROM_12_TO_14", MinorBand::Under15),
        ("FROM_15_TO_17", MinorBand::From15To17),
        ("FROM_18_TO_24", MinorBand::Adult),
        ("FROM_25_TO_34", MinorBand::Adult),
        ("FROM_35_TO_49", MinorBand::Adult),
        ("FROM_50", MinorBand::Adult),
        ("UNKNOWN", MinorBand::Under15),
    ] {
        let subject = json!({"subject": {"age_band": age_band}});
        assert_eq!(
            file(subject).minor_band(time(MARCH_2026)),
            band,
            "{age_band}"
        );
    }
    assert_eq!(
        file(json!({"subject": {"gender": "FEMALE"}})).minor_band(time(MARCH_2026)),
        MinorBand::Under15
    );
}

#[test]
fn a_birth_date_outweighs_the_age_band() {
    let subject = json!({"subject": {"birth_date": "2012-01-01", "age_band": "FROM_18_TO_24"}});
    assert_eq!(
        file(subject).minor_band(time(MARCH_2026)),
        MinorBand::Under15
    );
}

#[test]
fn a_guardian_is_in_conflict_if_trafficker_and_guardian_may_be_one() {
    use GuardianConflict::{Conflict, None, Unknown};
    for (trafficker, guardian, conflict) in [
        (
            Some("FAMILY"),
            json!({"relation": "FATHER", "conflict_checked": true}),
            Conflict,
        ),
        (
            Some("FAMILY"),
            json!({"relation": "UNCLE_OR_AUNT"}),
            Conflict,
        ),
        (
            Some("FAMILY"),
            json!({"relation": "HUSBAND", "conflict_checked": false}),
            Conflict,
        ),
        (
            Some("INTIMATE_PARTNER"),
            json!({"relation": "HUSBAND", "conflict_checked": true}),
            Conflict,
        ),
        (
            Some("INTIMATE_PARTNER"),
            json!({"relation": "MOTHER", "conflict_checked": true}),
            None,
        ),
        (
            Some("FAMILY"),
            json!({"relation": "COURT_APPOINTED", "conflict_checked": true}),
            None,
        ),
        (
            Some("FAMILY"),
            json!({"relation": "COURT_APPOINTED"}),
            Unknown,
        ),
        (
            Some("FAMILY"),
            json!({"name": "R", "conflict_checked": true}),
            Unknown,
        ),
        (
            Some("STRANGER"),
            json!({"relation": "FATHER", "conflict_checked": true}),
            None,
        ),
        (
            Some("STRANGER"),
            json!({"relation": "FATHER", "conflict_checked": false}),
            Unknown,
        ),
        (Option::None, json!({"relation": "FATHER"}), Unknown),
        (
            Option::None,
            json!({"relation": "FATHER", "conflict_checked": true}),
            None,
        ),
    ] {
        let mut record = json!({"subject": {"guardian": guardian}});
        if let Some(trafficker) = trafficker {
            record["trafficking"] = json!({"relationship_to_trafficker": trafficker});
        }
        assert_eq!(
            file(record.clone()).guardian_conflict(),
            conflict,
            "{record}"
        );
    }
    let nobody = json!({"trafficking": {"relationship_to_trafficker": "FAMILY"}});
    assert_eq!(file(nobody).guardian_conflict(), None);
}

#[test]
fn the_derived_leaves_are_added_and_an_owner_is_not_replaced() {
    let agency = AgencyId::new([0xab; 16]);
    let added =
        file(json!({"subject": {"gender": "FEMALE"}})).with_derived(MinorBand::Adult, agency);
    let expected = json!({
        "subject": {"gender": "FEMALE", "minor_band": "ADULT"},
        "case": {"owner_agency": agency.to_string()},
    });
    assert_eq!(render(added.values()).unwrap(), expected);

    let owned = file(full());
    let owner = owned.values()[&id("case.owner_agency")].clone();
    let owned = owned.with_derived(MinorBand::From15To17, agency);
    assert_eq!(owned.values()[&id("case.owner_agency")], owner);
}

#[test]
fn an_unspecified_band_is_written_as_a_child() {
    let agency = AgencyId::new([0; 16]);
    let file = file(full()).with_derived(MinorBand::Unspecified, agency);
    assert_eq!(
        render(file.values()).unwrap()["subject"]["minor_band"],
        "UNDER_15"
    );
}

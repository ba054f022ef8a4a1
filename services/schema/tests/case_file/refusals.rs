use amanat_schema::{
    Violation,
    case_file::parse,
    catalogue::{FIELDS, Field, Value},
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::{full, generate};

fn violations(file: &Json) -> Vec<String> {
    let violations = parse(file).expect_err("the file is refused");
    violations.iter().map(Violation::to_string).collect()
}

/// The file is refused, for this one reason.
fn refused(file: Json, violation: &str) {
    assert_eq!(violations(&file), [violation], "{file}");
}

#[test]
fn every_violation_is_told_at_once_with_its_path() {
    let file = json!({
        "subject": {
            "cnic": "00000-1234567-89",
            "identity_document": {"type": "B_FORM", "number": "0000012345678"},
            "gender": "female",
            "minor_band": "ADULT",
            "guardian": {"relation": "STEPFATHER", "conflict_checked": "yes"},
            "aliases": ["Mina", 7],
        },
        "journey": [{"month": "2026-01"}, {"month": "2026-13", "day": -1}],
        "suspects": [{"identifiers": [{"type": "PHONE", "number": "1"}]}],
    });
    assert_eq!(
        violations(&file),
        [
            "subject.minor_band: expected no value: it is derived by the connector; leave it out",
            "subject.aliases[1]: expected text on one line, without control characters",
            "subject.gender: expected one of MALE, FEMALE, TRANSGENDER_OR_NON_CONFORMING, UNKNOWN",
            "subject.cnic: expected 13 digits",
            "subject.guardian.relation: expected one of FATHER, MOTHER, BROTHER, SISTER, HUSBAND, GRANDPARENT, \
         UNCLE_OR_AUNT, COURT_APPOINTED, OTHER",
            "subject.guardian.conflict_checked: expected true or false",
            "journey[1].month: expected a month, YYYY-MM, from 1900 on",
            "journey[1].day: expected a whole number from 0 to 4294967295",
            "suspects[0].identifiers[0].number: expected a name of the schema",
        ]
    );
}

#[test]
fn a_file_without_a_section_is_refused() {
    for file in [json!({}), json!([]), json!(null), json!("x")] {
        refused(
            file,
            "case file: expected an object with at least one section",
        );
    }
}

#[test]
fn an_unknown_name_is_refused_and_the_nearest_one_proposed() {
    refused(
        json!({"subjects": {}}),
        "subjects: expected a name of the schema; did you mean subject?",
    );
    refused(
        json!({"hobbies": {"a": 1}}),
        "hobbies: expected a name of the schema",
    );
    refused(
        json!({"subject": {"birthdate": "2000-01-01"}}),
        "subject.birthdate: expected a name of the schema; did you mean birth_date?",
    );
    refused(
        json!({"subject": {"safe_contact": {"codeword": "x"}}}),
        "subject.safe_contact.codeword: expected a name of the schema; did you mean code_word?",
    );
}

#[test]
fn nothing_is_left_out_and_never_written() {
    let expected = "expected a value; leave the field out if there is none";
    for nothing in [json!(null), json!(""), json!("  \n"), json!([]), json!({})] {
        for path in ["subject", "journey", "suspects"] {
            refused(json!({ path: nothing }), &format!("{path}: {expected}"));
        }
        for field in FIELDS.iter().filter(|field| !field.derived) {
            let row = json!({ field.name: nothing });
            let (file, path) = if field.column {
                (
                    json!({ field.section: [row] }),
                    format!("{}[0].{}", field.section, field.name),
                )
            } else {
                (json!({ field.section: row }), field.path.to_owned())
            };
            refused(file, &format!("{path}: {expected}"));
        }
    }
    refused(
        json!({"journey": [{"day": 1}, {}]}),
        &format!("journey[1]: {expected}"),
    );
    refused(
        json!({"subject": {"aliases": ["Mina", ""]}}),
        &format!("subject.aliases[1]: {expected}"),
    );
}

#[test]
fn a_long_list_of_codes_is_cut_short() {
    refused(
        json!({"trafficking": {"platforms": ["ORKUT"], "methods_of_control": ["THREATS"]}}),
        "trafficking.platforms[0]: expected one of FACEBOOK, INSTAGRAM, WHATSAPP, TELEGRAM, FACEBOOK_MESSENGER, \
         VIBER, SNAPCHAT, TIKTOK, TWITTER, IMO, OTHER",
    );
    refused(
        json!({"trafficking": {"methods_of_control": ["HUNGER"]}}),
        "trafficking.methods_of_control[0]: expected one of DEBT_BONDAGE, TAKES_EARNINGS, \
         RESTRICTS_FINANCIAL_ACCESS, THREATS, PSYCHOLOGICAL_ABUSE, PHYSICAL_ABUSE, SEXUAL_ABUSE, FALSE_PROMISES, \
         PSYCHOACTIVE_SUBSTANCES, RESTRICTS_MOVEMENT, RESTRICTS_MEDICAL_CARE, EXCESSIVE_WORKING_HOURS and 6 more",
    );
}

#[test]
fn unspecified_prefixed_and_numbered_codes_are_none() {
    for code in [
        json!("UNSPECIFIED"),
        json!("GENDER_FEMALE"),
        json!(2),
        json!("2"),
    ] {
        refused(
            json!({"subject": {"gender": code}}),
            "subject.gender: expected one of MALE, FEMALE, TRANSGENDER_OR_NON_CONFORMING, UNKNOWN",
        );
    }
}

#[test]
fn a_code_stands_in_a_list_once() {
    refused(
        json!({"needs": {"needs": ["MEDICAL", "LEGAL_AID", "MEDICAL"]}}),
        "needs.needs[2]: expected each code only once",
    );
}

#[test]
fn a_value_of_another_type_is_refused() {
    for (kind, wrong) in [
        ("text", json!(7)),
        ("bool", json!("true")),
        ("uint", json!(1.5)),
        ("uint", json!(-1)),
        ("uint", json!(1_u64 << 32)),
        ("uint", json!("3")),
        ("code", json!(["MALE"])),
        ("group", json!("x")),
        ("list", json!("x")),
    ] {
        let of_kind = |field: &&Field| match field.value {
            _ if field.derived || field.column => false,
            _ if field.repeated => kind == "list",
            Value::Text => kind == "text",
            Value::Bool => kind == "bool",
            Value::Uint => kind == "uint",
            Value::Code(_) => kind == "code",
            Value::Group(_) => kind == "group",
        };
        let mut seen = 0;
        for field in FIELDS.iter().filter(of_kind) {
            let found = violations(&json!({ field.section: { field.name: wrong } }));
            assert_eq!(found.len(), 1, "{} {wrong}", field.path);
            seen += 1;
        }
        assert!(seen > 0, "{kind}");
    }
    refused(
        json!({"journey": {"day": 1}}),
        "journey: expected an array of at most 64 objects",
    );
    refused(json!({"journey": [7]}), "journey[0]: expected an object");
    refused(
        json!({"subject": [{"gender": "MALE"}]}),
        "subject: expected an object",
    );
}

#[test]
fn a_repeated_section_has_at_most_64_rows() {
    let rows = |count| json!({"journey": vec![json!({"day": 1}); count]});
    assert!(parse(&rows(64)).is_ok());
    refused(rows(65), "journey: expected an array of at most 64 objects");
}

#[test]
fn a_value_fits_its_size_class() {
    // Less the section's key and length, and the field's.
    for (section, name, most, framing) in [
        ("subject", "home_district", 256, 6),
        ("subject", "given_name", 1024, 6),
        ("subject", "home_address", 4096, 6),
        ("needs", "narrative", 65536, 8),
    ] {
        let text = |length| json!({ section: { name: "x".repeat(length) } });
        let plaintext = parse(&text(most - framing))
            .unwrap()
            .values()
            .values()
            .next()
            .unwrap()
            .len();
        assert_eq!(plaintext, most, "{name}");
        refused(
            text(most - framing + 1),
            &format!("{section}.{name}: expected at most {most} bytes in all"),
        );
    }
    refused(
        json!({"journey": [{"street": "x".repeat(8_192)}, {"street": "x".repeat(8_192)}]}),
        "journey.street: expected at most 16384 bytes in all",
    );
}

#[test]
fn a_value_in_the_wrong_place_is_not_repeated() {
    let file = json!({
        "Amina Bibi": 1,
        "subject": {"0000012345678": "x", "given_name": ["Rukhsana"], "cnic": "0000098765432x"},
    });
    let told = violations(&file).join("\n");
    for value in ["Amina", "0000012345678", "Rukhsana", "0000098765432x"] {
        assert!(!told.contains(value), "{told}");
    }
}

proptest! {
    /// Replacing any one value of a good file by JSON of any sort never panics, and a refusal has a path.
    #[test]
    fn whatever_stands_in_a_file_it_is_taken_or_refused(
        leaf in generate::leaf_of_the_catalogue(),
        value in prop_oneof![
            Just(json!(null)), any::<bool>().prop_map(Json::from), any::<i64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from), any::<String>().prop_map(Json::from),
            Just(json!([{}])), Just(json!({"type": {"type": []}})), Just(json!([[["x"]]])),
        ],
    ) {
        let mut file = full();
        let row = if leaf.column { &mut file[leaf.section][0] } else { &mut file[leaf.section] };
        row[leaf.name] = value;
        if let Err(violations) = parse(&file) {
            prop_assert!(!violations.is_empty());
            for violation in violations {
                prop_assert!(violation.path.starts_with(leaf.section), "{}", violation);
            }
        }
    }
}

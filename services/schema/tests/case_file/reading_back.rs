use std::collections::BTreeMap;

use amanat_schema::{
    case_file::{RenderError, parse, render},
    catalogue::{FIELDS, FieldId},
};
use proptest::prelude::*;
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, Kind, Value};
use serde_json::{Map, Value as Json, json};

use crate::{full, generate, id};

/// The case file cut down to some leaves.
fn part(file: &Json, keep: impl Fn(FieldId) -> bool) -> Json {
    let mut cut = Map::new();
    for field in FIELDS.iter().filter(|field| keep(field.id)) {
        let Some(content) = file.get(field.section) else {
            continue;
        };
        let rows = content
            .as_array()
            .map_or(std::slice::from_ref(content), Vec::as_slice);
        if rows.iter().all(|row| row.get(field.name).is_none()) {
            continue;
        }
        let empty = if field.column {
            rows.iter().map(|_| json!({})).collect()
        } else {
            json!({})
        };
        let section = cut.entry(field.section).or_insert(empty);
        for (at, row) in rows.iter().enumerate() {
            let into = if field.column {
                &mut section[at]
            } else {
                &mut *section
            };
            if let Some(value) = row.get(field.name) {
                into[field.name] = value.clone();
            }
        }
    }
    Json::Object(cut)
}

#[test]
fn the_full_example_holds_every_leaf_and_reads_back_as_it_was_written() {
    let file = parse(&full()).unwrap();
    let every = FIELDS.iter().filter(|field| !field.derived);
    assert!(
        file.values()
            .keys()
            .copied()
            .eq(every.map(|field| field.id))
    );
    assert_eq!(render(file.values()).unwrap(), full());
}

#[test]
fn a_false_a_zero_and_a_row_without_the_leaf_are_told_apart_on_the_wire() {
    let file = parse(&full()).unwrap();
    let wire = |path| hex(&file.values()[&id(path)]);
    assert_eq!(wire("needs.pregnancy"), "2a 02 10 00");
    assert_eq!(wire("subject.number_of_children"), "0a 03 90 01 00");
    assert_eq!(
        wire("suspects.is_public_official"),
        "22 02 10 00 22 02 10 01"
    );
    assert_eq!(wire("journey.day"), "1a 00 1a 02 30 03 1a 00");
    assert_eq!(wire("trafficking.exploitation_types"), "12 04 3a 02 05 0e");
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_order_of_names_in_a_file_changes_no_plaintext() {
    let one =
        json!({"subject": {"guardian": {"name": "R", "relation": "MOTHER"}, "gender": "FEMALE"}});
    let other =
        json!({"subject": {"gender": "FEMALE", "guardian": {"relation": "MOTHER", "name": "R"}}});
    assert_eq!(
        parse(&one).unwrap().values(),
        parse(&other).unwrap().values()
    );
}

#[test]
fn a_case_file_shows_nothing_of_its_values() {
    assert_eq!(format!("{:?}", parse(&full()).unwrap()), "CaseFile(..)");
}

#[test]
fn any_protobuf_tool_reads_each_plaintext_as_a_record_with_this_leaf_only() {
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    let pool = DescriptorPool::decode(&descriptors[..]).unwrap();
    let record = pool
        .get_message_by_name("amanat.record.v1.CaseRecord")
        .unwrap();
    for (id, plaintext) in parse(&full()).unwrap().values() {
        let message = DynamicMessage::decode(record.clone(), plaintext.as_slice()).unwrap();
        assert_eq!(
            reflect(&message),
            part(&full(), |leaf| leaf == *id),
            "{id:?}"
        );
    }
}

/// A message as a case file shows it, by reflection alone.
fn reflect(message: &DynamicMessage) -> Json {
    assert_eq!(message.unknown_fields().count(), 0);
    let fields = message
        .fields()
        .map(|(field, value)| (field.name().to_owned(), reflect_value(&field.kind(), value)));
    Json::Object(fields.collect())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other kind fails the test"
)]
fn reflect_value(kind: &Kind, value: &Value) -> Json {
    match value {
        Value::String(text) => json!(text),
        Value::Bool(truth) => json!(truth),
        Value::U32(uint) => json!(uint),
        Value::EnumNumber(number) => json!(code_name(kind.as_enum().unwrap(), *number)),
        Value::Message(message) => reflect(message),
        Value::List(items) => items.iter().map(|item| reflect_value(kind, item)).collect(),
        other => panic!("{other:?} has no place in a case file"),
    }
}

fn code_name(codes: &EnumDescriptor, number: i32) -> String {
    let zero = codes.get_value(0).unwrap();
    let prefix = zero.name().strip_suffix("UNSPECIFIED").unwrap();
    codes
        .get_value(number)
        .unwrap()
        .name()
        .strip_prefix(prefix)
        .unwrap()
        .to_owned()
}

proptest! {
    #[test]
    fn every_valid_case_file_reads_back_as_it_was_written(file in generate::case_file()) {
        let parsed = parse(&file).unwrap();
        prop_assert_eq!(render(parsed.values()).unwrap(), file);
    }

    #[test]
    fn some_of_the_leaves_read_back_as_that_part_of_the_file(
        file in generate::case_file(),
        released in any::<u128>(),
    ) {
        let released = |id: FieldId| released >> (id.number() % 128) & 1 == 1;
        let mut values = parse(&file).unwrap().values().clone();
        values.retain(|id, _| released(*id));
        prop_assert_eq!(render(&values).unwrap(), part(&file, released));
    }

    /// Whatever bytes a source sealed: what is shown is a valid case file with these very bytes.
    #[test]
    fn only_what_a_case_file_writes_is_rendered(
        file in generate::case_file(),
        leaf in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut values = parse(&file).unwrap().values().clone();
        let id = *leaf.get(&values.keys().collect::<Vec<_>>()).to_owned();
        values.retain(|leaf, _| *leaf == id);
        let plaintext = values.get_mut(&id).unwrap();
        let at = at.index(plaintext.len());
        plaintext[at] = byte;
        if let Ok(rendered) = render(&values) {
            // A row of which nothing else was released cannot be written on its own.
            if !rendered.to_string().contains("{}") {
                let again = parse(&rendered).unwrap();
                prop_assert_eq!(again.values(), &values);
            }
        }
    }

    #[test]
    fn no_bytes_make_rendering_panic(
        leaf in generate::leaf_of_the_catalogue(),
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        drop(render(&BTreeMap::from([(leaf.id, bytes)])));
    }
}

fn render_one(path: &str, plaintext: &[u8]) -> Result<Json, RenderError> {
    render(&BTreeMap::from([(id(path), plaintext.to_vec())]))
}

#[test]
fn an_absent_leaf_and_no_leaf_render_as_nothing() {
    assert_eq!(render(&BTreeMap::new()), Ok(json!({})));
    assert_eq!(render_one("subject.cnic", b""), Ok(json!({})));
}

#[test]
fn a_plaintext_that_no_case_file_writes_is_refused() {
    let gender = |plaintext: &[u8]| render_one("subject.gender", plaintext);
    assert_eq!(
        gender(b"\x0a\x02\x38\x02"),
        Ok(json!({"subject": {"gender": "FEMALE"}}))
    );
    let malformed = Err(RenderError::Malformed {
        path: "subject.gender",
    });
    for (why, plaintext) in [
        ("no leaf in the section", &b"\x0a\x00"[..]),
        ("another section", b"\x12\x02\x38\x02"),
        ("another leaf", b"\x0a\x02\x30\x02"),
        ("a second leaf", b"\x0a\x04\x38\x02\x30\x02"),
        ("the leaf twice", b"\x0a\x04\x38\x02\x38\x02"),
        ("the section twice", b"\x0a\x02\x38\x02\x0a\x02\x38\x02"),
        ("cut off", b"\x0a\x02\x38"),
        ("a length past the end", b"\x0a\x7f\x38\x02"),
        ("an overlong varint", b"\x0a\x03\x38\x82\x00"),
        ("a list in place of a code", b"\x0a\x03\x3a\x01\x02"),
    ] {
        assert_eq!(gender(plaintext), malformed, "{why}");
    }
}

#[test]
fn text_that_a_case_file_refuses_is_not_shown_either() {
    let name = |plaintext: &[u8]| render_one("subject.given_name", plaintext);
    assert!(name(b"\x0a\x03\x0a\x01A").is_ok());
    let malformed = Err(RenderError::Malformed {
        path: "subject.given_name",
    });
    for plaintext in [
        &b"\x0a\x03\x0a\x01\x1b"[..],
        b"\x0a\x02\x0a\x00",
        b"\x0a\x03\x0a\x01\xff",
    ] {
        assert_eq!(name(plaintext), malformed);
    }
}

#[test]
fn a_code_that_this_schema_lacks_is_refused_by_name_of_the_field() {
    let unknown = |path| Err(RenderError::UnknownCode { path });
    for plaintext in [b"\x0a\x02\x38\x00", b"\x0a\x02\x38\x63"] {
        assert_eq!(
            render_one("subject.gender", plaintext),
            unknown("subject.gender")
        );
    }
    assert_eq!(
        render_one("needs.needs", b"\x2a\x04\x0a\x02\x01\x63"),
        unknown("needs.needs")
    );
}

#[test]
fn columns_that_do_not_line_up_are_refused() {
    let mut values = parse(&json!({"journey": [{"day": 1}, {"day": 2}]}))
        .unwrap()
        .values()
        .clone();
    let one = parse(&json!({"journey": [{"street": "x"}]})).unwrap();
    values.extend(one.values().clone());
    assert_eq!(
        render(&values),
        Err(RenderError::UnevenRows { section: "journey" })
    );
}

#[test]
fn more_rows_than_a_case_file_may_have_are_refused() {
    let rows = b"\x1a\x02\x30\x01".repeat(65);
    assert!(render_one("journey.day", &rows[4..]).is_ok());
    assert_eq!(
        render_one("journey.day", &rows),
        Err(RenderError::Malformed {
            path: "journey.day"
        })
    );
}

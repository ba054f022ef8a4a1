//! Any valid case file, generated from the catalogue.

use amanat_schema::catalogue::{FIELDS, Field, FieldFormat, SizeClass, Value};
use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use serde_json::{Map, Value as Json, json};

/// Any subset of the leaves, with one to four rows where a section repeats.
pub(crate) fn case_file() -> impl Strategy<Value = Json> {
    let mut names: Vec<&'static str> = FIELDS.iter().map(|field| field.section).collect();
    names.dedup();
    let sections: Vec<_> = names
        .into_iter()
        .map(|name| option::of(section(name)))
        .collect();
    sections
        .prop_map(|sections| sections.into_iter().flatten().collect::<Map<_, _>>())
        .prop_filter("an empty file is refused", |file| !file.is_empty())
        .prop_map(Json::Object)
}

pub(crate) fn leaf_of_the_catalogue() -> impl Strategy<Value = &'static Field> {
    (0..FIELDS.len()).prop_map(|at| &FIELDS[at])
}

fn section(name: &'static str) -> BoxedStrategy<(String, Json)> {
    let fields: Vec<&Field> = FIELDS
        .iter()
        .filter(|f| f.section == name && !f.derived)
        .collect();
    let leaves: Vec<_> = fields.iter().map(|field| option::of(leaf(field))).collect();
    let row = leaves
        .prop_map(|leaves| leaves.into_iter().flatten().collect::<Map<_, _>>())
        .prop_filter("an empty row is refused", |row| !row.is_empty())
        .prop_map(Json::Object);
    let content = if fields[0].column {
        vec(row, 1..=4).prop_map(Json::Array).boxed()
    } else {
        row.boxed()
    };
    content
        .prop_map(move |content| (name.to_owned(), of_one_person(content)))
        .boxed()
}

/// A CNIC beside another, or beside a B-form, has its number.
fn of_one_person(mut section: Json) -> Json {
    if let Some(cnic) = section.get("cnic").cloned() {
        let document = section.get_mut("identity_document");
        if let Some(document) = document.filter(|of| of["type"] == "CNIC" || of["type"] == "B_FORM")
            && let Some(number) = document.get_mut("number")
        {
            *number = cnic;
        }
    }
    section
}

fn leaf(field: &'static Field) -> BoxedStrategy<(String, Json)> {
    let content = match (&field.value, field.repeated) {
        _ if field.path == "subject.identity_document" => identifier("number", &DOCUMENTS),
        _ if field.path == "suspects.identifiers" => vec(identifier("value", &OF_SUSPECTS), 1..=3)
            .prop_map(Json::Array)
            .boxed(),
        (Value::Code(codes), true) => subsequence(*codes, 1..=codes.len())
            .prop_shuffle()
            .prop_map(|codes| codes.iter().map(|(_, name)| *name).collect())
            .boxed(),
        (kind, true) => vec(value(field, kind), 1..=3).prop_map(Json::Array).boxed(),
        (kind, false) => value(field, kind),
    };
    content
        .prop_map(|content| (field.name.to_owned(), content))
        .boxed()
}

/// Types, each with its canonical numbers.
type Numbers = [(&'static str, &'static str)];

const DOCUMENTS: [(&str, &str); 6] = [
    ("CNIC", "[0-9]{13}"),
    ("B_FORM", "[0-9]{13}"),
    ("PASSPORT", "[A-Z]{2}[0-9]{7}"),
    ("AFGHAN_POR", "[A-Z0-9]{3,23}[0-9]"),
    ("AFGHAN_ACC", "[A-Z0-9]{3,23}[0-9]"),
    ("NONE", "[a-z ]{0,10}x"),
];

const OF_SUSPECTS: [(&str, &str); 4] = [
    ("CNIC", "[0-9]{13}"),
    ("PASSPORT", "[A-Z]{2}[0-9]{7}"),
    ("PHONE", "\\+923[0-9]{9}"),
    ("OTHER", "[a-z ]{0,10}x"),
];

/// A number of its type, or a type without one, or some text without a type.
fn identifier(number: &'static str, numbers: &'static Numbers) -> BoxedStrategy<Json> {
    let typed = prop::sample::select(numbers).prop_flat_map(move |(kind, form)| {
        form.prop_map(move |text| json!({ "type": kind, number: text }))
    });
    let alone = prop::sample::select(numbers).prop_map(|(kind, _)| json!({ "type": kind }));
    let untyped = "[a-z ]{0,10}x".prop_map(move |text| json!({ number: text }));
    prop_oneof![4 => typed, 1 => alone, 1 => untyped].boxed()
}

fn value(field: &'static Field, kind: &'static Value) -> BoxedStrategy<Json> {
    match kind {
        Value::Text => text(field).prop_map(Json::String).boxed(),
        Value::Bool => any::<bool>().prop_map(Json::Bool).boxed(),
        Value::Uint => any::<u32>().prop_map(|uint| json!(uint)).boxed(),
        Value::Code(codes) => (0..codes.len()).prop_map(|at| json!(codes[at].1)).boxed(),
        Value::Group(members) => members
            .iter()
            .map(|member| {
                let value = value(field, &member.value);
                option::of(value.prop_map(|value| (member.name.to_owned(), value)))
            })
            .collect::<Vec<_>>()
            .prop_map(|members| members.into_iter().flatten().collect::<Map<_, _>>())
            .prop_filter("an empty group is refused", |group| !group.is_empty())
            .prop_map(Json::Object)
            .boxed(),
    }
}

fn text(field: &Field) -> BoxedStrategy<String> {
    let hex = |digits: usize| {
        vec(prop::sample::select(&b"0123456789abcdef"[..]), digits)
            .prop_map(|digits| String::from_utf8(digits).unwrap())
    };
    let digits = |count: std::ops::RangeInclusive<usize>| {
        vec(b'0'..=b'9', count).prop_map(|digits| String::from_utf8(digits).unwrap())
    };
    match field.format {
        FieldFormat::Unspecified => {
            let breaks = field.size == SizeClass::Narrative;
            vec(any::<char>(), 0..20)
                .prop_map(move |text| {
                    let plain = text.into_iter().filter(|c| !c.is_control());
                    plain.chain(['x']).chain(breaks.then_some('\n')).collect()
                })
                .boxed()
        }
        FieldFormat::Date => (1900..=9999, 1..=12, 1..=28)
            .prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}"))
            .boxed(),
        FieldFormat::Month => (1900..=9999, 1..=12)
            .prop_map(|(year, month)| format!("{year:04}-{month:02}"))
            .boxed(),
        FieldFormat::Country => prop::sample::select(vec!["PK", "AF", "AE", "IR"])
            .prop_map(str::to_owned)
            .boxed(),
        FieldFormat::Language => vec(b'a'..=b'z', 2..=3)
            .prop_map(|letters| String::from_utf8(letters).unwrap())
            .boxed(),
        FieldFormat::Phone => prop_oneof![
            digits(9..=9).prop_map(|rest| format!("+923{rest}")),
            digits(7..=14).prop_map(|rest| format!("+1{rest}")),
        ]
        .boxed(),
        FieldFormat::Cnic => digits(13..=13).boxed(),
        FieldFormat::Sha256 => hex(64).boxed(),
        FieldFormat::Isic => (b'A'..=b'U')
            .prop_map(|letter| char::from(letter).to_string())
            .boxed(),
        FieldFormat::Coordinates => (-90_000..=90_000, -180_000..=180_000)
            .prop_map(|(latitude, longitude)| {
                format!(
                    "{:.3},{:.3}",
                    f64::from(latitude) / 1000.0,
                    f64::from(longitude) / 1000.0
                )
            })
            .boxed(),
        FieldFormat::Agency => hex(32).boxed(),
    }
}

//! A case file with every leaf of the catalogue, each text unlike any other.

use amanat_schema::catalogue::{FIELDS, Field, FieldFormat, SizeClass, Value};
use serde_json::{Map, Value as Json, json};

/// Writes texts that are not repeated.
struct Writer {
    written: u32,
}

/// Every leaf that a case file can hold, but the one that the gateway reads to say who owns the case; in
/// repeated sections two rows.
pub fn every_leaf() -> Json {
    let mut writer = Writer { written: 0 };
    let mut file = Map::new();
    for field in FIELDS
        .iter()
        .filter(|field| !field.derived && field.format != FieldFormat::Agency)
    {
        let rows = if field.column { 2 } else { 1 };
        for row in 0..rows {
            let leaf = writer.leaf(field);
            let section = file.entry(field.section).or_insert_with(|| {
                if field.column {
                    json!([{}, {}])
                } else {
                    json!({})
                }
            });
            let section = if field.column {
                &mut section[row]
            } else {
                section
            };
            section[field.name] = leaf;
        }
    }
    Json::Object(file)
}

impl Writer {
    fn leaf(&mut self, field: &'static Field) -> Json {
        let value = self.value(field, &field.value);
        if field.repeated {
            json!([value])
        } else {
            value
        }
    }

    fn value(&mut self, field: &'static Field, kind: &'static Value) -> Json {
        match kind {
            Value::Text => self.text(field).into(),
            Value::Bool => true.into(),
            Value::Uint => 27.into(),
            Value::Code(codes) => codes.last().unwrap().1.into(),
            Value::Group(members) => {
                let members = members.iter();
                let members = members
                    .map(|member| (member.name.to_owned(), self.value(field, &member.value)));
                Json::Object(members.collect())
            }
        }
    }

    fn text(&mut self, field: &Field) -> String {
        self.written += 1;
        let n = self.written;
        match field.format {
            FieldFormat::Unspecified if field.size == SizeClass::Narrative => (0..30)
                .map(|line| format!("Gulnar {n:03} told line {line}\n"))
                .collect(),
            FieldFormat::Unspecified => format!("Gulnar {n:03}"),
            FieldFormat::Date => format!("19{:02}-05-13", n % 90),
            FieldFormat::Month => format!("19{:02}-07", n % 90),
            FieldFormat::Country => "PK".to_owned(),
            FieldFormat::Language => "ur".to_owned(),
            FieldFormat::Phone => format!("+9237{n:08}"),
            FieldFormat::Cnic => format!("99471{n:08}"),
            FieldFormat::Sha256 => hex::encode(amanat_seal::sha256(&n.to_be_bytes())),
            FieldFormat::Isic => "T".to_owned(),
            FieldFormat::Coordinates => format!("31.{n:06},74.{n:06}"),
            FieldFormat::Agency => format!("{n:032x}"),
        }
    }
}

/// Every text of a file that can be looked for: not codes, which stand in any program, and nothing so short
/// that it stands anywhere.
pub fn texts(file: &Json) -> Vec<String> {
    match file {
        Json::String(text) if text.len() >= 6 && !is_code(text) => vec![text.clone()],
        Json::Array(items) => items.iter().flat_map(texts).collect(),
        Json::Object(members) => members.values().flat_map(texts).collect(),
        Json::String(_) | Json::Null | Json::Bool(_) | Json::Number(_) => Vec::new(),
    }
}

fn is_code(text: &str) -> bool {
    let mut letters = text.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_uppercase())
        && letters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

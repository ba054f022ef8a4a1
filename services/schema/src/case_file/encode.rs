//! From JSON to the wire form of a leaf.

use std::collections::BTreeSet;

use prost::encoding::{bytes, string, uint64};
use serde_json::Value as Json;

use super::{
    format::{self, Rule},
    is_missing, nearest, refuse,
};
use crate::{
    Violation,
    catalogue::{Field, Member, SizeClass, Value},
};

/// How many codes a violation names before it cuts the list short.
const SHOWN_CODES: usize = 12;

/// The plaintext of a leaf from its value in each row; a singular section is one row. Worth something only
/// if no violation was added.
pub(super) fn leaf(
    field: &Field,
    rows: &[Option<&Json>],
    violations: &mut Vec<Violation>,
) -> Vec<u8> {
    let mut encoder = Encoder { field, violations };
    let mut plaintext = Vec::new();
    for (at, cell) in rows.iter().enumerate() {
        let mut row = Vec::new();
        if let Some(json) = cell {
            let path = if field.column {
                format!("{}[{at}].{}", field.section, field.name)
            } else {
                field.path.to_owned()
            };
            encoder.field(&path, json, &mut row);
        }
        bytes::encode(field.id.section_number(), &row, &mut plaintext);
    }
    let most = most_bytes(field.size);
    if plaintext.len() > most {
        encoder.violations.push(Violation {
            path: field.path.to_owned(),
            expected: format!("at most {most} bytes in all"),
        });
    }
    plaintext
}

/// The largest plaintext of a size class, in bytes.
fn most_bytes(size: SizeClass) -> usize {
    match size {
        SizeClass::Unspecified => 0,
        SizeClass::Code => 256,
        SizeClass::Text => 1 << 10,
        SizeClass::Address => 4 << 10,
        SizeClass::Column => 16 << 10,
        SizeClass::Narrative => 64 << 10,
    }
}

struct Encoder<'a> {
    field: &'a Field,
    violations: &'a mut Vec<Violation>,
}

impl Encoder<'_> {
    fn field(&mut self, path: &str, json: &Json, row: &mut Vec<u8>) {
        let number = self.field.id.field_number();
        if !self.field.repeated {
            self.value(path, number, &self.field.value, json, row);
            return;
        }
        let Some(items) = json.as_array().filter(|items| !items.is_empty()) else {
            return refuse(self.violations, path, json, "a list");
        };
        let items = items
            .iter()
            .enumerate()
            .map(|(at, item)| (format!("{path}[{at}]"), item));
        if let Value::Code(codes) = self.field.value {
            let mut seen = BTreeSet::new();
            let mut numbers = Vec::new();
            for (path, item) in items {
                let number = self.code(&path, codes, item);
                if number.is_some() && !seen.insert(number) {
                    refuse(self.violations, &path, item, "each code only once");
                }
                numbers.extend(number);
            }
            uint64::encode_packed(number, &numbers, row);
        } else {
            for (path, item) in items {
                self.value(&path, number, &self.field.value, item, row);
            }
        }
    }

    /// Presence is explicit: a false and a zero are written.
    fn value(&mut self, path: &str, number: u32, kind: &Value, json: &Json, out: &mut Vec<u8>) {
        let scalar = match kind {
            Value::Text => {
                let rule = format::rule(self.field);
                return self.text(path, number, &rule, json, out);
            }
            Value::Group(members) => return self.group(path, number, members, json, out),
            Value::Code(codes) => self.code(path, codes, json),
            Value::Bool => {
                let truth = json.as_bool().map(u64::from);
                self.expect(path, json, truth, "true or false")
            }
            Value::Uint => {
                let uint = json.as_u64().filter(|uint| *uint <= u32::MAX.into());
                self.expect(path, json, uint, "a whole number from 0 to 4294967295")
            }
        };
        if let Some(scalar) = scalar {
            uint64::encode(number, &scalar, out);
        }
    }

    fn text(&mut self, path: &str, number: u32, rule: &Rule, json: &Json, out: &mut Vec<u8>) {
        let written = json.as_str().filter(|_| !is_missing(json));
        let text = written.and_then(|text| rule.kept(text));
        if let Some(text) = self.expect(path, json, text, rule.expected) {
            string::encode(number, &text.into_owned(), out);
        }
    }

    fn code(&mut self, path: &str, codes: &[(i32, &str)], json: &Json) -> Option<u64> {
        let number = codes
            .iter()
            .find(|(_, name)| json.as_str() == Some(name))
            .and_then(|(number, _)| u64::try_from(*number).ok());
        self.expect(path, json, number, &one_of(codes))
    }

    fn group(
        &mut self,
        path: &str,
        number: u32,
        members: &[Member],
        json: &Json,
        out: &mut Vec<u8>,
    ) {
        let object = json.as_object().filter(|object| !object.is_empty());
        let Some(object) = self.expect(path, json, object, "an object") else {
            return;
        };
        for name in object.keys() {
            if members.iter().all(|member| member.name != name) {
                let known = members.iter().map(|member| member.name);
                self.violations.push(nearest::unknown(path, name, known));
            }
        }
        // In the order of the members, whatever the order in the file: a value has one encoding.
        let mut group = Vec::new();
        let kind = object.get("type").and_then(Json::as_str);
        for member in members {
            if let Some(json) = object.get(member.name) {
                let path = format!("{path}.{}", member.name);
                match format::identifier_rule(self.field, member.name, kind) {
                    Some(rule) => self.text(&path, member.number, &rule, json, &mut group),
                    None => self.value(&path, member.number, &member.value, json, &mut group),
                }
            }
        }
        bytes::encode(number, &group, out);
    }

    /// Passes on what the JSON was read as, and refuses JSON that could not be read.
    fn expect<T>(&mut self, path: &str, json: &Json, read: Option<T>, expected: &str) -> Option<T> {
        if read.is_none() {
            refuse(self.violations, path, json, expected);
        }
        read
    }
}

fn one_of(codes: &[(i32, &str)]) -> String {
    let shown: Vec<_> = codes
        .iter()
        .take(SHOWN_CODES)
        .map(|(_, name)| *name)
        .collect();
    match codes.len().saturating_sub(SHOWN_CODES) {
        0 => format!("one of {}", shown.join(", ")),
        more => format!("one of {} and {more} more", shown.join(", ")),
    }
}

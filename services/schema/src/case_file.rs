//! Case files: the record as an officer writes it, in JSON, and as a reader is shown it.
//!
//! Names are those of the catalogue, a code is written by its name without the prefix ("FEMALE"), a
//! repeated section is an array of objects. A CNIC, a document's number and a phone number may be written
//! in any spelling, and are kept in the canonical one of [`identifier`](crate::identifier); a person has one
//! CNIC, and a B-form its number. What is not known is left out; there is no null and no empty
//! value. A parsed file is one plaintext a leaf, ready to be sealed: the wire form of a CaseRecord that
//! holds this leaf only, so any protobuf tool can read it. A column of a repeated section has one element
//! a row, empty where the row lacks it, so that columns released one by one line up again.

mod decode;
mod derived;
mod encode;
mod format;
mod nearest;

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::{
    Violation,
    catalogue::{FIELDS, Field, FieldId},
};

/// The most rows that a repeated section may have.
const MAX_ROWS: usize = 64;

/// A valid case file: the plaintext of each leaf that is present.
pub struct CaseFile {
    values: BTreeMap<FieldId, Vec<u8>>,
}

impl CaseFile {
    /// The wire encoding of a CaseRecord that holds one leaf only, by leaf; absent ones are not listed.
    pub fn values(&self) -> &BTreeMap<FieldId, Vec<u8>> {
        &self.values
    }
}

/// Checks a case file against the catalogue.
///
/// # Errors
/// Every [`Violation`] there is, each with its path in the file.
pub fn parse(file: &Json) -> Result<CaseFile, Vec<Violation>> {
    let mut reader = Reader::default();
    reader.file(file);
    let Reader {
        values,
        mut violations,
    } = reader;
    let file = CaseFile { values };
    if file.has_two_cnics() {
        violations.push(Violation {
            path: "subject.identity_document.number".to_owned(),
            expected: "the number in subject.cnic".to_owned(),
        });
    }
    if violations.is_empty() {
        Ok(file)
    } else {
        Err(violations)
    }
}

/// Why released plaintexts make no case file. The source sealed something that [`parse`] never writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("the plaintext of {path} is not one of this field")]
    Malformed { path: &'static str },
    #[error("{path} holds a code that this schema does not have")]
    UnknownCode { path: &'static str },
    #[error("the columns of {section} differ in their number of rows")]
    UnevenRows { section: &'static str },
}

/// The case file of any subset of the leaves, its repeated sections put together row by row. A row none of
/// whose leaves is there is an empty object. An empty plaintext is an absent leaf.
///
/// Takes only what [`parse`] and [`CaseFile::with_derived`] write, to the byte.
///
/// # Errors
/// [`RenderError`] at the first leaf, in the order of ids, that is something else.
pub fn render(values: &BTreeMap<FieldId, Vec<u8>>) -> Result<Json, RenderError> {
    let mut sections: Map<String, Json> = Map::new();
    for (id, plaintext) in values.iter().filter(|(_, plaintext)| !plaintext.is_empty()) {
        let field = id.field();
        let mut cells = decode::leaf(field, plaintext)?;
        if field.column {
            let section = sections
                .entry(field.section)
                .or_insert_with(|| cells.iter().map(|_| Json::Object(Map::new())).collect());
            let rows = section
                .as_array_mut()
                .map_or(&mut [][..], Vec::as_mut_slice);
            if rows.len() != cells.len() {
                return Err(RenderError::UnevenRows {
                    section: field.section,
                });
            }
            for (row, cell) in rows.iter_mut().zip(cells) {
                put(row, field, cell);
            }
        } else {
            let section = sections
                .entry(field.section)
                .or_insert_with(|| Json::Object(Map::new()));
            put(section, field, cells.pop().flatten());
        }
    }
    Ok(Json::Object(sections))
}

fn put(row: &mut Json, field: &Field, cell: Option<Json>) {
    if let (Some(row), Some(cell)) = (row.as_object_mut(), cell) {
        row.insert(field.name.to_owned(), cell);
    }
}

/// Walks a file and gathers, side by side, what is there and what is wrong with it.
#[derive(Default)]
struct Reader {
    values: BTreeMap<FieldId, Vec<u8>>,
    violations: Vec<Violation>,
}

impl Reader {
    fn file(&mut self, file: &Json) {
        let Some(sections) = file.as_object().filter(|sections| !sections.is_empty()) else {
            let whole = Violation {
                path: "case file".to_owned(),
                expected: "an object with at least one section".to_owned(),
            };
            return self.violations.push(whole);
        };
        for (name, content) in sections {
            let fields: Vec<_> = FIELDS
                .iter()
                .filter(|field| field.section == name)
                .collect();
            match fields.first() {
                None => {
                    let known = FIELDS.iter().map(|field| field.section);
                    self.violations.push(nearest::unknown("", name, known));
                }
                Some(field) if field.column => self.rows(name, &fields, content),
                Some(_) => {
                    let row = self.row(name, &fields, content);
                    self.leaves(&fields, &[row]);
                }
            }
        }
    }

    fn rows(&mut self, name: &str, fields: &[&'static Field], content: &Json) {
        let rows = content.as_array().map(Vec::as_slice).unwrap_or_default();
        if !(1..=MAX_ROWS).contains(&rows.len()) {
            let expected = format!("an array of at most {MAX_ROWS} objects");
            return refuse(&mut self.violations, name, content, &expected);
        }
        let rows: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(at, row)| self.row(&format!("{name}[{at}]"), fields, row))
            .collect();
        self.leaves(fields, &rows);
    }

    /// The content of a singular section, or of one row, each of its names known.
    fn row<'a>(
        &mut self,
        path: &str,
        fields: &[&'static Field],
        content: &'a Json,
    ) -> Option<&'a Map<String, Json>> {
        let Some(row) = content.as_object().filter(|row| !row.is_empty()) else {
            refuse(&mut self.violations, path, content, "an object");
            return None;
        };
        for name in row.keys() {
            match fields.iter().find(|field| field.name == name) {
                Some(field) if field.derived => self.violations.push(Violation {
                    path: format!("{path}.{name}"),
                    expected: "no value: it is derived by the connector; leave it out".to_owned(),
                }),
                Some(_) => {}
                None => {
                    let known = fields.iter().map(|field| field.name);
                    self.violations.push(nearest::unknown(path, name, known));
                }
            }
        }
        Some(row)
    }

    fn leaves(&mut self, fields: &[&'static Field], rows: &[Option<&Map<String, Json>>]) {
        for field in fields.iter().filter(|field| !field.derived) {
            let cells: Vec<_> = rows
                .iter()
                .map(|row| row.and_then(|row| row.get(field.name)))
                .collect();
            if cells.iter().any(Option::is_some) {
                let plaintext = encode::leaf(field, &cells, &mut self.violations);
                self.values.insert(field.id, plaintext);
            }
        }
    }
}

/// Adds that something else was expected than this JSON; above all, that nothing is written as nothing.
fn refuse(violations: &mut Vec<Violation>, path: &str, json: &Json, expected: &str) {
    let expected = if is_missing(json) {
        "a value; leave the field out if there is none"
    } else {
        expected
    };
    violations.push(Violation {
        path: path.to_owned(),
        expected: expected.to_owned(),
    });
}

/// Null, blank or empty: a value that should have been left out.
fn is_missing(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::String(text) => text.trim().is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

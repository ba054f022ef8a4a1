//! Identifiers as an officer gives them.

use amanat_schema::{
    Violation,
    identifier::{Identifier, IdentifierError, distinct, second_document},
    subject::SubjectIdentifierType,
};
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ConnectorError;

/// What identifies one person, in any spelling; unknown keys are refused. Without `Debug`: every value names
/// somebody. Wiped when it is dropped.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct IdentifierFile {
    pub cnic: Option<String>,
    pub document: Option<DocumentFile>,
    pub phone: Option<String>,
    /// With `father` and `birth_year`.
    pub name: Option<String>,
    /// The father's or husband's name.
    pub father: Option<String>,
    pub birth_year: Option<u16>,
}

/// A document other than a CNIC card. Wiped when it is dropped.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct DocumentFile {
    /// B_FORM, PASSPORT, AFGHAN_POR or AFGHAN_ACC.
    #[serde(rename = "type")]
    pub kind: String,
    pub number: String,
}

impl IdentifierFile {
    /// In their canonical form, the strongest first.
    ///
    /// # Errors
    /// [`ConnectorError::Invalid`] with every violation; it never repeats what was given.
    pub fn identifiers(&self) -> Result<Vec<Identifier>, ConnectorError> {
        use SubjectIdentifierType::{Cnic, Phone};

        let mut found = Found::default();
        if let Some(number) = &self.cnic {
            found.take("cnic", Identifier::parse(Cnic, number));
        }
        if let Some(document) = &self.document {
            match document.kind() {
                Some(kind) => {
                    found.take("document.number", Identifier::parse(kind, &document.number));
                }
                None => found.wrong(
                    "document.type",
                    "CNIC, B_FORM, PASSPORT, AFGHAN_POR or AFGHAN_ACC",
                ),
            }
        }
        if let Some(number) = &self.phone {
            found.take("phone", Identifier::parse(Phone, number));
        }
        match (&self.name, &self.father, self.birth_year) {
            (None, None, None) => {}
            (Some(name), Some(father), Some(year)) => {
                found.take("name", Identifier::composite(name, father, year));
            }
            _ => found.wrong("name", "name, father and birth_year together"),
        }
        // There is one document here beside the CNIC, so a second number is that one's.
        if second_document(&found.identifiers).is_some() {
            found.wrong("document.number", "one CNIC of one person");
        }
        if found.violations.is_empty() {
            Ok(distinct(found.identifiers))
        } else {
            Err(ConnectorError::Invalid(found.violations))
        }
    }
}

impl DocumentFile {
    fn kind(&self) -> Option<SubjectIdentifierType> {
        use SubjectIdentifierType::{
            AfghanAcc, AfghanPor, BForm, Cnic, Composite, Passport, Phone, Unspecified,
        };
        let name = format!("SUBJECT_IDENTIFIER_TYPE_{}", self.kind);
        match SubjectIdentifierType::from_str_name(&name)? {
            kind @ (Cnic | BForm | Passport | AfghanPor | AfghanAcc) => Some(kind),
            Phone | Composite | Unspecified => None,
        }
    }
}

#[derive(Default)]
struct Found {
    identifiers: Vec<Identifier>,
    violations: Vec<Violation>,
}

impl Found {
    fn take(&mut self, path: &str, parsed: Result<Identifier, IdentifierError>) {
        match parsed {
            Ok(identifier) => self.identifiers.push(identifier),
            Err(error) => self.wrong(path, error.expected),
        }
    }

    fn wrong(&mut self, path: &str, expected: &str) {
        self.violations.push(Violation {
            path: path.to_owned(),
            expected: expected.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: serde_json::Value) -> IdentifierFile {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_strongest_comes_first_and_every_spelling_is_one() {
        let given = file(serde_json::json!({
            "phone": "0300 0000 123", "cnic": "۰۰۰۰۰-۱۲۳۴۵۶۷-۸",
            "name": "Noor Example", "father": "Karim Example", "birth_year": 1994,
        }));
        let identifiers = given.identifiers().unwrap();
        let kinds: Vec<_> = identifiers.iter().map(Identifier::kind).collect();
        assert_eq!(
            kinds,
            [
                SubjectIdentifierType::Cnic,
                SubjectIdentifierType::Phone,
                SubjectIdentifierType::Composite
            ]
        );
        let plain = file(serde_json::json!({ "cnic": "0000012345678" }));
        let plain = plain.identifiers().unwrap();
        assert_eq!(plain[0].canonical(), identifiers[0].canonical());
    }

    #[test]
    fn a_second_cnic_is_refused_and_the_same_number_twice_is_one() {
        for (kind, number, is_other) in [
            ("CNIC", "00000-1234567-9", true),
            ("B_FORM", "00000-1234567-9", true),
            ("B_FORM", "00000-1234567-8", false),
            ("PASSPORT", "0000012345679", false),
        ] {
            let given = file(serde_json::json!({
                "cnic": "0000012345678", "document": { "type": kind, "number": number },
            }));
            match given.identifiers() {
                Ok(_) => assert!(!is_other, "{kind}"),
                Err(error) => {
                    assert!(is_other, "{kind}");
                    let ConnectorError::Invalid(violations) = error else {
                        panic!("it is not valid");
                    };
                    let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
                    assert_eq!(told, ["document.number: expected one CNIC of one person"]);
                }
            }
        }
    }

    #[test]
    fn every_violation_is_named_and_no_value_is_repeated() {
        let given = file(serde_json::json!({
            "phone": "77310", "cnic": "77310", "document": { "type": "77310", "number": "77310" },
            "name": "77310",
        }));
        let Err(ConnectorError::Invalid(violations)) = given.identifiers() else {
            panic!("it is not valid");
        };
        let paths: Vec<_> = violations.iter().map(|wrong| wrong.path.as_str()).collect();
        assert_eq!(paths, ["cnic", "document.type", "phone", "name"]);
        assert!(!format!("{violations:?}").contains("77310"));
    }
}

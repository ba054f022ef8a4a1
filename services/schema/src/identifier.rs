//! Identifiers in their one canonical spelling, so that two officers who write the same number make the
//! same token.
//!
//! A canonical form is for ever: a token can be recomputed from nothing else. Whoever changes one raises
//! [`CANON_VERSION`], and with it the label of the pseudorandom function's input.
//!
//! # Version 1
//!
//! Control and invisible characters, marks of direction among them, are dropped; the rest is brought to
//! Unicode NFKC; Urdu and Arabic digits become ASCII ones. Then, by type:
//!
//! | | canonical form |
//! |---|---|
//! | CNIC, B_FORM | 13 digits; separators are dropped |
//! | PASSPORT, AFGHAN_POR, AFGHAN_ACC | 4 to 24 letters A to Z and digits, a digit among them; separators are dropped |
//! | PHONE | E.164; separators are dropped, 03…, 923…, 00923…, +923… and +92 (0)3… are one |
//! | COMPOSITE | `length:name` `length:father` `year`, lengths in bytes, the year in four digits |
//!
//! A name is lower-cased, without accents and vowel signs; the Arabic letters ي, ى, ك and ه are the Urdu
//! ی, ک and ہ; separators are one space. Separators are white space, dashes, dots, commas, slashes,
//! brackets, underscores and apostrophes.

mod spelling;

use zeroize::Zeroizing;

use crate::{
    case_file::CaseFile,
    subject::{IdentifierDomain, SubjectIdentifierType},
};

/// Of the canonical forms.
pub const CANON_VERSION: u32 = 1;

/// The longest canonical name, in bytes.
const MAX_NAME_LEN: usize = 512;

/// What identifies a person, canonical and not empty. Wiped on drop; its `Debug` shows nothing.
pub struct Identifier {
    kind: SubjectIdentifierType,
    canonical: Zeroizing<String>,
}

/// An identifier that does not have the form of its type. Never says what was there instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected {expected}", code(.kind))]
pub struct IdentifierError {
    pub kind: SubjectIdentifierType,
    /// A phrase that follows "expected": `13 digits`.
    pub expected: &'static str,
}

impl Identifier {
    /// From any spelling. A COMPOSITE has three parts: [`Identifier::composite`].
    ///
    /// # Errors
    /// [`IdentifierError`] unless the text is an identifier of this type.
    pub fn parse(kind: SubjectIdentifierType, text: &str) -> Result<Self, IdentifierError> {
        use SubjectIdentifierType::{
            AfghanAcc, AfghanPor, BForm, Cnic, Composite, Passport, Phone, Unspecified,
        };
        let bare = spelling::bare(text);
        let canonical = match kind {
            Cnic | BForm => is_digits(&bare, 13..=13).then_some(bare),
            Passport | AfghanPor | AfghanAcc => document(bare),
            Phone => phone(&bare),
            Composite | Unspecified => None,
        };
        match canonical {
            Some(canonical) => Ok(Self { kind, canonical }),
            None => Err(IdentifierError {
                kind,
                expected: expected(kind),
            }),
        }
    }

    /// From the name, the father's or husband's name and the year of birth.
    ///
    /// # Errors
    /// [`IdentifierError`] unless each name has a letter and at most 512 bytes, and the year is from 1900 on.
    pub fn composite(name: &str, father: &str, birth_year: u16) -> Result<Self, IdentifierError> {
        let kind = SubjectIdentifierType::Composite;
        let refused = |expected| IdentifierError { kind, expected };
        let name = self::name(name).ok_or(refused("a name with a letter, at most 512 bytes"))?;
        let father = self::name(father).ok_or(refused(
            "a father's or husband's name with a letter, at most 512 bytes",
        ))?;
        if !(1900..=9999).contains(&birth_year) {
            return Err(refused("a year of birth from 1900 on, four digits"));
        }
        let (name_len, father_len) = (name.len(), father.len());
        let canonical = format!("{name_len}:{}{father_len}:{}{birth_year}", *name, *father);
        Ok(Self {
            kind,
            canonical: Zeroizing::new(canonical),
        })
    }

    /// From a canonical form that was kept: what [`Identifier::canonical`] gave.
    ///
    /// # Errors
    /// [`IdentifierError`] for anything else.
    pub fn from_canonical(
        kind: SubjectIdentifierType,
        canonical: &str,
    ) -> Result<Self, IdentifierError> {
        let parsed = if kind == SubjectIdentifierType::Composite {
            parts(canonical)
                .and_then(|(name, father, year)| Self::composite(name, father, year).ok())
        } else {
            Self::parse(kind, canonical).ok()
        };
        let expected = "a canonical form";
        parsed
            .filter(|parsed| parsed.canonical() == canonical)
            .ok_or(IdentifierError { kind, expected })
    }

    pub fn kind(&self) -> SubjectIdentifierType {
        self.kind
    }

    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Of a survivor's identifier.
    pub fn domain(&self) -> IdentifierDomain {
        if self.kind == SubjectIdentifierType::Composite {
            IdentifierDomain::Composite
        } else {
            IdentifierDomain::Victim
        }
    }
}

/// Name, father's name and year of a canonical composite.
fn parts(canonical: &str) -> Option<(&str, &str, u16)> {
    fn part(text: &str) -> Option<(&str, &str)> {
        let (length, rest) = text.split_once(':')?;
        rest.split_at_checked(length.parse().ok()?)
    }
    let (name, rest) = part(canonical)?;
    let (father, year) = part(rest)?;
    Some((name, father, year.parse().ok()?))
}

impl CaseFile {
    /// The survivor's, the strongest first, each once. A composite needs a name, the father's or husband's
    /// name and a date of birth.
    pub fn identifiers(&self) -> Vec<Identifier> {
        use SubjectIdentifierType::{Cnic, Phone};

        let document = self.document();
        let numbers = [
            self.text("subject.cnic").map(|number| (Cnic, number)),
            document,
            self.text("subject.mobile_phone")
                .map(|number| (Phone, number)),
        ];
        let identifiers = numbers
            .into_iter()
            .flatten()
            // A value of a case file is canonical already.
            .filter_map(|(kind, number)| Identifier::parse(kind, &number).ok())
            .chain(self.composite());
        distinct(identifiers.collect())
    }

    /// Whether the survivor's document is another CNIC or B-form than hers: one of the two is a slip of the
    /// pen, or another person's.
    pub(crate) fn has_two_cnics(&self) -> bool {
        use SubjectIdentifierType::{BForm, Cnic};

        let cnic = self.text("subject.cnic");
        let other = self
            .document()
            .filter(|(kind, _)| [Cnic, BForm].contains(kind));
        cnic.zip(other)
            .is_some_and(|(cnic, (_, number))| cnic != number)
    }

    fn document(&self) -> Option<(SubjectIdentifierType, String)> {
        let document = self.get("subject.identity_document")?;
        let kind = document_type(document.get("type")?.as_str()?)?;
        Some((kind, document.get("number")?.as_str()?.to_owned()))
    }

    fn composite(&self) -> Option<Identifier> {
        let names = ["subject.given_name", "subject.family_name"];
        let name: Vec<_> = names.iter().filter_map(|path| self.text(path)).collect();
        let father = self.text("subject.father_or_husband_name")?;
        let year = self.text("subject.birth_date")?.get(..4)?.parse().ok()?;
        Identifier::composite(&name.join(" "), &father, year).ok()
    }
}

/// The strongest first, each once: the number of a B-form is the card's that follows it.
pub fn distinct(mut identifiers: Vec<Identifier>) -> Vec<Identifier> {
    use SubjectIdentifierType::{BForm, Cnic};

    identifiers.sort_by_key(Identifier::kind);
    let mut kept: Vec<Identifier> = Vec::new();
    for one in identifiers {
        let is_same = |other: &Identifier| {
            let kinds = (other.kind, one.kind);
            (kinds.0 == kinds.1 || kinds == (Cnic, BForm)) && other.canonical == one.canonical
        };
        if !kept.iter().any(is_same) {
            kept.push(one);
        }
    }
    kept
}

/// Which of some identifiers is a second number of a type of document, a B-form's and a card's being one
/// type: no one person has both.
pub fn second_document(identifiers: &[Identifier]) -> Option<usize> {
    use SubjectIdentifierType::{
        AfghanAcc, AfghanPor, BForm, Cnic, Composite, Passport, Phone, Unspecified,
    };
    let document = |of: &Identifier| match of.kind {
        Cnic | BForm => Some(Cnic),
        kind @ (Passport | AfghanPor | AfghanAcc) => Some(kind),
        Phone | Composite | Unspecified => None,
    };
    let mut numbers: Vec<(SubjectIdentifierType, &str)> = Vec::new();
    identifiers.iter().position(|of| {
        let Some(kind) = document(of) else {
            return false;
        };
        let is_second = numbers
            .iter()
            .any(|(other, number)| *other == kind && *number != of.canonical());
        numbers.push((kind, of.canonical()));
        is_second
    })
}

/// Of a document, by its code in a case file; NONE has no number that identifies.
pub(crate) fn document_type(code: &str) -> Option<SubjectIdentifierType> {
    match code {
        "CNIC" => Some(SubjectIdentifierType::Cnic),
        "B_FORM" => Some(SubjectIdentifierType::BForm),
        "PASSPORT" => Some(SubjectIdentifierType::Passport),
        "AFGHAN_POR" => Some(SubjectIdentifierType::AfghanPor),
        "AFGHAN_ACC" => Some(SubjectIdentifierType::AfghanAcc),
        _ => None,
    }
}

/// The phrase for a text that is none of this type.
pub(crate) fn expected(kind: SubjectIdentifierType) -> &'static str {
    use SubjectIdentifierType::{
        AfghanAcc, AfghanPor, BForm, Cnic, Composite, Passport, Phone, Unspecified,
    };
    match kind {
        Cnic | BForm => "13 digits",
        Passport | AfghanPor | AfghanAcc => "4 to 24 letters A to Z and digits, with a digit",
        Phone => {
            "a phone number: 03 and 9 digits, or + and 8 to 15 digits (after +923 there are 9)"
        }
        Composite => "a name, a father's or husband's name and a year of birth, each on its own",
        Unspecified => "a type of identifier",
    }
}

/// As a case file and the command line write it.
fn code(kind: &SubjectIdentifierType) -> &'static str {
    let name = kind.as_str_name();
    name.strip_prefix("SUBJECT_IDENTIFIER_TYPE_")
        .unwrap_or(name)
}

fn document(bare: Zeroizing<String>) -> Option<Zeroizing<String>> {
    let upper = Zeroizing::new(bare.to_ascii_uppercase());
    let sound = (4..=24).contains(&upper.len())
        && upper
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && upper.bytes().any(|b| b.is_ascii_digit());
    sound.then_some(upper)
}

/// To E.164. A number without + is Pakistani, or has the international prefix 00.
fn phone(bare: &str) -> Option<Zeroizing<String>> {
    let international = bare
        .strip_prefix('+')
        .or_else(|| bare.strip_prefix("00"))
        .or_else(|| bare.starts_with("92").then_some(bare));
    let (country, rest) = match international {
        Some(international) => split_country(international),
        None => ("92", bare.strip_prefix('0')?),
    };
    let sound = if country == "92" && rest.starts_with('3') {
        is_digits(rest, 10..=10)
    } else if country == "92" {
        is_digits(rest, 9..=11) && !rest.starts_with('0')
    } else {
        // No country code begins with 0.
        is_digits(rest, 8..=15) && !rest.starts_with('0')
    };
    sound.then(|| Zeroizing::new(format!("+{country}{rest}")))
}

/// Pakistan's code and the national number, without the 0 that some write in brackets before it; of any
/// other country nothing and all of it.
fn split_country(international: &str) -> (&str, &str) {
    match international.strip_prefix("92") {
        Some(national) => ("92", national.strip_prefix('0').unwrap_or(national)),
        None => ("", international),
    }
}

fn name(text: &str) -> Option<Zeroizing<String>> {
    let name = spelling::name(text);
    let sound = name.len() <= MAX_NAME_LEN && name.chars().any(char::is_alphabetic);
    sound.then_some(name)
}

fn is_digits(text: &str, count: std::ops::RangeInclusive<usize>) -> bool {
    count.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

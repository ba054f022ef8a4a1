//! Identifiers: one canonical spelling, whoever writes them and on whichever keyboard.

#![cfg(test)]

use std::collections::BTreeMap;

use amanat_schema::{
    case_file, catalogue,
    identifier::{CANON_VERSION, Identifier, IdentifierError, second_document},
    subject::{IdentifierDomain, SubjectIdentifierType as Type},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value as Json, json};

const TYPES: [Type; 6] = [
    Type::Cnic,
    Type::BForm,
    Type::Passport,
    Type::AfghanPor,
    Type::AfghanAcc,
    Type::Phone,
];

fn canonical(kind: Type, text: &str) -> Option<String> {
    let identifier = Identifier::parse(kind, text).ok()?;
    assert_eq!(identifier.kind(), kind);
    Some(identifier.canonical().to_owned())
}

/// The vectors' way to write what cannot be seen.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\u{");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('}').unwrap();
        plain.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
        plain.push_str(rest);
    }
    plain
}

fn check_vector(line: &str) {
    let columns: Vec<_> = line
        .split('|')
        .map(|column| unescaped(column.trim()))
        .collect();
    let kind = Type::from_str_name(&format!("SUBJECT_IDENTIFIER_TYPE_{}", columns[0])).unwrap();
    let read = match &columns[1..] {
        [text, _] => Identifier::parse(kind, text),
        [name, father, year, _] => Identifier::composite(name, father, year.parse().unwrap()),
        _ => panic!("not a vector: {line}"),
    };
    let read = read.ok().map(|read| read.canonical().to_owned());
    let expected = columns.last().filter(|canonical| !canonical.is_empty());
    assert_eq!(read.as_ref(), expected, "{line}");
}

#[test]
fn every_vector_has_its_canonical_spelling_or_is_refused() {
    let vectors = include_str!("golden/identifiers.txt");
    assert!(vectors.starts_with(&format!("# Version {CANON_VERSION} ")));
    let lines: Vec<_> = vectors
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert!(lines.len() > 70);
    lines.into_iter().for_each(check_vector);
}

#[test]
fn an_empty_identifier_is_refused_whatever_its_type() {
    for kind in TYPES {
        for nothing in ["", " ", "\u{200f}", " - \u{feff}"] {
            assert_eq!(canonical(kind, nothing), None, "{kind:?}");
        }
    }
    assert!(Identifier::composite("", "", 2000).is_err());
    assert!(Identifier::parse(Type::Unspecified, "0000012345678").is_err());
    assert!(Identifier::parse(Type::Composite, "5:amina5:aslam2000").is_err());
}

#[test]
fn a_refusal_names_the_type_and_the_form_and_not_the_value() {
    let refused = Identifier::parse(Type::Cnic, "00000-9876543").unwrap_err();
    assert_eq!(refused.to_string(), "CNIC: expected 13 digits");
    let refused = Identifier::composite("Amina", "", 2000).unwrap_err();
    assert_eq!(
        refused,
        IdentifierError {
            kind: Type::Composite,
            expected: "a father's or husband's name with a letter, at most 512 bytes",
        }
    );
}

#[test]
fn an_identifier_shows_nothing_of_itself() {
    let identifier = Identifier::parse(Type::Cnic, "0000012345678").unwrap();
    assert_eq!(format!("{identifier:?}"), "Identifier(..)");
}

#[test]
fn a_composite_cannot_be_cut_elsewhere() {
    let of = |name, father| Identifier::composite(name, father, 2000).unwrap();
    assert_ne!(
        of("Amina Bibi", "Aslam").canonical(),
        of("Amina", "Bibi Aslam").canonical()
    );
}

#[test]
fn a_name_has_at_most_512_bytes() {
    assert!(Identifier::composite(&"a".repeat(512), "b", 2000).is_ok());
    assert!(Identifier::composite(&"a".repeat(513), "b", 2000).is_err());
    assert!(Identifier::composite("a", &"b".repeat(513), 2000).is_err());
}

fn of_case_file(file: &Json) -> Vec<(Type, IdentifierDomain, String)> {
    let identifiers = case_file::parse(file).unwrap().identifiers();
    let shown = |of: Identifier| (of.kind(), of.domain(), of.canonical().to_owned());
    identifiers.into_iter().map(shown).collect()
}

#[test]
fn a_case_file_gives_the_survivors_identifiers_the_strongest_first() {
    let file = json!({
        "subject": {
            "given_name": "Amina", "family_name": "Bibi", "father_or_husband_name": "محمد اسلم",
            "birth_date": "2000-02-29", "mobile_phone": "0300 0000001", "cnic": "00000-1234567-8",
            "identity_document": {"type": "PASSPORT", "number": "ab-0000001"},
        },
        "suspects": [{"identifiers": [{"type": "PHONE", "value": "0300 0000900"}]}],
    });
    let victim = IdentifierDomain::Victim;
    assert_eq!(
        of_case_file(&file),
        [
            (Type::Cnic, victim, "0000012345678".to_owned()),
            (Type::Passport, victim, "AB0000001".to_owned()),
            (Type::Phone, victim, "+923000000001".to_owned()),
            (
                Type::Composite,
                IdentifierDomain::Composite,
                "10:amina bibi17:محمد اسلم2000".to_owned()
            ),
        ]
    );
}

#[test]
fn a_number_given_twice_is_one_identifier_and_another_cnic_is_refused() {
    let file = |kind, number| {
        json!({"subject": {
            "cnic": "00000-1234567-8",
            "identity_document": {"type": kind, "number": number},
        }})
    };
    // A B-form's number becomes the card's.
    for kind in ["CNIC", "B_FORM"] {
        assert_eq!(of_case_file(&file(kind, "00000 1234567 8")).len(), 1);
        let violations = case_file::parse(&file(kind, "0000012345679")).unwrap_err();
        let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
        let expected = "subject.identity_document.number: expected the number in subject.cnic";
        assert_eq!(told, [expected]);
    }
    // A lapsed passport has another form, and numbers of documents that are not hers alone say nothing.
    assert_eq!(of_case_file(&file("PASSPORT", "0000012345679")).len(), 2);
    assert_eq!(of_case_file(&file("NONE", "0000012345679")).len(), 1);
}

#[test]
fn one_person_has_one_number_of_each_type_of_document() {
    let list = |of: &[(Type, &str)]| {
        let list: Vec<_> = of
            .iter()
            .map(|(kind, text)| Identifier::parse(*kind, text).unwrap())
            .collect();
        second_document(&list)
    };
    let (card, other) = ("0000012345678", "0000012345679");
    assert_eq!(list(&[(Type::Cnic, card), (Type::Cnic, other)]), Some(1));
    assert_eq!(list(&[(Type::BForm, card), (Type::Cnic, other)]), Some(1));
    let passports = [
        (Type::Passport, "AB0000001"),
        (Type::Phone, "03000000001"),
        (Type::Passport, "AB0000002"),
    ];
    assert_eq!(list(&passports), Some(2));
    let one = [
        (Type::Cnic, card),
        (Type::BForm, "00000-1234567-8"),
        (Type::Passport, card),
        (Type::AfghanPor, other),
        (Type::Phone, "03000000001"),
        (Type::Phone, "03000000002"),
    ];
    assert_eq!(list(&one), None);
}

#[test]
fn a_survivor_without_document_phone_and_full_name_has_no_identifier() {
    for subject in [
        json!({"gender": "FEMALE"}),
        json!({"given_name": "Zari", "birth_date": "2000-01-01"}),
        json!({"given_name": "Zari", "father_or_husband_name": "Gul", "age_band": "UNKNOWN"}),
        json!({"identity_document": {"type": "NONE", "number": "lost"}}),
        json!({"identity_document": {"number": "0000012345678"}}),
        json!({"given_name": "?", "father_or_husband_name": "Gul", "birth_date": "2000-01-01"}),
    ] {
        assert_eq!(of_case_file(&json!({ "subject": subject })), []);
    }
}

#[test]
fn a_case_file_keeps_numbers_canonical_however_they_are_written() {
    let file = |cnic: &str, number: &str, phone: &str, passport: &str| {
        json!({
            "subject": {
                "cnic": cnic,
                "identity_document": {"type": "B_FORM", "number": number},
                "mobile_phone": phone,
            },
            "suspects": [{"identifiers": [
                {"type": "CNIC", "value": cnic},
                {"type": "PHONE", "value": phone},
                {"type": "PASSPORT", "value": passport},
                {"type": "OTHER", "value": "shop - 14"},
            ]}],
        })
    };
    let kept = file(
        "0000012345678",
        "0000012345678",
        "+923000000001",
        "AB0000001",
    );
    let urdu = file(
        "۰۰۰۰۰-۱۲۳۴۵۶۷-۸",
        "۰۰۰۰۰ ۱۲۳۴۵۶۷ ۸",
        "۰۳۰۰ ۰۰۰۰۰۰۱",
        "ab ۰۰۰۰۰۰۱",
    );
    let dashed = file(
        "00000-1234567-8",
        "00000 1234567-8",
        "+92 (0)300-0000001",
        "AB-0000001",
    );
    for written in [&kept, &urdu, &dashed] {
        let parsed = case_file::parse(written).unwrap();
        assert_eq!(case_file::render(parsed.values()).unwrap(), kept);
    }
}

#[test]
fn a_case_file_is_refused_where_a_number_is_none_of_its_type() {
    let file = json!({
        "subject": {"identity_document": {"type": "CNIC", "number": "00000-12"}},
        "suspects": [{"identifiers": [
            {"type": "PHONE", "value": "unknown"},
            {"type": "PASSPORT", "value": "?"},
        ]}],
    });
    let violations = case_file::parse(&file).unwrap_err();
    let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "subject.identity_document.number: expected 13 digits",
            "suspects[0].identifiers[0].value: expected a phone number: 03 and 9 digits, or + and 8 to 15 \
             digits (after +923 there are 9)",
            "suspects[0].identifiers[1].value: expected 4 to 24 letters A to Z and digits, with a digit",
        ]
    );
}

/// A source that seals what no case file keeps would make another token of the same number.
#[test]
fn a_sealed_number_that_is_not_canonical_is_not_rendered() {
    let leaf = catalogue::by_path("subject.cnic").unwrap().id;
    let plaintext = |number: &str| {
        let length = u8::try_from(number.len()).unwrap();
        [&[0x0a, length + 2, 0x4a, length], number.as_bytes()].concat()
    };
    let rendered = |number| case_file::render(&BTreeMap::from([(leaf, plaintext(number))]));
    assert!(rendered("0000012345678").is_ok());
    let malformed = case_file::RenderError::Malformed {
        path: "subject.cnic",
    };
    for number in ["00000-1234567-8", "۰۰۰۰۰۱۲۳۴۵۶۷۸"] {
        assert_eq!(rendered(number), Err(malformed.clone()), "{number}");
    }
}

/// What a person or a program puts between the characters of a number, or around it.
fn noise() -> impl Strategy<Value = String> {
    const MARKS: &[&str] = &[
        "", "", "", " ", "  ", "-", "–", "—", "−", ".", "/", "(", ")", "_", "۔", "ـ", "\u{a0}",
        "\u{200e}", "\u{200f}", "\u{200c}", "\u{202b}", "\u{2066}", "\u{feff}", "\u{ad}", "\t",
    ];
    select(MARKS).prop_map(str::to_owned)
}

/// The same number in any mixture of digits, cases and marks.
fn written(number: String) -> impl Strategy<Value = String> {
    let characters: Vec<_> = number.chars().collect();
    let length = characters.len();
    (vec((noise(), 0..4_u32, any::<bool>()), length), noise()).prop_map(move |(how, end)| {
        let mut text = String::new();
        for (c, (before, system, lower)) in characters.iter().zip(how) {
            text.push_str(&before);
            let zero = ['0', '٠', '۰', '０'][system as usize];
            text.push(match c.to_digit(10) {
                Some(digit) => char::from_u32(u32::from(zero) + digit).unwrap(),
                None if lower => c.to_ascii_lowercase(),
                None => *c,
            });
        }
        text + &end
    })
}

fn spelled(number: impl Strategy<Value = String>) -> impl Strategy<Value = (String, String)> {
    number.prop_flat_map(|number| (Just(number.clone()), written(number)))
}

/// The name that a canonical composite begins with, and the rest.
fn first_part(canonical: &str) -> (&str, &str) {
    let (length, rest) = canonical.split_once(':').unwrap();
    rest.split_at(length.parse().unwrap())
}

#[test]
fn only_a_canonical_form_is_taken_back_as_one() {
    let taken = |kind, text| Identifier::from_canonical(kind, text).is_ok();
    assert!(taken(Type::Cnic, "0000012345678"));
    assert!(taken(Type::Composite, "4:noor5:karim1994"));
    for (kind, text) in [
        (Type::Cnic, "00000-1234567-8"),
        (Type::Phone, "03000000123"),
        (Type::Composite, "4:Noor5:karim1994"),
        (Type::Composite, "5:noor5:karim1994"),
        (Type::Composite, "4:noor99:karim1994"),
        (Type::Composite, "4:noor5:karim01994"),
        (Type::Composite, "04:noor5:karim1994"),
        (Type::Composite, "2:نور5:karim1994"),
        (Type::Composite, "0:5:karim1994"),
        (Type::Composite, ""),
        (Type::Unspecified, "0000012345678"),
    ] {
        assert!(!taken(kind, text), "{text}");
    }
}

proptest! {
    #[test]
    fn any_mixture_of_digits_and_separators_is_the_same_cnic((number, text) in spelled("[0-9]{13}")) {
        prop_assert_eq!(canonical(Type::Cnic, &text), Some(number.clone()));
        prop_assert_eq!(canonical(Type::BForm, &text), Some(number));
    }

    #[test]
    fn any_mixture_of_cases_digits_and_separators_is_the_same_document(
        (number, text) in spelled("[A-Z]{0,6}[0-9]{4,12}"),
    ) {
        for kind in [Type::Passport, Type::AfghanPor, Type::AfghanAcc] {
            prop_assert_eq!(canonical(kind, &text), Some(number.clone()));
        }
    }

    #[test]
    fn any_way_to_dial_a_mobile_is_the_same_phone(
        (dialled, text) in spelled(
            (select(&["03", "923", "00923", "+923", "+9203"][..]), "[0-9]{9}")
                .prop_map(|(prefix, rest)| format!("{prefix}{rest}")),
        ),
    ) {
        let subscriber = &dialled[dialled.len() - 9..];
        prop_assert_eq!(canonical(Type::Phone, &text), Some(format!("+923{subscriber}")));
    }

    #[test]
    fn any_spelling_of_a_foreign_phone_is_the_same_phone((number, text) in spelled("\\+1[0-9]{7,14}")) {
        prop_assert_eq!(canonical(Type::Phone, &text), Some(number));
    }

    #[test]
    fn a_canonical_identifier_is_its_own_spelling(text in "[+A-Za-z0-9۰-۹ -]{0,20}|\\PC{0,20}") {
        for kind in TYPES {
            if let Some(once) = canonical(kind, &text) {
                prop_assert_eq!(canonical(kind, &once), Some(once.clone()));
            }
        }
    }

    #[test]
    fn a_canonical_name_is_its_own_spelling(name in any::<String>(), father in "[ء-ۓ ]{1,12}ا") {
        if let Ok(once) = Identifier::composite(&name, &father, 2000) {
            let (name, rest) = first_part(once.canonical());
            let (father, year) = first_part(rest);
            prop_assert_eq!(year, "2000");
            let again = Identifier::composite(name, father, 2000).unwrap();
            prop_assert_eq!(again.canonical(), once.canonical());
            let kept = Identifier::from_canonical(Type::Composite, once.canonical()).unwrap();
            prop_assert_eq!(kept.canonical(), once.canonical());
        }
    }

    /// Text of the sort that is mixed up: Urdu and Arabic letters, their marks, joiners, accents, cases.
    #[test]
    fn a_canonical_name_of_any_script_here_is_its_own_spelling(
        name in "[\u{600}-\u{6ff}\u{fb50}-\u{fdff}\u{fe70}-\u{feff}\u{200b}-\u{200f}\u{300}-\u{36f}A-Zß-ſẞİ]{1,12}a",
    ) {
        let once = Identifier::composite(&name, "a", 2000).unwrap();
        let (name, _) = first_part(once.canonical());
        let again = Identifier::composite(name, "a", 2000).unwrap();
        prop_assert_eq!(again.canonical(), once.canonical());
    }
}

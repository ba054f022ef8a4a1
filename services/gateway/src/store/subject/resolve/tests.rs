#![allow(clippy::unwrap_used, reason = "a test may panic")]

use SubjectIdentifierType::{BForm, Cnic, Composite, Passport, Phone};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const KINDS: [SubjectIdentifierType; 5] = [Cnic, BForm, Passport, Phone, Composite];

fn subject(n: u8) -> SubjectId {
    SubjectId([n; 16])
}

fn clue(kind: SubjectIdentifierType, leads: &[u8]) -> Clue {
    Clue {
        kind,
        leads: leads.iter().map(|n| subject(*n)).collect(),
    }
}

fn nobody(_: SubjectId, _: SubjectIdentifierType) -> bool {
    false
}

fn decided(subject: Option<u8>, others: &[u8]) -> Resolution {
    Resolution {
        subject: subject.map(self::subject),
        others: others.iter().map(|n| self::subject(*n)).collect(),
    }
}

#[test]
fn the_strongest_known_identifier_decides_and_the_others_are_put_before_a_person() {
    let clues = [
        clue(Composite, &[3]),
        clue(Phone, &[2]),
        clue(Passport, &[1]),
        clue(Cnic, &[]),
    ];
    assert_eq!(resolve(&clues, nobody), decided(Some(1), &[2, 3]));
}

#[test]
fn a_document_of_a_type_that_the_subject_has_already_is_another_persons() {
    let carries = |of: SubjectId, kind| (of, kind) == (subject(1), Cnic);
    let second_cnic = [clue(Passport, &[1]), clue(Cnic, &[])];
    assert_eq!(resolve(&second_cnic, carries), decided(None, &[1]));
    let first_cnic = [clue(Passport, &[2]), clue(Cnic, &[])];
    assert_eq!(resolve(&first_cnic, carries), decided(Some(2), &[]));
}

#[test]
fn a_phone_alone_leads_no_new_document_to_anybody() {
    for document in [Cnic, BForm, Passport] {
        let shared = [
            clue(Phone, &[1]),
            clue(document, &[]),
            clue(Composite, &[2]),
        ];
        assert_eq!(resolve(&shared, nobody), decided(None, &[1, 2]));
    }
    let with_a_known_one = [clue(Phone, &[1]), clue(Passport, &[2]), clue(Cnic, &[])];
    assert_eq!(resolve(&with_a_known_one, nobody), decided(Some(2), &[1]));
    let second_phone = [clue(Phone, &[]), clue(Cnic, &[1])];
    assert_eq!(resolve(&second_phone, nobody), decided(Some(1), &[]));
    let two_phones = [clue(Phone, &[]), clue(Phone, &[1])];
    assert_eq!(resolve(&two_phones, nobody), decided(Some(1), &[]));
}

#[test]
fn a_name_and_a_year_link_nobody() {
    let known = [clue(Composite, &[1])];
    assert_eq!(resolve(&known, nobody), decided(None, &[1]));
    assert_eq!(resolve(&[], nobody), decided(None, &[]));
}

#[test]
fn a_search_is_answered_by_the_strongest_known_and_else_made_for_the_strongest() {
    let known = [clue(Phone, &[2]), clue(Cnic, &[]), clue(Passport, &[1])];
    assert_eq!(search(&known), Answer::Known(subject(1)));
    let unknown = [clue(Composite, &[3]), clue(Phone, &[]), clue(Passport, &[])];
    assert_eq!(search(&unknown), Answer::New { of: Some(2) });
    let name_alone = [clue(Composite, &[3])];
    assert_eq!(search(&name_alone), Answer::New { of: None });
    assert_eq!(search(&[]), Answer::New { of: None });
}

fn clues() -> impl Strategy<Value = Vec<(SubjectIdentifierType, Vec<u8>)>> {
    vec((select(&KINDS), vec(0..4_u8, 0..=2)), 0..6)
}

fn given(clues: &[(SubjectIdentifierType, Vec<u8>)]) -> Vec<Clue> {
    clues
        .iter()
        .map(|(kind, leads)| clue(*kind, leads))
        .collect()
}

proptest! {
    #[test]
    fn everyone_who_is_led_to_decides_or_is_put_before_a_person_once(
        clues in clues(), carried in vec((0..4_u8, select(&KINDS)), 0..4),
    ) {
        let carries = |of, kind| carried.contains(&(of_number(of), kind));
        let resolution = resolve(&given(&clues), carries);
        let mut found: Vec<_> = resolution.subject.into_iter().chain(resolution.others).collect();
        found.sort_unstable();
        let led: BTreeSet<_> = clues.iter().flat_map(|(_, leads)| leads).map(|n| subject(*n)).collect();
        prop_assert_eq!(found, Vec::from_iter(led));
    }

    #[test]
    fn who_decides_was_led_to_by_the_strongest_known_identifier_and_never_by_a_name(
        clues in clues(), carried in vec((0..4_u8, select(&KINDS)), 0..4),
    ) {
        let carries = |of, kind| carried.contains(&(of_number(of), kind));
        let known = clues.iter().filter(|(kind, leads)| *kind != Composite && !leads.is_empty());
        let strongest = known.map(|(kind, _)| *kind).min();
        match resolve(&given(&clues), carries).subject {
            Some(decided) => {
                let by = clues.iter().filter(|(_, leads)| leads.first().map(|n| subject(*n)) == Some(decided));
                prop_assert_eq!(by.map(|(kind, _)| *kind).min(), strongest);
            }
            // Otherwise a stronger one is new, and it is only a phone or carries another of that type.
            None => {
                let is_new = |strongest| clues.iter().any(|(kind, leads)| *kind < strongest && leads.is_empty());
                let parted = strongest.is_none_or(|strongest| {
                    is_new(strongest) && (strongest == Phone || !carried.is_empty())
                });
                prop_assert!(parted);
            }
        }
    }

    #[test]
    fn an_identifier_more_never_joins_who_was_not_led_to(clues in clues(), kind in select(&KINDS)) {
        let before = resolve(&given(&clues), nobody);
        let mut more = clues;
        more.push((kind, Vec::new()));
        let after = resolve(&given(&more), nobody);
        if after.subject.is_some() || before.subject.is_none() {
            prop_assert_eq!(after, before);
        } else {
            prop_assert!(kind < Phone, "a document parts from who has only the phone");
            prop_assert_eq!(after.others.first(), before.subject.as_ref());
        }
    }

    #[test]
    fn a_new_document_joins_nobody_without_a_known_one(clues in clues(), carried in any::<bool>()) {
        let new_document = clues.iter().any(|(kind, leads)| *kind < Phone && leads.is_empty());
        let known_document = clues.iter().any(|(kind, leads)| *kind < Phone && !leads.is_empty());
        let resolution = resolve(&given(&clues), |_, _| carried);
        if new_document && !known_document {
            prop_assert_eq!(resolution.subject, None);
        }
    }
}

fn of_number(of: SubjectId) -> u8 {
    of.0.first().copied().unwrap()
}

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
fn a_document_of_a_type_that_the_phones_subject_has_already_is_another_persons() {
    let carries = |of: SubjectId, kind| (of, kind) == (subject(1), Cnic);
    let shared = [clue(Phone, &[1]), clue(Cnic, &[])];
    assert_eq!(resolve(&shared, carries), decided(None, &[1]));
    let first_cnic = [clue(Phone, &[2]), clue(Cnic, &[])];
    assert_eq!(resolve(&first_cnic, carries), decided(Some(2), &[]));
    let second_phone = [clue(Phone, &[]), clue(Cnic, &[1])];
    assert_eq!(resolve(&second_phone, carries), decided(Some(1), &[]));
}

#[test]
fn a_name_and_a_year_link_nobody() {
    let known = [clue(Composite, &[1])];
    assert_eq!(resolve(&known, nobody), decided(None, &[1]));
    assert_eq!(resolve(&[], nobody), decided(None, &[]));
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
            // Otherwise it carries another of a stronger type that is new.
            None => {
                let is_new = |strongest| clues.iter().any(|(kind, leads)| *kind < strongest && leads.is_empty());
                let parted = strongest.is_none_or(|strongest| is_new(strongest) && !carried.is_empty());
                prop_assert!(parted);
            }
        }
    }

    #[test]
    fn an_identifier_more_never_joins_who_was_not_led_to(clues in clues(), kind in select(&KINDS)) {
        let before = resolve(&given(&clues), nobody);
        let mut more = clues;
        more.push((kind, Vec::new()));
        prop_assert_eq!(resolve(&given(&more), nobody), before);
    }
}

fn of_number(of: SubjectId) -> u8 {
    of.0.first().copied().unwrap()
}

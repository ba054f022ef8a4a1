use amanat_schema::{Violation, catalogue, record::RoutingValue, statement::RecordHeader};
use amanat_seal::{Binding, Header, SealError, sha256};

use crate::fixture::{BINDING, Sealed, flipped, full, leaf, number};

fn paths(violations: Vec<Violation>) -> Vec<String> {
    violations
        .into_iter()
        .map(|violation| violation.path)
        .collect()
}

#[test]
fn a_header_reads_as_what_its_source_sealed() {
    let sealed = Sealed::new(&BINDING, &full());
    let header = sealed.header();
    assert_eq!(*header.binding(), BINDING);
    assert_eq!(header.follows(), Some(&[0xf0; 32]));
    assert_eq!(header.key_commitment(), &sealed.key.commitment(&BINDING));
    for leaf in catalogue::FIELDS {
        assert_eq!(
            header.sealed_field(leaf.id).is_some(),
            leaf.is_sealed(),
            "{}",
            leaf.path
        );
        assert_eq!(
            header.routing_field(leaf.id).is_some(),
            !leaf.is_sealed(),
            "{}",
            leaf.path
        );
    }
}

#[test]
fn an_empty_header_is_wrong_in_every_part() {
    let wrong = paths(Header::parse(&RecordHeader::default()).unwrap_err());
    assert_eq!(
        wrong,
        [
            "head.statement_id",
            "head.case_id",
            "head.agency_id",
            "record_id",
            "version",
            "schema_version",
            "suite",
            "key_commitment",
            "minor_band",
            "guardian_conflict",
            "handling_code",
            "fields",
            "routing",
        ]
    );
}

#[test]
fn each_wrong_part_is_named_alone() {
    type Edit = fn(&mut RecordHeader);
    let edits: [(&str, Edit); 17] = [
        ("head.statement_id", |h| {
            h.head.as_mut().unwrap().statement_id.clear()
        }),
        ("head.case_id", |h| h.head.as_mut().unwrap().case_id.push(0)),
        ("head.agency_id", |h| {
            h.head.as_mut().unwrap().agency_id.truncate(15)
        }),
        ("head.follows", |h| h.head.as_mut().unwrap().follows.clear()),
        ("head.follows", |h| h.version = 1),
        ("record_id", |h| h.record_id.clear()),
        ("schema_version", |h| h.schema_version += 1),
        ("suite", |h| h.suite = 2),
        ("key_commitment", |h| h.key_commitment.push(0)),
        ("minor_band", |h| h.minor_band = 99),
        ("guardian_conflict", |h| h.guardian_conflict = 0),
        ("handling_code", |h| h.handling_code = -1),
        ("fields", |h| h.fields.push(h.fields[0].clone())),
        ("fields", |h| h.fields.swap(0, 1)),
        ("fields[7].key_commitment", |h| {
            h.fields[7].key_commitment.clear()
        }),
        ("fields[7].ciphertext_sha256", |h| {
            h.fields[7].ciphertext_sha256.push(0)
        }),
        ("routing[2].commitment", |h| h.routing[2].commitment.clear()),
    ];
    let sealed = Sealed::new(&BINDING, &full());
    for (path, edit) in edits {
        let mut wire = sealed.wire.clone();
        edit(&mut wire);
        assert_eq!(paths(Header::parse(&wire).unwrap_err()), [path]);
    }
}

#[test]
fn a_gap_in_the_leaves_is_one_violation_however_long_the_list() {
    let mut wire = Sealed::new(&BINDING, &full()).wire;
    wire.fields.remove(0);
    wire.routing = vec![wire.routing[0].clone(); 100_000];
    assert_eq!(
        paths(Header::parse(&wire).unwrap_err()),
        ["fields", "routing"]
    );
}

#[test]
fn the_first_version_follows_nothing() {
    let first = Binding {
        version: 1,
        ..BINDING
    };
    assert_eq!(Sealed::new(&first, &full()).header().follows(), None);
}

#[test]
fn an_edited_key_commitment_opens_nothing() {
    let (name, path) = (leaf("subject.given_name"), "subject.given_name");
    let mut sealed = Sealed::new(&BINDING, &full());
    sealed.wire.key_commitment = flipped(&sealed.wire.key_commitment, 0);
    let key = sealed.key.field_key(&BINDING, name);
    assert!(!sealed.header().fits(&sealed.key));
    let refused = sealed.header().open(name, &key, sealed.ciphertext(name));
    assert_eq!(refused.err(), Some(SealError::Open { path }));
}

#[test]
fn slots_are_exactly_those_of_the_header() {
    let sealed = Sealed::new(&BINDING, &full());
    let header = sealed.header();

    let mut slots = sealed.slots.clone();
    slots.slots[0].ciphertext = flipped(&slots.slots[0].ciphertext, 40).into();
    slots.slots[5].ciphertext.clear();
    let wrong = paths(header.check_slots(&slots).unwrap_err());
    assert_eq!(wrong, ["slots[0].ciphertext", "slots[5].ciphertext"]);

    let mut short = sealed.slots.clone();
    short.slots.pop();
    assert_eq!(paths(header.check_slots(&short).unwrap_err()), ["slots"]);

    let mut long = sealed.slots.clone();
    long.slots.push(long.slots[0].clone());
    assert_eq!(paths(header.check_slots(&long).unwrap_err()), ["slots"]);
}

#[test]
fn a_slot_is_as_long_as_a_padded_value_of_its_field_can_be() {
    let sealed = Sealed::new(&BINDING, &full());
    let first = &sealed.slots.slots[0].ciphertext;
    let taken = |length: usize| {
        let mut slots = sealed.slots.clone();
        let ciphertext = vec![7; length];
        let mut wire = sealed.wire.clone();
        wire.fields[0].ciphertext_sha256 = sha256(&ciphertext).to_vec();
        slots.slots[0].ciphertext = ciphertext.into();
        Header::parse(&wire).unwrap().check_slots(&slots)
    };
    let (added, largest) = (12 + 16, 128 * 1024);
    let smallest = first.len();
    assert!((smallest - added).is_power_of_two());
    for length in [smallest, smallest * 2 - added, added + largest] {
        assert_eq!(taken(length), Ok(()), "{length}");
    }
    for length in [
        0,
        added,
        added + 16,
        smallest - 1,
        smallest + 1,
        smallest + added,
        added + 2 * largest,
    ] {
        assert_eq!(
            paths(taken(length).unwrap_err()),
            ["slots[0].ciphertext"],
            "{length}"
        );
    }
}

#[test]
fn routing_values_open_their_commitments_and_no_others() {
    let sealed = Sealed::new(&BINDING, &full());
    let header = sealed.header();
    assert_eq!(header.check_routing(&sealed.routing), Ok(()));
    for value in &sealed.routing {
        let (field, opened) = header.open_routing(value).unwrap();
        assert_eq!(opened, number(field));
    }

    let others = [
        Sealed::new(
            &Binding {
                version: 4,
                ..BINDING
            },
            &full(),
        ),
        Sealed::new(&BINDING, &full()),
    ];
    for other in others {
        let wrong = paths(header.check_routing(&other.routing).unwrap_err());
        assert_eq!(wrong.len(), sealed.routing.len());
    }

    let mut missing = sealed.routing.clone();
    missing.pop();
    assert_eq!(
        paths(header.check_routing(&missing).unwrap_err()),
        ["routing"]
    );
}

#[test]
fn a_routing_value_changed_in_any_part_is_refused() {
    let sealed = Sealed::new(&BINDING, &full());
    let header = sealed.header();
    let good = &sealed.routing[0];
    let edited = |edit: fn(&mut RoutingValue)| {
        let mut value = good.clone();
        edit(&mut value);
        value
    };
    for bad in [
        edited(|v| v.field = 101),
        edited(|v| v.field = 9999),
        edited(|v| v.field = 703),
        edited(|v| v.opening = None),
        edited(|v| v.opening.as_mut().unwrap().salt[0] ^= 1),
        edited(|v| v.opening.as_mut().unwrap().salt.push(0)),
        edited(|v| v.opening.as_mut().unwrap().value.push(0)),
        edited(|v| v.opening.as_mut().unwrap().value = vec![0; 70_000]),
    ] {
        let refused = SealError::Routing { field: bad.field };
        assert_eq!(header.open_routing(&bad), Err(refused));
    }
}

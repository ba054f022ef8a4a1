use amanat_schema::{
    AgencyId, CaseId, RecordId,
    catalogue::{self, SCHEMA_VERSION, SizeClass},
};
use amanat_seal::{
    Binding, FieldKey, MAX_VALUE_LEN, RecordKey, SealError, commit_routing, seal_record,
};
use prost::Message as _;

use crate::fixture::{BINDING, Sealed, Values, flipped, full, leaf};

/// Of the slots of one record whose values all fit their first buckets, encoded; in bytes.
const FIRST_BUCKETS_LEN: usize = 14_925;

fn first_bucket(size: SizeClass) -> usize {
    match size {
        SizeClass::Code => 32,
        SizeClass::Text => 64,
        SizeClass::Address => 256,
        SizeClass::Column => 512,
        SizeClass::Narrative => 2048,
        SizeClass::Unspecified => panic!("a leaf without a size"),
    }
}

#[test]
fn every_sealed_field_comes_back_absent_full_and_overlong() {
    let lengths: [fn(SizeClass) -> usize; 4] = [
        |_| 0,
        |size| first_bucket(size) - 4,
        |size| first_bucket(size) - 3,
        |_| MAX_VALUE_LEN,
    ];
    for length in lengths {
        let values: Values = catalogue::FIELDS
            .iter()
            .map(|leaf| {
                (
                    leaf.id,
                    vec![
                        0x7f;
                        if leaf.is_sealed() {
                            length(leaf.size)
                        } else {
                            0
                        }
                    ],
                )
            })
            .collect();
        let sealed = Sealed::new(&BINDING, &values);
        let header = sealed.header();
        for leaf in catalogue::sealed() {
            let key = sealed.key.field_key(&BINDING, leaf.id);
            let opened = header
                .open(leaf.id, &key, sealed.ciphertext(leaf.id))
                .unwrap();
            assert!(*opened == values[&leaf.id], "{}", leaf.path);
        }
        assert_eq!(header.check_slots(&sealed.slots), Ok(()));
    }
}

#[test]
fn a_sealed_record_has_one_size_whatever_is_in_it() {
    let brimful: Values = catalogue::sealed()
        .map(|leaf| (leaf.id, vec![0x7f; first_bucket(leaf.size) - 4]))
        .collect();
    for values in [Values::new(), full(), brimful] {
        let slots = Sealed::new(&BINDING, &values).slots;
        assert_eq!(
            slots.encoded_len(),
            FIRST_BUCKETS_LEN,
            "schema version {SCHEMA_VERSION}"
        );
    }
    const { assert!(FIRST_BUCKETS_LEN < 16 * 1024) };
}

#[test]
fn a_value_over_the_limit_is_refused_by_name() {
    let path = "trafficking.narrative";
    let values = Values::from([(leaf(path), vec![0; MAX_VALUE_LEN + 1])]);
    assert_eq!(
        seal_record(&BINDING, &values).err(),
        Some(SealError::TooLong { path })
    );

    let path = "case.urgency";
    let values = Values::from([(leaf(path), vec![0; 65_536])]);
    assert_eq!(
        commit_routing(&BINDING, &values).err(),
        Some(SealError::TooLong { path })
    );
}

#[test]
fn each_sealing_draws_its_own_keys() {
    let [one, two] = [(); 2].map(|()| Sealed::new(&BINDING, &full()));
    assert_ne!(one.wire.key_commitment, two.wire.key_commitment);
    for (one, two) in one.wire.fields.iter().zip(&two.wire.fields) {
        assert_ne!(one.key_commitment, two.key_commitment);
    }
    assert!(one.header().fits(&one.key));
    assert!(!one.header().fits(&two.key));
}

#[test]
fn a_key_fits_one_record_version_only() {
    let key = RecordKey::generate().unwrap();
    let commitment = key.commitment(&BINDING);
    assert!(key.fits(&BINDING, &commitment));
    for other in [
        Binding {
            version: 4,
            ..BINDING
        },
        Binding {
            record: RecordId::new([1; 16]),
            ..BINDING
        },
    ] {
        assert!(!key.fits(&other, &commitment));
    }
}

/// The strongest mover: holds the record key, and signs a header that names the moved bytes.
#[test]
fn a_ciphertext_opens_nowhere_but_where_it_was_sealed() {
    let name = leaf("subject.given_name");
    let sealed = Sealed::new(&BINDING, &full());
    let key = sealed.key.field_key(&BINDING, name);
    let moved_to = [
        Binding {
            case: CaseId::new([1; 16]),
            ..BINDING
        },
        Binding {
            record: RecordId::new([1; 16]),
            ..BINDING
        },
        Binding {
            version: 4,
            ..BINDING
        },
        Binding {
            source: AgencyId::new([1; 16]),
            ..BINDING
        },
    ];
    for binding in moved_to {
        let mut there = Sealed::new(&binding, &full());
        there.wire.fields = sealed.wire.fields.clone();
        there.wire.key_commitment = sealed.wire.key_commitment.clone();
        let refused = there.header().open(name, &key, sealed.ciphertext(name));
        assert_eq!(
            refused.err(),
            Some(SealError::Open {
                path: "subject.given_name"
            })
        );
    }
}

#[test]
fn a_ciphertext_moved_to_another_path_is_refused() {
    let (from, to) = (leaf("subject.given_name"), leaf("subject.family_name"));
    let mut sealed = Sealed::new(&BINDING, &full());
    let moved = sealed.wire.fields[0].clone();
    assert_eq!(moved.field, from.number());
    sealed.wire.fields[1] = amanat_schema::statement::SealedField {
        field: to.number(),
        ..moved
    };

    let key = sealed.key.field_key(&BINDING, from);
    let refused = sealed.header().open(to, &key, sealed.ciphertext(from));
    assert_eq!(
        refused.err(),
        Some(SealError::Open {
            path: "subject.family_name"
        })
    );
}

#[test]
fn a_key_of_another_version_or_field_is_refused_before_opening() {
    let name = leaf("subject.given_name");
    let sealed = Sealed::new(&BINDING, &full());
    let earlier = Binding {
        version: 2,
        ..BINDING
    };
    for key in [
        sealed.key.field_key(&earlier, name),
        sealed.key.field_key(&BINDING, leaf("subject.cnic")),
        FieldKey::from_bytes(&[7; 32]).unwrap(),
    ] {
        // Not even ciphertext is needed to refuse it.
        let refused = sealed.header().open(name, &key, &[]);
        assert_eq!(
            refused.err(),
            Some(SealError::FieldKey {
                path: "subject.given_name"
            })
        );
    }
}

#[test]
fn a_ciphertext_flipped_or_cut_anywhere_is_not_the_one_in_the_header() {
    let (name, path) = (leaf("subject.cnic"), "subject.cnic");
    let sealed = Sealed::new(&BINDING, &full());
    let (header, key) = (sealed.header(), sealed.key.field_key(&BINDING, name));
    let good = sealed.ciphertext(name);
    for at in 0..good.len() {
        for bad in [flipped(good, at), good[..at].to_vec()] {
            let refused = header.open(name, &key, &bad);
            assert_eq!(refused.err(), Some(SealError::Ciphertext { path }));
        }
    }
}

#[test]
fn a_cut_tag_does_not_open_even_if_the_header_names_it() {
    let (name, path) = (leaf("subject.given_name"), "subject.given_name");
    let mut sealed = Sealed::new(&BINDING, &full());
    let key = sealed.key.field_key(&BINDING, name);
    let good = sealed.ciphertext(name).to_vec();
    for length in [0, 11, 12, 27, good.len() - 4, good.len() - 1] {
        let cut = &good[..length];
        sealed.wire.fields[0].ciphertext_sha256 = amanat_seal::sha256(cut).to_vec();
        let refused = sealed.header().open(name, &key, cut);
        assert_eq!(
            refused.err(),
            Some(SealError::Open { path }),
            "{length} bytes"
        );
    }
}

#[test]
fn a_routing_leaf_is_not_sealed() {
    let sealed = Sealed::new(&BINDING, &full());
    let (urgency, path) = (leaf("case.urgency"), "case.urgency");
    let key = sealed.key.field_key(&BINDING, urgency);
    let refused = sealed.header().open(urgency, &key, &[]);
    assert_eq!(refused.err(), Some(SealError::NotSealed { path }));
}

#[test]
fn only_32_bytes_make_a_key() {
    for length in [0, 31, 33] {
        let bytes = vec![0; length];
        assert_eq!(
            RecordKey::from_bytes(&bytes).err(),
            Some(SealError::KeyLength)
        );
        assert_eq!(
            FieldKey::from_bytes(&bytes).err(),
            Some(SealError::KeyLength)
        );
    }
}

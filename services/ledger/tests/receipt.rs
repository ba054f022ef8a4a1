//! Receipts and bodies: what was logged verifies, and nothing near it does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use amanat_ledger::{
    Edge, Hash, LedgerError, LogEntry, LogSigner, LogVerifier, ReceiptError, body, commitment,
    receipt, sign,
};
use amanat_schema::{
    Time,
    audit::{Action, Basis, EntryBody, Linkage, Opening, Receipt, ReleasedField, WithheldField},
    policy::{AgencyKind, BasisKind, Decision, Purpose, ReferralState, WithheldReason},
};
use aws_lc_rs::signature::Ed25519KeyPair;
use proptest::prelude::*;
use prost::Message as _;

const ORIGIN: &str = "gateway.example/log";
const SALT: [u8; 32] = [1; 32];

/// A field, and how to spoil it.
type Spoil<M> = (&'static str, fn(&mut M));

fn signer(origin: &str) -> LogSigner {
    let key = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
    LogSigner::from_pkcs8(origin, key.as_ref()).unwrap()
}

fn linkage() -> Linkage {
    Linkage {
        case_id: vec![1; 16],
        record_id: vec![2; 16],
        version: 3,
        source_id: vec![6; 16],
        bases: vec![Basis {
            kind: BasisKind::Consent.into(),
            id: vec![4; 16],
            statement_sha256: vec![5; 32],
        }],
        ..Linkage::default()
    }
}

/// A body with every field set.
fn full_body() -> EntryBody {
    EntryBody {
        format: body::FORMAT,
        entry_id: vec![1; 16],
        origin: ORIGIN.to_owned(),
        boot_id: vec![2; 16],
        counter: 300,
        time: Some(Time::from_millis(1_772_357_400_007).unwrap().to_timestamp()),
        expire_time: Some(Time::from_millis(1_772_357_460_007).unwrap().to_timestamp()),
        action: Action::ReadRecord.into(),
        decision: Decision::Allow.into(),
        public_reason: "REASON".to_owned(),
        agency_id: vec![3; 16],
        agency_kind: AgencyKind::NgoShelter.into(),
        certificate_sha256: vec![4; 32],
        purpose: Purpose::Shelter.into(),
        released: vec![ReleasedField {
            path: "needs.shelter".to_owned(),
            basis_kind: BasisKind::Consent.into(),
            basis: Some(0),
        }],
        withheld: vec![WithheldField {
            path: "subject.given_name".to_owned(),
            reason: WithheldReason::ConsentNotInForce.into(),
        }],
        referral_state: ReferralState::Accepted.into(),
        directory_sha256: vec![6; 32],
        table_sha256: vec![7; 32],
        linkage_commitment: commitment::linkage(&SALT, &body::encode_linkage(&linkage()))
            .unwrap()
            .to_vec(),
        officer_commitment: vec![8; 32],
        reasons_commitment: vec![9; 32],
        counterpart_entry_sha256: vec![10; 32],
        counterpart_index: 11,
        observed_size: 12,
        count: 13,
    }
}

/// The receipt of these bytes as entry 4 of 7 in a log.
fn receipt_of(signer: &LogSigner, body: Vec<u8>, opening: Option<Opening>) -> Receipt {
    let mut edge = Edge::empty();
    let mut nodes: BTreeMap<u64, Hash> = BTreeMap::new();
    for index in 0..7_u8 {
        let other = [index];
        nodes.extend(edge.append(&LogEntry::new(
            &SALT,
            if index == 4 { &body } else { &other },
        )));
    }
    let proof = amanat_ledger::inclusion_proof(4, 7, |i| nodes.get(&i).copied()).unwrap();
    Receipt {
        index: 4,
        body,
        salt: SALT.to_vec(),
        linkage: opening,
        inclusion_proof: proof.iter().map(|hash| hash.0.to_vec()).collect(),
        checkpoint: sign(signer, edge.head()).unwrap().text,
    }
}

fn opening() -> Opening {
    Opening {
        salt: SALT.to_vec(),
        value: body::encode_linkage(&linkage()),
    }
}

fn good() -> (LogVerifier, Receipt) {
    let signer = signer(ORIGIN);
    let receipt = receipt_of(&signer, body::encode(&full_body()), Some(opening()));
    (signer.verifier().clone(), receipt)
}

/// Everything one byte away: a bit flipped, a byte left out, added, or the end cut off.
fn near(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![[bytes, &[0]].concat()];
    for at in 0..bytes.len() {
        let (before, after) = bytes.split_at(at);
        let (byte, after) = after.split_first().unwrap();
        all.push(before.to_vec());
        all.push([before, after].concat());
        all.push([before, &[*byte, *byte ^ 0x80], after].concat());
        all.extend((0..8).map(|bit| [before, &[byte ^ (1 << bit)], after].concat()));
    }
    all
}

#[test]
fn a_good_receipt_proves_what_was_logged() {
    let (log, receipt) = good();
    let proven = receipt::verify(&receipt, &log).unwrap();
    assert_eq!(proven.index, 4);
    assert_eq!(proven.entry, LogEntry::new(&SALT, &receipt.body));
    assert_eq!(proven.body, full_body());
    assert_eq!(proven.linkage, Some(linkage()));
    assert_eq!(proven.checkpoint.head.size, 7);

    let without = Receipt {
        linkage: None,
        ..receipt
    };
    assert_eq!(receipt::verify(&without, &log).unwrap().linkage, None);
}

#[test]
fn each_check_refuses_on_its_own() {
    let signer = signer(ORIGIN);
    let log = signer.verifier();
    let bytes = body::encode(&full_body());
    let good = receipt_of(&signer, bytes.clone(), Some(opening()));
    let refused = |receipt: Receipt| receipt::verify(&receipt, log).unwrap_err();
    let with_body = |change: fn(&mut EntryBody)| {
        let mut body = full_body();
        change(&mut body);
        receipt_of(&signer, body::encode(&body), None)
    };

    let other_log = receipt_of(&self::signer(ORIGIN), bytes, None);
    assert_eq!(
        refused(other_log),
        ReceiptError::Checkpoint(LedgerError::CheckpointSignature)
    );
    assert_eq!(
        refused(Receipt {
            salt: vec![1; 31],
            ..good.clone()
        }),
        ReceiptError::Salt
    );
    let long = Receipt {
        inclusion_proof: vec![vec![0; 32]; 65],
        ..good.clone()
    };
    assert_eq!(
        refused(long),
        ReceiptError::Proof(LedgerError::ProofMalformed)
    );
    for index in (0..9).chain([u64::MAX]).filter(|index| *index != 4) {
        assert_eq!(
            refused(Receipt {
                index,
                ..good.clone()
            }),
            ReceiptError::NotIncluded
        );
    }
    assert_eq!(
        refused(with_body(|body| body.format = 2)),
        ReceiptError::Body(LedgerError::Field { field: "format" })
    );
    assert_eq!(
        refused(with_body(
            |body| body.origin = "custodian.example/log".into()
        )),
        ReceiptError::Origin
    );
    let other = Opening {
        salt: vec![2; 32],
        ..opening()
    };
    assert_eq!(
        refused(Receipt {
            linkage: Some(other),
            ..good
        }),
        ReceiptError::LinkageOpening
    );
    let mut uncommitted = with_body(|body| body.linkage_commitment.clear());
    uncommitted.linkage = Some(opening());
    assert_eq!(refused(uncommitted), ReceiptError::LinkageOpening);
    let mut senseless = with_body(|body| {
        body.linkage_commitment = commitment::linkage(&SALT, b"\xff").unwrap().to_vec();
    });
    senseless.linkage = Some(Opening {
        salt: SALT.to_vec(),
        value: b"\xff".to_vec(),
    });
    assert_eq!(
        refused(senseless),
        ReceiptError::Linkage(LedgerError::NotCanonical)
    );
}

#[test]
fn no_byte_of_body_salt_proof_or_linkage_can_be_changed() {
    let (log, good) = good();
    let refused = |receipt: Receipt| {
        receipt::verify(&receipt, &log).unwrap_err();
    };
    for body in near(&good.body) {
        refused(Receipt {
            body,
            ..good.clone()
        });
    }
    for salt in near(&good.salt) {
        refused(Receipt {
            salt,
            ..good.clone()
        });
    }
    for (at, hash) in good.inclusion_proof.iter().enumerate() {
        for other in near(hash) {
            let mut receipt = good.clone();
            *receipt.inclusion_proof.get_mut(at).unwrap() = other;
            refused(receipt);
        }
    }
    for salt in near(&SALT) {
        refused(Receipt {
            linkage: Some(Opening { salt, ..opening() }),
            ..good.clone()
        });
    }
    for value in near(&opening().value) {
        refused(Receipt {
            linkage: Some(Opening { value, ..opening() }),
            ..good.clone()
        });
    }
}

#[test]
fn a_damaged_receipt_never_proves_another_thing() {
    let (log, good) = good();
    let original = receipt::verify(&good, &log).unwrap();
    for bytes in near(&good.encode_to_vec()) {
        let Ok(receipt) = Receipt::decode(bytes.as_slice()) else {
            continue;
        };
        if let Ok(mut proven) = receipt::verify(&receipt, &log) {
            // The wire form is no part of the proof: an unknown field is skipped, the linkage may be left out.
            proven.linkage = proven.linkage.or_else(|| original.linkage.clone());
            assert_eq!(proven, original);
        }
    }
}

#[test]
fn a_body_reads_back_and_only_from_its_own_bytes() {
    let bytes = body::encode(&full_body());
    assert_eq!(body::parse(&bytes), Ok(full_body()));
    for other in near(&bytes) {
        assert_ne!(body::parse(&other), Ok(full_body()));
    }
}

#[test]
fn a_second_encoding_of_a_body_is_refused() {
    let bytes = body::encode(&full_body());
    let (format, rest) = bytes.split_at(2);
    assert_eq!(format, [8, 1], "field 1, number 1");
    for other in [
        [rest, format].concat(),
        [format, &bytes].concat(),
        [&[8, 0x81, 0], rest].concat(),
        [&bytes, [0xa8, 0x3e, 1].as_slice()].concat(),
        [&bytes, [0x60, 0].as_slice()].concat(),
    ] {
        assert!(
            EntryBody::decode(other.as_slice()).is_ok(),
            "a tolerant reader takes it"
        );
        assert_eq!(body::parse(&other), Err(LedgerError::NotCanonical));
    }
}

#[test]
fn each_field_of_a_body_is_checked() {
    let cases: [Spoil<EntryBody>; 23] = [
        ("format", |b| b.format = 0),
        ("entry_id", |b| b.entry_id.clear()),
        ("origin", |b| b.origin.clear()),
        ("boot_id", |b| b.boot_id.push(0)),
        ("time", |b| b.time = None),
        ("time", |b| b.time.as_mut().unwrap().nanos = 1),
        ("expire_time", |b| {
            b.expire_time.as_mut().unwrap().seconds = -1
        }),
        ("action", |b| b.action = 0),
        ("action", |b| b.action = 10_000),
        ("decision", |b| b.decision = 10_000),
        ("agency_id", |b| b.agency_id.push(0)),
        ("agency_kind", |b| b.agency_kind = -1),
        ("certificate_sha256", |b| b.certificate_sha256.push(0)),
        ("purpose", |b| b.purpose = 10_000),
        ("released", |b| {
            b.released.iter_mut().for_each(|f| f.basis_kind = 10_000)
        }),
        ("withheld", |b| {
            b.withheld.iter_mut().for_each(|f| f.reason = 10_000)
        }),
        ("referral_state", |b| b.referral_state = 10_000),
        ("directory_sha256", |b| b.directory_sha256.push(0)),
        ("table_sha256", |b| b.table_sha256.push(0)),
        ("linkage_commitment", |b| b.linkage_commitment.push(0)),
        ("officer_commitment", |b| b.officer_commitment.push(0)),
        ("reasons_commitment", |b| b.reasons_commitment.push(0)),
        ("counterpart_entry_sha256", |b| {
            b.counterpart_entry_sha256.push(0)
        }),
    ];
    for (field, change) in cases {
        let mut body = full_body();
        change(&mut body);
        assert_eq!(
            body::parse(&body::encode(&body)),
            Err(LedgerError::Field { field })
        );
    }
}

#[test]
fn each_field_of_a_linkage_is_checked() {
    let cases: [Spoil<Linkage>; 10] = [
        ("case_id", |l| l.case_id.push(0)),
        ("record_id", |l| l.record_id.push(0)),
        ("referral_id", |l| l.referral_id.push(0)),
        ("consent_id", |l| l.consent_id.push(0)),
        ("statement_sha256", |l| l.statement_sha256.push(0)),
        ("source_id", |l| l.source_id.push(0)),
        ("request_sha256", |l| l.request_sha256.push(0)),
        ("bases", |l| {
            l.bases.iter_mut().for_each(|b| b.kind = 10_000)
        }),
        ("bases", |l| l.bases.iter_mut().for_each(|b| b.id.push(0))),
        ("bases", |l| {
            l.bases.iter_mut().for_each(|b| b.statement_sha256.push(0))
        }),
    ];
    assert_eq!(
        body::parse_linkage(&body::encode_linkage(&linkage())),
        Ok(linkage())
    );
    for (field, change) in cases {
        let mut linkage = linkage();
        change(&mut linkage);
        let refused = body::parse_linkage(&body::encode_linkage(&linkage));
        assert_eq!(refused, Err(LedgerError::Field { field }));
    }
}

#[test]
fn an_entry_of_nobody_known_is_a_good_body() {
    let counted = EntryBody {
        format: body::FORMAT,
        entry_id: vec![1; 16],
        origin: ORIGIN.to_owned(),
        boot_id: vec![2; 16],
        time: Some(Time::from_millis(0).unwrap().to_timestamp()),
        action: Action::AuthenticationFailures.into(),
        count: 17,
        ..EntryBody::default()
    };
    assert_eq!(body::parse(&body::encode(&counted)), Ok(counted));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic_or_read_what_would_not_be_written(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok(body) = body::parse(&bytes) {
            prop_assert_eq!(body::encode(&body), bytes.clone());
        }
        if let Ok(linkage) = body::parse_linkage(&bytes) {
            prop_assert_eq!(body::encode_linkage(&linkage), bytes.clone());
        }
        if let Ok(entry) = LogEntry::parse(&bytes) {
            prop_assert_eq!(entry.as_bytes().as_slice(), bytes);
        }
    }
}

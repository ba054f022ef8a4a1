//! A directory counts if two registrars signed it, it is the newest and it is in force.

use std::{fs, time::Duration};

use amanat_identity::{Directory, DirectoryError, Registrars};
use amanat_schema::{Time, directory, record::Need};
use prost::Message as _;
use tempfile::TempDir;

use crate::support::{Exchange, new_key, now};

#[test]
fn a_directory_signed_by_both_registrars_is_read() {
    let exchange = Exchange::new();
    let directory = exchange.directory();
    assert_eq!(directory.version(), 7);
    assert_eq!(directory.agencies().count(), 3);
    let shelter = directory.agency(exchange.shelter.id).unwrap();
    assert_eq!(shelter.kind, exchange.shelter.kind);
    assert_eq!(directory.agency_uri(shelter.id), exchange.shelter.uri());
    let payload = exchange.publish(&exchange.wire()).payload;
    assert_eq!(*directory.sha256(), amanat_seal::sha256(&payload));
}

#[test]
fn fewer_than_two_registrars_are_never_enough() {
    let exchange = Exchange::new();
    let (wire, pinned) = (exchange.wire(), exchange.pinned());
    let [first, second] = &exchange.registrars;
    let one = first.sign(&wire);
    let mut twice = first.sign(&wire);
    first.cosign(&mut twice);
    let mut stranger = first.sign(&wire);
    new_key().cosign(&mut stranger);
    let mut unsigned = exchange.publish(&wire);
    unsigned.signatures.clear();
    for envelope in [&one, &twice, &stranger, &unsigned] {
        let refused = Directory::verify(envelope, &pinned);
        assert!(matches!(
            refused,
            Err(DirectoryError::Signatures { threshold: 2 })
        ));
    }
    for threshold in [0, 1] {
        let lax = Registrars {
            threshold,
            ..pinned.clone()
        };
        assert!(matches!(
            Directory::verify(&one, &lax),
            Err(DirectoryError::Signatures { threshold: 2 })
        ));
    }
    let three = Registrars {
        keys: vec![first.public_key(), second.public_key()],
        threshold: 3,
    };
    assert!(Directory::verify(&exchange.publish(&wire), &three).is_err());
}

#[test]
fn not_one_byte_may_change_after_signing() {
    let exchange = Exchange::new();
    let envelope = exchange.publish(&exchange.wire());
    for at in (0..envelope.payload.len()).step_by(97) {
        let mut tampered = envelope.clone();
        tampered.payload[at] ^= 1;
        let refused = Directory::verify(&tampered, &exchange.pinned());
        assert!(
            matches!(refused, Err(DirectoryError::Signatures { .. })),
            "byte {at}"
        );
    }
}

#[test]
fn a_well_signed_directory_with_a_bad_field_is_refused_by_that_field() {
    type Spoil = fn(&mut directory::Directory);
    let day = |days: i64| {
        Time::from_millis(now().millis() + days * 24 * 3_600_000)
            .unwrap()
            .to_timestamp()
    };
    let spoils: [(&str, Spoil); 22] = [
        ("valid_until_time", |d| d.valid_until_time = None),
        ("valid_until_time", |d| {
            d.valid_until_time = d.not_before_time
        }),
        ("not_before_time", |d| d.not_before_time = None),
        ("exchange_id", |d| d.exchange_id.clear()),
        ("version", |d| d.version = 0),
        ("stands twice", |d| d.agencies.push(d.agencies[0].clone())),
        ("agency_id", |d| d.agencies[0].agency_id.truncate(15)),
        ("kind", |d| d.agencies[0].kind = 0),
        ("kind", |d| d.agencies[0].kind = 99),
        ("services", |d| {
            d.agencies[0].services = vec![Need::Unspecified.into()]
        }),
        ("issuing_cas", |d| d.agencies[0].issuing_cas[0].truncate(40)),
        ("statement_keys", |d| d.agencies[0].statement_keys.clear()),
        ("statement_keys", |d| {
            d.agencies[0].statement_keys[0].truncate(31)
        }),
        ("token_issuers", |d| {
            d.agencies[0].token_issuers[0].public_key.clear()
        }),
        ("gateway", |d| d.gateway = None),
        ("custodian", |d| {
            d.custodian.as_mut().unwrap().log_origin.push('x')
        }),
        ("table_sha256", |d| d.table_sha256.clear()),
        ("issuing_cas", |d| d.agencies[0].issuing_cas.clear()),
        ("issuing_cas", |d| {
            let three = [0, 1, 2].map(|at| d.agencies[at].issuing_cas[0].clone());
            d.agencies[0].issuing_cas = three.to_vec();
        }),
        ("retired_statement_keys", |d| {
            let short = vec![7; 31];
            d.agencies[0].retired_statement_keys = vec![retired(short)];
        }),
        ("retired_statement_keys", |d| {
            let timeless = directory::RetiredKey {
                retired_time: None,
                ..retired(vec![7; 32])
            };
            d.agencies[0].retired_statement_keys = vec![timeless];
        }),
        ("gateway", |d| {
            d.gateway.as_mut().unwrap().statement_keys.clear()
        }),
    ];
    let exchange = Exchange::new();
    let refused = |wire: &directory::Directory| {
        Directory::verify(&exchange.publish(wire), &exchange.pinned())
            .unwrap_err()
            .to_string()
    };
    for (name, spoil) in spoils {
        let mut wire = exchange.wire();
        spoil(&mut wire);
        let why = refused(&wire);
        assert!(why.contains(name), "{name}: {why}");
    }
    let mut wire = exchange.wire();
    wire.not_before_time = Some(day(0));
    wire.valid_until_time = Some(day(30));
    assert!(Directory::verify(&exchange.publish(&wire), &exchange.pinned()).is_ok());
    wire.valid_until_time.as_mut().unwrap().seconds += 1;
    assert!(refused(&wire).contains("valid_until_time"), "over 30 days");
}

fn retired(public_key: Vec<u8>) -> directory::RetiredKey {
    directory::RetiredKey {
        public_key,
        retired_time: Some(now().to_timestamp()),
        compromised_since_time: None,
    }
}

#[test]
fn no_authority_or_statement_key_stands_for_two_parties() {
    type Spoil = fn(&mut directory::Directory);
    let spoils: [(&str, Spoil); 7] = [
        ("issuing_cas of agency", |d| {
            d.agencies[1].issuing_cas = d.agencies[0].issuing_cas.clone()
        }),
        ("issuing_cas of agency", |d| {
            let authority = d.agencies[0].issuing_cas[0].clone();
            d.agencies[0].issuing_cas.push(authority);
        }),
        ("statement_keys of agency", |d| {
            let key = d.agencies[0].statement_keys[0].clone();
            d.agencies[1].statement_keys.push(key);
        }),
        ("statement_keys of agency", |d| {
            let key = d.agencies[0].statement_keys[0].clone();
            d.agencies[0].retired_statement_keys = vec![retired(key)];
        }),
        ("statement_keys of agency", |d| {
            let key = d.agencies[0].statement_keys[0].clone();
            d.agencies[1].retired_statement_keys = vec![retired(key)];
        }),
        ("issuing_cas of the custodian", |d| {
            d.custodian.as_mut().unwrap().issuing_cas =
                d.gateway.as_ref().unwrap().issuing_cas.clone();
        }),
        ("statement_keys of the gateway", |d| {
            d.gateway.as_mut().unwrap().statement_keys = d.agencies[0].statement_keys.clone();
        }),
    ];
    let exchange = Exchange::new();
    for (name, spoil) in spoils {
        let mut wire = exchange.wire();
        spoil(&mut wire);
        let refused = Directory::verify(&exchange.publish(&wire), &exchange.pinned());
        let why = refused.unwrap_err().to_string();
        assert!(why.contains(name) && why.contains("another party"), "{why}");
    }
}

/// A folder with directory files.
struct Folder {
    exchange: Exchange,
    folder: TempDir,
}

impl Folder {
    fn new() -> Self {
        Self {
            exchange: Exchange::new(),
            folder: TempDir::new().unwrap(),
        }
    }

    fn load(&self, version: u64, now: Time) -> Result<u64, DirectoryError> {
        let mut wire = self.exchange.wire();
        wire.version = version;
        let file = self.folder.path().join("directory");
        fs::write(&file, self.exchange.publish(&wire).encode_to_vec()).unwrap();
        let seen = self.folder.path().join("seen");
        Directory::load(&file, &seen, &self.exchange.pinned(), now)
            .map(|directory| directory.version())
    }

    fn seen(&self) -> Option<String> {
        fs::read_to_string(self.folder.path().join("seen")).ok()
    }

    fn seen_version(&self) -> String {
        let seen = self.seen().unwrap();
        seen.split_once(' ').unwrap().0.to_owned()
    }
}

#[test]
fn a_directory_is_never_rolled_back() {
    let folder = Folder::new();
    assert_eq!(folder.load(7, now()).unwrap(), 7);
    assert_eq!(folder.load(7, now()).unwrap(), 7);
    assert_eq!(folder.load(9, now()).unwrap(), 9);
    assert_eq!(folder.seen_version(), "9");
    assert!(matches!(
        folder.load(8, now()),
        Err(DirectoryError::RolledBack { found: 8, seen: 9 })
    ));
}

#[test]
fn the_same_version_saying_something_else_is_refused_after_a_restart_too() {
    let folder = Folder::new();
    folder.load(7, now()).unwrap();
    let sha256 = *folder.exchange.directory().sha256();
    let line = format!("7 {}\n", hex::encode(sha256));
    assert_eq!(folder.seen().unwrap(), line);

    let path = |name: &str| folder.folder.path().join(name);
    let mut other = folder.exchange.wire();
    other.agencies.pop();
    let other = folder.exchange.publish(&other).encode_to_vec();
    fs::write(path("directory"), other).unwrap();
    let pinned = folder.exchange.pinned();
    let load = || Directory::load(&path("directory"), &path("seen"), &pinned, now());
    let refused = load().unwrap_err();
    assert!(matches!(
        refused,
        DirectoryError::SameVersion { version: 7 }
    ));
    let told = refused.to_string();
    assert!(
        told.contains("ask your registrars which of the two"),
        "{told}"
    );
    assert_eq!(folder.seen().unwrap(), line);

    // A version that a person wrote says nothing about its bytes; they are remembered from then on.
    fs::write(path("seen"), "7\n").unwrap();
    load().unwrap();
    assert!(folder.load(7, now()).is_err(), "the first one, now");
}

#[test]
fn a_directory_counts_from_its_first_moment_to_its_last() {
    let folder = Folder::new();
    let begins = now() - Duration::from_secs(3600);
    let ends = now() + Duration::from_secs(7 * 24 * 3600);
    let moment = Duration::from_millis(1);
    for (at, counts) in [
        (begins - moment, false),
        (ends, false),
        (begins, true),
        (ends - moment, true),
    ] {
        assert_eq!(folder.load(7, at).is_ok(), counts, "{at}");
        assert_eq!(
            folder.seen().is_some(),
            counts,
            "one not in force is not remembered"
        );
    }
}

#[test]
fn files_that_hold_something_else_are_refused() {
    let folder = Folder::new();
    folder.load(7, now()).unwrap();
    let path = |name: &str| folder.folder.path().join(name);
    let load = || {
        Directory::load(
            &path("directory"),
            &path("seen"),
            &folder.exchange.pinned(),
            now(),
        )
        .unwrap_err()
    };
    for lost in ["", "seven", "7 7a", "7 7a 7a"] {
        fs::write(path("seen"), lost).unwrap();
        assert!(
            matches!(load(), DirectoryError::Seen { .. }),
            "a lost memory is not an empty one"
        );
    }
    fs::write(path("directory"), [0xff; 8]).unwrap();
    assert!(matches!(load(), DirectoryError::Malformed { .. }));
    fs::remove_file(path("directory")).unwrap();
    assert!(matches!(load(), DirectoryError::File { .. }));
}

#[test]
fn a_directory_that_is_checked_only_is_not_remembered() {
    let folder = Folder::new();
    folder.load(7, now()).unwrap();
    let path = |name: &str| folder.folder.path().join(name);
    let mut wire = folder.exchange.wire();
    wire.version = 9;
    fs::write(
        path("directory"),
        folder.exchange.publish(&wire).encode_to_vec(),
    )
    .unwrap();
    let pinned = folder.exchange.pinned();
    let checked = Directory::check(&path("directory"), &path("seen"), &pinned, now()).unwrap();
    assert_eq!(folder.seen_version(), "7");
    checked.remember(&path("seen")).unwrap();
    assert_eq!(folder.seen_version(), "9");
    assert_eq!(folder.load(9, now()).unwrap(), 9);
    assert!(folder.load(8, now()).is_err());
}

#[test]
fn a_directory_that_does_not_count_says_what_to_do() {
    let folder = Folder::new();
    folder.load(9, now()).unwrap();
    let day = Duration::from_secs(24 * 3600);
    for (version, at, told) in [
        (
            8,
            now(),
            "the directory is version 8, but version 9 was in use here before; fetch the newest one from \
             your registrars, and find out who put the old one back",
        ),
        (
            9,
            now() + day * 8,
            "the directory ended at 2026-03-08T09:30:00.000Z, so nothing is served or disclosed by it; fetch \
             the newest one from your registrars, and check the clock",
        ),
        (
            9,
            now() - day,
            "the directory is not in force before 2026-03-01T08:30:00.000Z; keep the one in use until then, \
             and check the clock",
        ),
    ] {
        assert_eq!(folder.load(version, at).unwrap_err().to_string(), told);
    }
}

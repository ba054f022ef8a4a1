//! One registrar alone can close, at once and for a week, and nothing else.

use std::{fs, time::Duration};

use amanat_identity::{
    Directory, Signed, SignedError, SuspensionFault, Suspensions, TokenError, TokenVerifier,
    token::Audience,
};
use amanat_schema::{
    AgencyId, Time,
    directory::{self, Suspension},
    policy::Right,
    statement::{Consent, Withdrawal},
};
use amanat_seal::statement::{SigningKey, key_id};
use prost::Message as _;
use tempfile::TempDir;

use crate::support::{EXCHANGE, Exchange, new_key, now, officer};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An exchange, and a folder of suspensions.
struct Registry {
    exchange: Exchange,
    folder: TempDir,
    /// Of the directory that they are read for.
    wire: directory::Directory,
    made: u8,
}

impl Registry {
    fn new() -> Self {
        let exchange = Exchange::new();
        Self {
            wire: exchange.wire(),
            exchange,
            folder: TempDir::new().unwrap(),
            made: 0,
        }
    }

    /// Of the shelter, now, under the directory in force.
    fn of_shelter(&self) -> Suspension {
        Suspension {
            exchange_id: EXCHANGE.to_owned(),
            suspension_id: vec![9; 16],
            agency_id: self.shelter().to_vec(),
            statement_key: Vec::new(),
            directory_version: self.wire.version,
            suspend_time: Some(now().to_timestamp()),
        }
    }

    fn at(&self, time: Time) -> Suspension {
        Suspension {
            suspend_time: Some(time.to_timestamp()),
            ..self.of_shelter()
        }
    }

    fn shelter(&self) -> AgencyId {
        self.exchange.shelter.id
    }

    fn first(&self) -> &SigningKey {
        &self.exchange.registrars[0]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.made += 1;
        let file = self.folder.path().join(format!("{}.bin", self.made));
        fs::write(file, bytes).unwrap();
    }

    fn publish(&mut self, suspension: &Suspension) {
        let signed = self.first().sign(suspension).encode_to_vec();
        self.put(&signed);
    }

    fn read(&self, now: Time) -> (Directory, Vec<SuspensionFault>) {
        let pinned = self.exchange.pinned();
        let directory = Directory::verify(&self.exchange.publish(&self.wire), &pinned).unwrap();
        let (suspensions, errors) = Suspensions::read(self.folder.path(), &directory, &pinned, now);
        let faults = errors.into_iter().map(|error| error.fault).collect();
        (directory.suspending(suspensions), faults)
    }

    fn directory(&self) -> Directory {
        self.read(now()).0
    }

    fn is_suspended(&self, at: Time) -> bool {
        self.read(at).0.is_suspended(self.shelter(), at)
    }
}

#[test]
fn one_registrar_suspends_an_agency_at_once_for_seven_days() {
    let mut registry = Registry::new();
    assert!(!registry.is_suspended(now()));
    registry.publish(&registry.of_shelter());
    let (directory, faults) = registry.read(now());
    assert_eq!(faults, []);
    for (at, suspended) in [
        (now(), true),
        (now() + DAY * 7 - MINUTE, true),
        (now() + DAY * 7, false),
        (now() - DAY, false),
    ] {
        let shelter = registry.shelter();
        assert_eq!(directory.is_suspended(shelter, at), suspended, "{at}");
    }
    assert!(!directory.is_suspended(registry.exchange.police.id, now()));
}

#[test]
fn a_suspended_agencys_certificate_and_tokens_are_refused() {
    let mut registry = Registry::new();
    let lists = TempDir::new().unwrap();
    registry.exchange.put_lists(lists.path());
    let tokens = TokenVerifier::new(Audience::Gateway);
    let presented = |registry: &Registry| {
        let shelter = &registry.exchange.shelter;
        let token = shelter.token(&officer(&[Right::CaseWorker]), now());
        let certificate = shelter.client.sha256();
        let directory = registry.directory();
        let officer = tokens.verify_presented(&token, shelter.id, &certificate, &directory, now());
        officer.map(drop)
    };
    let admitted = |registry: &Registry, leaf: &crate::support::Leaf| {
        let lists = amanat_identity::RevocationFolder::new(lists.path());
        let trust = amanat_identity::Trust::new(registry.directory().into(), &lists).unwrap();
        trust.admit(&leaf.chain(), now()).is_some()
    };
    assert_eq!(presented(&registry), Ok(()));
    assert!(admitted(&registry, &registry.exchange.shelter.client));

    registry.publish(&registry.of_shelter());
    assert_eq!(presented(&registry), Err(TokenError::Suspended));
    assert!(!admitted(&registry, &registry.exchange.shelter.client));
    assert!(admitted(&registry, &registry.exchange.police.client));
}

#[test]
fn what_a_suspended_key_signs_is_refused_when_delivered_and_what_was_recorded_still_verifies() {
    let mut registry = Registry::new();
    let key = registry.exchange.shelter.statement_key.public_key();
    registry.publish(&Suspension {
        statement_key: key.to_vec(),
        ..registry.of_shelter()
    });
    let (directory, faults) = registry.read(now());
    assert_eq!(faults, []);
    let shelter = &registry.exchange.shelter;
    assert!(directory.is_key_suspended(shelter.id, &key_id(&key), now()));
    assert!(
        !directory.is_suspended(shelter.id, now()),
        "the agency goes on"
    );

    let token = shelter.token(&officer(&[Right::CaseWorker]), now());
    let tokens = TokenVerifier::new(Audience::Gateway);
    let consent = Consent {
        head: Some(shelter.head(1, &token, now())),
        ..Consent::default()
    };
    let consent = shelter.sign(&consent, &token);
    let delivered = Signed::<Consent>::verify(&consent, &directory, &tokens, now());
    assert!(matches!(delivered, Err(SignedError::Suspended)));
    let recorded = consent.envelope.unwrap();
    assert!(Signed::<Consent>::verify_envelope(&recorded, &directory).is_ok());
    // When it was signed nobody can tell from what is shown.
    let shown = |at| Signed::<Consent>::verify_shown(&recorded, &directory, at);
    assert!(matches!(shown(now()), Err(SignedError::Suspended)));
    assert!(shown(now() + DAY * 7).is_ok());

    // It can only close, so that the survivor's word is not lost with the key.
    let withdrawal = Withdrawal {
        head: Some(shelter.head(2, &token, now())),
        ..Withdrawal::default()
    };
    let withdrawal = shelter.sign(&withdrawal, &token);
    assert!(Signed::<Withdrawal>::verify(&withdrawal, &directory, &tokens, now()).is_ok());
}

#[test]
fn one_registrar_cannot_prolong_a_suspension() {
    let mut registry = Registry::new();
    registry.publish(&registry.of_shelter());
    for days in 1..7 {
        registry.publish(&registry.at(now() + DAY * days));
    }
    // Under older directories, which it did not use when they were in force.
    for version in 1..7 {
        registry.publish(&Suspension {
            directory_version: version,
            ..registry.at(now() + DAY * 6)
        });
    }
    let (directory, _) = registry.read(now() + DAY * 6);
    assert!(directory.is_suspended(registry.shelter(), now() + DAY * 6));
    assert!(!directory.is_suspended(registry.shelter(), now() + DAY * 7));
}

#[test]
fn another_registrar_allows_another_week() {
    let mut registry = Registry::new();
    let later = now() + DAY * 3;
    registry.publish(&registry.of_shelter());
    let second = registry.exchange.registrars[1].sign(&registry.at(later));
    registry.put(&second.encode_to_vec());
    for (days, suspended) in [(6, true), (9, true), (10, false)] {
        let (at, shelter) = (now() + DAY * days, registry.shelter());
        let directory = registry.directory();
        assert_eq!(directory.is_suspended(shelter, at), suspended, "{days}");
    }
}

#[test]
fn a_newer_directory_prolongs_no_suspension_and_is_closed_for_seven_days_in_all() {
    // Of the newer directory, which begins on day 2 or 12.
    let under = |begins: u32, dated: &[(u32, u64)]| {
        let mut registry = Registry::new();
        for (days, version) in dated {
            registry.publish(&Suspension {
                directory_version: *version,
                ..registry.at(now() + DAY * *days)
            });
        }
        registry.wire.version += 1;
        let time = |days: u32| Some((now() + DAY * days).to_timestamp());
        registry.wire.not_before_time = time(begins);
        registry.wire.valid_until_time = time(begins + 30);
        let directory = registry.directory();
        let shelter = registry.shelter();
        let closed = move |day: &u32| directory.is_suspended(shelter, now() + DAY * *day);
        (begins..begins + 30).filter(closed).collect::<Vec<_>>()
    };
    let days = |range: std::ops::Range<u32>| range.collect::<Vec<_>>();
    // Overlapping and touching ones end with the first, whichever directory they name.
    assert_eq!(under(2, &[(0, 7), (3, 8), (7, 8)]), days(2..7));
    assert_eq!(under(2, &[(1, 7), (2, 7), (2, 8), (8, 7)]), days(2..8));
    // After a gap there is what is left of the newer directory's seven days.
    assert_eq!(
        under(2, &[(0, 7), (10, 8), (20, 8)]),
        [days(2..7), days(10..12)].concat()
    );
    assert_eq!(under(12, &[(0, 7), (13, 8), (21, 8)]), days(13..20));
}

#[test]
fn a_suspension_made_just_before_a_newer_directory_is_not_lost() {
    let mut registry = Registry::new();
    let old = registry.of_shelter();
    registry.publish(&old);
    registry.wire.version += 1;
    let begins = now() + MINUTE;
    registry.wire.not_before_time = Some(begins.to_timestamp());
    assert!(registry.is_suspended(begins));
    assert_eq!(registry.read(begins).1, []);
}

impl Registry {
    /// What a process that works by `in_use` reads now.
    fn read_again(&self, in_use: &Directory) -> Directory {
        let pinned = self.exchange.pinned();
        let directory = Directory::verify(&self.exchange.publish(&self.wire), &pinned).unwrap();
        let folder = self.folder.path();
        let (again, _) = Suspensions::read_again(folder, &directory, &pinned, in_use, now());
        directory.suspending(again)
    }

    fn take_away(&self, file: &str) {
        fs::remove_file(self.folder.path().join(file)).unwrap();
    }
}

#[test]
fn what_is_in_use_outlives_its_file_until_a_newer_directory() {
    let mut registry = Registry::new();
    let shelter = registry.shelter();
    registry.publish(&registry.of_shelter());
    let in_use = registry.directory();
    registry.take_away("1.bin");
    // Nor is it prolonged by another one in its place.
    registry.publish(&registry.at(now() + DAY * 6));
    let again = registry.read_again(&in_use);
    for (days, suspended) in [(0, true), (6, true), (7, false)] {
        let at = now() + DAY * days;
        assert_eq!(again.is_suspended(shelter, at), suspended, "{days}");
    }
    registry.take_away("2.bin");
    registry.wire.version += 1;
    assert!(!registry.read_again(&again).is_suspended(shelter, now()));
}

#[test]
fn what_cannot_be_read_lifts_nothing_even_under_a_newer_directory() {
    let mut registry = Registry::new();
    let shelter = registry.shelter();
    registry.publish(&registry.of_shelter());
    let in_use = registry.directory();
    registry.take_away("1.bin");
    registry.wire.version += 1;

    let unreadable = registry.folder.path().join("2.bin");
    fs::create_dir(&unreadable).unwrap();
    let (_, faults) = registry.read(now());
    assert!(matches!(faults[..], [SuspensionFault::Unreadable(_)]));
    assert!(registry.read_again(&in_use).is_suspended(shelter, now()));

    fs::remove_dir(&unreadable).unwrap();
    std::os::unix::fs::symlink("nowhere", &unreadable).unwrap();
    assert!(registry.read_again(&in_use).is_suspended(shelter, now()));

    // The folder itself.
    fs::remove_dir_all(registry.folder.path()).unwrap();
    fs::write(registry.folder.path(), "").unwrap();
    let (_, faults) = registry.read(now());
    assert!(matches!(faults[..], [SuspensionFault::Unreadable(_)]));
    assert!(registry.read_again(&in_use).is_suspended(shelter, now()));
    fs::remove_file(registry.folder.path()).unwrap();
    let (_, faults) = registry.read(now());
    assert!(matches!(faults[..], [SuspensionFault::Unreadable(_)]));
    assert!(registry.read_again(&in_use).is_suspended(shelter, now()));
}

#[test]
fn a_suspension_counts_whatever_its_file_is_called_but_a_half_copied_one_is_not_read() {
    let mut registry = Registry::new();
    let shelter = registry.shelter();
    registry.publish(&registry.of_shelter());
    let folder = registry.folder.path();
    fs::rename(folder.join("1.bin"), folder.join("shelter.suspension")).unwrap();
    fs::write(folder.join(".2.bin.part"), "half").unwrap();
    let (directory, faults) = registry.read(now());
    assert!(faults.is_empty(), "{faults:?}");
    assert!(directory.is_suspended(shelter, now()));
}

#[test]
fn a_suspension_does_not_wait_for_the_directory_that_it_was_made_under() {
    let mut registry = Registry::new();
    registry.publish(&Suspension {
        directory_version: 8,
        ..registry.of_shelter()
    });
    assert!(registry.is_suspended(now()));
    assert_eq!(registry.read(now()).1, []);
}

#[test]
fn a_suspension_is_not_dated_ahead() {
    let mut registry = Registry::new();
    let dated = now() + MINUTE * 6;
    registry.publish(&registry.at(dated));
    let (directory, faults) = registry.read(now());
    assert_eq!(faults, [SuspensionFault::Ahead(dated)]);
    assert!(!directory.is_suspended(registry.shelter(), now()));

    let mut registry = Registry::new();
    registry.publish(&registry.at(now() + MINUTE * 5));
    assert!(registry.is_suspended(now()), "clocks may differ a little");
}

#[test]
fn what_is_no_registrars_suspension_of_a_member_closes_nothing_and_hinders_no_other() {
    let mut registry = Registry::new();
    let good = registry.of_shelter();
    let [first, second] = &registry.exchange.registrars;
    let stranger = AgencyId::new([0x77; 16]);
    let (shelter, other_key) = (registry.shelter(), new_key().public_key());
    let mut both = first.sign(&good);
    second.cosign(&mut both);
    let mut unsigned = first.sign(&good);
    unsigned.signatures.clear();
    let signed = |change: fn(&mut Suspension)| {
        let mut suspension = good.clone();
        change(&mut suspension);
        first.sign(&suspension)
    };
    let named = |agency: AgencyId, key: &[u8]| {
        first.sign(&Suspension {
            agency_id: agency.to_vec(),
            statement_key: key.to_vec(),
            ..good.clone()
        })
    };
    let malformed = SuspensionFault::Malformed;
    let faulty = [
        (new_key().sign(&good), SuspensionFault::Signature),
        (
            registry.exchange.shelter.statement_key.sign(&good),
            SuspensionFault::Signature,
        ),
        (both, SuspensionFault::Signature),
        (unsigned, SuspensionFault::Signature),
        (
            registry.exchange.publish(&registry.wire),
            SuspensionFault::Signature,
        ),
        (
            signed(|s| s.exchange_id.push('x')),
            SuspensionFault::Exchange,
        ),
        (signed(|s| s.suspension_id.truncate(15)), malformed.clone()),
        (signed(|s| s.agency_id.truncate(15)), malformed.clone()),
        (signed(|s| s.suspend_time = None), malformed.clone()),
        (signed(|s| s.directory_version = 0), malformed.clone()),
        (
            named(stranger, &[]),
            SuspensionFault::UnknownAgency(stranger),
        ),
        (
            named(shelter, &other_key),
            SuspensionFault::UnknownKey(shelter),
        ),
    ];
    let (files, mut expected): (Vec<_>, Vec<_>) = faulty.into_iter().unzip();
    for file in files {
        registry.put(&file.encode_to_vec());
    }
    registry.put(&[0xff; 40]);
    expected.push(malformed);
    let (directory, mut faults) = registry.read(now());
    assert!(!directory.is_suspended(shelter, now()));
    let sorted = |faults: &mut Vec<SuspensionFault>| {
        faults.sort_by_key(ToString::to_string);
        faults.clone()
    };
    assert_eq!(sorted(&mut faults), sorted(&mut expected));

    registry.publish(&registry.of_shelter());
    assert!(registry.is_suspended(now()), "a good one among them counts");
}

#[test]
fn every_fault_of_a_suspension_says_what_to_do() {
    let mut registry = Registry::new();
    registry.put(b"");
    let directory = registry.directory();
    let pinned = registry.exchange.pinned();
    let (_, errors) = Suspensions::read(registry.folder.path(), &directory, &pinned, now());
    let told = errors[0].to_string();
    assert!(told.contains("1.bin: "), "the file is named: {told}");
    for (fault, advice) in [
        (
            SuspensionFault::Unreadable(std::io::ErrorKind::PermissionDenied),
            "check that it is there, its owner and permissions",
        ),
        (SuspensionFault::Malformed, "ask the registrar for it again"),
        (SuspensionFault::Signature, "do not heed it"),
        (SuspensionFault::Exchange, "remove it"),
        (
            SuspensionFault::UnknownAgency(registry.shelter()),
            "if it has left, remove the file",
        ),
        (
            SuspensionFault::UnknownKey(registry.shelter()),
            "was replaced, remove the file",
        ),
        (
            SuspensionFault::Ahead(now()),
            "ask the registrar to check the clock",
        ),
    ] {
        assert!(fault.to_string().contains(advice), "{fault}");
    }
}

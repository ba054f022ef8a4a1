//! How long certificates and revocation lists last is told before they end.

use std::{fs, time::Duration};

use amanat_config::Inspection;
use amanat_identity::{
    CertificateFault, CrlFault, OwnCertificate, PeerName, RevocationFolder,
    inspect::{directory, lasts},
};
use amanat_schema::Time;
use prost::Message as _;
use rcgen::date_time_ymd;
use tempfile::TempDir;

use crate::support::{Authority, Exchange, client_params, now};

fn day(text: &str) -> Time {
    Time::from_millis(match text {
        "2026-03-04" => 1_772_582_400_000,
        "2026-03-09" => 1_773_014_400_000,
        _ => 0,
    })
    .unwrap()
}

#[test]
fn lists_last_until_the_first_authority_has_none_in_date() {
    let (old, new, other) = (Authority::new(), Authority::new(), Authority::new());
    let folder = TempDir::new().unwrap();
    let end = |authorities: &[&Authority], lists: &[Vec<u8>]| {
        let pem: String = lists
            .iter()
            .map(|der| pem::encode(&pem::Pem::new("X509 CRL", der.clone())))
            .collect();
        fs::write(folder.path().join("gateway.crl"), pem).unwrap();
        let authorities: Vec<_> = authorities
            .iter()
            .map(|authority| authority.certificate().clone())
            .collect();
        let lists = RevocationFolder::new(folder.path()).of_gateway();
        lists.end(&authorities, now()).map_err(|error| error.fault)
    };
    let (short, long) = ((2026, 3, 4), (2026, 3, 9));
    let of = |authority: &Authority, end| authority.list_until(&[], end);

    assert_eq!(end(&[&old], &[of(&old, short)]), Ok(day("2026-03-04")));
    // Of two lists of one authority the longer one counts.
    let both = [of(&old, short), of(&old, long)];
    assert_eq!(end(&[&old], &both), Ok(day("2026-03-09")));
    // Of two authorities, the one that ends first.
    let both = [of(&old, short), of(&new, long)];
    assert_eq!(end(&[&old, &new], &both), Ok(day("2026-03-04")));
    assert_eq!(
        end(&[&old, &new], &[of(&new, long)]),
        Err(CrlFault::Foreign)
    );
    assert_eq!(end(&[&old], &[of(&other, long)]), Err(CrlFault::Foreign));
    assert_eq!(
        end(&[&old], &[of(&old, (2026, 3, 1))]),
        Err(CrlFault::Stale)
    );
    assert_eq!(end(&[], &[of(&old, long)]), Err(CrlFault::Foreign));
    fs::remove_file(folder.path().join("gateway.crl")).unwrap();
    let lists = RevocationFolder::new(folder.path()).of_gateway();
    let gone = lists.end(&[old.certificate().clone()], now());
    assert_eq!(gone.unwrap_err().fault, CrlFault::Missing);
}

#[test]
fn a_client_is_told_what_servers_would_refuse_its_certificate_for() {
    let exchange = Exchange::new();
    let known = exchange.directory();
    let (shelter, police) = (&exchange.shelter, &exchange.police);
    let own = |leaf: &crate::support::Leaf| OwnCertificate::new(leaf.chain(), leaf.key()).unwrap();
    let counts = |own: &OwnCertificate, peer, at| own.calls_as(peer, &known, at);
    let client = own(&shelter.client);
    let peer = PeerName::Agency(shelter.id);
    assert_eq!(counts(&client, peer, now()), Ok(()));
    let other = PeerName::Agency(police.id);
    assert_eq!(
        counts(&client, other, now()),
        Err(CertificateFault::Authority)
    );
    let unnamed = own(&shelter.authority.issue(&client_params(&["spiffe://x/y"])));
    assert_eq!(
        counts(&unnamed, peer, now()),
        Err(CertificateFault::Name(shelter.uri()))
    );

    let mut params = client_params(&[&shelter.uri()]);
    params.not_after = date_time_ymd(2026, 3, 4);
    let short = own(&shelter.authority.issue(&params));
    assert_eq!(short.ends(), Some(day("2026-03-04")));
    assert_eq!(counts(&short, peer, now()), Ok(()));
    let late = day("2026-03-09");
    assert_eq!(counts(&short, peer, late), Err(CertificateFault::Time));
}

#[test]
fn a_directory_that_is_looked_at_is_not_remembered() {
    let exchange = Exchange::new();
    let folder = TempDir::new().unwrap();
    let (file, seen) = (folder.path().join("directory"), folder.path().join("seen"));
    fs::write(&file, exchange.publish(&exchange.wire()).encode_to_vec()).unwrap();
    let look = |at| {
        let mut found = Inspection::default();
        let directory = directory(&file, &seen, &exchange.pinned(), at, &mut found);
        (directory.is_some(), found)
    };
    let (counts, found) = look(now());
    assert!(counts && found.faults.is_empty());
    assert!(
        found.in_order[0]
            .text
            .starts_with("version 7, 7 days left, until 2026-03-08")
    );
    assert!(!seen.exists());

    let (counts, found) = look(now() + Duration::from_secs(8 * 24 * 3600));
    assert!(!counts && found.in_order.is_empty());
    assert_eq!(found.faults[0].setting, "directory.file");
    fs::write(&seen, "seven").unwrap();
    assert_eq!(look(now()).1.faults[0].setting, "directory.seen");
    fs::write(&seen, "8").unwrap();
    assert_eq!(look(now()).1.faults[0].setting, "directory.file");
}

#[test]
fn the_days_left_are_whole_days() {
    let day = Duration::from_secs(24 * 3600);
    assert!(lasts(now() + day * 2, now()).starts_with("2 days left"));
    let less = now() + day * 2 - Duration::from_secs(1);
    assert!(lasts(less, now()).starts_with("1 day left"));
}

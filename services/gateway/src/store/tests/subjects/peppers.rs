//! Peppers that are added, lost or exchanged.

use amanat_database::Engine;

use super::{
    super::{POLICE, SHELTER, STRANGER, database},
    Cnic, GUL, Phone, THEIR_PHONE, ZARA,
    office::{House, Setting},
};
use crate::{GatewayError, PepperError};

const TWO: Setting = Setting {
    peppers: &[1, 2],
    pseudonym_key: 100,
    epochs: &[1],
};

fn refusal<T>(opened: Result<T, GatewayError>) -> PepperError {
    match opened.err() {
        Some(GatewayError::Pepper(error)) => error,
        Some(other) => panic!("{other}"),
        None => panic!("it must not serve"),
    }
}

#[tokio::test]
async fn everybody_is_found_again_under_a_pepper_more() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let all = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    let police = office.find(POLICE, &all).await.unwrap();
    let shelter = office.find(SHELTER, &all).await.unwrap();
    for caller in [office.auditor(STRANGER), office.colleague(STRANGER)] {
        let canary = office.identifier(Cnic, GUL);
        office.plant(&caller, canary, "plant 1").await.unwrap();
    }
    office.close().await;
    let before = house.tables().await;

    for setting in [
        TWO,
        Setting {
            peppers: &[1, 2, 3],
            ..TWO
        },
    ] {
        let office = house.open(&setting).await.unwrap();
        for one in all {
            assert_eq!(office.find(POLICE, &[one]).await.unwrap(), police);
            assert_eq!(office.find(SHELTER, &[one]).await.unwrap(), shelter);
        }
        office.find(POLICE, &[(Cnic, GUL)]).await.unwrap();
        let hits = office.hits(STRANGER).await;
        assert_eq!(hits.len(), setting.peppers.len() - 1, "canaries too");
        office.close().await;
    }
    let after = house.tables().await;
    for table in ["identifiers", "canaries"] {
        let old: Vec<_> = before[table]
            .iter()
            .flatten()
            .filter(|v| v.len() == 64)
            .collect();
        assert!(!old.is_empty());
        assert!(
            !after[table]
                .iter()
                .flatten()
                .any(|value| old.contains(&value))
        );
    }
}

/// Of two gateways on one database, one was restarted with a pepper more.
#[tokio::test]
async fn a_replica_without_the_newest_pepper_looks_nobody_up() {
    if database::engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite: a file has one gateway");
        return;
    }
    let house = House::new().await;
    let first = house.open(&Setting::default()).await.unwrap();
    let second = house.open_beside(&Setting::default(), "second").await;
    let second = second.unwrap();
    let zara = first.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    assert_eq!(second.find(POLICE, &[(Cnic, ZARA)]).await.unwrap(), zara);
    second.close().await;

    let second = house.open_beside(&TWO, "second").await.unwrap();
    for asked in [ZARA, GUL] {
        let refused = first.find(POLICE, &[(Cnic, asked)]).await;
        assert_eq!(refused.unwrap_err(), "AUDIT_UNAVAILABLE");
    }
    let canary = first.identifier(Cnic, GUL);
    let refused = first.plant(&first.auditor(STRANGER), canary, "plant").await;
    assert_eq!(refused.unwrap_err(), "AUDIT_UNAVAILABLE");
    assert_eq!(second.find(POLICE, &[(Cnic, ZARA)]).await.unwrap(), zara);
    assert_eq!(
        (house.count("subjects").await, house.count("canaries").await),
        (1, 0)
    );
    first.close().await;
    second.close().await;
}

#[tokio::test]
async fn nothing_is_served_under_other_keys_than_what_is_stored() {
    let house = House::new().await;
    let office = house.open(&TWO).await.unwrap();
    let zara = office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap();
    office.close().await;

    let missing = refusal(house.open(&Setting::default()).await);
    assert_eq!(
        missing,
        PepperError::Missing {
            configured: 1,
            applied: 2
        }
    );
    assert!(missing.to_string().contains("restore"), "{missing}");
    for peppers in [&[2, 1][..], &[1, 3], &[2, 1, 3]] {
        let exchanged = house.open(&Setting { peppers, ..TWO }).await;
        assert_eq!(refusal(exchanged), PepperError::Other);
    }
    let other = house
        .open(&Setting {
            pseudonym_key: 101,
            ..TWO
        })
        .await;
    assert_eq!(refusal(other), PepperError::OtherPseudonymKey);

    let office = house.open(&TWO).await.unwrap();
    assert_eq!(
        office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap(),
        zara,
        "nothing was changed"
    );
    office.close().await;
}

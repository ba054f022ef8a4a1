//! Peppers that are added, lost or exchanged.

use super::{
    super::{POLICE, SHELTER, STRANGER},
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

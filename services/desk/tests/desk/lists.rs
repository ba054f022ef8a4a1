//! Lists of consents: one's own, page by page.

use amanat_desk::{Page, consent::ListConsents};
use amanat_schema::{AgencyId, policy::Purpose, statement::Consent};

use crate::{
    ledger::{Ledger, listed},
    support::now,
};

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let mut ledger = Ledger::new().await;
    for n in 1..=5 {
        ledger.tell(ledger.plain(n, n)).await.unwrap();
    }
    let (mut after, mut pages, mut seen) = (0, 0, Vec::new());
    loop {
        let page = Page::new(2, after).unwrap();
        let call = ledger.list(&ledger.exchange.police, None, page);
        let (consents, next) = ledger.listed(call, now()).await;
        seen.extend(consents.into_iter().map(|consent| consent.envelope));
        pages += 1;
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(pages, 3);
    seen.dedup();
    assert_eq!(seen.len(), 5);
}

#[tokio::test]
async fn agencies_that_ask_in_the_same_words_at_once_get_each_its_own() {
    let mut ledger = Ledger::new().await;
    let exchange = &ledger.exchange;
    let calls = [
        ledger.consent((&exchange.shelter, &exchange.police), 1, 1, 1, |_| {}),
        ledger.consent((&exchange.shelter, &exchange.oversight), 2, 2, 2, |_| {}),
        ledger.consent((&exchange.police, &exchange.oversight), 3, 3, 3, |_| {}),
    ];
    for call in calls {
        ledger.tell(call).await.unwrap();
    }
    let page = Page::new(0, 0).unwrap();
    let exchange = &ledger.exchange;
    let lists = [&exchange.shelter, &exchange.police, &exchange.oversight]
        .map(|reader| ledger.list(reader, None, page));
    let rulings = ledger.decide(&lists, now()).await;
    let numbers: Vec<Vec<i64>> = rulings
        .into_iter()
        .map(|ruling| {
            let (consents, next) = listed(ruling);
            assert_eq!(next, None);
            consents
                .iter()
                .map(|consent| i64::from(statement(&consent.envelope.payload)))
                .collect()
        })
        .collect();
    assert_eq!(numbers, [vec![1, 2], vec![1, 3], vec![2, 3]]);
}

/// The number that a test gave a statement.
fn statement(payload: &[u8]) -> u8 {
    use prost::Message as _;
    let consent = amanat_schema::statement::Consent::decode(payload).unwrap();
    consent.head.unwrap().statement_id[0]
}

#[tokio::test]
async fn a_case_is_listed_alone_if_it_is_asked_for() {
    let mut ledger = Ledger::new().await;
    let exchange = &ledger.exchange;
    let parties = (&exchange.shelter, &exchange.police);
    let (first, second) = (
        ledger.consent(parties, 1, 1, 1, |_| {}),
        ledger.consent(parties, 2, 2, 2, |_| {}),
    );
    ledger.tell(first).await.unwrap();
    ledger.tell(second).await.unwrap();
    let page = Page::new(0, 0).unwrap();
    for (of, count) in [(Some(1), 1), (Some(2), 1), (Some(3), 0), (None, 2)] {
        let call = ledger.list(&ledger.exchange.shelter, of, page);
        assert_eq!(ledger.listed(call, now()).await.0.len(), count);
    }
    let stranger = ledger.list(&ledger.exchange.oversight, Some(1), page);
    assert!(ledger.listed(stranger, now()).await.0.is_empty());
}

#[tokio::test]
async fn recipients_and_purposes_are_listed_alone_page_by_page() {
    let mut ledger = Ledger::new().await;
    let (shelter, police, oversight) = (
        &ledger.exchange.shelter,
        &ledger.exchange.police,
        &ledger.exchange.oversight,
    );
    let (police_id, oversight_id) = (police.id, oversight.id);
    let repatriation = |consent: &mut Consent| consent.purpose = Purpose::Repatriation.into();
    let calls = [
        ledger.consent((shelter, police), 1, 1, 1, |_| {}),
        ledger.consent((shelter, oversight), 1, 2, 2, repatriation),
        ledger.consent((shelter, police), 2, 3, 3, repatriation),
        ledger.consent((shelter, police), 2, 4, 4, |_| {}),
    ];
    for call in calls {
        ledger.tell(call).await.unwrap();
    }
    let mut numbers = async |filter: fn(&mut ListConsents, AgencyId), id: AgencyId| {
        let (mut after, mut numbers) = (0, Vec::new());
        loop {
            let page = Page::new(1, after).unwrap();
            let reader = &ledger.exchange.shelter;
            let call = ledger.list_by(reader, page, |list| filter(list, id));
            let (consents, next) = ledger.listed(call, now()).await;
            numbers.extend(
                consents
                    .iter()
                    .map(|seen| statement(&seen.envelope.payload)),
            );
            match next {
                Some(next) => after = next,
                None => break numbers,
            }
        }
    };
    let to = |list: &mut ListConsents, id| list.recipient = Some(id);
    assert_eq!(numbers(to, police_id).await, [1, 3, 4]);
    assert_eq!(numbers(to, oversight_id).await, [2]);
    let back = |list: &mut ListConsents, _| list.purpose = Some(Purpose::Repatriation);
    assert_eq!(numbers(back, police_id).await, [2, 3]);
    let both = |list: &mut ListConsents, id| {
        list.recipient = Some(id);
        list.purpose = Some(Purpose::Repatriation);
        list.case = Some(crate::ledger::case(2));
    };
    assert_eq!(numbers(both, police_id).await, [3]);
    assert_eq!(numbers(both, oversight_id).await, [0_u8; 0]);
}

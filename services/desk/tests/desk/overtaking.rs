//! Two servers over one ledger: what the other one logged is no longer remembered here as it was.

use amanat_journal::{Logged, Overtaking};
use amanat_schema::{
    AgencyId,
    audit::{Action, Linkage},
    policy::Decision,
};

use crate::{
    ledger::{Ledger, Ruled, case, consent_id},
    support::now,
};

/// What a server logged, as the other one reads it.
fn logged(rulings: Vec<Ruled>) -> Vec<Logged> {
    let drafts = rulings.into_iter().map(|ruling| ruling.draft.unwrap());
    let entries = drafts.map(|draft| Logged {
        action: draft.body.action(),
        decision: draft.body.decision(),
        linkage: draft.linkage,
    });
    entries.collect()
}

/// A read of the shelter's records in case 1, counted by the gateway, and its keys' release, by the custodian.
fn counted(ledger: &Ledger, action: Action) -> Logged {
    Logged {
        action,
        decision: Decision::Allow,
        linkage: Linkage {
            case_id: case(1).to_vec(),
            source_id: ledger.exchange.shelter.id.to_vec(),
            ..Linkage::default()
        },
    }
}

/// How many consents of the shelter in case 1 a server knows of.
async fn known(ledger: &mut Ledger) -> usize {
    ledger.grants(1, 0).await.len()
}

/// Whether a server takes the consents of each source in case 1 for withdrawn.
async fn withdrawn(ledger: &mut Ledger, sources: [AgencyId; 2]) -> Vec<bool> {
    let mut withdrawn = Vec::new();
    for source in sources {
        let grants = ledger.grants_of((source, case(1)), 0).await;
        withdrawn.extend(grants.iter().map(|grant| grant.withdrawn));
    }
    withdrawn
}

#[tokio::test]
async fn a_consent_that_another_server_recorded_counts_here() {
    let mut here = Ledger::new().await;
    let mut there = here.another().await;
    assert_eq!(known(&mut here).await, 0);
    let rulings = there.decide(&[there.plain(1, 1)], now()).await;
    assert_eq!(known(&mut here).await, 0, "what is remembered");
    here.remembered
        .overtaken(Overtaking::Entries(&logged(rulings)));
    assert_eq!(known(&mut here).await, 1);
}

#[tokio::test]
async fn a_withdrawal_at_another_server_closes_consents_of_every_source_here() {
    let mut here = Ledger::new().await;
    let mut there = here.another().await;
    let exchange = &here.exchange;
    let (shelter, police, oversight) = (&exchange.shelter, &exchange.police, &exchange.oversight);
    let calls = [
        here.consent((shelter, police), 1, 1, 1, |_| {}),
        here.consent((oversight, police), 1, 2, 1, |_| {}),
    ];
    let (withdrawal, sources) = (here.withdrawal(police, 1, 3, 1), [shelter.id, oversight.id]);
    for call in calls {
        here.tell(call).await.unwrap();
    }
    assert_eq!(withdrawn(&mut here, sources).await, [false, false]);
    let rulings = there.decide(&[withdrawal], now()).await;
    let remembered = withdrawn(&mut here, sources).await;
    assert_eq!(remembered, [false, false]);
    here.remembered
        .overtaken(Overtaking::Entries(&logged(rulings)));
    assert_eq!(withdrawn(&mut here, sources).await, [true, true]);
}

#[tokio::test]
async fn a_read_that_another_server_counted_uses_up_the_consent_here() {
    for action in [Action::ReadRecord, Action::ReleaseKeys] {
        let mut here = Ledger::new().await;
        let mut there = here.another().await;
        let parties = (&here.exchange.shelter, &here.exchange.police);
        let once = here.consent(parties, 1, 1, 1, |consent| consent.max_reads = 1);
        here.tell(once).await.unwrap();
        assert_eq!(here.grants(1, 0).await[0].reads, 0);
        assert_eq!(there.grants(1, 1).await[0].reads, 1);
        assert_eq!(here.grants(1, 0).await[0].reads, 0, "what is remembered");
        let read = [counted(&there, action)];
        here.remembered.overtaken(Overtaking::Entries(&read));
        assert_eq!(here.grants(1, 0).await[0].reads, 1, "{action:?}");
    }
}

#[tokio::test]
async fn what_changed_nothing_leaves_what_is_remembered() {
    let mut here = Ledger::new().await;
    let mut there = here.another().await;
    here.tell(here.plain(1, 1)).await.unwrap();
    assert_eq!(known(&mut here).await, 1);
    let of = (here.exchange.shelter.id, case(1));
    let recorded = there.decide(&[there.plain_in(2, 2, 2)], now()).await;
    // The same id with other bytes.
    let refused = there.decide(&[there.plain_in(1, 3, 1)], now()).await;
    assert!(refused[0].answer.is_err());
    let mut entries = logged(recorded);
    entries.extend(logged(refused));
    // The consent has no limit, so no read is counted on it.
    entries.push(counted(&there, Action::ReadRecord));
    here.remembered.overtaken(Overtaking::Entries(&entries));
    assert!(here.remembered.get(&of).is_some());
}

#[tokio::test]
async fn whatever_cannot_be_told_apart_is_forgotten_as_a_whole() {
    let nameless = Logged {
        action: Action::WithdrawConsent,
        decision: Decision::Allow,
        linkage: Linkage::default(),
    };
    for by in [
        Overtaking::Unknown,
        Overtaking::Entries(std::slice::from_ref(&nameless)),
    ] {
        let mut here = Ledger::new().await;
        let mut there = here.another().await;
        let shelter = here.exchange.shelter.id;
        assert!(here.grants(1, 0).await.is_empty() && here.grants(2, 0).await.is_empty());
        there.tell(there.plain_in(1, 1, 1)).await.unwrap();
        here.remembered.overtaken(by);
        for of in [1, 2] {
            assert!(here.remembered.get(&(shelter, case(of))).is_none());
        }
        assert_eq!(here.grants(1, 0).await[0].terms.consent, consent_id(1));
    }
}

//! What is recorded, what is withdrawn, and by whom.

use std::time::Duration;

use amanat_identity::Directory;
use amanat_schema::{
    audit::Action,
    consent::ConsentStatus::{InForce, NotInForce, Withdrawn},
    directory::RetiredKey,
    policy::Decision,
    statement::ConsentDecision,
};

use crate::{
    ledger::{Ledger, case, consent_id},
    support::{new_key, now},
};

const STATE_CONFLICT: Result<(), &str> = Err("STATE_CONFLICT");

#[tokio::test]
async fn a_recorded_consent_is_in_force_for_its_time() {
    let mut ledger = Ledger::new().await;
    assert_eq!(ledger.tell(ledger.plain(1, 1)).await, Ok(()));
    let moment = Duration::from_millis(1);
    let end = now() + Duration::from_secs(86_400);
    for (at, status) in [
        (now() - moment, NotInForce),
        (now(), InForce),
        (end - moment, InForce),
        (end, NotInForce),
    ] {
        assert_eq!(ledger.told(at).await, [[status], [status]], "{at}");
    }
    let grants = ledger.grants(1, 0).await;
    assert_eq!(grants[0].terms.consent, consent_id(1));
    assert!(!grants[0].withdrawn && !grants[0].superseded && grants[0].reads == 0);
}

#[tokio::test]
async fn a_permit_counts_only_by_a_directory_that_lists_the_key_it_was_signed_with() {
    let mut ledger = Ledger::new().await;
    ledger.tell(ledger.plain(1, 1)).await.unwrap();
    let refusal = ledger.consent(
        (&ledger.exchange.shelter, &ledger.exchange.police),
        1,
        2,
        2,
        |consent| {
            consent.decision = ConsentDecision::Deny.into();
            consent.paths = vec!["needs.narrative".to_owned()];
        },
    );
    ledger.tell(refusal).await.unwrap();
    let parties = (&ledger.exchange.shelter, &ledger.exchange.police);
    let lifting = ledger.consent(parties, 1, 3, 3, |consent| {
        consent.supersedes = consent_id(2).to_vec();
    });
    ledger.tell(lifting).await.unwrap();
    let (permit, lifting) = ((consent_id(1), false), (consent_id(3), false));
    let lifted = [permit, (consent_id(2), true), lifting];
    // Nor does what somebody else may have signed lift what she refused.
    let refused = [(consent_id(2), false)];
    let listed = ledger.exchange.wire();
    let old = listed.agencies[0].statement_keys[0].clone();

    let mut forgotten = listed.clone();
    forgotten.agencies[0].statement_keys = vec![new_key().public_key().to_vec()];
    let mut retired = forgotten.clone();
    retired.agencies[0].retired_statement_keys = vec![RetiredKey {
        public_key: old,
        retired_time: Some(now().to_timestamp()),
        compromised_since_time: None,
    }];
    let mut compromised = retired.clone();
    compromised.agencies[0].retired_statement_keys[0].compromised_since_time =
        Some(now().to_timestamp());
    let mut removed = listed.clone();
    removed.agencies.remove(0);
    for (wire, counting) in [
        (&listed, &lifted[..]),
        (&retired, &lifted),
        (&compromised, &refused),
        (&forgotten, &refused),
        (&removed, &refused),
    ] {
        let signed = ledger.exchange.publish(wire);
        let directory = Directory::verify(&signed, &ledger.exchange.pinned()).unwrap();
        assert_eq!(ledger.counting(&directory).await, counting);
    }
}

#[tokio::test]
async fn a_statement_delivered_again_is_done_once() {
    let mut ledger = Ledger::new().await;
    for _ in 0..2 {
        assert_eq!(ledger.tell(ledger.plain(1, 1)).await, Ok(()));
    }
    let source = &ledger.exchange.shelter;
    let withdrawal = || ledger.withdrawal(source, 1, 2, 1);
    let calls = [withdrawal(), withdrawal()];
    for call in calls {
        assert_eq!(ledger.tell(call).await, Ok(()));
    }
    assert_eq!(ledger.told(now()).await, [[Withdrawn], [NotInForce]]);
}

#[tokio::test]
async fn an_id_is_accepted_once_for_ever() {
    let mut ledger = Ledger::new().await;
    ledger.tell(ledger.plain(1, 1)).await.unwrap();
    let parties = (&ledger.exchange.shelter, &ledger.exchange.police);
    let other_bytes =
        |statement, id| ledger.consent(parties, 1, statement, id, |consent| consent.max_reads = 9);
    let reused = [
        ("the statement's", other_bytes(1, 2)),
        ("the consent's", other_bytes(2, 1)),
        ("both", other_bytes(1, 1)),
        ("by a withdrawal", ledger.withdrawal(parties.0, 1, 1, 1)),
    ];
    for (which, call) in reused {
        assert_eq!(ledger.tell(call).await, STATE_CONFLICT, "{which}");
    }
    let grants = ledger.grants(1, 0).await;
    assert_eq!(
        (grants.len(), grants[0].terms.max_reads, grants[0].withdrawn),
        (1, 0, false)
    );
}

#[tokio::test]
async fn nobody_else_can_take_or_spoil_a_consents_or_a_statements_id() {
    let mut ledger = Ledger::new().await;
    let police = ledger.exchange.police.id;
    for of in [1, 2] {
        let squatters = (&ledger.exchange.police, &ledger.exchange.oversight);
        let squatted = ledger.consent(squatters, of, of, 1, |consent| consent.max_reads = 1);
        assert_eq!(ledger.tell(squatted).await, Ok(()));
    }
    // The same statement id, case and consent id, of another source.
    let parties = (&ledger.exchange.shelter, &ledger.exchange.police);
    let same = ledger.consent(parties, 1, 1, 1, |consent| consent.max_reads = 9);
    assert_eq!(ledger.tell(same).await, Ok(()));
    for of in [1, 2] {
        ledger.grants_of((police, case(of)), 3).await;
    }
    assert_eq!(ledger.grants(1, 2).await[0].reads, 2);
    assert_eq!(ledger.grants_of((police, case(1)), 0).await[0].reads, 3);
}

#[tokio::test]
async fn reads_on_a_consent_without_a_limit_are_not_counted() {
    let mut ledger = Ledger::new().await;
    assert_eq!(ledger.tell(ledger.plain(1, 1)).await, Ok(()));
    ledger.grants(1, 2).await;
    assert_eq!(ledger.grants(1, 0).await[0].reads, 0);
}

#[tokio::test]
async fn a_squatted_id_does_not_stand_in_the_way_of_a_withdrawal() {
    for by in ["source", "recipient"] {
        let mut ledger = Ledger::new().await;
        let exchange = &ledger.exchange;
        let squatters = (&exchange.oversight, &exchange.police);
        let squatted = ledger.consent(squatters, 1, 9, 1, |_| {});
        let signer = match by {
            "source" => &exchange.shelter,
            _ => &exchange.police,
        };
        let early = ledger.withdrawal(signer, 1, 1, 1);
        ledger.tell(squatted).await.unwrap();
        assert_eq!(ledger.tell(early).await, Ok(()), "{by}");
        ledger.tell(ledger.plain(2, 1)).await.unwrap();
        assert!(ledger.grants(1, 0).await[0].withdrawn, "{by}");
    }
}

#[tokio::test]
async fn a_withdrawal_closes_every_consent_of_the_id_that_its_signer_may_close() {
    let mut ledger = Ledger::new().await;
    let exchange = &ledger.exchange;
    let (shelter, police, oversight) = (&exchange.shelter, &exchange.police, &exchange.oversight);
    let calls = [
        ledger.consent((shelter, police), 1, 1, 1, |_| {}),
        ledger.consent((oversight, police), 1, 2, 1, |_| {}),
        ledger.consent((police, oversight), 1, 3, 1, |_| {}),
        ledger.consent((shelter, police), 1, 4, 2, |_| {}),
    ];
    let (by_police, by_shelter) = (
        ledger.withdrawal(police, 1, 5, 1),
        ledger.withdrawal(shelter, 1, 6, 1),
    );
    let sources = [shelter.id, oversight.id, police.id];
    for call in calls {
        ledger.tell(call).await.unwrap();
    }
    assert_eq!(ledger.closes(by_police).await, sources.into());
    assert_eq!(ledger.closes(by_shelter).await, [].into(), "it is closed");
    let mut withdrawn = Vec::new();
    for source in sources {
        let grants = ledger.grants_of((source, case(1)), 0).await;
        withdrawn.extend(grants.iter().map(|grant| grant.withdrawn));
    }
    assert_eq!(withdrawn, [true, false, true, true]);
}

#[tokio::test]
async fn an_agency_cannot_fill_a_case() {
    let mut ledger = Ledger::new().await;
    ledger.fill(500).await;
    assert_eq!(ledger.tell(ledger.plain(1, 1)).await, STATE_CONFLICT);
    let shelter = &ledger.exchange.shelter;
    let withdrawal = ledger.withdrawal(shelter, 1, 1, 1);
    assert_eq!(ledger.tell(withdrawal).await, STATE_CONFLICT);
    // Others, and other cases, go on.
    let parties = (&ledger.exchange.police, &ledger.exchange.shelter);
    let theirs = [
        ledger.consent(parties, 1, 1, 1, |_| {}),
        ledger.withdrawal(parties.0, 1, 2, 1),
        ledger.plain_in(2, 3, 1),
    ];
    for call in theirs {
        assert_eq!(ledger.tell(call).await, Ok(()));
    }
}

#[tokio::test]
async fn withdrawals_of_nothing_do_not_keep_out_one_that_closes_something() {
    let mut ledger = Ledger::new().await;
    assert_eq!(ledger.tell(ledger.plain(1, 1)).await, Ok(()));
    ledger.fill(500).await;
    let shelter = &ledger.exchange.shelter;
    let (real, again) = (
        ledger.withdrawal(shelter, 1, 2, 1),
        ledger.withdrawal(shelter, 1, 3, 1),
    );
    assert_eq!(ledger.tell(real).await, Ok(()));
    assert_eq!(ledger.tell(again).await, STATE_CONFLICT, "it is closed");
}

#[tokio::test]
async fn the_source_and_every_recipient_in_the_case_may_withdraw() {
    for by in ["source", "recipient", "another recipient"] {
        let mut ledger = Ledger::new().await;
        ledger.tell(ledger.plain(1, 1)).await.unwrap();
        let exchange = &ledger.exchange;
        let second = ledger.consent((&exchange.shelter, &exchange.oversight), 1, 2, 2, |_| {});
        let signer = match by {
            "source" => &exchange.shelter,
            "recipient" => &exchange.police,
            _ => &exchange.oversight,
        };
        let withdrawal = ledger.withdrawal(signer, 1, 3, 1);
        ledger.tell(second).await.unwrap();
        assert_eq!(ledger.tell(withdrawal).await, Ok(()), "{by}");
        let withdrawn: Vec<_> = ledger
            .grants(1, 0)
            .await
            .iter()
            .map(|g| g.withdrawn)
            .collect();
        assert_eq!(withdrawn, [true, false], "{by}");
        // What became of it is its source's to know.
        assert_eq!(
            ledger.told(now()).await,
            [vec![Withdrawn, InForce], vec![NotInForce]]
        );
    }
}

#[tokio::test]
async fn a_strangers_withdrawal_closes_nothing_and_learns_nothing() {
    let mut ledger = Ledger::new().await;
    ledger.tell(ledger.plain(1, 1)).await.unwrap();
    let stranger = &ledger.exchange.oversight;
    let call = ledger.withdrawal(stranger, 1, 2, 1);
    // Recipients of another source's consents in the case are strangers to this one.
    let of_others = ledger.consent((&ledger.exchange.police, stranger), 1, 3, 3, |_| {});
    ledger.tell(of_others).await.unwrap();
    assert_eq!(ledger.tell(call).await, Ok(()), "as if it came early");
    assert!(!ledger.grants(1, 0).await[0].withdrawn);
    assert_eq!(ledger.told(now()).await[0], [InForce]);
}

#[tokio::test]
async fn an_early_withdrawal_is_kept_and_counts_if_its_signer_is_entitled() {
    for (by, counts) in [("source", true), ("recipient", true), ("stranger", false)] {
        let mut ledger = Ledger::new().await;
        let signer = match by {
            "source" => &ledger.exchange.shelter,
            "recipient" => &ledger.exchange.police,
            _ => &ledger.exchange.oversight,
        };
        let early = ledger.withdrawal(signer, 1, 1, 1);
        assert_eq!(ledger.tell(early).await, Ok(()), "{by}");
        assert_eq!(ledger.tell(ledger.plain(2, 1)).await, Ok(()), "{by}");
        assert_eq!(ledger.grants(1, 0).await[0].withdrawn, counts, "{by}");
    }
}

#[tokio::test]
async fn a_withdrawal_that_names_another_case_neither_counts_nor_stands_in_the_way() {
    let mut ledger = Ledger::new().await;
    let source = &ledger.exchange.shelter;
    let (mistaken, right) = (
        ledger.withdrawal(source, 2, 1, 1),
        ledger.withdrawal(source, 1, 2, 1),
    );
    let record = ledger.plain(3, 1);
    // Decided together or apart, the same.
    let rulings = ledger.decide(&[mistaken, record], now()).await;
    assert!(rulings.iter().all(|ruling| ruling.answer.is_ok()));
    assert!(!ledger.grants(1, 0).await[0].withdrawn);
    assert_eq!(ledger.told(now()).await, [[InForce], [InForce]]);
    assert_eq!(ledger.tell(right).await, Ok(()));
    assert!(ledger.grants(1, 0).await[0].withdrawn);
}

#[tokio::test]
async fn a_consent_put_in_anothers_place_ends_it_for_good() {
    let mut ledger = Ledger::new().await;
    ledger.tell(ledger.plain(1, 1)).await.unwrap();
    let parties = (&ledger.exchange.shelter, &ledger.exchange.police);
    let next = ledger.consent(parties, 1, 2, 2, |consent| {
        consent.supersedes = consent_id(1).to_vec();
    });
    let withdrawal = ledger.withdrawal(parties.0, 1, 3, 2);
    ledger.tell(next).await.unwrap();
    let superseded =
        |grants: &[amanat_policy::Grant]| grants.iter().map(|g| g.superseded).collect::<Vec<_>>();
    assert_eq!(superseded(&ledger.grants(1, 0).await), [true, false]);
    assert_eq!(
        ledger.told(now()).await,
        [[NotInForce, InForce], [NotInForce, InForce]]
    );
    ledger.tell(withdrawal).await.unwrap();
    assert_eq!(superseded(&ledger.grants(1, 0).await), [true, false]);
    assert_eq!(ledger.told(now()).await[1], [NotInForce, NotInForce]);
}

#[tokio::test]
async fn only_its_own_source_puts_another_in_a_consents_place() {
    let mut ledger = Ledger::new().await;
    ledger.tell(ledger.plain(1, 1)).await.unwrap();
    let others = (&ledger.exchange.police, &ledger.exchange.oversight);
    let theirs = ledger.consent(others, 1, 2, 2, |consent| {
        consent.supersedes = consent_id(1).to_vec();
    });
    ledger.tell(theirs).await.unwrap();
    assert!(!ledger.grants(1, 0).await[0].superseded);
}

#[tokio::test]
async fn reads_are_counted_up_to_the_last() {
    let mut ledger = Ledger::new().await;
    let parties = (&ledger.exchange.shelter, &ledger.exchange.police);
    let twice = ledger.consent(parties, 1, 1, 1, |consent| consent.max_reads = 2);
    ledger.tell(twice).await.unwrap();
    assert_eq!(
        ledger.grants(1, 1).await[0].reads,
        1,
        "counted within the batch"
    );
    assert_eq!(ledger.told(now()).await, [[InForce], [InForce]]);
    assert_eq!(ledger.grants(1, 1).await[0].reads, 2, "and beyond it");
    assert_eq!(ledger.told(now()).await, [[NotInForce], [NotInForce]]);
}

#[tokio::test]
async fn every_ruling_leaves_its_entry() {
    let mut ledger = Ledger::new().await;
    let shelter = ledger.exchange.shelter.id;
    let recorded = ledger
        .decide(&[ledger.plain(1, 1)], now())
        .await
        .pop()
        .unwrap();
    assert_eq!(recorded.remember, Some(Vec::new()));
    let draft = recorded.draft.unwrap();
    assert_eq!(draft.body.action(), Action::RecordConsent);
    assert_eq!(draft.body.decision(), Decision::Allow);
    assert_eq!(draft.body.agency_id, shelter.to_vec());
    assert_eq!(draft.linkage.consent_id, consent_id(1).to_vec());
    assert_eq!(draft.linkage.statement_sha256.len(), 32);
    assert_eq!(
        (draft.officer.as_str(), draft.reasons.as_str()),
        ("officer 7", "")
    );

    let reused = ledger.plain(2, 1);
    let refused = ledger.decide(&[reused], now()).await.pop().unwrap();
    assert_eq!(
        refused.remember, None,
        "it can be tried again when things have changed"
    );
    let draft = refused.draft.unwrap();
    assert_eq!(draft.body.action(), Action::RecordConsent);
    assert_eq!(draft.body.decision(), Decision::Deny);
    assert_eq!(draft.body.public_reason, "STATE_CONFLICT");
    assert!(!draft.reasons.is_empty(), "the true reason is committed");
}

use std::time::Duration;

use amanat_identity::Officer;
use amanat_schema::{
    audit::Action,
    policy::{Decision, Right},
    subject::{
        BlindedBatch, EvaluateIdentifiersRequest, EvaluationReason, IdentifierDomain,
        ListUnusedEvaluationsRequest, oprf_service_server::OprfService as _,
    },
};
use amanat_seal::oprf::Blinding;
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{
    acts::{Lie, OFFICER, reason},
    exchange::CASE,
    oprf::{
        AGENCYS, COLLEAGUE, OFFICERS, OPRF_KEYS, TERM, batch, canary, contains, fields, inputs,
        intake, points, public_key,
    },
    world::World,
};
use crate::{
    CustodianError,
    config::{Domain, OprfKeyFile},
    oprf::OprfKeys,
    store::{
        Call,
        head::{Contradiction, HeadCall},
    },
};

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn an_agency_gets_the_tokens_that_the_directorys_keys_prove() {
    let world = World::new().await;
    let mut tokens: Vec<Vec<[u8; 64]>> = Vec::new();
    for key in [0, 0, 1, 2] {
        let (of, epoch) = OPRF_KEYS[key];
        let domain = IdentifierDomain::from(of);
        let blinding = Blinding::new(inputs(domain, 3)).unwrap();
        let mut request = intake(CASE, 1);
        request.batches[0] = BlindedBatch {
            domain: domain.into(),
            epoch,
            blinded_elements: points(&blinding),
        };
        let answer = world.evaluate(&world.shelter, OFFICER, request).await;
        let evaluated = answer.unwrap().batches.remove(0);
        let proved = blinding.finalize(
            &evaluated.evaluated_elements,
            &evaluated.proof,
            &public_key(of, epoch),
        );
        let proved = proved.expect("a proof of the key that was asked");
        tokens.push(proved.iter().map(|token| *token.as_bytes()).collect());
    }
    assert_eq!(tokens[0], tokens[1]);
    for other in [&tokens[2], &tokens[3]] {
        assert!(tokens[0].iter().all(|token| !other.contains(token)));
    }
}

#[tokio::test]
async fn every_batch_of_a_request_is_answered_in_its_place() {
    let world = World::new().await;
    let (older, newer) = (
        inputs(IdentifierDomain::Victim, 2),
        inputs(IdentifierDomain::Victim, 2),
    );
    let blindings = [older, newer].map(|inputs| Blinding::new(inputs).unwrap());
    let mut request = intake(CASE, 1);
    request.batches = [2, 1]
        .into_iter()
        .zip(&blindings)
        .map(|(epoch, blinding)| BlindedBatch {
            domain: IdentifierDomain::Victim.into(),
            epoch,
            blinded_elements: points(blinding),
        })
        .collect();
    let answer = world.evaluate(&world.shelter, OFFICER, request).await;
    let batches = answer.unwrap().batches;
    for ((epoch, blinding), batch) in [2, 1].into_iter().zip(blindings).zip(batches) {
        let key = public_key(Domain::Victim, epoch);
        let proved = blinding.finalize(&batch.evaluated_elements, &batch.proof, &key);
        assert!(proved.is_ok(), "epoch {epoch}");
    }
    assert_eq!(world.last_body().await.count, 4);
}

#[tokio::test]
async fn an_evaluation_is_logged_with_its_number_before_it_is_answered() {
    let world = World::new().await;
    let answer = world.take_in(3).await.unwrap();
    let body = world.last_body().await;
    assert_eq!(body.action(), Action::EvaluateIdentifiers);
    assert_eq!(body.decision(), Decision::Allow);
    assert_eq!(body.count, 3);
    assert_eq!(answer.receipt.unwrap().body, body.encode_to_vec());
}

#[tokio::test]
async fn every_call_is_debited_and_a_repeated_one_too() {
    let world = World::new().await;
    let request = intake(CASE, OFFICERS / 2);
    for _ in 0..2 {
        let answer = world.evaluate(&world.shelter, OFFICER, request.clone());
        answer.await.unwrap();
    }
    let refused = world.evaluate(&world.shelter, OFFICER, request).await;
    assert_eq!(reason(refused), "QUOTA_EXCEEDED");
}

#[tokio::test]
async fn a_refused_call_is_logged_and_debits_nothing() {
    let world = World::new().await;
    world.take_in(OFFICERS - 1).await.unwrap();
    let refused = world.take_in(2).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let body = world.last_body().await;
    assert_eq!(body.action(), Action::EvaluateIdentifiers);
    assert_eq!(body.decision(), Decision::Deny);
    assert_eq!(
        (body.public_reason.as_str(), body.count),
        ("QUOTA_EXCEEDED", 2)
    );
    let told = refused
        .get_error_details()
        .error_info()
        .unwrap()
        .metadata
        .clone();
    assert!(told.contains_key("audit_index"));
    // Neither the officer's last one nor the agency's is gone.
    world.take_in(1).await.unwrap();
    let rest = intake(CASE, AGENCYS - OFFICERS);
    let answer = world.evaluate(&world.shelter, COLLEAGUE, rest).await;
    answer.unwrap();
}

#[tokio::test]
async fn one_domain_that_does_not_fit_refuses_the_whole_request() {
    let world = World::new().await;
    world.take_in(OFFICERS).await.unwrap();
    let mut request = intake(CASE, 1);
    request.batches = vec![
        batch(IdentifierDomain::Composite, 1, OFFICERS),
        batch(IdentifierDomain::Victim, 2, 1),
    ];
    let refused = world
        .evaluate(&world.shelter, OFFICER, request.clone())
        .await;
    assert_eq!(reason(refused), "QUOTA_EXCEEDED");
    // The other key has a budget of its own, and nothing of it was used.
    request.batches.truncate(1);
    let answer = world.evaluate(&world.shelter, OFFICER, request).await;
    answer.unwrap();
}

#[tokio::test]
async fn an_officers_budget_is_his_own_and_the_agencys_is_everybodys() {
    let world = World::new().await;
    world.take_in(OFFICERS).await.unwrap();
    assert_eq!(reason(world.take_in(1).await), "QUOTA_EXCEEDED");
    let left = AGENCYS - OFFICERS;
    let by = |officer, count| world.evaluate(&world.shelter, officer, intake(CASE, count));
    by(COLLEAGUE, left).await.unwrap();
    assert_eq!(reason(by(COLLEAGUE, 1).await), "QUOTA_EXCEEDED");
    assert_eq!(reason(by("officer 3", 1).await), "QUOTA_EXCEEDED");
    // An officer of that name elsewhere is another one.
    let elsewhere = world.evaluate(&world.police, OFFICER, intake(CASE, OFFICERS));
    elsewhere.await.unwrap();
}

#[tokio::test]
async fn calls_at_the_same_time_do_not_share_what_is_left() {
    let world = World::new().await;
    let half = || world.take_in(OFFICERS / 2 + 1);
    let (one, other, third) = tokio::join!(half(), half(), half());
    let served = [one, other, third].iter().filter(|a| a.is_ok()).count();
    assert_eq!(served, 1);
}

#[tokio::test]
async fn a_used_up_budget_survives_a_restart() {
    let world = World::new().await;
    world.take_in(OFFICERS).await.unwrap();
    let world = world.restarted(async |_| {}).await;
    assert_eq!(reason(world.take_in(1).await), "QUOTA_EXCEEDED");
}

#[tokio::test]
async fn the_next_day_refills_and_the_refusal_says_when_it_comes() {
    let world = World::new().await;
    world.take_in(OFFICERS).await.unwrap();
    let refused = world.take_in(1).await.unwrap_err();
    let details = refused.get_error_details();
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    // The clock stands at 09:30.
    assert_eq!(wait, 14 * HOUR + HOUR / 2);
    world.pass(wait - Duration::from_millis(1));
    assert_eq!(reason(world.take_in(1).await), "QUOTA_EXCEEDED");
    world.pass(Duration::from_millis(1));
    world.take_in(OFFICERS).await.unwrap();
    assert_eq!(reason(world.take_in(1).await), "QUOTA_EXCEEDED");
}

#[tokio::test]
async fn a_clock_set_back_over_midnight_refills_nothing() {
    let world = World::new().await;
    world.pass(15 * HOUR);
    world.take_in(OFFICERS).await.unwrap();
    world.set_back(HOUR);
    assert_eq!(reason(world.take_in(1).await), "QUOTA_EXCEEDED");
    world.pass(HOUR);
    assert_eq!(reason(world.take_in(1).await), "QUOTA_EXCEEDED");
    // One that ran ahead for years shuts nobody out for years.
    world.pass(1000 * 24 * HOUR);
    world.take_in(OFFICERS).await.unwrap();
    world.set_back(1000 * 24 * HOUR);
    world.take_in(OFFICERS).await.unwrap();
}

#[tokio::test]
async fn only_auditors_of_the_oversight_body_list_and_plant() {
    let world = World::new().await;
    world.take_in(1).await.unwrap();
    let officer = |right| Officer {
        rights: [right].into(),
        ..world.shelter.officer(OFFICER)
    };
    let agencies = [&world.shelter, &world.police, &world.commission];
    for agency in agencies {
        for right in [Right::CaseWorker, Right::Supervisor, Right::Auditor] {
            let may = agency.id == world.commission.id && right == Right::Auditor;
            let list = agency.asks_as(officer(right), ListUnusedEvaluationsRequest::default());
            let listed = world.oprf().list_unused_evaluations(list).await;
            let plant = agency.asks_as(officer(right), canary());
            let planted = world.oprf().evaluate_identifiers(plant).await;
            assert_eq!(listed.is_ok(), may);
            assert_eq!(planted.is_ok(), may);
            if !may {
                assert_eq!(reason(listed), "ACCESS_DENIED");
                assert_eq!(reason(planted), "ACCESS_DENIED");
                let body = world.last_body().await;
                assert_eq!(body.action(), Action::EvaluateIdentifiers);
                assert_eq!(body.decision(), Decision::Deny);
            }
        }
    }
}

#[tokio::test]
async fn only_case_workers_who_oversee_nobody_look_identifiers_up() {
    let world = World::new().await;
    for reason_asked in [EvaluationReason::Intake, EvaluationReason::Search] {
        for agency in [&world.shelter, &world.commission] {
            for right in [Right::CaseWorker, Right::Auditor, Right::Supervisor] {
                let may = agency.id == world.shelter.id && right == Right::CaseWorker;
                let officer = Officer {
                    rights: [right].into(),
                    ..agency.officer(OFFICER)
                };
                let mut request = intake(CASE, 1);
                request.reason = reason_asked.into();
                let asked = agency.asks_as(officer, request);
                let answer = world.oprf().evaluate_identifiers(asked).await;
                assert_eq!(answer.is_ok(), may);
                if !may {
                    assert_eq!(reason(answer), "ACCESS_DENIED");
                }
            }
        }
    }
}

#[tokio::test]
async fn each_field_that_is_wrong_is_named_and_nothing_is_written() {
    let world = World::new().await;
    let lies: [Lie<EvaluateIdentifiersRequest>; 18] = [
        ("request_id", |r| r.request_id.truncate(15)),
        ("case_id", |r| r.case_id.clear()),
        ("case_id", |r| r.case_id.push(0)),
        ("reason", |r| r.reason = 0),
        ("reason", |r| r.reason = 4),
        ("batches", |r| r.batches.clear()),
        ("batches", |r| r.batches[0].blinded_elements.clear()),
        ("batches", |r| {
            let point = r.batches[0].blinded_elements[0].clone();
            r.batches[0].blinded_elements = vec![point; 101];
        }),
        ("batches[0].domain", |r| r.batches[0].domain = 0),
        ("batches[0].domain", |r| r.batches[0].domain = 4),
        // Listed, and not served yet.
        ("batches[0].domain", |r| {
            r.batches[0] = batch(IdentifierDomain::Suspect, 1, 1);
        }),
        ("batches[0].epoch", |r| r.batches[0].epoch = 0),
        ("batches[0].epoch", |r| r.batches[0].epoch = 3),
        ("batches[1].epoch", |r| {
            r.batches.push(r.batches[0].clone());
        }),
        ("batches[0].blinded_elements[1]", |r| {
            r.batches[0].blinded_elements[1].truncate(31);
        }),
        ("batches[0].blinded_elements[1]", |r| {
            r.batches[0].blinded_elements[1].push(0);
        }),
        ("batches[0].blinded_elements[0]", |r| {
            r.batches[0].blinded_elements[0] = vec![0; 32];
        }),
        ("batches[0].blinded_elements[0]", |r| {
            r.batches[0].blinded_elements[0] = vec![0xff; 32];
        }),
    ];
    for (field, tell) in lies {
        let mut request = intake(CASE, 2);
        tell(&mut request);
        let answer = world.evaluate(&world.shelter, OFFICER, request).await;
        assert_eq!(fields(answer), [field]);
    }
    // A key of another domain's epoch is none.
    let mut request = intake(CASE, 1);
    request.batches = vec![batch(IdentifierDomain::Composite, 2, 1)];
    request.request_id.clear();
    let answer = world.evaluate(&world.shelter, OFFICER, request).await;
    assert_eq!(fields(answer), ["request_id", "batches[0].epoch"]);
    let mut request = canary();
    request.case_id = CASE.to_vec();
    let answer = world.evaluate(&world.commission, OFFICER, request).await;
    assert_eq!(fields(answer), ["case_id"]);

    let rows: i64 = world
        .value(
            "SELECT (SELECT count(*) FROM entries) + (SELECT count(*) FROM evaluations) \
             + (SELECT count(*) FROM budgets)",
        )
        .await;
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_key_that_the_directory_no_longer_lists_evaluates_nothing() {
    let world = World::new().await;
    let oprf = world.oprf();
    world.relist(&OPRF_KEYS[1..]);
    let asked = world.shelter.asks(OFFICER, intake(CASE, 1));
    let answer = oprf.evaluate_identifiers(asked).await;
    assert_eq!(fields(answer), ["batches[0].epoch"]);
}

#[tokio::test]
async fn a_frozen_custodian_evaluates_nothing() {
    let world = World::new().await;
    let freeze = Call::Head(HeadCall::Freeze(Contradiction {
        why: "the test's",
        ours: String::new(),
        theirs: String::new(),
    }));
    let frozen = world.custodian.desk.journal.call(freeze).await;
    frozen.unwrap().answer.map(drop).unwrap();
    assert_eq!(reason(world.take_in(1).await), "LOG_INCONSISTENT");
    let body = world.last_body().await;
    assert_eq!(body.action(), Action::EvaluateIdentifiers);
    assert_eq!((body.decision(), body.count), (Decision::Deny, 1));
    assert!(world.unaccounted().await.is_empty());
}

#[tokio::test]
async fn a_listed_key_whose_seed_is_not_here_debits_nothing() {
    let world = World::new().await;
    let oprf = world.oprf();
    world.relist(&[(Domain::Victim, 3)]);
    let mut request = intake(CASE, 1);
    request.batches[0].epoch = 3;
    let asked = world.shelter.asks(OFFICER, request);
    let answer = oprf.evaluate_identifiers(asked).await;
    assert_eq!(reason(answer), "AUDIT_UNAVAILABLE");
    world.relist(&OPRF_KEYS);
    assert!(world.unaccounted().await.is_empty());
    world.take_in(OFFICERS).await.unwrap();
}

#[tokio::test]
async fn the_custodian_starts_only_with_the_keys_that_the_directory_lists() {
    let world = World::new().await;
    let directory = |keys: &[_]| {
        world.relist(keys);
        world.rules.current()
    };
    let all = directory(&OPRF_KEYS);
    let mut config = world.oprf_config();
    assert!(OprfKeys::load(&config, &all.directory).is_ok());

    let fewer = directory(&OPRF_KEYS[..3]);
    let error = OprfKeys::load(&config, &fewer.directory).err().unwrap();
    assert!(matches!(
        &error,
        CustodianError::OtherOprfKey { domain: "SUSPECT", epoch: 1, public_key: listed, .. }
            if *listed == hex::encode(public_key(Domain::Suspect, 1))
    ));
    let text = error.to_string();
    assert!(text.contains("oprf-Suspect-1.key"), "{text}");

    let lost = config.keys.pop().unwrap();
    let error = OprfKeys::load(&config, &all.directory).err().unwrap();
    assert_eq!(
        error.to_string(),
        "oprf.keys lacks the SUSPECT key of epoch 1 that the directory lists; add its seed"
    );

    // Another seed under its name.
    config.keys.push(OprfKeyFile {
        seed: config.keys[0].seed.clone(),
        ..lost
    });
    let error = OprfKeys::load(&config, &all.directory).err().unwrap();
    assert!(matches!(error, CustodianError::OtherOprfKey { .. }));
}

#[tokio::test]
async fn no_officer_identifier_or_point_lies_in_the_custodians_files() {
    let world = World::new().await;
    let officer = "an officer whose id nobody reads";
    let request = intake(CASE, 2);
    let point = request.batches[0].blinded_elements[0].clone();
    let answer = world.evaluate(&world.shelter, officer, request);
    let answer = answer.await.unwrap();
    world.pass(TERM);
    assert_eq!(world.unused().await.len(), 1);
    let files = world.kept().await;
    assert!(contains(&files, &CASE));
    assert!(!contains(&files, officer.as_bytes()));
    assert!(!contains(&files, &point));
    let evaluated = &answer.batches[0].evaluated_elements[0];
    assert!(!contains(&files, evaluated));
}

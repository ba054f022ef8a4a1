use std::time::Duration;

use amanat_schema::{
    audit::Action,
    subject::{EvaluationReason, ListUnusedEvaluationsRequest},
};
use prost::Message as _;

use super::{
    acts::OFFICER,
    exchange::{CASE, id},
    oprf::{COLLEAGUE, OFFICERS, TERM, canary, contains, fields, intake},
    world::World,
};

#[tokio::test]
async fn what_a_record_has_is_accounted_for_when_it_is_put() {
    let world = World::new().await;
    world.take_in(3).await.unwrap();
    let mut search = intake(CASE, 2);
    search.reason = EvaluationReason::Search.into();
    let answer = world.evaluate(&world.shelter, COLLEAGUE, search).await;
    answer.unwrap();
    assert_eq!(world.unaccounted().await, [3, 2]);
    let version = world.first_version();
    world.deposit(&version).await.unwrap();
    assert_eq!(
        world.unaccounted().await,
        [3, 2],
        "a deposit alone is nothing"
    );
    world.put_late(&version).await;
    assert!(world.unaccounted().await.is_empty());
    world.pass(TERM);
    assert!(world.unused().await.is_empty());
}

#[tokio::test]
async fn one_record_accounts_for_sixteen_identifiers_the_oldest_first() {
    let world = World::new().await;
    for count in [10, 5, 4, 3] {
        world.take_in(count).await.unwrap();
    }
    let version = world.first_version();
    world.keep(&version).await;
    assert_eq!(world.unaccounted().await, [3, 3]);
    // The same again is no other record.
    world.keep(&version).await;
    assert_eq!(world.unaccounted().await, [3, 3]);
    world.keep(&world.first_version()).await;
    assert!(world.unaccounted().await.is_empty());
}

#[tokio::test]
async fn a_correction_accounts_for_what_it_took_to_check_its_person_and_no_more() {
    let world = World::new().await;
    let first = world.first_version();
    world.take_in(16).await.unwrap();
    world.keep(&first).await;
    for count in [2, 10] {
        world.take_in(count).await.unwrap();
    }
    assert_eq!(world.unaccounted().await, [2, 10]);
    world.keep(&world.next_version(&first)).await;
    assert_eq!(world.unaccounted().await, [4]);
    // It leaves nothing for later.
    world.take_in(1).await.unwrap();
    assert_eq!(world.unaccounted().await, [4, 1]);
}

#[tokio::test]
async fn what_a_record_has_left_is_good_for_as_long_as_a_deposit_has() {
    let world = World::new().await;
    world.keep(&world.first_version()).await;
    world.take_in(1).await.unwrap();
    assert!(world.unaccounted().await.is_empty());
    world.pass(TERM);
    world.take_in(1).await.unwrap();
    assert_eq!(world.unaccounted().await, [1]);
}

/// The officer's budget was used up when the record came; the intake is evaluated the next day.
#[tokio::test]
async fn an_intake_after_its_record_is_accounted_for_up_to_what_the_record_has() {
    let world = World::new().await;
    world.take_in(3).await.unwrap();
    world.keep(&world.first_version()).await;
    let mut search = intake(CASE, 1);
    search.reason = EvaluationReason::Search.into();
    let search = world.evaluate(&world.shelter, OFFICER, search);
    search.await.unwrap();
    let by_police = world.evaluate(&world.police, OFFICER, intake(CASE, 1));
    by_police.await.unwrap();
    assert_eq!(world.unaccounted().await, [1, 1]);
    world.take_in(3).await.unwrap();
    assert_eq!(world.unaccounted().await, [1, 1]);
    world.take_in(12).await.unwrap();
    assert_eq!(world.unaccounted().await, [1, 1, 2], "sixteen in all");
}

#[tokio::test]
async fn deposits_that_no_record_follows_account_for_nothing() {
    let world = World::new().await;
    world.take_in(OFFICERS).await.unwrap();
    for _ in 0..3 {
        world.deposit(&world.first_version()).await.unwrap();
    }
    assert_eq!(world.unaccounted().await, [OFFICERS]);
    world.pass(TERM);
    assert_eq!(world.unused().await.len(), 1);
}

#[tokio::test]
async fn an_officer_who_walks_numbers_under_one_case_shows_all_the_same() {
    let world = World::new().await;
    world.take_in(OFFICERS).await.unwrap();
    world.keep(&world.first_version()).await;
    assert_eq!(world.unaccounted().await, [OFFICERS - 16]);
}

#[tokio::test]
async fn a_record_accounts_only_for_what_its_own_agency_evaluated_in_its_case() {
    let world = World::new().await;
    world.take_in(1).await.unwrap();
    let elsewhere = intake(id(), 2);
    let by_police = world.evaluate(&world.police, OFFICER, intake(CASE, 3));
    by_police.await.unwrap();
    let in_another_case = world.evaluate(&world.shelter, OFFICER, elsewhere);
    in_another_case.await.unwrap();
    assert_eq!(world.unaccounted().await, [1, 3, 2]);
    // The shelter's, in its case.
    world.keep(&world.first_version()).await;
    assert_eq!(world.unaccounted().await, [3, 2]);
}

#[tokio::test]
async fn a_put_that_waited_for_the_gateway_counts_from_its_deposit() {
    let world = World::new().await;
    world.take_in(2).await.unwrap();
    world.pass(TERM - Duration::from_millis(1));
    let version = world.first_version();
    world.deposit(&version).await.unwrap();
    world.pass(Duration::from_hours(24));
    assert_eq!(world.unused().await.len(), 1);
    world.put_late(&version).await;
    assert!(world.unused().await.is_empty());
}

#[tokio::test]
async fn what_got_no_record_in_72_hours_is_told_to_oversight_without_its_case() {
    let world = World::new().await;
    let evaluated = world.now();
    world.take_in(2).await.unwrap();
    world.take_in(1).await.unwrap();
    let other = world.evaluate(&world.shelter, COLLEAGUE, intake(CASE, 4));
    other.await.unwrap();
    world.pass(TERM - Duration::from_millis(1));
    assert!(world.unused().await.is_empty());
    world.pass(Duration::from_millis(1));
    let unused = world.unused().await;
    assert_eq!(world.last_action().await, Action::ListEvaluations);
    let counts: Vec<_> = unused.iter().map(|found| found.count).collect();
    assert_eq!(counts, [2, 1, 4]);
    let [first, second, third] = unused.try_into().unwrap();
    assert_eq!(first.agency_id, world.shelter.id.as_bytes());
    assert_eq!(first.reason(), EvaluationReason::Intake);
    assert_eq!(first.evaluate_time, Some(evaluated.to_timestamp()));
    let by = (evaluated + TERM).to_timestamp();
    assert_eq!(first.deposit_by_time, Some(by));
    assert_eq!(first.officer_handle.len(), 16);
    assert_eq!(first.officer_handle, second.officer_handle);
    assert_ne!(first.officer_handle, third.officer_handle);
    assert!(!contains(&first.encode_to_vec(), &CASE));
    // A record whose key comes now comes too late.
    world.keep(&world.first_version()).await;
    assert_eq!(world.unused().await.len(), 3);
}

#[tokio::test]
async fn the_list_is_cut_by_agency_and_into_pages() {
    let world = World::new().await;
    for count in 1..=3 {
        for agency in [&world.shelter, &world.police] {
            let answer = world.evaluate(agency, OFFICER, intake(id(), count));
            answer.await.unwrap();
        }
    }
    world.pass(TERM);
    let request = ListUnusedEvaluationsRequest {
        agency_id: world.police.id.to_vec(),
        page_size: 2,
        ..ListUnusedEvaluationsRequest::default()
    };
    let first = world.list(request.clone()).await.unwrap();
    let next = ListUnusedEvaluationsRequest {
        page_token: first.next_page_token.clone(),
        ..request.clone()
    };
    let second = world.list(next).await.unwrap();
    assert_eq!(second.next_page_token, "");
    let both = [first.evaluations, second.evaluations].concat();
    let counts: Vec<_> = both.iter().map(|found| found.count).collect();
    assert_eq!(counts, [1, 2, 3]);
    let police = world.police.id.as_bytes();
    assert!(both.iter().all(|found| found.agency_id == police));

    let nonsense = ListUnusedEvaluationsRequest {
        agency_id: vec![1],
        page_size: 201,
        ..request
    };
    let found = fields(world.list(nonsense).await);
    assert_eq!(found, ["agency_id", "page_size"]);
}

#[tokio::test]
async fn nobody_waits_for_the_record_of_a_canary() {
    let world = World::new().await;
    let planted = world.evaluate(&world.commission, OFFICER, canary());
    planted.await.unwrap();
    assert_eq!(world.last_body().await.count, 1);
    world.pass(TERM);
    assert!(world.unaccounted().await.is_empty());
}

//! A person's word on who is one and who is two.

use amanat_schema::subject::{
    ListMergesRequest, MergeStatus, subject_service_server::SubjectService as _,
};

use super::{
    super::{POLICE, SHELTER},
    Cnic, GUL, Passport, Phone, THEIR_PHONE, ZARA,
    office::{House, Office, Setting, by, reason, request_id},
};

const NAZ: &str = "AB0000003";

/// Three subjects of the police, found by a CNIC, a phone and a passport.
async fn three(office: &Office<'_>) -> [String; 3] {
    [
        office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap(),
        office.find(POLICE, &[(Phone, THEIR_PHONE)]).await.unwrap(),
        office.find(POLICE, &[(Passport, NAZ)]).await.unwrap(),
    ]
}

#[tokio::test]
async fn merged_subjects_answer_as_the_first_and_a_split_gives_the_second_back() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let [zara, phone, _] = three(&office).await;
    let both = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    office.find(POLICE, &both).await.unwrap();
    let [proposed] = &office.merges_that_are(POLICE, MergeStatus::Proposed).await[..] else {
        panic!("one pair waits");
    };
    assert!(proposed.decide_time.is_none());

    office.merge(POLICE, &zara, &phone).await.unwrap();
    assert_eq!(office.find(POLICE, &both[1..]).await.unwrap(), zara);
    let merges = office.merges(POLICE).await;
    assert_eq!(merges.len(), 1);
    assert_eq!(merges[0].status(), MergeStatus::Merged);
    assert!(merges[0].decide_time.is_some());
    assert!(
        office
            .merges_that_are(POLICE, MergeStatus::Proposed)
            .await
            .is_empty()
    );

    // What was submitted for the second meanwhile is the second's.
    let late = [(Phone, THEIR_PHONE), (Phone, "+923000000009")];
    assert_eq!(office.find(POLICE, &late).await.unwrap(), zara);
    office.split(POLICE, &phone, &zara).await.unwrap();
    assert_eq!(office.find(POLICE, &both[1..]).await.unwrap(), phone);
    assert_eq!(office.find(POLICE, &late[1..]).await.unwrap(), phone);
    assert_eq!(office.find(POLICE, &both).await.unwrap(), zara);
    let merges = office.merges(POLICE).await;
    assert_eq!(merges.len(), 1, "never proposed again");
    assert_eq!(merges[0].status(), MergeStatus::Split);
    office.close().await;
}

#[tokio::test]
async fn a_declined_pair_is_not_proposed_again_and_a_person_may_still_merge_it() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let [zara, phone, _] = three(&office).await;
    office.split(POLICE, &zara, &phone).await.unwrap();
    let both = [(Cnic, ZARA), (Phone, THEIR_PHONE)];
    office.find(POLICE, &both).await.unwrap();
    assert!(
        office
            .merges_that_are(POLICE, MergeStatus::Proposed)
            .await
            .is_empty()
    );
    office.merge(POLICE, &phone, &zara).await.unwrap();
    assert_eq!(office.find(POLICE, &both[..1]).await.unwrap(), phone);
    let merges = office.merges(POLICE).await;
    assert_eq!(merges.len(), 1);
    assert_eq!((&merges[0].into, &merges[0].from), (&phone, &zara));
    office.close().await;
}

#[tokio::test]
async fn a_chain_answers_as_its_end_and_never_becomes_a_ring() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let [zara, phone, naz] = three(&office).await;
    office.merge(POLICE, &phone, &naz).await.unwrap();
    office.merge(POLICE, &zara, &phone).await.unwrap();
    assert_eq!(office.find(POLICE, &[(Passport, NAZ)]).await.unwrap(), zara);

    for (into, from) in [
        (&naz, &zara),
        (&zara, &naz),
        (&phone, &zara),
        (&zara, &phone),
    ] {
        let refused = office.merge(POLICE, into, from).await;
        assert_eq!(refused.unwrap_err(), "STATE_CONFLICT");
    }
    let through_another = office.split(POLICE, &zara, &naz).await;
    assert_eq!(through_another.unwrap_err(), "STATE_CONFLICT");
    assert_eq!(office.find(POLICE, &[(Passport, NAZ)]).await.unwrap(), zara);

    office.split(POLICE, &zara, &phone).await.unwrap();
    assert_eq!(
        office.find(POLICE, &[(Passport, NAZ)]).await.unwrap(),
        phone
    );
    office.split(POLICE, &phone, &naz).await.unwrap();
    assert_eq!(office.find(POLICE, &[(Passport, NAZ)]).await.unwrap(), naz);
    office.merge(POLICE, &naz, &zara).await.unwrap();
    assert_eq!(office.find(POLICE, &[(Cnic, ZARA)]).await.unwrap(), naz);
    office.close().await;
}

#[tokio::test]
async fn what_waits_is_shown_as_those_who_stand_for_it_and_one_word_decides_all_of_it() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let [zara, phone, naz] = three(&office).await;
    let all = [(Cnic, ZARA), (Phone, THEIR_PHONE), (Passport, NAZ)];
    office.find(POLICE, &all).await.unwrap();
    assert_eq!(
        office
            .merges_that_are(POLICE, MergeStatus::Proposed)
            .await
            .len(),
        2
    );
    let gul = office.find(POLICE, &[(Cnic, GUL)]).await.unwrap();
    office.merge(POLICE, &gul, &phone).await.unwrap();
    let waiting = office.merges_that_are(POLICE, MergeStatus::Proposed).await;
    let waiting: Vec<_> = waiting.iter().map(|m| (&m.into, &m.from)).collect();
    assert!(waiting.contains(&(&zara, &gul)) && waiting.contains(&(&zara, &naz)));

    office.merge(POLICE, &zara, &gul).await.unwrap();
    assert_eq!(
        office
            .merges_that_are(POLICE, MergeStatus::Proposed)
            .await
            .len(),
        1
    );
    assert_eq!(
        office.find(POLICE, &[(Phone, THEIR_PHONE)]).await.unwrap(),
        zara
    );
    office.split(POLICE, &zara, &gul).await.unwrap();
    assert_eq!(
        office.find(POLICE, &[(Phone, THEIR_PHONE)]).await.unwrap(),
        gul
    );
    assert_eq!(
        office
            .merges_that_are(POLICE, MergeStatus::Split)
            .await
            .len(),
        2
    );
    office.close().await;
}

#[tokio::test]
async fn anothers_pseudonym_and_nobodys_are_refused_alike() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let [zara, phone, _] = three(&office).await;
    let theirs = office.find(SHELTER, &[(Cnic, ZARA)]).await.unwrap();
    let nobodys = amanat_seal::pseudonym::Pseudonym::from_bytes([5; 16]).to_string();
    for absent in [&theirs, &nobodys] {
        for refused in [
            office.merge(POLICE, &zara, absent).await,
            office.merge(POLICE, absent, &zara).await,
            office.split(POLICE, absent, &zara).await,
        ] {
            assert_eq!(refused.unwrap_err(), "ACCESS_DENIED");
        }
    }
    let mut wrong = phone.clone();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    assert_eq!(
        office.merge(POLICE, &zara, &wrong).await.unwrap_err(),
        "FIELD_INVALID"
    );
    assert_eq!(
        office.merge(POLICE, &zara, &zara).await.unwrap_err(),
        "FIELD_INVALID"
    );
    let by_hand = phone.to_lowercase().replace('0', "o");
    office.merge(POLICE, &zara, &by_hand).await.unwrap();
    office.close().await;
}

#[tokio::test]
async fn a_list_comes_in_pages_for_its_agency_alone() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    for n in 0..3 {
        let (cnic, phone) = (format!("000001234500{n}"), format!("+92300000010{n}"));
        office.find(POLICE, &[(Cnic, &cnic)]).await.unwrap();
        office.find(POLICE, &[(Phone, &phone)]).await.unwrap();
        office
            .find(POLICE, &[(Cnic, &cnic), (Phone, &phone)])
            .await
            .unwrap();
    }
    let list = |page_size, page_token: &str| ListMergesRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..ListMergesRequest::default()
    };
    let worker = office.worker(POLICE);
    let first = office
        .desk
        .list_merges(by(&worker, list(2, "")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first.merges.len(), 2);
    let token = &first.next_page_token;
    let rest = office
        .desk
        .list_merges(by(&worker, list(2, token)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((rest.merges.len(), rest.next_page_token.as_str()), (1, ""));
    let shelter = office.worker(SHELTER);
    let stolen = office.desk.list_merges(by(&shelter, list(2, token))).await;
    assert_eq!(reason(&stolen.unwrap_err()), "FIELD_INVALID");
    let bad = ListMergesRequest {
        status: 9,
        ..ListMergesRequest::default()
    };
    let bad = office.desk.list_merges(by(&worker, bad)).await;
    assert_eq!(reason(&bad.unwrap_err()), "FIELD_INVALID");
    office.close().await;
}

#[tokio::test]
async fn a_repeated_judgement_is_answered_and_not_done_twice() {
    let house = House::new().await;
    let office = house.open(&Setting::default()).await.unwrap();
    let [zara, phone, _] = three(&office).await;
    let request = amanat_schema::subject::MergeSubjectsRequest {
        request_id: request_id(),
        into: zara,
        from: phone,
    };
    let supervisor = office.supervisor(POLICE);
    for _ in 0..2 {
        office
            .desk
            .merge_subjects(by(&supervisor, request.clone()))
            .await
            .unwrap();
    }
    let worker = office
        .desk
        .merge_subjects(by(&office.worker(POLICE), request))
        .await;
    assert_eq!(reason(&worker.unwrap_err()), "ACCESS_DENIED");
    assert_eq!(house.count("aliases").await, 1);
    office.close().await;
}

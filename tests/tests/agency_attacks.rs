//! Agencies that reach for what is not theirs, through honest servers: ids that are another's, certificates,
//! tokens and referral steps in another's name.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::{Acting, Connector, Server};
use amanat_schema::{
    CaseId, RecordId, ReferralId,
    consent::{ListConsentsRequest, ListConsentsResponse},
    policy::ReferralState,
    record::ReadRecordRequest,
    referral::{GetReferralRequest, TransitionReferralRequest, TransitionReferralResponse},
    statement::{Consent, ReferralTransition, Statement},
};
use amanat_tests::{
    Running,
    party::{Party, asked, certified_by, honest_ask, id, now, reason},
    story::{
        HOUR, NGO, PERMITTED, POLICE, SHELTER, Sealed, Story, activate, record_consent, refer_only,
        submit,
    },
};
use prost::Message as _;
use tonic::{Code, Status};

const SERVERS: [Server; 2] = [Server::Gateway, Server::Custodian];

fn running() -> Running {
    Running::start(env!("CARGO_BIN_EXE_amanat"), "info")
}

#[tokio::test]
async fn an_id_that_another_agency_uses_too_is_another_record() {
    let running = running();
    let story = Story::tell(&running).await;
    let (shelter, ngo) = (Party::open(&running, SHELTER), Party::open(&running, NGO));
    let token = shelter.token();
    let before = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let before = shelter.release(&token, honest_ask(&before)).await.unwrap();

    let squatted = Sealed::new(&ngo, story.case, story.record, None);
    let put = squatted.put(&ngo).await;
    activate(&ngo, put).await.unwrap();

    let after = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let after = shelter.release(&token, honest_ask(&after)).await.unwrap();
    assert_eq!(before.keys, after.keys);
    let of_the_squatter = ReadRecordRequest {
        source_id: ngo.agency.to_vec(),
        ..story.ask(&PERMITTED)
    };
    assert_eq!(reason(shelter.read(of_the_squatter).await), "ACCESS_DENIED");
    // And the other way round: who comes first keeps nobody out.
    let record = RecordId::parse(&id()).unwrap();
    for name in [NGO, POLICE] {
        let party = Party::open(&running, name);
        let put = Sealed::new(&party, story.case, record, None)
            .put(&party)
            .await;
        activate(&party, put).await.unwrap();
    }
    let story = Story { record, ..story };
    let opened = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    shelter.release(&token, honest_ask(&opened)).await.unwrap();
    running.verify().await;
}

#[tokio::test]
async fn a_certificate_in_anothers_name_ends_in_the_handshake_of_both_servers() {
    let running = running();
    let open = |issuer| {
        let profile = certified_by(&running, issuer, SHELTER);
        let acting = Acting::Officer("default".to_owned());
        Connector::open(profile, acting, amanat::system_clock())
    };
    let (own, forged) = (open(SHELTER).await.unwrap(), open(NGO).await.unwrap());
    for server in SERVERS {
        own.list_consents(server, None).await.unwrap();
        let refused = forged.list_consents(server, None).await;
        assert_eq!(reason(refused), "CREDENTIAL_INVALID", "{server:?}");
    }
    running.verify().await;
}

#[tokio::test]
async fn a_token_is_good_for_its_own_agency_time_and_certificate() {
    let running = running();
    let (shelter, ngo) = (Party::open(&running, SHELTER), Party::open(&running, NGO));
    let (officer, certificate) = (&shelter.officer, &shelter.certificate_sha256);
    let minute = HOUR / 60;
    let bad = [
        ("another agency's", ngo.token()),
        (
            "another agency's issuer",
            ngo.token_at(officer, now(), certificate),
        ),
        (
            "expired",
            shelter.token_at(officer, now() - minute * 16, certificate),
        ),
        (
            "of the future",
            shelter.token_at(officer, now() + HOUR, certificate),
        ),
        (
            "another certificate's",
            shelter.token_at(officer, now(), &ngo.certificate_sha256),
        ),
        (
            "cut short",
            shelter.token().trim_end_matches(|c| c != '.').to_owned(),
        ),
        ("no token at all", String::new()),
    ];
    for server in SERVERS {
        list_consents(&shelter, server, &shelter.token())
            .await
            .unwrap();
        for (what, token) in &bad {
            let refused = list_consents(&shelter, server, token).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{server:?}: {what}");
            assert_eq!(
                reason(Err::<(), _>(refused)),
                "CREDENTIAL_INVALID",
                "{server:?}: {what}"
            );
        }
        // The same in a statement, but for the certificate: the signature takes its place.
        for (what, token) in bad
            .iter()
            .filter(|(what, _)| *what != "another certificate's")
        {
            let statement = shelter.sign_with(token, CaseId::new([1; 16]), &[], |head| Consent {
                head: Some(head),
                ..Consent::default()
            });
            let refused = record_consent(&shelter, server, &statement).await;
            assert_eq!(
                reason(refused),
                "CREDENTIAL_INVALID",
                "{server:?}: carried, {what}"
            );
        }
    }
    running.verify().await;
}

async fn list_consents(
    party: &Party,
    server: Server,
    token: &str,
) -> Result<ListConsentsResponse, Status> {
    let request = asked(ListConsentsRequest::default(), token);
    Ok(party
        .consents(server)
        .list_consents(request)
        .await?
        .into_inner())
}

#[tokio::test]
async fn a_referral_moves_by_its_recipients_signed_steps_one_after_another() {
    use ReferralState::{Accepted, Acknowledged, Completed, InService, Rejected, Revoked};
    let running = running();
    let case = submit(&running).await.case;
    let [police, shelter, ngo] = [POLICE, SHELTER, NGO].map(|name| Party::open(&running, name));
    let referral = refer_only(&running, case, &["case.urgency"]).await;
    let other = refer_only(&running, case, &["case.urgency"]).await;
    let (first, of_other) = (
        newest(&shelter, referral).await,
        newest(&shelter, other).await,
    );
    let (denied, conflict) = ("ACCESS_DENIED", "STATE_CONFLICT");
    let by = |party: &Party, case, follows: &[u8], to| step(party, case, referral, follows, to);

    for (what, party, step, expected) in [
        (
            "its sender",
            &police,
            by(&police, case, &first, Acknowledged),
            conflict,
        ),
        (
            "a stranger",
            &ngo,
            by(&ngo, case, &first, Acknowledged),
            denied,
        ),
        (
            "another case",
            &shelter,
            by(&shelter, CaseId::new([9; 16]), &first, Acknowledged),
            denied,
        ),
        (
            "nothing before",
            &shelter,
            by(&shelter, case, &[], Acknowledged),
            conflict,
        ),
        (
            "another referral",
            &shelter,
            by(&shelter, case, &of_other, Acknowledged),
            conflict,
        ),
        (
            "a step left out",
            &shelter,
            by(&shelter, case, &first, Accepted),
            conflict,
        ),
        (
            "a stranger's delivery",
            &ngo,
            by(&shelter, case, &first, Acknowledged),
            "CREDENTIAL_INVALID",
        ),
    ] {
        let to = ReferralTransition::decode(payload(&step))
            .unwrap()
            .to_state();
        assert_eq!(reason(take(party, to, &step).await), expected, "{what}");
    }
    let acknowledged = by(&shelter, case, &first, Acknowledged);
    let as_acceptance = take(&shelter, Accepted, &acknowledged).await;
    assert_eq!(reason(as_acceptance), "FIELD_INVALID");

    take(&shelter, Acknowledged, &acknowledged).await.unwrap();
    let second = newest(&shelter, referral).await;
    assert_eq!(second, amanat_seal::sha256(payload(&acknowledged)));
    // One step is taken of two that follow the same one.
    let (accepted, rejected) = (
        by(&shelter, case, &second, Accepted),
        by(&shelter, case, &second, Rejected),
    );
    take(&shelter, Accepted, &accepted).await.unwrap();
    assert_eq!(reason(take(&shelter, Rejected, &rejected).await), conflict);
    let third = newest(&shelter, referral).await;
    for (what, party, to, expected) in [
        ("taken back by its recipient", &shelter, Revoked, conflict),
        ("taken back by a stranger", &ngo, Revoked, denied),
        ("served by its sender", &police, InService, conflict),
        ("ended before it began", &shelter, Completed, conflict),
    ] {
        let step = by(party, case, &third, to);
        assert_eq!(reason(take(party, to, &step).await), expected, "{what}");
    }
    // What a step says beside its state is one of the codes, and stands with its own state only.
    for (to, rejection_reason, outcome) in [
        (InService, 0, 1),
        (InService, 99, 0),
        (Completed, 0, 0),
        (Completed, 0, 99),
    ] {
        let said = shelter.sign(case, &third, |head| ReferralTransition {
            head: Some(head),
            referral_id: referral.to_vec(),
            to_state: to.into(),
            rejection_reason,
            outcome,
        });
        let refused = reason(take(&shelter, to, &said).await);
        assert_eq!(
            refused, "FIELD_INVALID",
            "{to:?} {rejection_reason} {outcome}"
        );
    }
    // A replay is answered as the first time, and changes nothing.
    take(&shelter, Acknowledged, &acknowledged).await.unwrap();
    let seen = running
        .connector(POLICE)
        .await
        .get_referral(referral)
        .await
        .unwrap();
    assert_eq!(seen.state, Accepted);
    let seen = running
        .connector(POLICE)
        .await
        .get_referral(other)
        .await
        .unwrap();
    assert_eq!(seen.state, ReferralState::Submitted);
    running.verify().await;
}

fn step(
    party: &Party,
    case: CaseId,
    referral: ReferralId,
    follows: &[u8],
    to: ReferralState,
) -> Statement {
    party.sign(case, follows, |head| ReferralTransition {
        head: Some(head),
        referral_id: referral.to_vec(),
        to_state: to.into(),
        rejection_reason: i32::from(to == ReferralState::Rejected),
        outcome: i32::from(to == ReferralState::Completed),
    })
}

/// Hands a signed step to the call of a state.
async fn take(
    party: &Party,
    to: ReferralState,
    step: &Statement,
) -> Result<TransitionReferralResponse, Status> {
    let request = TransitionReferralRequest {
        request_id: id(),
        transition: Some(step.clone()),
    };
    let mut referrals = party.referrals();
    let answer = match to {
        ReferralState::Accepted => referrals.accept_referral(request).await,
        ReferralState::Rejected => referrals.reject_referral(request).await,
        ReferralState::InService => referrals.start_service(request).await,
        ReferralState::Completed => referrals.complete_referral(request).await,
        ReferralState::Revoked => referrals.revoke_referral(request).await,
        ReferralState::Acknowledged
        | ReferralState::Unspecified
        | ReferralState::Submitted
        | ReferralState::Suspended => referrals.acknowledge_referral(request).await,
    };
    Ok(answer?.into_inner())
}

fn payload(statement: &Statement) -> &[u8] {
    &statement.envelope.as_ref().unwrap().payload
}

/// The SHA-256 of the referral's newest signed step.
async fn newest(party: &Party, referral: ReferralId) -> [u8; 32] {
    let request = GetReferralRequest {
        referral_id: referral.to_vec(),
    };
    let answer = party
        .referrals()
        .get_referral(asked(request, &party.token()))
        .await
        .unwrap();
    let referral = answer.into_inner().referral.unwrap();
    let step = referral.transitions.last().cloned().or(referral.submission);
    amanat_seal::sha256(&step.unwrap().payload)
}

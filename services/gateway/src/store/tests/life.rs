//! A referral from its submission to its end, and the one that takes it up again.

use amanat_database::Column::Bytes;

use super::*;

const NEXT: ReferralId = ReferralId::new([0x4f; 16]);
const PURPOSE: Purpose = Purpose::Investigation;
/// What brings a new referral of the police's to each state, and the state.
const WAYS: [(&[Step], ReferralState); 6] = [
    (&[], ReferralState::Submitted),
    (&[Step::Acknowledge], ReferralState::Acknowledged),
    (&[Step::Acknowledge, Step::Reject], ReferralState::Rejected),
    (&[Step::Acknowledge, Step::Accept], ReferralState::Accepted),
    (
        &[Step::Acknowledge, Step::Accept, Step::Start],
        ReferralState::InService,
    ),
    (
        &[Step::Acknowledge, Step::Accept, Step::Start, Step::Complete],
        ReferralState::Completed,
    ),
];

#[tokio::test]
async fn a_service_begins_after_acceptance_and_ends_once() {
    let mut gateway = Gateway::new().await;
    let first = gateway
        .submit(SHELTER, REFERRAL, PURPOSE, STATUS)
        .await
        .unwrap();
    let early = gateway.step(POLICE, REFERRAL, Step::Start, first).await;
    assert_eq!(early, Err("STATE_CONFLICT"));
    let accepted = gateway
        .walk(REFERRAL, first, &[Step::Acknowledge, Step::Accept])
        .await;
    let unstarted = gateway
        .step(POLICE, REFERRAL, Step::Complete, accepted)
        .await;
    assert_eq!(unstarted, Err("STATE_CONFLICT"));
    let by_sender = gateway.step(SHELTER, REFERRAL, Step::Start, accepted).await;
    assert_eq!(by_sender, Err("STATE_CONFLICT"));
    let stranger = gateway
        .step(STRANGER, REFERRAL, Step::Start, accepted)
        .await;
    assert_eq!(stranger, Err("ACCESS_DENIED"));
    let newest = gateway
        .walk(REFERRAL, accepted, &[Step::Start, Step::Complete])
        .await;
    assert_eq!(
        gateway.state(SHELTER, REFERRAL).await,
        Ok((ReferralState::Completed, 4))
    );
    for (party, step) in [(POLICE, Step::Complete), (SHELTER, Step::Revoke)] {
        let again = gateway.step(party, REFERRAL, step, newest).await;
        assert_eq!(again, Err("STATE_CONFLICT"));
    }
}

#[tokio::test]
async fn who_leaves_the_directory_while_a_step_waits_is_refused_when_it_is_decided() {
    let mut gateway = Gateway::new().await;
    let first = gateway
        .submit(SHELTER, REFERRAL, PURPOSE, STATUS)
        .await
        .unwrap();
    let police = gateway.id(POLICE).to_vec();
    type Change = fn(&mut amanat_schema::directory::Agency);
    let changes: [(&str, Change); 2] = [
        ("gone", |agency| agency.agency_id = vec![0x77; 16]),
        ("of another kind", |agency| {
            agency.set_kind(amanat_schema::policy::AgencyKind::Health);
        }),
    ];
    for (what, change) in changes {
        let (_, statement) = gateway.sign(POLICE, &first, |head| ReferralTransition {
            head,
            referral_id: REFERRAL.to_vec(),
            ..ReferralTransition::default()
        });
        let waiting = TransitionReferral {
            act: gateway.act(POLICE),
            action: Action::AcknowledgeReferral,
            step: Step::Acknowledge,
            case: CASE,
            referral: REFERRAL,
            statement,
        };
        let mut wire = gateway.parties.wire();
        let mut listed = wire.agencies.iter_mut();
        change(listed.find(|agency| agency.agency_id == police).unwrap());
        gateway.take_into_use(&wire);
        let ruled = gateway.decide(Call::Transition(Box::new(waiting))).await;
        let refusal = ruled.answer.err().expect("a refusal");
        assert_eq!(refusal.reason(), "CREDENTIAL_INVALID", "{what}");
        let body = ruled.draft.expect("an entry").body;
        assert_eq!(body.action(), Action::AuthenticationFailures, "{what}");
        assert_eq!(body.count, 1, "{what}");
        let wire = gateway.parties.wire();
        gateway.take_into_use(&wire);
    }
    assert_eq!(gateway.acknowledge(first).await, Ok(()));
}

impl Gateway {
    pub(super) fn take_into_use(&self, wire: &amanat_schema::directory::Directory) {
        let rules = self.exchange.rules.current();
        let signed = self.parties.publish(wire);
        let directory = amanat_identity::Directory::verify(&signed, &self.parties.pinned());
        self.exchange.rules.replace(Rules {
            directory: Arc::new(directory.unwrap()),
            table: rules.table.clone(),
            ..*rules
        });
    }
}

#[tokio::test]
async fn its_sender_takes_back_what_is_open_and_nobody_else_does() {
    for (way, state) in WAYS {
        let mut gateway = Gateway::new().await;
        let first = gateway
            .submit(SHELTER, REFERRAL, PURPOSE, STATUS)
            .await
            .unwrap();
        let newest = gateway.walk(REFERRAL, first, way).await;
        let by_recipient = gateway.step(POLICE, REFERRAL, Step::Revoke, newest).await;
        assert_eq!(by_recipient, Err("STATE_CONFLICT"), "{state:?}");
        let by_sender = gateway.step(SHELTER, REFERRAL, Step::Revoke, newest).await;
        if amanat_policy::is_open(state) {
            let follows = gateway
                .step(POLICE, REFERRAL, Step::Acknowledge, by_sender.unwrap())
                .await;
            assert_eq!(follows, Err("STATE_CONFLICT"), "{state:?}");
            let seen = gateway.state(POLICE, REFERRAL).await;
            assert_eq!(seen, Ok((ReferralState::Revoked, way.len() + 1)));
        } else {
            assert_eq!(by_sender, Err("STATE_CONFLICT"), "{state:?}");
        }
    }
}

#[tokio::test]
async fn a_withdrawal_suspends_a_service_too_and_its_sender_may_still_take_it_back() {
    let mut gateway = Gateway::new().await;
    gateway.consent(SHELTER, 1, PURPOSE).await;
    let first = gateway
        .submit(SHELTER, REFERRAL, PURPOSE, NARRATIVE)
        .await
        .unwrap();
    let newest = gateway
        .walk(
            REFERRAL,
            first,
            &[Step::Acknowledge, Step::Accept, Step::Start],
        )
        .await;
    gateway.withdraw(SHELTER, 1).await;
    assert_eq!(
        gateway.state(POLICE, REFERRAL).await,
        Ok((ReferralState::Suspended, 3))
    );
    let done = gateway.step(POLICE, REFERRAL, Step::Complete, newest).await;
    assert_eq!(done, Err("STATE_CONFLICT"));
    gateway
        .step(SHELTER, REFERRAL, Step::Revoke, newest)
        .await
        .unwrap();
    assert_eq!(
        gateway.state(POLICE, REFERRAL).await,
        Ok((ReferralState::Revoked, 4))
    );
}

#[tokio::test]
async fn what_is_closed_can_be_taken_up_and_what_is_open_cannot() {
    for (way, state) in WAYS {
        let mut gateway = Gateway::new().await;
        let first = gateway
            .submit(SHELTER, REFERRAL, PURPOSE, STATUS)
            .await
            .unwrap();
        gateway.walk(REFERRAL, first, way).await;
        let previous = Some((REFERRAL, first));
        let next = gateway
            .submit_after(SHELTER, NEXT, PURPOSE, STATUS, previous)
            .await;
        if amanat_policy::is_open(state) {
            assert_eq!(next, Err("STATE_CONFLICT"), "{state:?}");
            assert_eq!(gateway.state(SHELTER, NEXT).await, Err("ACCESS_DENIED"));
        } else {
            next.unwrap();
            let (seen, _) = gateway.state(POLICE, NEXT).await.unwrap();
            assert_eq!(seen, ReferralState::Submitted);
        }
        let unchanged = gateway.state(POLICE, REFERRAL).await;
        assert_eq!(unchanged, Ok((state, way.len())));
    }
}

#[tokio::test]
async fn one_that_was_taken_back_or_suspended_can_be_taken_up_more_than_once() {
    let mut gateway = Gateway::new().await;
    gateway.consent(SHELTER, 1, PURPOSE).await;
    let suspended = gateway
        .submit(SHELTER, REFERRAL, PURPOSE, NARRATIVE)
        .await
        .unwrap();
    gateway.withdraw(SHELTER, 1).await;
    let again = Some((REFERRAL, suspended));
    let other = gateway
        .submit_after(SHELTER, NEXT, PURPOSE, NARRATIVE, again)
        .await;
    assert_eq!(other, Err("NOTHING_RELEASABLE"), "a basis is needed anew");
    let next = gateway
        .submit_after(SHELTER, NEXT, PURPOSE, STATUS, again)
        .await
        .unwrap();
    gateway
        .step(SHELTER, NEXT, Step::Revoke, next)
        .await
        .unwrap();
    for (id, previous) in [(1, again), (2, Some((NEXT, next)))] {
        let id = ReferralId::new([id; 16]);
        let taken = gateway
            .submit_after(SHELTER, id, PURPOSE, STATUS, previous)
            .await;
        assert!(taken.is_ok(), "{taken:?}");
    }
}

#[tokio::test]
async fn only_ones_own_of_the_same_case_is_taken_up_and_by_its_own_bytes() {
    let mut gateway = Gateway::new().await;
    let own = gateway
        .submit(SHELTER, REFERRAL, PURPOSE, STATUS)
        .await
        .unwrap();
    gateway
        .step(SHELTER, REFERRAL, Step::Revoke, own)
        .await
        .unwrap();
    let mut take_up = async |sender, case, previous| {
        gateway.case = case;
        gateway
            .submit_after(sender, NEXT, PURPOSE, STATUS, Some(previous))
            .await
            .map(drop)
    };
    let (absent, elsewhere) = (ReferralId::new([9; 16]), CaseId::new([9; 16]));
    let denied = Err("ACCESS_DENIED");
    assert_eq!(take_up(SHELTER, CASE, (absent, own)).await, denied);
    assert_eq!(take_up(STRANGER, CASE, (REFERRAL, own)).await, denied);
    assert_eq!(take_up(SHELTER, elsewhere, (REFERRAL, own)).await, denied);
    let other_bytes = take_up(SHELTER, CASE, (REFERRAL, [7; 32])).await;
    assert_eq!(other_bytes, Err("FIELD_INVALID"));
    assert_eq!(take_up(SHELTER, CASE, (REFERRAL, own)).await, Ok(()));
}

#[tokio::test]
async fn an_agency_submits_so_many_referrals_in_a_case_and_keeps_nobody_else_from_it() {
    let mut gateway = Gateway::new().await;
    let submitted = gateway.submit(SHELTER, REFERRAL, PURPOSE, STATUS).await;
    submitted.unwrap();
    gateway.copy_referral(referral::MOST - 2).await;
    let last = gateway.submit(SHELTER, NEXT, PURPOSE, STATUS).await;
    last.unwrap();
    let surplus = ReferralId::new([0x50; 16]);
    let refused = gateway.submit(SHELTER, surplus, PURPOSE, STATUS).await;
    assert_eq!(refused, Err("STATE_CONFLICT"));
    let elsewhere = gateway.submit(STRANGER, surplus, PURPOSE, STATUS).await;
    assert!(elsewhere.is_ok(), "by another sender");
    gateway.case = CaseId::new([0xc6; 16]);
    let elsewhere = gateway.submit(SHELTER, surplus, PURPOSE, STATUS).await;
    assert!(elsewhere.is_ok(), "in another case");
}

impl Gateway {
    /// So often, under other ids.
    async fn copy_referral(&mut self, times: usize) {
        let ids = (0..times).map(|_| [amanat_seal::random::<16>().unwrap().into()]);
        let copied = Sql::new(
            "INSERT INTO referrals (referral_id, case_id, sender, recipient, submission, \
             payload_sha256, state, last_sha256, submit_time, respond_by_time) \
             SELECT copies.id, r.case_id, r.sender, r.recipient, r.submission, r.payload_sha256, \
             r.state, r.last_sha256, r.submit_time, r.respond_by_time FROM referrals AS r CROSS JOIN ",
        )
        .rows("copies", [Bytes("id")], ids)
        .execute(&mut self.connection)
        .await;
        assert_eq!(copied.unwrap(), times as u64);
    }
}

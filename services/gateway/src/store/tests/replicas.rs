//! What a replica keeps in memory, and what others do to the database meanwhile.

use std::{future::Future, mem, pin::Pin, sync::atomic::Ordering};

use amanat_schema::subject::SubjectIdentifierType::Cnic;
use subject::{FindReason, FindSubject, Identifier, Peppered, SubjectId};

use super::{reads::RECORD, *};

const PURPOSE: Purpose = Purpose::Investigation;

/// What another replica does.
type Change = for<'g> fn(&'g mut Gateway) -> Pin<Box<dyn Future<Output = ()> + 'g>>;

impl Gateway {
    /// Another replica, which knows nothing yet, acts for a while. Returns what it logged.
    async fn elsewhere(&mut self, change: Change) -> Vec<Logged> {
        let mut other = exchange(self.exchange.rules.clone());
        mem::swap(&mut self.exchange, &mut other);
        self.logged.clear();
        change(self).await;
        mem::swap(&mut self.exchange, &mut other);
        mem::take(&mut self.logged)
    }

    /// Of the read by the police: the version it opens, or why it opens none.
    async fn opened(&mut self) -> Result<u32, &'static str> {
        let ruled = self.read(RECORD).await;
        let version = ruled.draft.unwrap().linkage.version;
        ruled
            .answer
            .map(|_| version)
            .map_err(|refusal| refusal.reason())
    }

    /// The version and the header that the next one of the record follows.
    async fn newest(&mut self) -> (u32, [u8; 32]) {
        let row = record::newest(record::versions::VERSION, &[RECORD])
            .fetch_one(&mut self.connection)
            .await
            .unwrap();
        (row.get(3).unwrap(), row.get(5).unwrap())
    }

    /// The newest step of the referral.
    async fn newest_step(&mut self) -> [u8; 32] {
        let row = Sql::new("SELECT last_sha256 FROM referrals WHERE referral_id = ")
            .bind(REFERRAL.to_vec())
            .fetch_one(&mut self.connection)
            .await
            .unwrap();
        row.get(0).unwrap()
    }
}

/// Each change, and what the read says after it.
const CHANGES: [(&str, Change, Result<u32, &str>); 5] = [
    (
        "a new version",
        |gateway| {
            Box::pin(async {
                let newest = gateway.newest().await;
                gateway.put_sealed(SHELTER, RECORD, Some(newest)).await;
            })
        },
        Ok(2),
    ),
    (
        "the referral is taken back",
        |gateway| {
            Box::pin(async {
                let newest = gateway.newest_step().await;
                let step = gateway.step(SHELTER, REFERRAL, Step::Revoke, newest);
                step.await.unwrap();
            })
        },
        Err("NOTHING_RELEASABLE"),
    ),
    (
        "the service ends",
        |gateway| {
            Box::pin(async {
                let newest = gateway.newest_step().await;
                let steps = [Step::Start, Step::Complete];
                gateway.walk(REFERRAL, newest, &steps).await;
            })
        },
        Err("NOTHING_RELEASABLE"),
    ),
    (
        "the consent is withdrawn",
        |gateway| Box::pin(gateway.withdraw(SHELTER, 1)),
        Err("NOTHING_RELEASABLE"),
    ),
    (
        "the consent is withdrawn by who received it",
        |gateway| Box::pin(gateway.withdraw(POLICE, 1)),
        Err("NOTHING_RELEASABLE"),
    ),
];

#[tokio::test]
async fn what_another_replica_changed_is_loaded_again() {
    for (what, change, then) in CHANGES {
        let mut gateway = Gateway::shared().await;
        assert_eq!(gateway.opened().await, Ok(1));
        let logged = gateway.elsewhere(change).await;
        assert_eq!(gateway.opened().await, Ok(1), "kept in memory: {what}");
        gateway.exchange.overtaken(Overtaking::Entries(&logged));
        assert_eq!(gateway.opened().await, then, "{what}");
    }
}

#[tokio::test]
async fn when_nobody_can_tell_what_changed_everything_is_loaded_again() {
    for (what, change, then) in CHANGES {
        let mut gateway = Gateway::shared().await;
        assert_eq!(gateway.opened().await, Ok(1));
        gateway.elsewhere(change).await;
        gateway.exchange.overtaken(Overtaking::Unknown);
        assert_eq!(gateway.opened().await, then, "{what}");
    }
}

#[tokio::test]
async fn a_referral_that_another_replica_took_opens_what_was_closed() {
    let mut gateway = Gateway::new().await;
    gateway.put_sealed(SHELTER, RECORD, None).await;
    gateway.consent(SHELTER, 1, PURPOSE).await;
    assert_eq!(gateway.opened().await, Err("ACCESS_DENIED"));
    let submit: Change = |gateway| {
        Box::pin(async {
            let submitted = gateway.submit(SHELTER, REFERRAL, PURPOSE, NARRATIVE).await;
            let steps = [Step::Acknowledge, Step::Accept];
            gateway.walk(REFERRAL, submitted.unwrap(), &steps).await;
        })
    };
    let logged = gateway.elsewhere(submit).await;
    gateway.exchange.overtaken(Overtaking::Entries(&logged));
    assert_eq!(gateway.opened().await, Ok(1));
}

/// An entry of something else, or a refusal, costs nothing that is in memory.
#[tokio::test]
async fn what_changed_nothing_is_not_forgotten() {
    let mut gateway = Gateway::shared().await;
    assert_eq!(gateway.opened().await, Ok(1));
    let change: Change = |gateway| {
        Box::pin(async {
            let denied = gateway.acknowledge([0; 32]).await;
            assert_eq!(denied, Err("STATE_CONFLICT"));
            gateway.case = CaseId::new([0xc6; 16]);
            let elsewhere = gateway.submit(SHELTER, ReferralId::new([9; 16]), PURPOSE, STATUS);
            elsewhere.await.unwrap();
            gateway.case = CASE;
        })
    };
    let logged = gateway.elsewhere(change).await;
    assert_eq!(logged.len(), 2);
    gateway.exchange.overtaken(Overtaking::Entries(&logged));
    let memory = &gateway.exchange.memory;
    let source = gateway.parties.shelter.id;
    assert!(memory.referrals.get(&(source, CASE)).is_some());
    assert!(memory.contents.get(&(source, RECORD)).is_some());
    assert!(memory.consents.get(&(source, CASE)).is_some());
}

impl Gateway {
    /// As it would be done by a replica with these peppers.
    async fn advance(&mut self, peppers: &[u8]) {
        let before = mem::replace(&mut self.exchange.subjects, subject_keys(peppers));
        let advance = Call::Subject(Box::new(SubjectCall::AdvancePeppers));
        assert!(self.decide(advance).await.answer.is_ok());
        self.exchange.subjects = before;
    }

    /// By the police, of one number.
    async fn find(&mut self) -> Ruled {
        let identifier = Identifier {
            kind: Cnic,
            tokens: vec![(1, Peppered([7; 32]))],
            as_canary: vec![Peppered([8; 32])],
        };
        let find = FindSubject {
            act: self.act(POLICE),
            reason: FindReason::Intake,
            identifiers: vec![identifier],
            fresh: SubjectId(amanat_seal::random().unwrap()),
            officer_handle: [0; 16],
        };
        self.decide(Call::Subject(Box::new(SubjectCall::Find(find))))
            .await
    }

    async fn subjects(&mut self) -> i64 {
        let count = Sql::new("SELECT count(*) FROM subjects");
        let row = count.fetch_one(&mut self.connection).await.unwrap();
        row.get(0).unwrap()
    }
}

#[tokio::test]
async fn nobody_is_looked_up_under_fewer_peppers_than_what_is_stored() {
    let mut gateway = Gateway::new().await;
    gateway.advance(&[1]).await;
    assert!(gateway.find().await.answer.is_ok());
    assert_eq!(gateway.subjects().await, 1);
    gateway.advance(&[1, 2]).await;

    let ruled = gateway.find().await;
    assert_eq!(ruled.answer.err().unwrap().reason(), "AUDIT_UNAVAILABLE");
    let body = ruled.draft.expect("an entry").body;
    assert_eq!(
        (body.action(), body.decision()),
        (Action::FindSubject, Decision::Deny)
    );
    assert_eq!(gateway.subjects().await, 1, "nobody is made");
    let outdated = Arc::clone(&gateway.exchange.subjects.outdated);
    assert!(outdated.load(Ordering::Relaxed), "its operator is told");

    gateway.exchange.subjects.peppers = subject_keys(&[1, 2]).peppers;
    assert!(gateway.find().await.answer.is_ok());
    assert!(!outdated.load(Ordering::Relaxed));
}

//! What is kept for the lists of versions, beside what records and referrals say.

use amanat_database::Row;

use super::*;

const PURPOSE: Purpose = Purpose::Investigation;
const ELSEWHERE: CaseId = CaseId::new([0xc6; 16]);
const ACCEPT: [Step; 2] = [Step::Acknowledge, Step::Accept];

/// A recipient, and the number and source of a version.
type Known = (Vec<u8>, i64, Vec<u8>);

fn record(n: u8) -> RecordId {
    RecordId::new([n; 16])
}

fn referral(n: u8) -> ReferralId {
    ReferralId::new([n; 16])
}

const KEPT: &str = "SELECT recipient, seq, source FROM referred_versions ORDER BY 1, 2";
/// The long way.
const FOUND: &str = "SELECT DISTINCT f.recipient, r.seq, r.source FROM records AS r, referrals AS f \
     WHERE f.case_id = r.case_id AND f.sender = r.source AND f.state IN (3, 6) ORDER BY 1, 2";

async fn known(connection: &mut Connection, sql: &'static str) -> Vec<Known> {
    let rows = Sql::new(sql).fetch_all(connection).await.unwrap();
    let known = |row: &Row| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let known = rows.iter().map(known);
    known.collect::<Result<_, Error>>().unwrap()
}

impl Gateway {
    /// Of how many versions others may know, which is as the long way finds it.
    async fn referred(&mut self) -> usize {
        let found = known(&mut self.connection, FOUND).await;
        assert_eq!(known(&mut self.connection, KEPT).await, found);
        found.len()
    }

    /// A referral of the shelter's to the police, which they accepted; returns its newest step.
    async fn accepted(&mut self, n: u8, path: &str) -> [u8; 32] {
        let submitted = self.submit(SHELTER, referral(n), PURPOSE, path).await;
        self.walk(referral(n), submitted.unwrap(), &ACCEPT).await
    }

    /// Decides calls in one transaction, as a batch does.
    async fn together(&mut self, calls: [Call; 2]) {
        let connection = &mut self.connection;
        connection.begin("BEGIN").await.unwrap();
        let loaded: Vec<&Call> = calls.iter().collect();
        let mut facts = self.exchange.load(connection, &loaded).await.unwrap();
        for call in &calls {
            let ruled = self.exchange.decide(&mut facts, call, now());
            assert!(ruled.answer.is_ok());
        }
        self.exchange.write(connection, facts).await.unwrap();
        connection.commit().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_kept_for_lists_is_what_records_and_referrals_say() {
    let mut gateway = Gateway::new().await;
    gateway.consent(SHELTER, 1, PURPOSE).await;
    let first = gateway.put_sealed(SHELTER, record(1), None).await;
    let submitted = gateway
        .submit(SHELTER, referral(1), PURPOSE, NARRATIVE)
        .await;
    let seen = gateway
        .walk(referral(1), submitted.unwrap(), &[Step::Acknowledge])
        .await;
    assert_eq!(gateway.referred().await, 0, "not accepted");
    let one = gateway.walk(referral(1), seen, &[Step::Accept]).await;
    assert_eq!(gateway.referred().await, 1);

    gateway.put_sealed(SHELTER, record(1), Some(first)).await;
    assert_eq!(gateway.referred().await, 2, "put into an open case");
    gateway.put_sealed(STRANGER, record(1), None).await;
    gateway.case = ELSEWHERE;
    gateway.put_sealed(SHELTER, record(2), None).await;
    gateway.case = CASE;
    assert_eq!(gateway.referred().await, 2, "another's, and another case's");

    let two = gateway.accepted(2, STATUS).await;
    assert_eq!(gateway.referred().await, 2, "open twice");
    let one = gateway.walk(referral(1), one, &[Step::Start]).await;
    let revoked = gateway.step(SHELTER, referral(2), Step::Revoke, two).await;
    revoked.unwrap();
    assert_eq!(gateway.referred().await, 2, "still open once");
    gateway.walk(referral(1), one, &[Step::Complete]).await;
    assert_eq!(gateway.referred().await, 0);

    gateway.accepted(3, NARRATIVE).await;
    gateway.accepted(4, NARRATIVE).await;
    assert_eq!(gateway.referred().await, 2);
    gateway.withdraw(SHELTER, 1).await;
    assert_eq!(gateway.referred().await, 0, "both were suspended");
}

#[tokio::test]
async fn cases_that_one_batch_opens_and_closes_are_kept_apart() {
    let mut gateway = Gateway::new().await;
    let mut seen = Vec::new();
    for (n, case) in [(1, CASE), (2, ELSEWHERE)] {
        gateway.case = case;
        gateway.put_sealed(SHELTER, record(n), None).await;
        let submitted = gateway.submit(SHELTER, referral(n), PURPOSE, STATUS).await;
        let steps = [Step::Acknowledge];
        seen.push(gateway.walk(referral(n), submitted.unwrap(), &steps).await);
    }
    let mut in_both = |gateway: &mut Gateway, steps: [Step; 2]| {
        let mut of = |n: u8, case, step| {
            gateway.case = case;
            let newest = &mut seen[usize::from(n) - 1];
            let (sha256, call) = gateway.signed_step(POLICE, referral(n), step, *newest);
            *newest = sha256;
            call
        };
        [of(1, CASE, steps[0]), of(2, ELSEWHERE, steps[1])]
    };
    let opens = in_both(&mut gateway, [Step::Accept, Step::Accept]);
    gateway.together(opens).await;
    assert_eq!(gateway.referred().await, 2);
    let one_ends = in_both(&mut gateway, [Step::Start, Step::Start]);
    gateway.together(one_ends).await;
    assert_eq!(gateway.referred().await, 2);
    gateway.case = CASE;
    let closes = in_both(&mut gateway, [Step::Complete, Step::Complete]);
    gateway.together(closes).await;
    assert_eq!(gateway.referred().await, 0);
}

#[tokio::test]
async fn all_that_one_batch_puts_into_an_open_case_is_known() {
    let mut gateway = Gateway::new().await;
    gateway.put(SHELTER, 1, 1).await;
    gateway.accepted(1, STATUS).await;
    let versions = || (2..=150).map(|version| (1, version));
    gateway.put_together(SHELTER, versions()).await;
    assert_eq!(gateway.referred().await, 150);
    gateway.put_together(STRANGER, versions()).await;
    assert_eq!(gateway.referred().await, 150);
}

#[tokio::test]
async fn what_an_earlier_version_had_is_listed_after_its_migration() {
    let mut gateway = Gateway::shared().await;
    gateway.accepted(1, STATUS).await;
    gateway.case = ELSEWHERE;
    gateway.put_sealed(SHELTER, record(2), None).await;
    assert_eq!(gateway.referred().await, 1);
    let before = known(&mut gateway.connection, KEPT).await;
    let mut owner = gateway.owner.connect().await.unwrap();
    owner.run("DROP TABLE referred_versions").await.unwrap();
    let step = STEPS
        .iter()
        .find(|step| step.name == "referred-versions")
        .unwrap();
    let step = match owner.engine() {
        Engine::Sqlite => step.sqlite,
        Engine::Postgres => step.postgres,
    };
    owner.run(step).await.unwrap();
    let taken = known(&mut owner, KEPT).await;
    assert_eq!(taken, before);
}

//! Lists of referrals and record versions: filters, pages, and that each page is looked up anew.

use amanat_database::Column::{Bytes, Number};
use amanat_schema::referral::Direction;
use prost::Message as _;

use super::*;
use record::ListVersions;

const PURPOSE: Purpose = Purpose::Investigation;

fn referral(n: u8) -> ReferralId {
    ReferralId::new([n; 16])
}

fn page(size: u32, after: i64) -> Page {
    Page::new(size, after).unwrap()
}

impl Gateway {
    /// A referral of the shelter's to the police, which the police moved on.
    async fn refer(&mut self, n: u8, steps: &[Step]) -> [u8; 32] {
        let first = self
            .submit(SHELTER, referral(n), PURPOSE, STATUS)
            .await
            .unwrap();
        self.walk(referral(n), first, steps).await
    }

    pub(super) fn listing(&self, reader: Party, direction: Direction, page: Page) -> ListReferrals {
        ListReferrals {
            act: self.act(reader),
            direction,
            state: None,
            case: None,
            overdue_at: None,
            page,
        }
    }

    /// The numbers of the referrals in a list, and where its next page begins.
    async fn listed(&mut self, list: ListReferrals) -> (Vec<u8>, Option<i64>) {
        let ruled = self.decide(Call::Referrals(list)).await;
        let Ok(Reply::Referrals { referrals, next }) = ruled.answer else {
            panic!("a list is answered with a list");
        };
        let number = |view: &ReferralView| {
            let wire = Referral::decode(view.submission.payload.as_slice()).unwrap();
            wire.referral_id[0]
        };
        (referrals.iter().map(number).collect(), next)
    }

    /// A version of a record as the list sees it.
    pub(super) async fn put(&mut self, source: Party, record: u8, version: u32) {
        self.put_together(source, [(record, version)]).await;
    }

    /// The same of many, as one batch puts them.
    pub(super) async fn put_together(
        &mut self,
        source: Party,
        versions: impl IntoIterator<Item = (u8, u32)>,
    ) {
        let (case, source) = (self.case, self.id(source));
        let columns = [
            Bytes("case_id"),
            Bytes("record_id"),
            Number("version"),
            Bytes("source"),
            Bytes("header"),
            Bytes("header_sha256"),
            Bytes("sealed"),
            Bytes("routing"),
            Number("put_time"),
        ];
        let rows = versions.into_iter().map(|(record, version)| {
            [
                case.as_bytes().into(),
                [record; 16].into(),
                version.into(),
                source.as_bytes().into(),
                Vec::new().into(),
                [0; 32].into(),
                Vec::new().into(),
                Vec::new().into(),
                0.into(),
            ]
        });
        referred::put(&mut self.connection, columns, rows.collect())
            .await
            .unwrap();
    }

    pub(super) fn versions(&self, reader: Party, page: Page) -> ListVersions {
        ListVersions {
            act: self.act(reader),
            case: None,
            record: None,
            source: None,
            page,
        }
    }

    /// Record and version of each row in a list, and where its next page begins.
    async fn versions_listed(&mut self, list: ListVersions) -> (Vec<(u8, u32)>, Option<i64>) {
        let ruled = self.decide(Call::Versions(list)).await;
        let Ok(Reply::Versions { rows, next }) = ruled.answer else {
            panic!("a list is answered with a list");
        };
        let name = |row: &VersionRow| (row.record.as_bytes()[0], row.version);
        (rows.iter().map(name).collect(), next)
    }
}

#[tokio::test]
async fn referrals_are_listed_by_direction_state_case_and_delay() {
    let mut gateway = Gateway::new().await;
    gateway.refer(1, &[]).await;
    gateway.refer(2, &[Step::Acknowledge]).await;
    gateway.refer(3, &[Step::Acknowledge, Step::Accept]).await;
    gateway.case = CaseId::new([7; 16]);
    gateway.refer(4, &[Step::Acknowledge, Step::Reject]).await;
    gateway.refer(5, &[]).await;
    gateway
        .submit(STRANGER, referral(6), PURPOSE, STATUS)
        .await
        .unwrap();

    let all = |gateway: &Gateway, reader, direction| gateway.listing(reader, direction, page(0, 0));
    let sent = all(&gateway, SHELTER, Direction::Sent);
    assert_eq!(gateway.listed(sent).await.0, [1, 2, 3, 4, 5]);
    let received = all(&gateway, SHELTER, Direction::Received);
    assert_eq!(gateway.listed(received).await.0, [0_u8; 0]);
    let received = all(&gateway, POLICE, Direction::Received);
    assert_eq!(gateway.listed(received).await.0, [1, 2, 3, 4, 5, 6]);

    let mut accepted = all(&gateway, POLICE, Direction::Received);
    accepted.state = Some(ReferralState::Accepted);
    assert_eq!(gateway.listed(accepted).await.0, [3]);
    let mut of_case = all(&gateway, SHELTER, Direction::Sent);
    of_case.case = Some(CASE);
    assert_eq!(gateway.listed(of_case).await.0, [1, 2, 3]);

    // Routine: three days to answer.
    let due = now() + std::time::Duration::from_secs(72 * 3600);
    for (moment, late) in [
        (due, vec![]),
        (due + std::time::Duration::from_millis(1), vec![1, 2, 5]),
    ] {
        let mut overdue = all(&gateway, SHELTER, Direction::Sent);
        overdue.overdue_at = Some(moment);
        assert_eq!(gateway.listed(overdue).await.0, late);
    }
}

#[tokio::test]
async fn overdue_referrals_are_counted_whoever_waits() {
    let mut gateway = Gateway::new().await;
    gateway.refer(1, &[]).await;
    gateway.refer(2, &[Step::Acknowledge]).await;
    gateway.refer(3, &[Step::Acknowledge, Step::Accept]).await;
    gateway
        .submit(STRANGER, referral(6), PURPOSE, STATUS)
        .await
        .unwrap();
    let (police, shelter) = (gateway.id(POLICE), gateway.id(SHELTER));
    let due = now() + std::time::Duration::from_secs(72 * 3600);
    let late = due + std::time::Duration::from_millis(1);
    for (agencies, moment, count) in [
        (vec![police, shelter], due, 0),
        (vec![police, shelter], late, 3),
        (vec![shelter], late, 0),
        (vec![], late, 0),
    ] {
        let overdue = counts::overdue(&agencies, moment);
        let row = overdue.fetch_one(&mut gateway.connection).await.unwrap();
        assert_eq!(row.get::<i64>(0).unwrap(), count);
    }
}

#[tokio::test]
async fn what_changes_between_two_pages_is_on_the_second_as_it_is_then() {
    let mut gateway = Gateway::new().await;
    let mut newest = Vec::new();
    for n in 1..=4 {
        newest.push(gateway.refer(n, &[]).await);
    }
    let submitted = |gateway: &Gateway, after| ListReferrals {
        state: Some(ReferralState::Submitted),
        ..gateway.listing(POLICE, Direction::Received, page(2, after))
    };
    let (first, next) = {
        let list = submitted(&gateway, 0);
        gateway.listed(list).await
    };
    assert_eq!(first, [1, 2]);
    gateway
        .step(SHELTER, referral(3), Step::Revoke, newest[2])
        .await
        .unwrap();
    let list = submitted(&gateway, next.unwrap());
    assert_eq!(gateway.listed(list).await, (vec![4], None));
}

#[tokio::test]
async fn versions_of_another_are_seen_while_its_referral_is_accepted_or_in_service() {
    let mut gateway = Gateway::new().await;
    gateway.put(SHELTER, 1, 1).await;
    gateway.put(POLICE, 2, 1).await;
    let seen = async |gateway: &mut Gateway| {
        let list = gateway.versions(POLICE, page(0, 0));
        gateway.versions_listed(list).await.0
    };
    let (own, both) = (vec![(2, 1)], vec![(1, 1), (2, 1)]);
    let mut newest = gateway
        .submit(SHELTER, REFERRAL, PURPOSE, STATUS)
        .await
        .unwrap();
    assert_eq!(seen(&mut gateway).await, own);
    for (step, visible) in [
        (Step::Acknowledge, &own),
        (Step::Accept, &both),
        (Step::Start, &both),
        (Step::Complete, &own),
    ] {
        newest = gateway.walk(REFERRAL, newest, &[step]).await;
        assert_eq!(&seen(&mut gateway).await, visible, "{step:?}");
    }
}

#[tokio::test]
async fn a_page_of_versions_is_full_however_many_referrals_open_a_case() {
    let mut gateway = Gateway::new().await;
    for n in 1..=3 {
        gateway.refer(n, &[Step::Acknowledge, Step::Accept]).await;
    }
    for version in 1..=4 {
        gateway.put(SHELTER, 1, version).await;
    }
    let (mut after, mut versions) = (0, Vec::new());
    loop {
        let list = gateway.versions(POLICE, page(2, after));
        let (rows, next) = gateway.versions_listed(list).await;
        versions.extend(rows.into_iter().map(|(_, version)| version));
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(versions, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_referral_that_closes_between_two_pages_takes_the_second_away() {
    let mut gateway = Gateway::new().await;
    let newest = gateway.refer(1, &[Step::Acknowledge, Step::Accept]).await;
    for version in 1..=3 {
        gateway.put(SHELTER, 1, version).await;
    }
    let list = gateway.versions(POLICE, page(2, 0));
    let (first, next) = gateway.versions_listed(list).await;
    assert_eq!(first, [(1, 1), (1, 2)]);
    gateway
        .step(SHELTER, referral(1), Step::Revoke, newest)
        .await
        .unwrap();
    let list = gateway.versions(POLICE, page(2, next.unwrap()));
    assert_eq!(gateway.versions_listed(list).await, (vec![], None));
}

#[tokio::test]
async fn versions_are_listed_by_case_record_and_source() {
    let mut gateway = Gateway::new().await;
    gateway.refer(1, &[Step::Acknowledge, Step::Accept]).await;
    gateway.put(SHELTER, 1, 1).await;
    gateway.put(SHELTER, 1, 2).await;
    gateway.put(SHELTER, 2, 1).await;
    gateway.put(POLICE, 1, 1).await;
    gateway.case = CaseId::new([7; 16]);
    gateway.put(POLICE, 3, 1).await;
    gateway.put(SHELTER, 4, 1).await;

    let list = |gateway: &Gateway| gateway.versions(POLICE, page(0, 0));
    let every = list(&gateway);
    let seen = gateway.versions_listed(every).await.0;
    assert_eq!(seen, [(1, 1), (1, 2), (2, 1), (1, 1), (3, 1)]);
    let mut of_case = list(&gateway);
    of_case.case = Some(gateway.case);
    assert_eq!(gateway.versions_listed(of_case).await.0, [(3, 1)]);
    let mut of_record = list(&gateway);
    of_record.record = Some(RecordId::new([1; 16]));
    let seen = gateway.versions_listed(of_record).await.0;
    assert_eq!(seen, [(1, 1), (1, 2), (1, 1)]);
    let mut of_source = list(&gateway);
    of_source.record = Some(RecordId::new([1; 16]));
    of_source.source = Some(gateway.id(SHELTER));
    assert_eq!(gateway.versions_listed(of_source).await.0, [(1, 1), (1, 2)]);
    let mut hidden = list(&gateway);
    hidden.record = Some(RecordId::new([4; 16]));
    assert_eq!(gateway.versions_listed(hidden).await, (vec![], None));
}

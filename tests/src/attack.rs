//! The stage of an attack: a survivor's case, a colluding officer of the Dar-ul-Aman who may read a part of it,
//! a gateway that writes what it likes, and the custodian between them.

use amanat_connector::{Connector, ConnectorError, EntryQuery, SeenEntry, Server};
use amanat_database::Connection;
use amanat_schema::{
    audit::{Action, Opening, Receipt, ReleasedField},
    key::{ReleaseKeysRequest, ReleaseKeysResponse},
    policy::{BasisKind, Decision},
    record::ReadRecordResponse,
    statement::Envelope,
};

use crate::{
    Running,
    forge::Books,
    party::{Party, ask},
    rogue::{Forged, Rogue},
    story::{OVERSIGHT, PERMITTED, SHELTER, Story},
};

pub struct Stage {
    pub running: Running,
    pub story: Story,
    pub shelter: Party,
    pub oversight: Connector,
    /// What the honest gateway answered to the Dar-ul-Aman.
    pub answer: ReadRecordResponse,
    pub rogue: Rogue,
}

/// Whether a person must hear of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    Raised,
    /// Two honest servers may differ so for a moment.
    Quiet,
}

/// A field released on the first basis of an entry.
pub fn on_consent(path: &str) -> ReleasedField {
    ReleasedField {
        path: path.to_owned(),
        basis_kind: BasisKind::Consent.into(),
        basis: Some(0),
    }
}

impl Stage {
    /// Of a consent that was recorded an hour ago.
    pub async fn told(program: &str) -> Self {
        let mut running = Running::start(program, "info");
        let story = Story::tell(&running).await;
        an_hour_passes(&mut running).await;
        Self::set(running, story).await
    }

    /// The Dar-ul-Aman has read at the honest gateway; before it comes to the custodian, the gateway turns.
    pub async fn set(mut running: Running, story: Story) -> Self {
        let shelter = Party::open(&running, SHELTER);
        let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
        Self {
            rogue: Rogue::take_over(&mut running, &shelter).await,
            oversight: running.connector(OVERSIGHT).await,
            running,
            story,
            shelter,
            answer,
        }
    }

    /// The entry of the honest read, restated for now and changed.
    pub fn forge(&self, change: impl FnOnce(&mut Forged)) -> (Receipt, Opening) {
        let mut forged = Forged::of(&self.answer);
        change(&mut forged);
        self.rogue.write(&forged)
    }

    pub fn referral(&self) -> Option<Envelope> {
        self.answer.referral.clone()
    }

    /// What an honest entry would release; it shows that a refusal is due to what was changed.
    pub async fn is_released(&self) -> ReleaseKeysResponse {
        let (receipt, officer) = self.forge(|_| {});
        let ask = ask(receipt, officer, self.referral());
        self.shelter
            .release(&self.shelter.token(), ask)
            .await
            .unwrap()
    }

    /// The Dar-ul-Aman's officer brings an entry that was changed, and is refused.
    pub async fn refuses_entry(
        &self,
        what: &str,
        reason: &str,
        alarm: Alarm,
        change: impl FnOnce(&mut Forged),
    ) {
        let (receipt, officer) = self.forge(change);
        let ask = ask(receipt, officer, self.referral());
        self.refuses(what, reason, alarm, ask).await;
    }

    pub async fn refuses(&self, what: &str, reason: &str, alarm: Alarm, ask: ReleaseKeysRequest) {
        let token = self.shelter.token();
        self.refuses_to(&self.shelter, &token, what, reason, alarm, ask)
            .await;
    }

    /// No key comes back; the refusal stands in the custodian's log, as an ALARM if a person must hear of it.
    pub async fn refuses_to(
        &self,
        caller: &Party,
        token: &str,
        what: &str,
        reason: &str,
        alarm: Alarm,
        ask: ReleaseKeysRequest,
    ) {
        let before = alarms(&self.oversight).await.len();
        let refusal = match caller.release(token, ask).await {
            Err(ConnectorError::Refused(refusal)) => refusal,
            Err(error) => panic!("{what}: {error}"),
            Ok(_) => panic!("{what}: keys were released"),
        };
        assert_eq!(refusal.reason, reason, "{what}");
        let entry = entry(&self.oversight, refusal.audit_index.unwrap()).await;
        let action = match alarm {
            Alarm::Raised => Action::Alarm,
            Alarm::Quiet => Action::ReleaseKeys,
        };
        assert_eq!(entry.body.action(), action, "{what}");
        assert_eq!(entry.body.decision(), Decision::Deny, "{what}");
        assert_eq!(entry.body.public_reason, reason, "{what}");
        assert_eq!(entry.body.agency_id, caller.agency.as_bytes(), "{what}");
        let after = alarms(&self.oversight).await.len();
        assert_eq!(
            after - before,
            usize::from(alarm == Alarm::Raised),
            "{what}"
        );
    }

    /// The honest gateway comes back and knows nothing of what was signed for the custodian alone: whoever
    /// compares the two finds the first entry that it cannot show.
    pub async fn ends_in_discovery(mut self, honest: u64) {
        self.rogue.leave().await;
        self.running.gateway.start();
        self.oversight
            .verify_log(Server::Custodian, |_, _| {})
            .await
            .unwrap();
        match self.oversight.verify_log(Server::Gateway, |_, _| {}).await {
            Err(ConnectorError::Verify(found)) => assert_eq!(found.index, Some(honest)),
            Err(error) => panic!("{error}"),
            Ok(report) => panic!("the forged entries were not missed: {report:?}"),
        }
    }
}

/// The custodian's alarms, oldest first.
pub async fn alarms(oversight: &Connector) -> Vec<SeenEntry> {
    let query = EntryQuery {
        action: Some(Action::Alarm),
        limit: 1000,
        ..EntryQuery::default()
    };
    oversight
        .list_entries(Server::Custodian, &query)
        .await
        .unwrap()
}

async fn entry(oversight: &Connector, index: u64) -> SeenEntry {
    oversight
        .get_entry(Server::Custodian, index)
        .await
        .unwrap()
        .0
}

/// The custodian's own database, to look at what no call shows and to let time pass.
pub async fn custodian_database(running: &Running) -> Connection {
    Books::of(&running.exchange.custodian).tamper().await
}

/// An hour passes on the custodian's consent ledger: what it recorded is no longer news that could explain why
/// the gateway decided otherwise.
pub async fn an_hour_passes(running: &mut Running) {
    running.custodian.kill();
    let mut database = custodian_database(running).await;
    for statement in [
        "UPDATE consents SET record_time = record_time - 3600000",
        "UPDATE withdrawals SET withdraw_time = withdraw_time - 3600000",
    ] {
        database.run(statement).await.unwrap();
    }
    database.close().await.unwrap();
    running.custodian.start();
}

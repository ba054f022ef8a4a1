//! The two servers do not take a new directory into use in the same moment; what closes counts at once.

use std::{fs, time::Duration};

use amanat_schema::{AgencyId, audit::Action, directory::Suspension};
use prost::Message as _;

use super::{
    exchange::{EXCHANGE, REGISTRARS, SHELTER, id, signing_key},
    gateway::{Entry, Logged},
    oprf::OPRF_KEYS,
    release::Setting,
    world::World,
};

const TEN_MINUTES: Duration = Duration::from_secs(600);
const QUIET: Action = Action::ReleaseKeys;

impl Setting {
    /// A read that was decided by the directory with this hash.
    fn read_by(&self, directory_sha256: &[u8; 32]) -> Logged {
        let mut entry = self.entry();
        entry.body.directory_sha256 = directory_sha256.to_vec();
        self.world.log(entry)
    }
}

#[tokio::test]
async fn rules_that_lie_in_their_files_are_taken_into_use_before_they_are_called_unknown() {
    let setting = Setting::new(|_| {}).await;
    let newer = setting.world.publish();
    let read = setting.read_by(newer.sha256());
    setting.release(&read).await.unwrap();
    let rules = setting.world.rules.current();
    assert_eq!(rules.directory.version(), 2);
    assert_eq!(setting.world.last_action().await, Action::ReleaseKeys);
}

#[tokio::test]
async fn what_was_decided_by_the_directory_before_is_refused_quietly_for_ten_minutes() {
    let setting = Setting::new(|_| {}).await;
    let older = *setting.world.rules.current().directory.sha256();
    let newer = setting.world.publish();
    let current = setting.read_by(newer.sha256());
    setting.release(&current).await.unwrap();

    let behind = setting.read_by(&older);
    let refused = "LEDGER_BEHIND";
    setting.refused(&behind, refused, QUIET, "at once").await;
    setting.world.pass(TEN_MINUTES);
    let behind = setting.read_by(&older);
    setting.refused(&behind, refused, QUIET, "in the end").await;
    setting.world.pass(Duration::from_millis(1));
    let behind = setting.read_by(&older);
    setting
        .refused(&behind, "ACCESS_DENIED", Action::Alarm, "too late")
        .await;
}

#[tokio::test]
async fn a_new_directory_excuses_no_unknown_one() {
    let setting = Setting::new(|_| {}).await;
    let newer = setting.world.publish();
    let current = setting.read_by(newer.sha256());
    setting.release(&current).await.unwrap();
    let unknown = setting.read_by(&[7; 32]);
    setting
        .refused(&unknown, "ACCESS_DENIED", Action::Alarm, "never seen here")
        .await;
    let mut entry = setting.entry();
    entry.body.table_sha256 = vec![7; 32];
    let other_table = setting.world.log(entry);
    setting
        .refused(
            &other_table,
            "ACCESS_DENIED",
            Action::Alarm,
            "another table",
        )
        .await;
}

#[tokio::test]
async fn a_directory_that_is_not_here_is_alarmed_and_good_reads_go_on() {
    let setting = Setting::new(|_| {}).await;
    let unknown = setting.read_by(&[7; 32]);
    setting
        .refused(&unknown, "ACCESS_DENIED", Action::Alarm, "no such file")
        .await;
    setting.release(&setting.read()).await.unwrap();
}

#[tokio::test]
async fn only_a_read_of_now_by_its_own_caller_has_the_files_looked_at() {
    let setting = Setting::new(|_| {}).await;
    let newer = *setting.world.publish().sha256();
    let denied = "ACCESS_DENIED";
    let read = |change: fn(&mut Entry)| {
        let mut entry = setting.entry();
        entry.body.directory_sha256 = newer.to_vec();
        change(&mut entry);
        setting.world.log(entry)
    };
    let anothers = read(|entry| entry.body.agency_id = SHELTER.to_vec());
    setting
        .refused(&anothers, denied, Action::Alarm, "another agency's")
        .await;
    // Whoever keeps an old receipt raises no alarm with it either.
    let old = read(|Entry { body, .. }| {
        for time in [&mut body.time, &mut body.expire_time] {
            time.as_mut().unwrap().seconds -= 31;
        }
    });
    setting.refused(&old, denied, QUIET, "old").await;
    let version = || setting.world.rules.current().directory.version();
    assert_eq!(version(), 1);
    setting.release(&read(|_| {})).await.unwrap();
    assert_eq!(version(), 2);
}

impl World {
    /// A registrar suspends an agency, or one of its statement keys.
    async fn suspend(&self, agency: AgencyId, key: Option<[u8; 32]>) {
        let signed = REGISTRARS[0].sign(&Suspension {
            exchange_id: EXCHANGE.to_owned(),
            suspension_id: id().to_vec(),
            agency_id: agency.to_vec(),
            statement_key: key.map(Vec::from).unwrap_or_default(),
            directory_version: 1,
            suspend_time: Some(self.now().to_timestamp()),
        });
        let folder = self.folder.path().join("suspensions");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("1.bin"), signed.encode_to_vec()).unwrap();
        self.custodian.reload.now().await;
    }
}

#[tokio::test]
async fn a_referral_that_a_suspended_key_signed_brings_nothing_while_it_is_suspended() {
    let setting = Setting::new(|_| {}).await;
    let key = setting.world.shelter.key.public_key();
    setting.world.suspend(SHELTER, Some(key)).await;
    setting
        .refused(&setting.read(), "ACCESS_DENIED", QUIET, "suspended")
        .await;
    setting.world.pass(Duration::from_hours(7 * 24));
    setting.release(&setting.read()).await.unwrap();
}

#[tokio::test]
async fn a_header_counts_only_by_a_directory_that_lists_the_key_it_was_signed_with() {
    let mut setting = Setting::new(|_| {}).await;
    setting.world.relist(&OPRF_KEYS);
    setting.release(&setting.read()).await.unwrap();
    setting.world.shelter.key = signing_key();
    setting.world.relist(&OPRF_KEYS);
    setting.sign_again().await;
    setting
        .refused(&setting.read(), "ACCESS_DENIED", QUIET, "forgotten")
        .await;
}

#[tokio::test]
async fn who_is_suspended_while_a_request_waits_is_refused_when_it_is_decided() {
    let setting = Setting::new(|_| {}).await;
    let read = setting.read();
    // The request was let in before: nothing stands between it and the decision here.
    setting.world.suspend(setting.world.police.id, None).await;
    setting
        .refused(
            &read,
            "CREDENTIAL_INVALID",
            Action::AuthenticationFailures,
            "suspended",
        )
        .await;
    setting.world.pass(Duration::from_hours(7 * 24));
    setting.release(&setting.read()).await.unwrap();
}

//! The two servers do not take a new directory into use in the same moment.

use std::time::Duration;

use amanat_schema::audit::Action;

use super::{gateway::Logged, release::Setting};

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

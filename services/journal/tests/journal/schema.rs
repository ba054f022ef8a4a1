//! Databases of earlier and later versions.

use amanat_journal::{Config, JournalError, migrate};

use crate::toy::{Lab, close, error, mark};

/// Takes the last step back.
const UNTAKEN: &str = "DROP TABLE entry_index;
    CREATE INDEX entries_by_agency ON entries (agency, idx);
    CREATE INDEX entries_by_case ON entries (case_id, idx);
    CREATE INDEX entries_by_action ON entries (action, idx);
    CREATE INDEX entries_by_agency_and_action ON entries (agency, action, idx);
    CREATE INDEX refusals ON entries (idx) WHERE decision = 2;
    CREATE INDEX refusals_by_agency ON entries (agency, idx) WHERE decision = 2;
    CREATE INDEX refusals_by_action ON entries (action, idx) WHERE decision = 2;
    DELETE FROM _sqlx_migrations WHERE description = 'entry-index'";

/// As the version before made it.
fn earlier(lab: &Lab) -> Config {
    let config = lab.config();
    let (_, before) = config.steps.split_last().unwrap();
    Config {
        steps: before,
        ..config
    }
}

fn told<T>(outcome: Result<T, JournalError>) -> String {
    let error = error(outcome);
    let JournalError::Database(why) = error else {
        panic!("{error}");
    };
    why
}

#[tokio::test]
async fn an_earlier_versions_database_is_served_once_it_is_migrated() {
    let lab = Lab::without_database().await;
    amanat_journal::init(&earlier(&lab), None).await.unwrap();
    let refused = told(lab.try_open(lab.config()).await);
    assert!(refused.contains("lacks entry-index"), "{refused}");
    assert!(refused.contains("run `migrate`"), "{refused}");

    assert_eq!(migrate(&lab.config(), None).await.unwrap(), ["entry-index"]);
    assert!(migrate(&lab.config(), None).await.unwrap().is_empty());
    lab.grow(3).await;
    assert_eq!(lab.verify().await, 3);
}

#[tokio::test]
async fn a_log_goes_on_where_it_was_before_its_database_was_migrated() {
    let lab = Lab::new().await;
    lab.grow(1).await;
    lab.tamper(UNTAKEN).await;
    assert!(lab.try_open(lab.config()).await.is_err());

    migrate(&lab.config(), None).await.unwrap();
    let opened = lab.open().await;
    let next = opened.journal.call(mark(1)).await.unwrap();
    assert_eq!(next.receipt.unwrap().index, 1);
    close(opened).await;
    assert_eq!(lab.verify().await, 2);
}

#[tokio::test]
async fn a_later_versions_database_is_neither_served_nor_migrated() {
    let lab = Lab::new().await;
    for refused in [
        told(lab.try_open(earlier(&lab)).await),
        told(migrate(&earlier(&lab), None).await),
    ] {
        assert!(refused.contains("a later version's"), "{refused}");
    }
    lab.grow(1).await;
}

#[tokio::test]
async fn no_database_is_made_by_migrating() {
    let lab = Lab::without_database().await;
    assert!(migrate(&lab.config(), None).await.is_err());
    assert!(!lab.file().is_some_and(std::path::Path::exists));
}

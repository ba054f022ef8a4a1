//! The key that a database was begun with.

use amanat_database::Sql;
use amanat_journal::{Config, JournalError, Keys, Opened, migrate};
use amanat_seal::WrapKey;

use crate::toy::{Lab, Toy, clock, close, error, mark};

async fn open_with(lab: &Lab, openings: u8) -> Result<Opened<Toy>, JournalError> {
    let keys = Keys {
        openings: WrapKey::from_bytes(&[openings; 32]).unwrap(),
        ..lab.keys()
    };
    amanat_journal::open(&lab.config(), keys, Toy::default(), clock()).await
}

fn is_told<T>(outcome: Result<T, JournalError>) {
    let error = error(outcome);
    assert!(matches!(error, JournalError::OtherOpeningsKey), "{error}");
    assert!(error.to_string().contains("log.openings_key"), "{error}");
}

#[tokio::test]
async fn a_server_with_another_openings_key_than_the_first_does_not_start() {
    let lab = Lab::new().await;
    close(open_with(&lab, 1).await.unwrap()).await;
    is_told(open_with(&lab, 2).await);
    let opened = open_with(&lab, 1).await.unwrap();
    opened.journal.call(mark(1)).await.unwrap();
    close(opened).await;
    assert_eq!(lab.verify().await, 1);
}

#[tokio::test]
async fn a_replica_with_another_openings_key_does_not_start_beside_the_others() {
    let lab = Lab::new().await;
    let opened = open_with(&lab, 1).await.unwrap();
    is_told(open_with(&lab, 2).await);
    opened.journal.call(mark(1)).await.unwrap();
    close(opened).await;
}

#[tokio::test]
async fn a_database_of_before_keeps_the_key_of_its_next_start() {
    let lab = Lab::without_database().await;
    let config = lab.config();
    let (_, before) = config.steps.split_last().unwrap();
    let earlier = Config {
        steps: before,
        ..config
    };
    amanat_journal::init(&earlier, None).await.unwrap();
    migrate(&lab.config(), None).await.unwrap();
    close(open_with(&lab, 1).await.unwrap()).await;
    is_told(open_with(&lab, 2).await);
}

#[tokio::test]
async fn a_frozen_log_is_not_written_to_for_a_key() {
    let lab = Lab::new().await;
    lab.grow(2).await;
    let cut = "DELETE FROM entries WHERE idx = 1";
    lab.tamper(cut).await;
    is_told(open_with(&lab, 1).await);

    let sqlite = "DELETE FROM own_keys";
    let postgres = "ALTER TABLE own_keys DISABLE TRIGGER USER; DELETE FROM own_keys";
    lab.tamper_per(sqlite, postgres).await;
    let opened = open_with(&lab, 1).await.unwrap();
    assert!(opened.journal.frozen().is_some());
    close(opened).await;
    let mut connection = lab.connect().await;
    let row = Sql::new("SELECT count(*) FROM own_keys");
    let row = row.fetch_one(&mut connection).await.unwrap();
    assert_eq!(row.get::<i64>(0).unwrap(), 0);
}

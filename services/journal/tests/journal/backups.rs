//! What is backed up comes back, byte for byte, or not at all.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use amanat_database::{
    Place, Sql, Value,
    copy::{Cells, Pages, tables},
};
use amanat_journal::{
    Journal, JournalError,
    backup::{self, Backup, BackupError, Owner, Restored, Restoring},
};
use amanat_ledger::Head;
use amanat_schema::Time;
use amanat_seal::WrapKey;
use tokio::task::JoinHandle;

use crate::{
    database::fresh,
    toy::{Answer, Lab, Toy, clock, close, look, mark},
};

/// Rows of the journal and of the service, with what their order is.
async fn content(place: &Place) -> Vec<(String, Vec<String>)> {
    let mut connection = place.connect().await.unwrap();
    let mut all = Vec::new();
    for table in tables(&mut connection).await.unwrap() {
        let columns: Vec<_> = table.columns.iter().map(|c| c.name.clone()).collect();
        let mut pages = Pages::of(&table);
        let mut rows = Vec::new();
        while let Some(page) = pages.next(&mut connection).await.unwrap() {
            rows.extend(page.iter().map(|row| shown(&columns, row)));
        }
        // Text has an order of its own in each engine.
        rows.sort();
        all.push((table.name.clone(), rows));
    }
    connection.close().await.unwrap();
    all
}

/// But for the one column that one engine alone has.
fn shown(columns: &[String], row: &Cells) -> String {
    let cells = columns
        .iter()
        .zip(row)
        .filter(|(name, _)| *name != "frozen");
    let cells = cells.map(|(name, value)| match value {
        Value::Null => format!("{name}: NULL"),
        Value::Bytes(bytes) => format!("{name}: {}", hex::encode(bytes)),
        Value::Text(text) => format!("{name}: {text:?}"),
        Value::Number(number) => format!("{name}: {number}"),
    });
    cells.collect::<Vec<_>>().join(", ")
}

pub(crate) fn owner() -> Owner {
    Owner {
        exchange_id: "toy.example".to_owned(),
        server: "toy".to_owned(),
    }
}

pub(crate) fn key() -> WrapKey {
    WrapKey::from_bytes(&[9; 32]).unwrap()
}

pub(crate) async fn take(lab: &Lab, name: &str) -> Result<(PathBuf, Backup), BackupError> {
    let out = lab.folder().join(name);
    let now = (clock())();
    let backup = backup::take(
        &lab.config(),
        owner(),
        &lab.signer(),
        &key(),
        &out,
        now,
        |_| {},
    )
    .await?;
    Ok((out, backup))
}

pub(crate) async fn restore(
    lab: &Lab,
    file: PathBuf,
    seen: Option<&str>,
) -> Result<Restored, BackupError> {
    let from = Restoring {
        file: &file,
        owner: &owner(),
        log: &lab.verifier(),
        key: &key(),
        seen,
    };
    backup::restore(&lab.config(), None, from, |_| {}).await
}

async fn transfer(lab: &Lab, to: Place) -> Result<Head, BackupError> {
    backup::transfer(&lab.config(), to, None, &lab.verifier(), |_| {}).await
}

pub(crate) fn note(backup: &Backup) -> String {
    backup.checkpoint.clone().unwrap().text
}

#[tokio::test]
async fn every_row_comes_back_and_the_log_goes_on() {
    let lab = Lab::new().await;
    // More than a page of each table.
    let opened = lab.open().await;
    for n in 0..150 {
        opened.journal.call(mark(n)).await.unwrap();
    }
    close(opened).await;
    let (file, backup) = take(&lab, "backup").await.unwrap();
    assert_eq!(backup.checkpoint.as_ref().unwrap().head.size, 150);
    let elsewhere = lab.elsewhere().await;
    let seen = note(&backup);
    let restored = restore(&elsewhere, file, Some(&seen)).await.unwrap();
    assert_eq!(restored.behind, None);
    assert_eq!(content(elsewhere.place()).await, content(lab.place()).await);
    elsewhere.grow(3).await;
    assert_eq!(elsewhere.verify().await, 153);
    let opened = elsewhere.open().await;
    let marks = opened.journal.call(look(1)).await.unwrap();
    assert!(matches!(marks.answer, Answer::Decided { marks: 4, .. }));
    close(opened).await;
}

#[tokio::test]
async fn an_empty_log_comes_back_empty() {
    let lab = Lab::new().await;
    lab.grow(0).await;
    let (file, backup) = take(&lab, "backup").await.unwrap();
    assert!(backup.checkpoint.is_none());
    let first = fs::read_to_string(lab.checkpoint_file()).unwrap();
    let elsewhere = lab.elsewhere().await;
    restore(&elsewhere, file, Some(&first)).await.unwrap();
    elsewhere.grow(2).await;
    assert_eq!(elsewhere.verify().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_others_write_is_one_state() {
    let lab = Lab::new().await;
    let opened = lab.open().await;
    let writers = Writers::begin(&opened.journal);
    // More than a page of each table.
    writers.write(100);
    for name in ["one", "two", "three"] {
        let out = lab.folder().join(name);
        let (config, signer, key, now) = (lab.config(), lab.signer(), key(), (clock())());
        // They write between any two pages, whoever is slow.
        let between = |_| writers.write(1);
        let backup = backup::take(&config, owner(), &signer, &key, &out, now, between)
            .await
            .unwrap();
        let elsewhere = lab.elsewhere().await;
        let seen = fs::read_to_string(lab.checkpoint_file()).unwrap();
        restore(&elsewhere, out, Some(&seen)).await.unwrap();
        let logged = entries_with_their_marks(&elsewhere).await;
        assert_eq!(logged, backup.checkpoint.unwrap().head.size);
    }
    writers.end().await;
    close(opened).await;
    assert!(entries_with_their_marks(&lab).await > 100);
}

/// How many there are: each entry has its mark and each mark its entry, in one order.
async fn entries_with_their_marks(lab: &Lab) -> u64 {
    let mut connection = lab.connect().await;
    let [mut logged, mut marked] = [Vec::new(), Vec::new()];
    for (sql, cases) in [
        ("SELECT case_id FROM entries ORDER BY idx", &mut logged),
        ("SELECT case_id FROM marks ORDER BY seq", &mut marked),
    ] {
        let rows = Sql::new(sql).fetch_all(&mut connection).await.unwrap();
        cases.extend(rows.iter().map(|row| row.get::<Vec<u8>>(0).unwrap()[0]));
    }
    connection.close().await.unwrap();
    assert_eq!(logged, marked);
    logged.len() as u64
}

/// Of marks, several in a batch, one after the other each.
struct Writers {
    tasks: Vec<JoinHandle<()>>,
    written: Arc<AtomicU64>,
}

impl Writers {
    fn begin(journal: &Journal<Toy>) -> Self {
        let written = Arc::new(AtomicU64::new(0));
        let task = |first: u8| {
            let (journal, written) = (journal.clone(), Arc::clone(&written));
            tokio::spawn(async move {
                for n in (first..first + 50).cycle() {
                    journal.call(mark(n)).await.unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Self {
            tasks: [0, 50, 100, 150].map(task).into(),
            written,
        }
    }

    /// Returns when they have written so many more.
    fn write(&self, more: u64) {
        let until = self.written.load(Ordering::Relaxed) + more;
        while self.written.load(Ordering::Relaxed) < until {
            assert!(!self.tasks.iter().any(JoinHandle::is_finished));
            thread::sleep(Duration::from_millis(1));
        }
    }

    async fn end(self) {
        for task in self.tasks {
            task.abort();
            task.await.ok();
        }
    }
}

#[tokio::test]
async fn what_was_signed_after_the_backup_freezes_what_is_restored() {
    let lab = Lab::new().await;
    lab.grow(5).await;
    let (file, _) = take(&lab, "backup").await.unwrap();
    lab.grow(1).await;
    let data = lab.folder().join("new");
    fs::create_dir(&data).unwrap();
    let lab = lab.at(fresh(&data, "toy.db").await);
    let restored = restore(&lab, file, None).await.unwrap();
    assert_eq!(restored.behind, Some(6));
    let opened = lab.open().await;
    let why = opened.journal.frozen().unwrap();
    assert!(why.starts_with("entry 5 was signed"), "{why}");
    close(opened).await;
}

#[tokio::test]
async fn without_a_word_on_how_far_the_log_had_come_nothing_is_restored() {
    let lab = Lab::new().await;
    lab.grow(2).await;
    let (file, _) = take(&lab, "backup").await.unwrap();
    let elsewhere = lab.elsewhere().await;
    let refused = restore(&elsewhere, file.clone(), None).await.unwrap_err();
    assert!(matches!(refused, BackupError::NoCheckpoint { .. }));
    let refused = restore(&elsewhere, file, Some("a word")).await;
    assert!(matches!(refused.unwrap_err(), BackupError::Seen));
    assert!(is_empty(elsewhere.place()).await);
}

#[tokio::test]
async fn a_database_that_is_there_stays() {
    let lab = Lab::new().await;
    lab.grow(2).await;
    let (file, _) = take(&lab, "backup").await.unwrap();
    lab.grow(1).await;
    let before = content(lab.place()).await;
    let refused = restore(&lab, file.clone(), None).await.unwrap_err();
    assert!(
        matches!(&refused, BackupError::Journal(JournalError::Database(why)) if why.contains("exists")),
        "{refused}"
    );
    assert_eq!(content(lab.place()).await, before);
    let refused = take(&lab, "backup").await.unwrap_err();
    assert!(matches!(refused, BackupError::Exists { .. }), "{refused}");
}

#[tokio::test]
async fn a_restore_that_did_not_end_is_begun_anew() {
    let lab = Lab::new().await;
    lab.grow(4).await;
    let (file, backup) = take(&lab, "backup").await.unwrap();
    let elsewhere = lab.elsewhere().await;
    amanat_journal::init(&elsewhere.config(), None)
        .await
        .unwrap();
    // As it is before its end: tables, and no head.
    elsewhere.tamper("DELETE FROM head").await;
    restore(&elsewhere, file, Some(&note(&backup)))
        .await
        .unwrap();
    assert_eq!(content(elsewhere.place()).await, content(lab.place()).await);
}

#[tokio::test]
async fn a_file_of_another_key_log_server_or_version_is_refused() {
    let lab = Lab::new().await;
    lab.grow(3).await;
    let (file, backup) = take(&lab, "backup").await.unwrap();
    let verify = |owner: &Owner, lab: &Lab, key: &WrapKey| {
        let refused = backup::verify(&file, owner, &lab.verifier(), key, |_| {});
        refused.expect_err("refused")
    };
    let refused = verify(&owner(), &lab, &WrapKey::generate().unwrap());
    assert!(matches!(refused, BackupError::Key), "{refused}");
    let other = Owner {
        server: "other".to_owned(),
        ..owner()
    };
    let refused = verify(&other, &lab, &key());
    assert!(matches!(refused, BackupError::Another { .. }), "{refused}");
    let stranger = Lab::without_database().await;
    let refused = verify(&owner(), &stranger, &key());
    assert!(matches!(refused, BackupError::Signature(_)), "{refused}");

    let elsewhere = lab.elsewhere().await;
    let mut config = elsewhere.config();
    config.steps = &config.steps[..2];
    let from = Restoring {
        file: &file,
        owner: &owner(),
        log: &lab.verifier(),
        key: &key(),
        seen: Some(&note(&backup)),
    };
    let refused = backup::restore(&config, None, from, |_| {}).await;
    assert!(matches!(refused.unwrap_err(), BackupError::Steps));
}

#[tokio::test]
async fn an_earlier_versions_backup_is_brought_up_to_date() {
    let elsewhere = Lab::without_database().await;
    let mut earlier = elsewhere.config();
    earlier.steps = &earlier.steps[..2];
    amanat_journal::init(&earlier, None).await.unwrap();
    let out = elsewhere.folder().join("backup");
    let (signer, now) = (elsewhere.signer(), Time::from_millis(1).unwrap());
    backup::take(&earlier, owner(), &signer, &key(), &out, now, |_| {})
        .await
        .unwrap();
    let lab = elsewhere.elsewhere().await;
    let first = amanat_ledger::sign(&signer, Head::EMPTY).unwrap();
    restore(&lab, out, Some(&first.text)).await.unwrap();
    lab.grow(1).await;
    assert_eq!(lab.verify().await, 1);
}

#[tokio::test]
async fn a_log_that_does_not_hold_is_not_backed_up() {
    let lab = Lab::new().await;
    lab.grow(3).await;
    lab.tamper_per(
        "UPDATE entries SET body = x'00' WHERE idx = 1",
        "UPDATE entries SET body = '\\x00' WHERE idx = 1",
    )
    .await;
    let refused = take(&lab, "backup").await.unwrap_err();
    assert!(
        matches!(&refused, BackupError::Journal(JournalError::Frozen(what)) if what.contains("entry 1")),
        "{refused}"
    );
    assert!(!lab.folder().join("backup").exists());
    assert!(
        !lab.folder().join("backup.new").exists(),
        "nor is a part of it left"
    );
}

#[tokio::test]
async fn nothing_of_a_row_stands_in_clear() {
    let lab = Lab::new().await;
    lab.grow(3).await;
    let (file, _) = take(&lab, "backup").await.unwrap();
    let bytes = fs::read(file).unwrap();
    let mut connection = lab.connect().await;
    for sql in [
        "SELECT body FROM entries",
        "SELECT case_id FROM marks",
        "SELECT openings FROM entries",
    ] {
        let row = Sql::new(sql).fetch_one(&mut connection).await.unwrap();
        let value: Vec<u8> = row.get(0).unwrap();
        assert!(
            !bytes.windows(value.len()).any(|window| window == value),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a_database_moves_to_the_other_engine_and_back_and_is_served_in_one_place() {
    let mut lab = Lab::new().await;
    lab.grow(70).await;
    let data = lab.folder().join("moved");
    fs::create_dir(&data).unwrap();
    let places = [
        Place::Sqlite(data.join("there.db")),
        fresh(&data, "back.db").await,
    ];
    for (to, size) in places.into_iter().zip([70, 71]) {
        let (left, before) = (lab.place().clone(), content(lab.place()).await);
        let head = transfer(&lab, to.clone()).await.unwrap();
        assert_eq!(head.size, size);
        assert_eq!(content(&to).await, before);
        lab = lab.at(left.clone());
        match left.file() {
            Some(file) => {
                assert!(!file.exists());
                assert!(backup::moved(file).exists());
            }
            None => {
                let opened = lab.open().await;
                let why = opened.journal.frozen().unwrap();
                assert!(why.starts_with("it was moved to "), "{why}");
                close(opened).await;
            }
        }
        lab = lab.at(to);
        lab.grow(1).await;
        assert_eq!(lab.verify().await, size + 1);
    }
}

#[tokio::test]
async fn what_a_database_is_moved_to_must_be_empty() {
    let (lab, other) = (Lab::new().await, Lab::new().await);
    lab.grow(2).await;
    let to = other.place().clone();
    let refused = transfer(&lab, to).await;
    assert!(matches!(
        refused.unwrap_err(),
        BackupError::Journal(JournalError::Database(_))
    ));
    lab.grow(1).await;
    assert_eq!(lab.verify().await, 3);
}

pub(crate) async fn is_empty(place: &Place) -> bool {
    if let Some(file) = place.file() {
        return !file.exists();
    }
    let mut connection = place.connect().await.unwrap();
    tables(&mut connection).await.unwrap().is_empty()
}

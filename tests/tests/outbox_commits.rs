//! What an agency's outbox holds if its machine loses power in the middle of an intake: every state that the
//! write-ahead log goes through is one in which each step was made with all that it came to, or not yet.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use amanat_connector::Profile;
use amanat_schema::case_file;
use amanat_tests::{Running, sharing};
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const POLICE: &str = "police-lahore";

#[tokio::test(flavor = "multi_thread")]
async fn an_intake_is_six_commits_and_a_crash_leaves_no_step_half_made() {
    let running = Running::start(PROGRAM, "info");
    let police = running.connector(POLICE).await;
    let outbox = Outbox::of(&running);
    let before = outbox.frames();
    let file = case_file::parse(&sharing::file("police-case")).unwrap();
    let submitted = police.submit_case(file, None).await.unwrap();
    submitted.delivered().unwrap();
    let after = outbox.frames();
    // While the connector lives nothing of it was folded into the database.
    assert!(after.starts_with(&before));
    let commits = after
        .iter()
        .skip(before.len())
        .filter(|frame| frame.commits);
    assert_eq!(commits.count(), 6);

    let mut states = Vec::new();
    for durable in before.len()..=after.len() {
        states.push(outbox.after_a_crash(durable).await);
    }
    states.dedup();
    let of = |subject, submission, answers, custodian, gateway, subjects, versions| State {
        progress: [subject, submission],
        answers,
        receipts: [custodian, gateway],
        subjects,
        versions,
    };
    let [not_yet, waits] = [None, Some(0)];
    assert_eq!(
        states,
        [
            of(not_yet, not_yet, 0, 0, 0, 0, 0),
            // Both jobs, before the first call.
            of(waits, waits, 0, 0, 0, 0, 0),
            // The identifiers are evaluated: of this, the receipt is all that is kept.
            of(waits, waits, 0, 1, 0, 0, 0),
            of(Some(1), waits, 1, 1, 1, 1, 0),
            of(Some(1), Some(1), 2, 2, 1, 1, 0),
            of(Some(1), Some(2), 3, 2, 2, 1, 1),
            of(Some(1), Some(3), 4, 3, 2, 1, 1),
        ]
    );
    running.verify().await;
}

/// An outbox and its write-ahead log, while a connector has them open.
struct Outbox {
    database: PathBuf,
    log: PathBuf,
}

/// A page in the write-ahead log.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    /// Where it ends in the file.
    end: usize,
    commits: bool,
}

/// How far an outbox has come.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// Of the subject job and of the submission.
    progress: [Option<i64>; 2],
    answers: i64,
    /// By the custodian's log and by the gateway's, each with a checkpoint that contains it.
    receipts: [i64; 2],
    subjects: i64,
    versions: i64,
}

impl Outbox {
    fn of(running: &Running) -> Self {
        let profile = Profile::load(&running.exchange.agencies[POLICE].folder).unwrap();
        let log = format!("{}-wal", profile.outbox.display());
        Self {
            database: profile.outbox,
            log: log.into(),
        }
    }

    /// As SQLite's file format has it: a header of 32 bytes, then frames, each with a header of 24 that holds the size
    /// of the database in a frame that commits, and the salts of this log.
    fn frames(&self) -> Vec<Frame> {
        let log = fs::read(&self.log).unwrap();
        let word = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
        let size = 24 + usize::try_from(word(8)).unwrap();
        let starts = (32..).step_by(size).take_while(|at| at + size <= log.len());
        starts
            .take_while(|at| log[at + 8..at + 16] == log[16..24])
            .map(|at| Frame {
                end: at + size,
                commits: word(at + 4) != 0,
            })
            .collect()
    }

    /// What is found where no more than these frames reached the disk.
    async fn after_a_crash(&self, durable: usize) -> State {
        let end = match durable {
            0 => 32,
            some => self.frames()[some - 1].end,
        };
        let folder = TempDir::new().unwrap();
        let database = folder.path().join("outbox.sqlite");
        fs::copy(&self.database, &database).unwrap();
        let log = fs::read(&self.log).unwrap();
        fs::write(folder.path().join("outbox.sqlite-wal"), &log[..end]).unwrap();
        State::of(&database).await
    }
}

impl State {
    async fn of(database: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(database);
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        let row = sqlx::query(
            "WITH proved AS (\
             SELECT origin FROM receipts JOIN checkpoints USING (origin) WHERE idx < size) \
             SELECT (SELECT progress FROM jobs WHERE kind = 'subject'), \
             (SELECT progress FROM jobs WHERE kind = 'submission'), \
             (SELECT count(*) FROM answers), \
             (SELECT count(*) FROM proved WHERE origin LIKE 'custodian%'), \
             (SELECT count(*) FROM proved WHERE origin LIKE 'gateway%'), \
             (SELECT count(*) FROM subjects), (SELECT count(*) FROM versions)",
        )
        .fetch_one(&mut database)
        .await
        .unwrap();
        database.close().await.unwrap();
        Self {
            progress: [row.get(0), row.get(1)],
            answers: row.get(2),
            receipts: [row.get(3), row.get(4)],
            subjects: row.get(5),
            versions: row.get(6),
        }
    }
}

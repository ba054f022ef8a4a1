//! A toy service that writes down marks, and a laboratory with its database.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use amanat_journal::{
    Access, Book, Committed, Config, ConflictKey, Draft, Journal, JournalError, Keys, Opened,
    RequestKey, Ruling, Touch,
};
use amanat_ledger::{Edge, LogEntry, LogSigner, LogVerifier};
use amanat_schema::{
    AgencyId, CaseId, Time,
    audit::{Action, EntryBody, Linkage, Receipt},
    clock::Clock,
    policy::Decision,
};
use amanat_seal::{WrapKey, statement::SigningKey};
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::sync::{Semaphore, oneshot};

pub(crate) const AGENCY: AgencyId = AgencyId::new([0xa9; 16]);
pub(crate) const ORIGIN: &str = "toy.example/log";
pub(crate) const SHARE: NonZeroUsize = NonZeroUsize::new(256).unwrap();
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "marks",
        "CREATE TABLE parents (id INTEGER PRIMARY KEY) STRICT;
         CREATE TABLE marks (
             case_id BLOB NOT NULL,
             parent  INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED,
             word    TEXT NOT NULL CHECK (word <> 'unwritable')
         ) STRICT;",
    ),
    amanat_journal::ENTRY_TIMES,
    amanat_journal::REQUESTS_BY_KEY,
];

/// One verb: mark a case, or look at its marks.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) case: CaseId,
    /// In whose share of the queue it waits.
    pub(crate) agency: Option<AgencyId>,
    pub(crate) touch: Touch,
    pub(crate) request: Option<RequestKey>,
    pub(crate) write: Write,
    pub(crate) entry: Entry,
    /// Where the writer waits with it.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Two doors: the writer has come to the first, and may go through the second.
pub(crate) struct Gate {
    come: Semaphore,
    go: Semaphore,
}

/// What becomes of a mark.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Good,
    /// Its statement fails.
    Unwritable,
    /// Its statement goes through, the commit does not.
    Uncommittable,
}

/// What becomes of the log entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Good,
    None,
    /// No reader would accept its body.
    Misshapen,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// In which transaction, and how many marks of the case it found.
    Decided {
        batch: u64,
        marks: i64,
    },
    Repeated,
}

#[derive(Default)]
pub(crate) struct Toy {
    batches: AtomicU64,
}

pub(crate) struct Facts {
    batch: u64,
    counted: Vec<(CaseId, i64)>,
    marks: Vec<(CaseId, Write)>,
}

pub(crate) fn case(n: u8) -> CaseId {
    CaseId::new([n; 16])
}

pub(crate) fn look(n: u8) -> Call {
    Call {
        case: case(n),
        agency: None,
        touch: Touch::Reads,
        request: None,
        write: Write::Good,
        entry: Entry::Good,
        gate: None,
    }
}

pub(crate) fn mark(n: u8) -> Call {
    Call {
        touch: Touch::Changes,
        ..look(n)
    }
}

impl Book for Toy {
    type Call = Call;
    type Answer = Answer;
    type Facts = Facts;

    fn access(&self, call: &Call) -> Access {
        Access {
            keys: vec![ConflictKey {
                kind: "case",
                id: *call.case.as_bytes(),
            }],
            touch: call.touch,
            request: call.request.clone(),
        }
    }

    fn agency(&self, call: &Call) -> Option<AgencyId> {
        call.agency
    }

    async fn load(
        &self,
        connection: &mut SqliteConnection,
        calls: &[&Call],
    ) -> Result<Facts, sqlx::Error> {
        for gate in calls.iter().filter_map(|call| call.gate.as_ref()) {
            gate.come.add_permits(1);
            gate.go.acquire().await.unwrap().forget();
        }
        let held = calls.iter().any(|call| call.gate.is_some());
        let batch = self.batches.fetch_add(u64::from(!held), Ordering::Relaxed);
        let mut counted = Vec::new();
        for call in calls {
            let row = sqlx::query("SELECT count(*) FROM marks WHERE case_id = $1")
                .bind(call.case.to_vec())
                .fetch_one(&mut *connection)
                .await?;
            counted.push((call.case, row.try_get(0)?));
        }
        Ok(Facts {
            batch,
            counted,
            marks: Vec::new(),
        })
    }

    fn decide(&self, facts: &mut Facts, call: &Call, _now: Time) -> Ruling<Answer> {
        if call.touch == Touch::Changes {
            facts.marks.push((call.case, call.write));
        }
        let marks = facts
            .counted
            .iter()
            .find(|(case, _)| *case == call.case)
            .unwrap()
            .1;
        let action = Action::RecordConsent.into();
        let body = EntryBody {
            action,
            decision: Decision::Allow.into(),
            agency_id: AGENCY.to_vec(),
            ..EntryBody::default()
        };
        let linkage = Linkage {
            case_id: call.case.to_vec(),
            ..Linkage::default()
        };
        let mut draft = Draft {
            body,
            linkage,
            officer: "officer 7".to_owned(),
            reasons: String::new(),
        };
        if call.entry == Entry::Misshapen {
            draft.body.agency_id.pop();
        }
        Ruling {
            answer: Answer::Decided {
                batch: facts.batch,
                marks,
            },
            draft: (call.entry != Entry::None).then_some(draft),
            remember: call.request.as_ref().map(|_| b"remembered".to_vec()),
        }
    }

    async fn write(
        &self,
        connection: &mut SqliteConnection,
        facts: Facts,
    ) -> Result<(), sqlx::Error> {
        for (case, write) in facts.marks {
            sqlx::query("INSERT INTO marks (case_id, parent, word) VALUES ($1, $2, $3)")
                .bind(case.to_vec())
                .bind((write == Write::Uncommittable).then_some(1))
                .bind(if write == Write::Unwritable {
                    "unwritable"
                } else {
                    "mark"
                })
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    fn replay(&self, _call: &Call, answer: &[u8]) -> Answer {
        assert_eq!(answer, b"remembered");
        Answer::Repeated
    }
}

/// A folder with a toy's database, and beside it the checkpoint file.
pub(crate) struct Lab {
    folder: TempDir,
    key: Vec<u8>,
}

impl Lab {
    /// With an empty database.
    pub(crate) async fn new() -> Self {
        let lab = Self::without_database();
        amanat_journal::init(&lab.config()).await.unwrap();
        lab
    }

    pub(crate) fn without_database() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self {
            folder,
            key: SigningKey::generate_pkcs8().unwrap().to_vec(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            database: self.data().join("toy.db"),
            checkpoint_file: self.checkpoint_file(),
            migrations: MIGRATIONS,
            waiting_per_agency: SHARE,
        }
    }

    pub(crate) fn checkpoint_file(&self) -> PathBuf {
        self.folder.path().join("checkpoint")
    }

    pub(crate) fn signer(&self) -> LogSigner {
        LogSigner::from_pkcs8(ORIGIN, &self.key).unwrap()
    }

    pub(crate) fn verifier(&self) -> LogVerifier {
        self.signer().verifier().clone()
    }

    pub(crate) fn keys(&self) -> Keys {
        let openings = WrapKey::from_bytes(&[7; 32]).unwrap();
        Keys {
            signer: self.signer(),
            openings,
        }
    }

    pub(crate) async fn open(&self) -> Opened<Toy> {
        self.try_open(self.config()).await.unwrap()
    }

    pub(crate) async fn try_open(&self, config: Config) -> Result<Opened<Toy>, JournalError> {
        amanat_journal::open(&config, self.keys(), Toy::default(), clock()).await
    }

    /// Opens, makes marks of one case, and closes.
    pub(crate) async fn grow(&self, by: u8) {
        let opened = self.open().await;
        for _ in 0..by {
            opened.journal.call(mark(1)).await.unwrap();
        }
        close(opened).await;
    }

    /// What a superuser does to the database while nobody looks.
    pub(crate) async fn tamper(&self, sql: &'static str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// To be closed before the files are copied.
    pub(crate) async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.config().database);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    /// Copies the database, as a backup does.
    pub(crate) fn back_up(&self) -> TempDir {
        let backup = TempDir::new().unwrap();
        copy(&self.data(), backup.path());
        backup
    }

    pub(crate) fn restore(&self, backup: &TempDir) {
        fs::remove_dir_all(self.data()).unwrap();
        fs::create_dir(self.data()).unwrap();
        copy(backup.path(), &self.data());
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Hashes the log again from its bodies up, and returns its size. Every test of a log that should
    /// be whole ends here.
    pub(crate) async fn verify(&self) -> u64 {
        let mut connection = self.connect().await;
        let rows = sqlx::query("SELECT idx, entry, body, salt FROM entries ORDER BY idx")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let mut edge = Edge::empty();
        let mut before: Option<EntryBody> = None;
        for row in rows {
            let idx: i64 = row.get(0);
            assert_eq!(u64::try_from(idx), Ok(edge.size()), "indexes have no holes");
            let (entry, body, salt): (Vec<u8>, Vec<u8>, Vec<u8>) =
                (row.get(1), row.get(2), row.get(3));
            let salt = salt.as_slice().try_into().unwrap();
            assert_eq!(
                LogEntry::new(salt, &body).as_bytes().as_slice(),
                entry,
                "entry {idx}"
            );
            edge.append(&LogEntry::parse(&entry).unwrap());
            let body = amanat_ledger::body::parse(&body).unwrap();
            let expected = match &before {
                Some(before) if before.boot_id == body.boot_id => before.counter + 1,
                _ => 1,
            };
            assert_eq!(body.counter, expected, "the counter of entry {idx}");
            before = Some(body);
        }
        let note: String = sqlx::query("SELECT checkpoint FROM head")
            .fetch_one(&mut connection)
            .await
            .unwrap()
            .get(0);
        connection.close().await.unwrap();
        if edge.size() > 0 {
            assert_eq!(self.verifier().open(&note).unwrap().head, edge.head());
        }
        edge.size()
    }
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if !file.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

pub(crate) fn clock() -> Clock {
    Arc::new(|| Time::from_millis(1_772_357_400_000).unwrap())
}

/// Ends as a service does: the last checkpoint is in its file.
pub(crate) async fn close(opened: Opened<Toy>) {
    let Opened {
        journal,
        reader,
        tasks,
    } = opened;
    drop((journal, reader));
    for task in tasks {
        task.await.unwrap();
    }
}

/// The writer, at a call that changes nothing, makes no entry and counts as no batch, until it is let go.
pub(crate) struct Held {
    gate: Arc<Gate>,
    answer: oneshot::Receiver<Result<Committed<Answer>, JournalError>>,
}

/// What is submitted then waits.
pub(crate) async fn hold(journal: &Journal<Toy>) -> Held {
    let gate = Arc::new(Gate {
        come: Semaphore::new(0),
        go: Semaphore::new(0),
    });
    let call = Call {
        entry: Entry::None,
        gate: Some(Arc::clone(&gate)),
        ..look(255)
    };
    let answer = journal.submit(call).unwrap();
    gate.come.acquire().await.unwrap().forget();
    Held { gate, answer }
}

impl Held {
    pub(crate) async fn let_go(self) {
        self.gate.go.add_permits(1);
        self.answer.await.unwrap().ok();
    }
}

/// Submits calls together, so that they wait for one writer, and gathers what each came to.
pub(crate) async fn together(
    journal: &Journal<Toy>,
    calls: impl IntoIterator<Item = Call>,
) -> Vec<Result<Committed<Answer>, JournalError>> {
    let held = hold(journal).await;
    let waiting: Vec<_> = calls
        .into_iter()
        .map(|call| journal.submit(call).unwrap())
        .collect();
    held.let_go().await;
    let mut outcomes = Vec::new();
    for answer in waiting {
        outcomes.push(answer.await.unwrap());
    }
    outcomes
}

pub(crate) fn receipt(outcome: &Result<Committed<Answer>, JournalError>) -> &Receipt {
    outcome.as_ref().ok().unwrap().receipt.as_ref().unwrap()
}

pub(crate) fn batch(outcome: &Result<Committed<Answer>, JournalError>) -> u64 {
    match outcome.as_ref().ok().unwrap().answer {
        Answer::Decided { batch, .. } => batch,
        Answer::Repeated => panic!("repeated"),
    }
}

pub(crate) fn error<T>(outcome: Result<T, JournalError>) -> JournalError {
    outcome.err().expect("an error")
}

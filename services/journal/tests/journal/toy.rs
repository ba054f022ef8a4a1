//! A toy service that writes down marks, and a laboratory with its database.

use std::{
    collections::HashMap,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use amanat_database::{
    Column::{Bytes, Number, Text},
    Connection, Engine, Error, Insert, Place, Sql, Step,
};
use amanat_journal::{
    Access, Book, Committed, Config, ConflictKey, Draft, Journal, JournalError, Keys, Opened,
    Overtaking, RequestKey, Ruling, Touch,
};
use amanat_ledger::{Edge, LogEntry, LogSigner, LogVerifier};
use amanat_schema::{
    AgencyId, CaseId, Time,
    audit::{Action, EntryBody, Linkage, Receipt},
    clock::Clock,
    policy::Decision,
};
use amanat_seal::{WrapKey, statement::SigningKey};
use tempfile::TempDir;
use tokio::sync::{Semaphore, oneshot};

use crate::database::fresh;

pub(crate) const AGENCY: AgencyId = AgencyId::new([0xa9; 16]);
pub(crate) const ORIGIN: &str = "toy.example/log";
pub(crate) const SHARE: NonZeroUsize = NonZeroUsize::new(256).unwrap();
const STEPS: &[Step] = &[
    Step {
        name: "marks",
        sqlite: "CREATE TABLE parents (id INTEGER PRIMARY KEY) STRICT;
         CREATE TABLE marks (
             seq     INTEGER PRIMARY KEY,
             case_id BLOB NOT NULL,
             parent  INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED,
             word    TEXT NOT NULL CHECK (word <> 'unwritable')
         ) STRICT;",
        postgres: "CREATE TABLE parents (id bigint PRIMARY KEY);
         CREATE TABLE marks (
             seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             case_id bytea NOT NULL,
             parent  bigint REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED,
             word    text NOT NULL CHECK (word <> 'unwritable')
         );",
    },
    amanat_journal::ENTRY_TIMES,
    amanat_journal::REQUESTS_BY_KEY,
    amanat_journal::ENTRY_SPANS,
    amanat_journal::OWN_KEYS,
    amanat_journal::ENTRY_INDEX,
];
const TABLES: [&str; 5] = ["entries", "nodes", "head", "requests", "marks"];

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
    /// How many entries others had written each time that it was told; `None` if that was not known.
    pub(crate) overtaken: Arc<Mutex<Vec<Option<usize>>>>,
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

    async fn load(&self, connection: &mut Connection, calls: &[&Call]) -> Result<Facts, Error> {
        for gate in calls.iter().filter_map(|call| call.gate.as_ref()) {
            gate.come.add_permits(1);
            gate.go.acquire().await.unwrap().forget();
        }
        let held = calls.iter().any(|call| call.gate.is_some());
        let batch = self.batches.fetch_add(u64::from(!held), Ordering::Relaxed);
        let mut counted = Vec::new();
        for call in calls {
            let row = Sql::new("SELECT count(*) FROM marks WHERE case_id = ")
                .bind(call.case.to_vec())
                .fetch_one(connection)
                .await?;
            counted.push((call.case, row.get(0)?));
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

    async fn write(&self, connection: &mut Connection, facts: Facts) -> Result<(), Error> {
        let marks = facts.marks.into_iter().map(|(case, write)| {
            let parent = (write == Write::Uncommittable).then_some(1_i64);
            let word = match write {
                Write::Unwritable => "unwritable",
                Write::Good | Write::Uncommittable => "mark",
            };
            [case.to_vec().into(), parent.into(), word.into()]
        });
        let columns = [Bytes("case_id"), Number("parent"), Text("word")];
        Insert::into("marks", columns, marks)
            .execute(connection)
            .await
    }

    fn overtaken(&self, by: Overtaking<'_>) {
        self.overtaken.lock().unwrap().push(match by {
            Overtaking::Entries(entries) => Some(entries.len()),
            Overtaking::Unknown => None,
        });
    }

    fn replay(&self, _call: &Call, answer: &[u8]) -> Answer {
        assert_eq!(answer, b"remembered");
        Answer::Repeated
    }
}

/// A toy's database, and apart from it the checkpoint file.
pub(crate) struct Lab {
    folder: TempDir,
    place: Place,
    key: Vec<u8>,
}

impl Lab {
    /// With an empty database.
    pub(crate) async fn new() -> Self {
        let lab = Self::without_database().await;
        amanat_journal::init(&lab.config(), None).await.unwrap();
        lab
    }

    pub(crate) async fn without_database() -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        Self {
            place: fresh(&data, "toy.db").await,
            folder,
            key: SigningKey::generate_pkcs8().unwrap().to_vec(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            database: self.place.clone(),
            checkpoint_file: self.checkpoint_file(),
            steps: STEPS,
            changing: &[],
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

    /// What whoever owns the database does to it while nobody looks.
    pub(crate) async fn tamper(&self, sql: &'static str) {
        self.tamper_per(sql, sql).await;
    }

    /// The same in the words of each engine. The owner of the tables can do away with what keeps them append-only.
    pub(crate) async fn tamper_per(&self, sqlite: &'static str, postgres: &'static str) {
        let mut connection = self.connect().await;
        match connection.engine() {
            Engine::Sqlite => connection.run(sqlite).await.unwrap(),
            Engine::Postgres => {
                for table in ["entries", "nodes", "requests"] {
                    let off = format!("ALTER TABLE {table} DISABLE TRIGGER {table}_append_only");
                    Sql::new(off).execute(&mut connection).await.unwrap();
                }
                connection.run(postgres).await.unwrap();
            }
        }
        connection.close().await.unwrap();
    }

    pub(crate) async fn connect(&self) -> Connection {
        self.place.connect().await.unwrap()
    }

    /// Where the tests' server listens.
    pub(crate) fn server(&self) -> String {
        let address = std::env::var("AMANAT_POSTGRES").unwrap();
        let after = address.split_once('@').unwrap().1;
        after.split_once('/').unwrap().0.to_owned()
    }

    /// The address of its database, by another port.
    pub(crate) async fn address_at(&self, port: u16) -> String {
        let address = std::env::var("AMANAT_POSTGRES").unwrap();
        let address = address.replace(&self.server(), &format!("127.0.0.1:{port}"));
        format!(
            "{address}?options=-c%20search_path%3D{}",
            self.schema().await
        )
    }

    async fn schema(&self) -> String {
        let mut connection = self.connect().await;
        let row = Sql::new("SELECT current_schema()::text").fetch_one(&mut connection);
        row.await.unwrap().get(0).unwrap()
    }

    /// Another log that the same key signed stands where this one was.
    pub(crate) async fn replace_by_another_log(&self, entries: u8) {
        let other = Self::without_database().await;
        let other = Self {
            key: self.key.clone(),
            ..other
        };
        amanat_journal::init(&other.config(), None).await.unwrap();
        other.grow(entries).await;
        let (mut connection, theirs) = (self.connect().await, other.schema().await);
        for table in ["entries", "nodes", "head"] {
            for sql in [
                format!("DELETE FROM {table}"),
                format!("INSERT INTO {table} SELECT * FROM {theirs}.{table}"),
            ] {
                Sql::new(sql).execute(&mut connection).await.unwrap();
            }
        }
    }

    /// The same log's keys and checkpoint file, over a new database.
    pub(crate) async fn with_an_empty_database(self) -> Self {
        let data = self.folder.path().join("empty");
        fs::create_dir(&data).unwrap();
        let place = fresh(&data, "toy.db").await;
        let lab = Self { place, ..self };
        amanat_journal::init(&lab.config(), None).await.unwrap();
        lab
    }

    /// The same log's keys, in a folder of their own with no database and no checkpoint file.
    pub(crate) async fn elsewhere(&self) -> Self {
        Self {
            key: self.key.clone(),
            ..Self::without_database().await
        }
    }

    /// The same folder, with a database in another place.
    pub(crate) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file of its database, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.place.file()
    }

    /// Copies the database, as a backup does.
    pub(crate) async fn back_up(&self) -> TempDir {
        let backup = TempDir::new().unwrap();
        if self.place.engine() == Engine::Sqlite {
            copy(&self.data(), backup.path());
            return backup;
        }
        let mut connection = self.connect().await;
        for table in TABLES {
            let sql = format!("CREATE TABLE saved_{table} AS TABLE {table}");
            Sql::new(sql).execute(&mut connection).await.unwrap();
        }
        backup
    }

    pub(crate) async fn restore(&self, backup: &TempDir) {
        if self.place.engine() == Engine::Sqlite {
            fs::remove_dir_all(self.data()).unwrap();
            fs::create_dir(self.data()).unwrap();
            copy(backup.path(), &self.data());
            return;
        }
        self.tamper_per(
            "",
            "DELETE FROM entries; DELETE FROM nodes; DELETE FROM requests",
        )
        .await;
        let mut connection = self.connect().await;
        for table in TABLES {
            for sql in [
                format!("DELETE FROM {table}"),
                format!("INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM saved_{table}"),
            ] {
                Sql::new(sql).execute(&mut connection).await.unwrap();
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Hashes the log again from its bodies up, and returns its size. Every test of a log that should
    /// be whole ends here.
    pub(crate) async fn verify(&self) -> u64 {
        let mut connection = self.connect().await;
        let rows = Sql::new("SELECT idx, entry, body, salt FROM entries ORDER BY idx")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let mut edge = Edge::empty();
        let mut counters: HashMap<Vec<u8>, u64> = HashMap::new();
        for row in rows {
            let idx: u64 = row.get(0).unwrap();
            assert_eq!(idx, edge.size(), "indexes have no holes");
            let (entry, body): (Vec<u8>, Vec<u8>) = (row.get(1).unwrap(), row.get(2).unwrap());
            let salt: [u8; 32] = row.get(3).unwrap();
            assert_eq!(
                LogEntry::new(&salt, &body).as_bytes().as_slice(),
                entry,
                "entry {idx}"
            );
            edge.append(&LogEntry::parse(&entry).unwrap());
            let body = amanat_ledger::body::parse(&body).unwrap();
            let counter = counters.entry(body.boot_id).or_default();
            *counter += 1;
            assert_eq!(body.counter, *counter, "the counter of entry {idx}");
        }
        let note: String = Sql::new("SELECT checkpoint FROM head")
            .fetch_one(&mut connection)
            .await
            .unwrap()
            .get(0)
            .unwrap();
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

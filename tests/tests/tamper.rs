//! Someone who can write to a server's database, and at last also holds its log's key: every change is found,
//! and its place named where it lies in one entry.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{fs, process::Command};

use amanat_connector::{Connector, EntryQuery, Profile, Server, Submitted};
use amanat_database::{Engine, Sql};
use amanat_schema::{
    audit::{Action, Receipt},
    case_file,
    policy::Decision,
};
use amanat_tests::{
    Running,
    cli::Told,
    forge::{
        Books,
        CheckpointFile::{Left, Replaced},
        Column,
    },
    sharing::{self, Shared},
};
use prost::Message as _;
use serde_json::Value;
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};

const SOURCE: &str = "police-lahore";
const READER: &str = "darul-aman-lahore";
const AUDITOR: &str = "oversight";

/// An exchange whose logs have some entries of every kind, and a record that its recipient can read.
struct Drill {
    running: Running,
    shared: Shared,
    gateway: Books,
    custodian: Books,
}

impl Drill {
    async fn start() -> Self {
        let running = Running::start(env!("CARGO_BIN_EXE_amanat"), "info");
        let source = running.connector(SOURCE).await;
        let reader = running.connector(READER).await;
        let (case, consent) = (
            sharing::file("police-case"),
            sharing::consent_file("consent-police-to-shelter"),
        );
        let shared = sharing::share(&source, &reader, &case, &consent, None).await;
        shared.read(&reader).await.unwrap();
        let outsider = running.connector("ngo-shelter").await;
        shared.read(&outsider).await.err().unwrap();
        let gateway = Books::of(&running.exchange.gateway);
        let custodian = Books::of(&running.exchange.custodian);
        Self {
            running,
            shared,
            gateway,
            custodian,
        }
    }

    fn books(&self, server: Server) -> &Books {
        match server {
            Server::Gateway => &self.gateway,
            Server::Custodian => &self.custodian,
        }
    }

    /// `amanat audit verify` of one log: exit code and what it says.
    fn verify(&self, agency: &str, server: Server) -> (Option<i32>, Value) {
        let profile = &self.running.exchange.agencies[agency].folder;
        let ran = Command::new(env!("CARGO_BIN_EXE_amanat"))
            .args([
                "--json",
                "audit",
                "verify",
                "--log",
                server.name(),
                "--profile",
            ])
            .arg(profile)
            .output()
            .unwrap();
        let said = if ran.status.success() {
            &ran.stdout
        } else {
            &ran.stderr
        };
        (ran.status.code(), serde_json::from_slice(said).unwrap())
    }

    fn holds(&self, server: Server) {
        let (code, said) = self.verify(AUDITOR, server);
        assert_eq!(
            (code, &said["verified"]),
            (Some(0), &Value::Bool(true)),
            "{said}"
        );
    }

    /// What is shown is not what the server signed: verification names this entry, or none.
    fn fails(&self, agency: &str, server: Server, index: Option<usize>, change: &str) -> String {
        self.finds_fault(agency, server, (1, "VERIFICATION_FAILED"), index, change)
    }

    /// The server has signed two logs.
    fn contradicts(
        &self,
        agency: &str,
        server: Server,
        index: Option<usize>,
        change: &str,
    ) -> String {
        self.finds_fault(agency, server, (5, "LOG_INCONSISTENT"), index, change)
    }

    fn finds_fault(
        &self,
        agency: &str,
        server: Server,
        (exit, reason): (i32, &str),
        index: Option<usize>,
        change: &str,
    ) -> String {
        let (code, said) = self.verify(agency, server);
        assert_eq!(code, Some(exit), "{change}: {said}");
        assert_eq!(said["error"], reason, "{change}: {said}");
        assert_eq!(said["verified"], false, "{change}: {said}");
        assert_eq!(said["log"], server.name(), "{change}: {said}");
        assert_eq!(
            said["first_bad_index"],
            serde_json::json!(index),
            "{change}: {said}"
        );
        said["message"].as_str().unwrap().to_owned()
    }

    /// Each change is found, and what is changed back is no longer.
    async fn finds(&self, agency: &str, server: Server, changes: &[(usize, Column, usize)]) {
        for &(index, column, at) in changes {
            self.books(server).flip(index, column, at).await;
            self.fails(
                agency,
                server,
                Some(index),
                &format!("byte {at} of {column:?} {index}"),
            );
            self.books(server).flip(index, column, at).await;
        }
        self.holds(server);
    }

    /// The gateway answers no read and says why in its log.
    async fn gateway_is_frozen(&self, why: &str) {
        let reader = self.running.connector(READER).await;
        assert_eq!(
            self.shared.read(&reader).await.err().unwrap().reason(),
            "LOG_INCONSISTENT"
        );
        let log = fs::read_to_string(&self.running.gateway.log).unwrap();
        let said = log.lines().rfind(|line| line.contains("the log is frozen"));
        assert!(
            said.is_some_and(|line| line.contains(why)),
            "{why}: {said:?}"
        );
    }

    async fn reads_again(&self) {
        let reader = self.running.connector(READER).await;
        self.shared.read(&reader).await.unwrap();
        self.holds(Server::Gateway);
        self.holds(Server::Custodian);
    }

    /// The index of the last entry of the gateway that released something.
    async fn last_release(&self) -> usize {
        let auditor = self.running.connector(AUDITOR).await;
        let query = EntryQuery {
            action: Some(Action::ReadRecord),
            decision: Some(Decision::Allow),
            limit: usize::MAX,
            ..EntryQuery::default()
        };
        let entries = auditor.list_entries(Server::Gateway, &query).await.unwrap();
        usize::try_from(entries.last().unwrap().index).unwrap()
    }

    /// The auditor loses what it ever saw, as a new one has seen nothing.
    fn forget(&self, agency: &str) {
        let outbox = self.running.exchange.agencies[agency].folder.join("outbox");
        for file in fs::read_dir(outbox).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}

/// Some places in so many bytes: the first, the last, and others between.
fn spread(length: usize) -> impl Iterator<Item = usize> {
    let between = [5, 3, 2].map(|part| length / part);
    [0, 1].into_iter().chain(between).chain([length - 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_an_entry_counts() {
    let drill = Drill::start().await;
    let changes: Vec<_> = (0..34).map(|at| (3, Column::Entry, at)).collect();
    drill.finds(AUDITOR, Server::Gateway, &changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_any_body_or_salt_is_found_from_the_first_to_the_last() {
    let drill = Drill::start().await;
    for server in [Server::Gateway, Server::Custodian] {
        let books = drill.books(server);
        let last = books.size().await - 1;
        for index in [0, 1, last / 2, last] {
            let length = books.get(index, Column::Body).await.len();
            let mut changes: Vec<_> = spread(length).map(|at| (index, Column::Body, at)).collect();
            changes.push((index, Column::Salt, 31));
            changes.push((index, Column::Entry, 33));
            drill.finds(AUDITOR, server, &changes).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agency_that_acted_finds_a_change_of_what_its_entry_is_about() {
    let drill = Drill::start().await;
    // Of the source's own: the put of its record.
    let index = 0;
    let length = drill.gateway.get(index, Column::Linkage).await.len();
    let changes: Vec<_> = [0, length / 2, length - 1]
        .into_iter()
        .map(|at| (index, Column::Linkage, at))
        .chain([(index, Column::LinkageSalt, 0)])
        .collect();
    drill.finds(SOURCE, Server::Gateway, &changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_made_while_the_server_was_stopped_are_found_too() {
    let mut drill = Drill::start().await;
    let last = drill.gateway.size().await - 1;
    for (index, column) in [(0, Column::Body), (2, Column::Entry), (last, Column::Body)] {
        assert!(drill.running.gateway.stop());
        drill.gateway.flip(index, column, 20).await;
        drill.running.gateway.start();
        drill.fails(AUDITOR, Server::Gateway, Some(index), "restarted");
        drill.gateway.flip(index, column, 20).await;
    }
    drill.reads_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_entries_that_change_places_are_found_at_the_first() {
    let mut drill = Drill::start().await;
    for server in [Server::Gateway, Server::Custodian] {
        for (one, other) in [(1, 2), (0, 3)] {
            drill.books(server).swap(one, other).await;
            drill.fails(AUDITOR, server, Some(one), "swapped");
            drill.books(server).swap(one, other).await;
        }
        drill.holds(server);
    }
    drill.gateway.swap(1, 2).await;
    assert!(drill.running.gateway.stop());
    drill.running.gateway.start();
    drill.fails(AUDITOR, Server::Gateway, Some(1), "swapped and restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_is_gone_is_found_and_freezes_the_server_at_its_next_start() {
    for server in [Server::Gateway, Server::Custodian] {
        let mut drill = Drill::start().await;
        drill.holds(server);
        let size = drill.books(server).size().await;
        drill.books(server).cut(size - 2).await;
        drill.fails(AUDITOR, server, Some(size - 2), "cut");

        let process = match server {
            Server::Gateway => &mut drill.running.gateway,
            Server::Custodian => &mut drill.running.custodian,
        };
        assert!(process.stop());
        process.start();
        let log = fs::read_to_string(&process.log).unwrap();
        let named = format!("entries {} to {} are gone", size - 2, size - 1);
        assert!(log.contains(&named), "{log}");
        let reader = drill.running.connector(READER).await;
        let refused = drill.shared.read(&reader).await.err().unwrap();
        assert_eq!(refused.reason(), "LOG_INCONSISTENT");
        // What is left can still be fetched, and is less than what the auditor was shown; on PostgreSQL, where another
        // process may have signed the newest checkpoint, it is less than what that says.
        match drill.books(server).database.engine() {
            Engine::Sqlite => drill.contradicts(AUDITOR, server, Some(size - 2), "restarted"),
            Engine::Postgres => drill.fails(AUDITOR, server, Some(size - 2), "restarted"),
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_rolled_back_in_all_its_tables_freezes_without_its_checkpoint_file() {
    let mut drill = Drill::start().await;
    let size = drill.gateway.size().await;
    assert!(drill.running.gateway.stop());
    drill.gateway.cut(size - 3).await;
    drill.gateway.sign_anew(Left).await;
    drill.running.gateway.start();
    let gone = format!(
        "entry {} was signed, but the database ends before entry {}",
        size - 1,
        size - 3
    );
    drill.gateway_is_frozen(&gone).await;

    assert!(drill.running.gateway.stop());
    fs::remove_file(&drill.gateway.checkpoint_file).unwrap();
    let why = "the file of the last signed checkpoint is gone";
    if drill.gateway.database.engine() == Engine::Postgres {
        // A new replica brings the file of another one.
        let mut serve = Command::new(env!("CARGO_BIN_EXE_amanat"));
        serve.args(["gateway", "serve", "--config"]);
        let told = Told::by(serve.arg(&drill.running.exchange.gateway.config));
        assert_eq!(told.code, 3, "{}", told.shown());
        assert!(told.err.contains(why), "{}", told.err);
        return;
    }
    drill.running.gateway.start();
    drill.gateway_is_frozen(why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_rolled_back_with_its_checkpoint_file_is_found_by_whoever_saw_more() {
    let mut drill = Drill::start().await;
    let observed = drill.last_release().await + 1;
    drill.holds(Server::Gateway);
    assert!(drill.running.gateway.stop());
    drill.gateway.cut(observed - 2).await;
    drill.gateway.sign_anew(Replaced).await;
    drill.running.gateway.start();
    let what = drill.contradicts(AUDITOR, Server::Gateway, Some(observed - 2), "rolled back");
    assert!(what.contains("it is missing"), "{what}");
    drill.forget(AUDITOR);
    let what = drill.contradicts(AUDITOR, Server::Gateway, Some(observed - 2), "to another");
    assert!(
        what.contains(&format!("signed with {observed} entries")),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custodian_rolled_back_freezes_or_is_found_by_whoever_saw_more() {
    let mut drill = Drill::start().await;
    drill.holds(Server::Custodian);
    // Without the listing of that verification, which came after the checkpoint that it kept.
    let size = drill.custodian.size().await - 1;
    assert!(drill.running.custodian.stop());
    drill.custodian.cut(size - 1).await;
    drill.custodian.sign_anew(Left).await;
    drill.running.custodian.start();
    let reader = drill.running.connector(READER).await;
    let refused = drill.shared.read(&reader).await.err().unwrap();
    assert_eq!(refused.reason(), "LOG_INCONSISTENT");

    assert!(drill.running.custodian.stop());
    drill.custodian.sign_anew(Replaced).await;
    drill.running.custodian.start();
    drill.contradicts(AUDITOR, Server::Custodian, Some(size - 1), "rolled back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_backup_freezes_the_server_until_the_newest_database_is_back() {
    let mut drill = Drill::start().await;
    assert!(drill.running.gateway.stop());
    let old = drill.gateway.backup();
    drill.running.gateway.start();
    let size = drill.gateway.size().await;
    drill.reads_again().await;
    let newest_size = drill.gateway.size().await;

    assert!(drill.running.gateway.stop());
    let newest = drill.gateway.backup();
    drill.gateway.restore(&old);
    drill.running.gateway.start();
    let why = format!(
        "entry {} was signed, but the database ends before entry {size}: it was rolled back or cut",
        newest_size - 1
    );
    drill.gateway_is_frozen(&why).await;

    assert!(drill.running.gateway.stop());
    drill.gateway.restore(&newest);
    drill.running.gateway.start();
    drill.reads_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_rewritten_and_signed_anew_contradicts_the_head_that_the_custodian_observed() {
    let mut drill = Drill::start().await;
    let release = drill.last_release().await;
    assert!(drill.running.gateway.stop());
    // Its operator hides who was shown what.
    drill
        .gateway
        .rewrite(release, |body| body.released.clear())
        .await;
    drill.gateway.sign_anew(Replaced).await;
    drill.running.gateway.start();

    drill.forget(AUDITOR);
    let what = drill.contradicts(AUDITOR, Server::Gateway, None, "rewritten");
    assert!(
        what.contains("the head that the custodian observed"),
        "{what}"
    );

    // Nothing is released on it any more, and the custodian keeps the gateway's two words.
    let reader = drill.running.connector(READER).await;
    let refused = drill.shared.read(&reader).await.err().unwrap();
    assert_eq!(refused.reason(), "LOG_INCONSISTENT");
    let mut custodian = drill.custodian.open().await;
    let evidence = Sql::new("SELECT ours, theirs FROM evidence").fetch_all(&mut custodian);
    let evidence = evidence.await;
    assert_eq!(evidence.unwrap().len(), 1);
    drill.holds(Server::Custodian);
    let what = drill.contradicts(AUDITOR, Server::Gateway, None, "still");
    assert!(
        what.contains("the head that the custodian observed"),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_that_is_receipted_one_place_twice_keeps_both_and_delivers_nothing_more() {
    let mut drill = Drill::start().await;
    let submit = async |source: &Connector| {
        let file = case_file::parse(&sharing::file("police-case")).unwrap();
        let submitted = source.submit_case(file, None).await;
        submitted.and_then(Submitted::delivered)
    };
    submit(&drill.running.connector(SOURCE).await)
        .await
        .unwrap();
    assert!(drill.running.gateway.stop());
    drill.gateway.cut(drill.gateway.size().await - 2).await;
    drill.gateway.sign_anew(Replaced).await;
    drill.running.gateway.start();

    let source = drill.running.connector(SOURCE).await;
    let told = submit(&source).await.err().unwrap();
    assert_eq!(told.reason(), "LOG_INCONSISTENT", "{told}");
    let profile = Profile::load(&drill.running.exchange.agencies[SOURCE].folder).unwrap();
    let options = SqliteConnectOptions::new().filename(profile.outbox);
    let mut outbox = SqliteConnection::connect_with(&options).await.unwrap();
    let kept = sqlx::query("SELECT ours, theirs FROM contradictions WHERE kind = 'receipts'");
    let kept = kept.fetch_all(&mut outbox).await.unwrap();
    assert_eq!(kept.len(), 1);
    let [ours, theirs] =
        [0, 1].map(|column| Receipt::decode(kept[0].get::<&[u8], _>(column)).unwrap());
    assert_eq!(ours.index, theirs.index);
    assert_ne!(ours.body, theirs.body);

    // By now the forked log has grown over the place, and would give the entry again.
    let waiting = source.pending().await.unwrap();
    assert!(!waiting.is_empty());
    let sizes = [drill.gateway.size().await, drill.custodian.size().await];
    let told = drill.running.tell(SOURCE, &["outbox", "deliver"]);
    assert_eq!(told.code, 5, "{}", told.shown());
    for words in ["LOG_INCONSISTENT", "duty contact", "a new outbox"] {
        assert!(told.shown().contains(words), "{}", told.shown());
    }
    assert_eq!(source.pending().await.unwrap(), waiting);
    assert_eq!(
        [drill.gateway.size().await, drill.custodian.size().await],
        sizes
    );

    // Both servers are told what closes, and one is not believed that it heard.
    let told = source
        .withdraw_consent(drill.shared.consent)
        .await
        .unwrap_err();
    assert_eq!(told.reason(), "LOG_INCONSISTENT", "{told}");
    assert_eq!(
        [drill.gateway.size().await, drill.custodian.size().await],
        sizes.map(|size| size + 1)
    );
    let last = source.pending().await.unwrap().pop().unwrap();
    assert_eq!(last.kind, "withdrawal to the gateway");
}

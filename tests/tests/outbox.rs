//! What an officer hands in is kept, as the very bytes that will be sent, until the servers have it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{collections::BTreeSet, fs, path::Path};

use amanat_connector::{
    Connector, ConnectorError, ConsentFile, EntryQuery, Profile, ReadRequest, Server, Submitted,
};
use amanat_database::Sql;
use amanat_schema::{
    CaseId, ConsentId, RecordId, RequestId,
    audit::Action,
    case_file,
    consent::ConsentStatus,
    key::{ActivateKeyRequest, DepositKeyRequest},
    policy::{Decision, Purpose},
    record::PutRecordRequest,
};
use amanat_seal::WrapKey;
use amanat_tests::{Running, forge::Books};
use prost::Message as _;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const POLICE: &str = "police-lahore";
const CASE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/quickstart/police-case.json"
);

#[tokio::test(flavor = "multi_thread")]
async fn a_case_handed_in_while_the_servers_are_down_is_kept_sealed_and_delivered_unchanged() {
    let mut running = Running::start(PROGRAM, "info");
    running.gateway.stop();
    running.custodian.stop();

    let told = running.tell(POLICE, &["case", "submit", CASE]);
    assert_eq!(told.code, 4);
    for word in ["UNREACHABLE", "kept", "amanat outbox deliver"] {
        assert!(told.err.contains(word), "{}", told.err);
    }
    let waiting = running.tell_json(POLICE, &["outbox", "list"]);
    assert_eq!(waiting.as_array().unwrap().len(), 2);
    for (at, kind) in [(0, "subject"), (1, "submission")] {
        assert_eq!(
            (&waiting[at]["kind"], &waiting[at]["answered"]),
            (&json!(kind), &json!(0))
        );
    }
    let kept = Kept::of(&running, POLICE).await;
    assert_eq!(kept.len(), 2);
    assert_nothing_of_the_case_is_readable(&running.exchange.agencies[POLICE].folder);

    let waits = waiting[0]["job"].to_string();
    let told = running.tell(POLICE, &["outbox", "drop", &waits]);
    assert!(
        told.code == 1 && told.err.contains("waits; only what a server refused"),
        "{}",
        told.err
    );
    for _ in 0..3 {
        let told = running.tell(POLICE, &["outbox", "deliver"]);
        assert_eq!(told.code, 4, "nothing was delivered");
        assert!(told.err.contains("UNREACHABLE"), "{}", told.err);
    }
    assert_eq!(
        Kept::of(&running, POLICE).await,
        kept,
        "a retry seals nothing anew"
    );

    running.gateway.start();
    running.custodian.start();
    let told = running.tell(POLICE, &["outbox", "deliver"]);
    assert_eq!(told.code, 0, "{}", told.err);
    for word in ["delivered", "pseudonym ", "no other case of this agency"] {
        assert!(told.out.contains(word), "{}", told.out);
    }
    let told = running.tell(POLICE, &["outbox", "deliver"]);
    assert_eq!((told.code, told.out.as_str()), (0, "nothing waits\n"));

    let submission = Submission::of(&running, &kept[1]);
    assert_eq!(
        submission.requests.len(),
        3,
        "each call has its own request id from the start"
    );
    assert_eq!(stored_headers(&running).await, [submission.header]);
    let police = running.connector(POLICE).await;
    let versions = police.list_versions(None).await.unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0].record, submission.record);
    assert_each_step_is_logged_once(&police, submission.record).await;
    assert_opens(&police, versions[0].case, submission.record).await;
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_lost_the_gateway_after_its_deposit_is_completed_later() {
    let mut running = Running::start(PROGRAM, "info");
    let police = running.connector(POLICE).await;
    running.gateway.kill();
    let error = submit(&police).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");

    let pending = police.pending().await.unwrap();
    let progress: Vec<_> = pending
        .iter()
        .map(|job| (job.kind.as_str(), job.progress))
        .collect();
    assert_eq!(
        progress,
        [("subject", 0), ("submission", 1)],
        "the custodian has answered"
    );
    let kept = Kept::of(&running, POLICE).await;
    for (job, outcome) in police.deliver_pending().await.unwrap() {
        assert!(outcome.is_err(), "{}: the gateway is still down", job.kind);
    }
    assert_eq!(Kept::of(&running, POLICE).await, kept);

    running.gateway.start();
    let outcomes = police.deliver_pending().await.unwrap();
    let delivery = outcomes[1].1.as_ref().unwrap();
    let servers: Vec<_> = delivery.entries.iter().map(|(server, _)| *server).collect();
    assert_eq!(
        servers,
        [Server::Gateway, Server::Custodian],
        "only what was left to do"
    );
    let submission = Submission::of(&running, &kept[1]);
    assert_eq!(
        submission.requests.len(),
        2,
        "the record key left with its deposit"
    );
    assert_eq!(stored_headers(&running).await, [submission.header]);
    assert_each_step_is_logged_once(&police, submission.record).await;
    let case = police.list_versions(None).await.unwrap()[0].case;
    assert_opens(&police, case, submission.record).await;
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_lost_the_custodian_before_its_activation_is_completed_later() {
    let mut running = Running::start(PROGRAM, "info");
    let police = running.connector(POLICE).await;
    running.custodian.kill();
    submit(&police).await.unwrap_err();
    assert_eq!(
        police.pending().await.unwrap()[0].progress,
        0,
        "nothing goes to the gateway first"
    );
    assert!(stored_headers(&running).await.is_empty());

    running.custodian.start();
    for (_, outcome) in police.deliver_pending().await.unwrap() {
        outcome.unwrap();
    }
    assert_eq!(police.pending().await.unwrap(), []);
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_job_leaves_the_queue_with_its_reason_and_holds_up_nothing() {
    let mut running = Running::start(PROGRAM, "info");
    let police = running.connector(POLICE).await;
    let case = submit(&police).await.unwrap().case;
    running.gateway.stop();
    running.custodian.stop();
    // She may not be asked to let an agency read its own records.
    let consent = consent(POLICE);
    assert!(
        police
            .grant_consent(case, &consent)
            .await
            .unwrap_err()
            .is_retryable()
    );
    assert!(submit(&police).await.unwrap_err().is_retryable());
    let kept = Kept::of(&running, POLICE).await;
    assert_eq!(kept.len(), 3);

    running.gateway.start();
    running.custodian.start();
    let told = running.tell(POLICE, &["outbox", "deliver"]);
    assert_eq!(told.code, 3, "one was refused: its input was bad");
    assert!(
        told.err.contains("FIELD_INVALID") && told.err.contains("delivered"),
        "{}",
        told.err
    );
    assert_eq!(police.pending().await.unwrap(), []);
    assert_eq!(police.list_versions(None).await.unwrap().len(), 2);

    let listed = running.tell_json(POLICE, &["outbox", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["refused"], "FIELD_INVALID");
    assert_eq!(
        Kept::of(&running, POLICE).await,
        kept[..1],
        "what was refused is not lost"
    );
    let told = running.tell(POLICE, &["outbox", "deliver"]);
    assert_eq!(
        (told.code, told.out.as_str()),
        (0, "nothing waits\n"),
        "it is not tried again"
    );
    drop_it(&running, listed[0]["job"].as_i64().unwrap()).await;
    running.verify().await;
}

/// What was refused is dropped by its number, once, and nothing else is.
async fn drop_it(running: &Running, job: i64) {
    let drop = |job: i64| running.tell(POLICE, &["outbox", "drop", &job.to_string()]);
    for other in [job + 1, job + 1000, -1] {
        assert_ne!(drop(other).code, 0, "it was not refused");
    }
    assert_eq!(Kept::of(running, POLICE).await.len(), 1);
    assert_eq!(drop(job).code, 0);
    assert_eq!(running.tell_json(POLICE, &["outbox", "list"]), json!([]));
    assert!(Kept::of(running, POLICE).await.is_empty(), "it is gone");
    let told = drop(job);
    assert!(told.code == 1 && told.err.contains("was refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_closes_at_either_server_while_the_other_is_down() {
    let mut running = Running::start(PROGRAM, "info");
    let police = running.connector(POLICE).await;
    let case = submit(&police).await.unwrap().case;

    let granted = police
        .grant_consent(case, &consent("darul-aman-lahore"))
        .await
        .unwrap()
        .consent;
    running.gateway.kill();
    let told = running.tell(POLICE, &["consent", "withdraw", &granted.to_string()]);
    assert_eq!(told.code, 4);
    assert!(told.err.contains("UNREACHABLE"), "{}", told.err);
    assert_eq!(
        status(&police, Server::Custodian, granted).await,
        ConsentStatus::Withdrawn
    );
    assert_waits(&police, "withdrawal to the gateway").await;
    running.gateway.start();
    assert_eq!(
        status(&police, Server::Gateway, granted).await,
        ConsentStatus::InForce
    );
    assert_eq!(running.tell(POLICE, &["outbox", "deliver"]).code, 0);
    assert_eq!(
        status(&police, Server::Gateway, granted).await,
        ConsentStatus::Withdrawn
    );

    let granted = police
        .grant_consent(case, &consent("ngo-shelter"))
        .await
        .unwrap()
        .consent;
    running.custodian.kill();
    let told = running.tell(POLICE, &["consent", "withdraw", &granted.to_string()]);
    assert_eq!(told.code, 4);
    assert_eq!(
        status(&police, Server::Gateway, granted).await,
        ConsentStatus::Withdrawn
    );
    assert_waits(&police, "withdrawal to the custodian").await;
    running.custodian.start();
    assert_eq!(running.tell(POLICE, &["outbox", "deliver"]).code, 0);
    assert_eq!(
        status(&police, Server::Custodian, granted).await,
        ConsentStatus::Withdrawn
    );
    running.verify().await;
}

/// A job as it lies in an outbox, contents sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    kind: String,
    subject: String,
    job: Vec<u8>,
}

impl Kept {
    /// The jobs with contents: done ones are erased.
    async fn of(running: &Running, agency: &str) -> Vec<Self> {
        let profile = Profile::load(&running.exchange.agencies[agency].folder).unwrap();
        let mut database = open(&profile.outbox).await;
        let rows = sqlx::query("SELECT kind, subject, job FROM jobs WHERE job <> x'' ORDER BY seq")
            .fetch_all(&mut database)
            .await
            .unwrap();
        database.close().await.unwrap();
        rows.iter()
            .map(|row| Self {
                kind: row.get(0),
                subject: row.get(1),
                job: row.get(2),
            })
            .collect()
    }
}

/// What a kept submission will send.
struct Submission {
    record: RecordId,
    /// SHA-256 of the signed header, hexadecimal.
    header: String,
    /// Of the calls that are left.
    requests: BTreeSet<RequestId>,
}

/// The requests of a job, as the connector stores them.
#[derive(Clone, PartialEq, prost::Message)]
struct Requests {
    #[prost(bytes = "vec", repeated, tag = "1")]
    steps: Vec<Vec<u8>>,
}

impl Submission {
    fn of(running: &Running, kept: &Kept) -> Self {
        let profile = Profile::load(&running.exchange.agencies[POLICE].folder).unwrap();
        let key = fs::read_to_string(&profile.evidence_key).unwrap();
        let key = WrapKey::from_bytes(&hex::decode(key.trim()).unwrap()).unwrap();
        let context = [kept.kind.as_bytes(), kept.subject.as_bytes()];
        let plain = key.unwrap("amanat/outbox/v1", &context, &kept.job).unwrap();
        let steps = Requests::decode(plain.as_slice()).unwrap().steps;
        let deposit = DepositKeyRequest::decode(steps[0].as_slice()).unwrap();
        let put = PutRecordRequest::decode(steps[1].as_slice()).unwrap();
        let activate = ActivateKeyRequest::decode(steps[2].as_slice()).unwrap();
        let ids = [deposit.request_id, put.request_id, activate.request_id];
        let envelope = put.header.unwrap().envelope.unwrap();
        if let Some(deposited) = deposit.header {
            assert_eq!(
                deposited.envelope.as_ref(),
                Some(&envelope),
                "one header for both servers"
            );
        }
        Self {
            record: kept.subject.parse().unwrap(),
            header: hex::encode(amanat_seal::sha256(&envelope.payload)),
            requests: ids
                .iter()
                .filter_map(|id| RequestId::parse(id).ok())
                .collect(),
        }
    }
}

async fn open(database: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .read_only(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// The hashes of the headers that the gateway holds.
async fn stored_headers(running: &Running) -> Vec<String> {
    let mut database = Books::of(&running.exchange.gateway).open().await;
    let rows = Sql::new("SELECT header_sha256 FROM records ORDER BY seq").fetch_all(&mut database);
    let rows = rows.await.unwrap();
    database.close().await.unwrap();
    rows.iter()
        .map(|row| hex::encode(row.get::<Vec<u8>>(0).unwrap()))
        .collect()
}

fn assert_nothing_of_the_case_is_readable(agency: &Path) {
    for file in fs::read_dir(agency.join("outbox")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        for value in ["Mustafa", "0000012345678", "gulmohar", "Kot Example"] {
            assert!(
                !bytes.windows(value.len()).any(|at| at == value.as_bytes()),
                "{value}"
            );
        }
    }
}

async fn assert_each_step_is_logged_once(connector: &Connector, record: RecordId) {
    for (server, action) in [
        (Server::Custodian, Action::DepositKey),
        (Server::Gateway, Action::PutRecord),
        (Server::Custodian, Action::ActivateKey),
    ] {
        let query = EntryQuery {
            action: Some(action),
            decision: Some(Decision::Allow),
            limit: usize::MAX,
            ..EntryQuery::default()
        };
        let entries = connector.list_entries(server, &query).await.unwrap();
        let linkages = entries.iter().map(|entry| entry.linkage.as_ref().unwrap());
        let count = linkages
            .filter(|linkage| linkage.record_id == record.as_bytes())
            .count();
        assert_eq!(count, 1, "{action:?}");
    }
}

async fn assert_opens(source: &Connector, case: CaseId, record: RecordId) {
    let request = ReadRequest {
        case,
        record,
        source: source.agency(),
        fields: vec!["subject.family_name".to_owned()],
        purpose: Purpose::VictimSupport,
    };
    let read = source.read_case(&request).await.unwrap();
    assert_eq!(read.record["subject"]["family_name"], "Mustafa");
}

async fn assert_waits(connector: &Connector, kind: &str) {
    let pending = connector.pending().await.unwrap();
    let kinds: Vec<_> = pending.iter().map(|job| job.kind.as_str()).collect();
    assert_eq!(kinds, [kind]);
}

async fn submit(connector: &Connector) -> Result<Submitted, ConnectorError> {
    let file: Value = serde_json::from_str(&fs::read_to_string(CASE).unwrap()).unwrap();
    connector
        .submit_case(case_file::parse(&file).unwrap(), None)
        .await?
        .delivered()
}

fn consent(recipient: &str) -> ConsentFile {
    serde_json::from_value(json!({
        "recipient": recipient, "purpose": "SHELTER", "mode": "WRITTEN", "paths": ["needs.needs"],
    }))
    .unwrap()
}

async fn status(connector: &Connector, server: Server, consent: ConsentId) -> ConsentStatus {
    let consents = connector.list_consents(server, None).await.unwrap();
    consents
        .iter()
        .find(|seen| seen.consent == consent)
        .unwrap()
        .status
}

//! Known to another agency or to nobody: the asker gets an answer of the same size, and the gateway's store
//! grows by the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::collections::BTreeMap;

use amanat_ledger::body;
use amanat_schema::{
    audit::Action,
    subject::{EvaluationReason, FindSubjectRequest, FindSubjectResponse},
};
use amanat_tests::{
    Running,
    forge::Books,
    oprf::{Secrets, cnic, phone},
    party::Party,
    pause,
    story::{NGO, OVERSIGHT, POLICE},
    tables::{Column, column, columns},
};
use prost::Message as _;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
/// Nobody's, and that of the woman whom the shelter met.
const PHONES: [&str; 2] = ["+923000000901", "+923000000902"];

/// Whom the police ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Her {
    KnownToAnother,
    KnownToNobody,
    ACanary,
}

/// What the police's question left behind, and the answer.
struct Traces {
    /// Of each column of the gateway's database, how many values it grew by and by how many bytes.
    grown: BTreeMap<Column, (usize, usize)>,
    answer: FindSubjectResponse,
}

impl Traces {
    /// In an exchange of its own, where everything else goes alike: oversight plants a canary, a shelter
    /// meets a woman, and the police ask.
    async fn of(her: Her, reason: EvaluationReason) -> Self {
        let running = Running::start(PROGRAM, "info");
        let secrets = Secrets::of(&running.exchange);
        let [oversight, ngo, police] =
            [OVERSIGHT, NGO, POLICE].map(|name| Party::open(&running, name));
        let [canary, known, nobodys] = ["0000000000001", "0000000000002", "0000000000003"];
        let planted = secrets.presented(&[cnic(canary)]);
        oversight.plant(&planted[0]).await;
        let hers = |number| [cnic(number), phone(PHONES[usize::from(number == known)])];
        ngo.find(secrets.question(&hers(known))).await.unwrap();
        looked_for_canaries(&running, 1).await;
        let before = sizes(&running).await;

        let number = match her {
            Her::KnownToAnother => known,
            Her::KnownToNobody => nobodys,
            Her::ACanary => canary,
        };
        let question = FindSubjectRequest {
            reason: reason.into(),
            ..secrets.question(&hers(number))
        };
        let answer = police.find(question).await.unwrap();
        looked_for_canaries(&running, 2).await;
        let after = sizes(&running).await;
        running.verify().await;
        let grown = after.into_iter().map(|(column, (count, bytes))| {
            let before = before[&column];
            (column, (count - before.0, bytes - before.1))
        });
        Self {
            grown: grown.collect(),
            answer,
        }
    }
}

/// Waits until the gateway has looked for canaries so many times; it does some time after each answer.
async fn looked_for_canaries(running: &Running, times: usize) {
    let looks = [Action::CheckCanaries, Action::Alarm]
        .map(|action| i32::from(action).to_string().into_bytes());
    for _ in 0..600 {
        let columns = columns(&Books::of(&running.exchange.gateway).database).await;
        let actions = columns[&column("entries", "action")].iter();
        if actions.filter(|action| looks.contains(action)).count() == times {
            return;
        }
        pause().await;
    }
    panic!("the gateway never looked for canaries");
}

/// How many values each column of the gateway's database has, and of how many bytes; times, which take more
/// or fewer bytes by the millisecond, aside.
async fn sizes(running: &Running) -> BTreeMap<Column, (usize, usize)> {
    let columns = columns(&Books::of(&running.exchange.gateway).database).await;
    let size = |(name, values): (Column, Vec<Vec<u8>>)| {
        let bytes = values.iter().map(|value| {
            if name == column("entries", "body") {
                timeless(value).len()
            } else {
                value.len()
            }
        });
        let bytes = bytes.sum();
        (name, (values.len(), bytes))
    };
    columns.into_iter().map(size).collect()
}

/// A log entry's body without its time.
fn timeless(body: &[u8]) -> Vec<u8> {
    let mut body = body::parse(body).unwrap();
    body.time = None;
    body::encode(&body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_known_to_another_agency_and_one_known_to_nobody_leave_the_same_traces() {
    // A search keeps the strongest identifier alone.
    leave_the_same(EvaluationReason::Intake, 2).await;
    leave_the_same(EvaluationReason::Search, 1).await;
}

async fn leave_the_same(reason: EvaluationReason, kept: usize) {
    let (known, unknown, canary) = tokio::join!(
        Traces::of(Her::KnownToAnother, reason),
        Traces::of(Her::KnownToNobody, reason),
        Traces::of(Her::ACanary, reason),
    );
    assert_eq!(known.grown, unknown.grown);
    for (table, rows) in [
        ("subjects", 1),
        ("identifiers", kept),
        ("requests", 1),
        ("entries", 2),
        ("canary_hits", 0),
    ] {
        let of = |column: &&Column| column.0 == table;
        let column = known.grown.keys().find(of).unwrap();
        assert_eq!(known.grown[column].0, rows, "{table}");
    }
    // A canary is oversight's own, and leaves a hit; the log, which anybody may watch, grows as ever.
    for ((column, grown), (_, as_ever)) in canary.grown.iter().zip(&known.grown) {
        match column.0.as_str() {
            "canary_hits" => assert_eq!(grown.0, 1),
            "entries" => assert_eq!(grown.0, as_ever.0),
            _ => assert_eq!(grown, as_ever, "{column:?}"),
        }
    }

    let size = |traces: &Traces| {
        let mut answer = traces.answer.clone();
        let receipt = answer.receipt.as_mut().unwrap();
        receipt.body = timeless(&receipt.body);
        answer.encoded_len()
    };
    assert_eq!(size(&known), size(&unknown));
    assert_eq!(size(&canary), size(&unknown));
    let said = |traces: &Traces| {
        let receipt = traces.answer.receipt.as_ref().unwrap();
        let body = body::parse(&receipt.body).unwrap();
        (
            traces.answer.key_version,
            receipt.index,
            body.action(),
            body.decision(),
            body.count,
            body.public_reason,
        )
    };
    assert_eq!(said(&known), said(&unknown));
    assert_eq!(said(&canary), said(&unknown));
}

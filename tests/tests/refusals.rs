//! Who may call what: every call of every service at both servers, by every right alone. A call that is new
//! in `proto/` is a line that is missing in the golden table, so it cannot come without its row.
//!
//! `AMANAT_BLESS=1` writes the table anew; read the difference before it is committed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use amanat_connector::Server;
use amanat_identity::Officer;
use amanat_schema::{
    CaseId,
    audit::{Entry, GetEntryRequest, ListEntriesRequest},
    consent::{RecordConsentRequest, WithdrawConsentRequest},
    key::DepositKeyRequest,
    policy::Right,
    record::PutRecordRequest,
    referral::{SubmitReferralRequest, TransitionReferralRequest},
    statement::{Consent, RecordHeader, Referral, ReferralTransition, Statement, Withdrawal},
    subject::{EvaluationReason, IdentifierDomain},
};
use amanat_tests::{
    Running,
    oprf::{blind, evaluation, phone},
    party::{Party, asked, channel, id, reason},
    raw,
    story::{OVERSIGHT, POLICE, SHELTER},
};
use prost::Message as _;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Identity},
};
use tonic_types::{ErrorDetails, StatusExt as _};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

const LEGEND: &str = "\
# Every call at both servers, asked by an officer of the police with one right alone, by an auditor of the
# oversight body, and by the custodian's own process. The request is empty, or holds an empty statement that
# is properly signed.
#
#   ok          answered
#   invalid     FIELD_INVALID: the caller may, and the empty request says nothing
#   denied      ACCESS_DENIED
#   credential  CREDENTIAL_INVALID
#   -           not served here
";

/// What needs no officer: public artefacts, which any party of the exchange may compare.
const PUBLIC: [&str; 6] = [
    "AuditService/GetCheckpoint",
    "AuditService/GetConsistencyProof",
    "AuditService/GetEntryBundle",
    "AuditService/GetInclusionProof",
    "DirectoryService/GetDirectory",
    "KeyService/GetObservedHead",
];

/// Who may have a point evaluated, for INTAKE, SEARCH and CANARY. The one whose budget is spent is told so
/// only where he might ask at all.
const EVALUATIONS: [(&str, [&str; 3]); 11] = [
    ("no token", ["credential"; 3]),
    ("CASE_WORKER", ["ok", "ok", "denied"]),
    ("ACCEPTER", ["denied"; 3]),
    ("SUPERVISOR", ["denied"; 3]),
    ("BREAK_GLASS", ["denied"; 3]),
    ("EVIDENCE", ["denied"; 3]),
    ("AUDITOR", ["denied"; 3]),
    ("oversight", ["denied", "denied", "ok"]),
    ("custodian", ["credential"; 3]),
    ("oversight's worker", ["denied"; 3]),
    ("spent", ["quota", "quota", "denied"]),
];
const EVALUATE: &str = "/amanat.subject.v1.OprfService/EvaluateIdentifiers";
/// An officer's budget of the day, in the development configuration.
const BUDGET: usize = 60;

/// A call, as `proto/` names it.
struct Rpc {
    /// As in `amanat.key.v1`.
    package: String,
    service: String,
    method: String,
}

/// Who asks.
struct Asker {
    name: &'static str,
    /// Whose connection it is: to the gateway, and to the custodian.
    channels: [Channel; 2],
    /// Whose statements it hands in.
    signer: Party,
    /// `None`: it presents none, and signs with an empty one.
    token: Option<String>,
}

#[tokio::test]
async fn every_call_is_open_to_exactly_the_rights_that_the_table_lists() {
    let running = Running::start(env!("CARGO_BIN_EXE_amanat"), "info");
    let askers = askers(&running);
    // An entry of the police's own stands at the beginning of both logs.
    let first = &askers[1];
    for channel in &first.channels {
        let answer = call(
            channel,
            "/amanat.audit.v1.AuditService/ListEntries",
            first,
            Vec::new(),
        );
        assert_eq!(answer.await, "ok");
    }

    let names: Vec<_> = askers.iter().map(|asker| asker.name).collect();
    let mut table = format!("{LEGEND}\n{}", line("", &names));
    let mut open = BTreeSet::new();
    for (at, server) in [Server::Gateway, Server::Custodian].into_iter().enumerate() {
        for rpc in rpcs() {
            let short = format!("{}/{}", rpc.service, rpc.method);
            let path = format!("/{}.{short}", rpc.package);
            let mut cells = Vec::new();
            for asker in &askers {
                let body = request(&rpc.method, asker);
                cells.push(call(&asker.channels[at], &path, asker, body).await);
            }
            if ["ok", "invalid"].contains(&cells[0].as_str()) {
                open.insert(short.clone());
            }
            let cells: Vec<_> = cells.iter().map(String::as_str).collect();
            table.push_str(&line(&format!("{} {short}", server.name()), &cells));
        }
    }
    assert_eq!(open, PUBLIC.map(str::to_owned).into());
    is_golden(&table);
    running.verify().await;
}

#[tokio::test]
async fn identifiers_are_evaluated_for_whoever_may_ask_so_and_until_his_budget_is_spent() {
    let running = Running::start(env!("CARGO_BIN_EXE_amanat"), "info");
    let mut askers = askers(&running);
    for (name, agency, right) in [
        ("oversight's worker", OVERSIGHT, Right::CaseWorker),
        ("spent", POLICE, Right::CaseWorker),
    ] {
        let signer = Party::open(&running, agency);
        let officer = Officer {
            rights: [right].into(),
            ..signer.colleague()
        };
        askers.push(Asker {
            name,
            channels: [Server::Gateway, Server::Custodian].map(|server| signer.channel(server)),
            token: Some(signer.token_of(&officer)),
            signer,
        });
    }
    let ask = async |asker: &Asker, reason, points: &[[u8; 32]]| {
        let request = evaluation(IdentifierDomain::Victim, reason, points);
        call(&asker.channels[1], EVALUATE, asker, request.encode_to_vec()).await
    };
    let point = blind(IdentifierDomain::Victim, &[&phone("+923000000117")]).elements()[0];

    // When one is left, two do not fit, and are not counted.
    let spent = askers.last().unwrap();
    let first = EvaluationReason::Search;
    assert_eq!(ask(spent, first, &vec![point; BUDGET - 1]).await, "ok");
    assert_eq!(ask(spent, first, &[point; 2]).await, "quota");
    assert_eq!(ask(spent, first, &[point]).await, "ok");

    let reasons = [
        EvaluationReason::Intake,
        EvaluationReason::Search,
        EvaluationReason::Canary,
    ];
    for (asker, (name, expected)) in askers.iter().zip(EVALUATIONS) {
        assert_eq!(asker.name, name);
        for (reason, expected) in reasons.into_iter().zip(expected) {
            assert_eq!(
                ask(asker, reason, &[point]).await,
                expected,
                "{name}, {reason:?}"
            );
        }
    }
    running.verify().await;
}

#[tokio::test]
async fn the_right_to_audit_reads_beyond_its_own_agency_only_in_the_oversight_body() {
    let running = Running::start(env!("CARGO_BIN_EXE_amanat"), "info");
    let [police, shelter, oversight] =
        [POLICE, SHELTER, OVERSIGHT].map(|name| Party::open(&running, name));
    for server in [Server::Gateway, Server::Custodian] {
        let list = |party: &Party, token: &str| {
            let request = asked(ListEntriesRequest::default(), token);
            let mut audit = party.audit(server);
            async move {
                audit
                    .list_entries(request)
                    .await
                    .unwrap()
                    .into_inner()
                    .entries
            }
        };
        // Each listing is an entry itself: the shelter's is the log's first, then the police's.
        list(&shelter, &shelter.token()).await;
        let auditor = police.token_with(&[Right::Auditor]);
        list(&police, &auditor).await;

        let own = list(&police, &auditor).await;
        assert_eq!(
            agencies(&own),
            [police.agency.to_vec()].into(),
            "{server:?}"
        );
        let all = list(&oversight, &oversight.token()).await;
        let both = [police.agency.to_vec(), shelter.agency.to_vec()];
        assert_eq!(agencies(&all), both.into(), "{server:?}");
        assert!(
            all.iter()
                .all(|entry| entry.linkage.is_none() && entry.officer.is_none())
        );
        let of_another = GetEntryRequest { index: 0 };
        let refused = police
            .audit(server)
            .get_entry(asked(of_another, &auditor))
            .await;
        assert_eq!(reason(refused), "ACCESS_DENIED", "{server:?}");
    }
    running.verify().await;
}

fn agencies(entries: &[Entry]) -> BTreeSet<Vec<u8>> {
    let body = |entry: &Entry| amanat_ledger::body::parse(&entry.body).unwrap();
    entries.iter().map(|entry| body(entry).agency_id).collect()
}

fn askers(running: &Running) -> Vec<Asker> {
    let agency = |name, agency, rights: Option<Right>| {
        let signer = Party::open(running, agency);
        Asker {
            name,
            channels: [Server::Gateway, Server::Custodian].map(|server| signer.channel(server)),
            token: rights.map(|right| signer.token_with(&[right])),
            signer,
        }
    };
    let keys = running.exchange.custodian.folder.join("keys");
    let read = |name: &str| fs::read(keys.join(name)).unwrap();
    let identity = Identity::from_pem(read("server.pem"), read("server.key"));
    let custodian = Asker {
        name: "custodian",
        channels: [
            channel("gateway", &running.exchange.gateway, identity.clone()),
            channel("custodian", &running.exchange.custodian, identity),
        ],
        ..agency("", POLICE, None)
    };
    vec![
        agency("no token", POLICE, None),
        agency("CASE_WORKER", POLICE, Some(Right::CaseWorker)),
        agency("ACCEPTER", POLICE, Some(Right::Accepter)),
        agency("SUPERVISOR", POLICE, Some(Right::Supervisor)),
        agency("BREAK_GLASS", POLICE, Some(Right::BreakGlassApprover)),
        agency("EVIDENCE", POLICE, Some(Right::EvidenceOfficer)),
        agency("AUDITOR", POLICE, Some(Right::Auditor)),
        agency("oversight", OVERSIGHT, Some(Right::Auditor)),
        custodian,
    ]
}

/// An empty request; where a statement is delivered, it is signed and says nothing.
fn request(method: &str, asker: &Asker) -> Vec<u8> {
    let case = CaseId::new([1; 16]);
    let token = asker.token.as_deref().unwrap_or("");
    macro_rules! signed {
        ($statement:ident) => {
            Some(asker.signer.sign_with(token, case, &[], |head| $statement {
                head: Some(head),
                ..$statement::default()
            }))
        };
    }
    let request_id = id();
    let header: Option<Statement> = signed!(RecordHeader);
    match method {
        "DepositKey" => DepositKeyRequest {
            request_id,
            header,
            record_key: Vec::new(),
        }
        .encode_to_vec(),
        "PutRecord" => PutRecordRequest {
            request_id,
            header,
            ..Default::default()
        }
        .encode_to_vec(),
        "RecordConsent" => {
            let consent = signed!(Consent);
            RecordConsentRequest {
                request_id,
                consent,
                sealed_evidence: Vec::new(),
            }
            .encode_to_vec()
        }
        "WithdrawConsent" => {
            let withdrawal = signed!(Withdrawal);
            WithdrawConsentRequest {
                request_id,
                withdrawal,
            }
            .encode_to_vec()
        }
        "SubmitReferral" => {
            let referral = signed!(Referral);
            SubmitReferralRequest {
                request_id,
                referral,
            }
            .encode_to_vec()
        }
        "AcknowledgeReferral"
        | "AcceptReferral"
        | "RejectReferral"
        | "StartService"
        | "CompleteReferral"
        | "RevokeReferral" => {
            let transition = signed!(ReferralTransition);
            TransitionReferralRequest {
                request_id,
                transition,
            }
            .encode_to_vec()
        }
        _ => Vec::new(),
    }
}

/// The cell of one call.
async fn call(channel: &Channel, path: &str, asker: &Asker, body: Vec<u8>) -> String {
    let body = body.into();
    let request = match &asker.token {
        Some(token) => asked(body, token),
        None => Request::new(body),
    };
    match raw::unary(channel.clone(), path.parse().unwrap(), request).await {
        Ok(_) => "ok".to_owned(),
        Err(status) => word(&status),
    }
}

fn word(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    match (reason, status.code()) {
        (Some("FIELD_INVALID"), Code::InvalidArgument) => "invalid".to_owned(),
        (Some("ACCESS_DENIED"), Code::PermissionDenied) => "denied".to_owned(),
        (Some("CREDENTIAL_INVALID"), Code::Unauthenticated) => "credential".to_owned(),
        (Some("QUOTA_EXCEEDED"), Code::ResourceExhausted) if is_of_today(&details) => {
            "quota".to_owned()
        }
        (None, Code::Unimplemented) => "-".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Whether it says to come back within a day.
fn is_of_today(details: &ErrorDetails) -> bool {
    let retry = details.retry_info().and_then(|retry| retry.retry_delay);
    retry.is_some_and(|delay| (SECOND..=DAY).contains(&delay))
}

/// Every call that the files of `proto/` declare, in their order.
fn rpcs() -> Vec<Rpc> {
    let mut files = Vec::new();
    proto_files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto"),
        &mut files,
    );
    files.sort();
    let mut rpcs = Vec::new();
    for file in files {
        let (mut package, mut service) = (String::new(), String::new());
        for line in fs::read_to_string(&file).unwrap().lines() {
            let mut words = line.trim().split([' ', ';', '(']);
            match (words.next(), words.next()) {
                (Some("package"), Some(name)) => name.clone_into(&mut package),
                (Some("service"), Some(name)) => name.clone_into(&mut service),
                (Some("rpc"), Some(name)) => rpcs.push(Rpc {
                    package: package.clone(),
                    service: service.clone(),
                    method: name.to_owned(),
                }),
                _ => {}
            }
        }
    }
    rpcs
}

fn proto_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            proto_files(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn line(name: &str, cells: &[&str]) -> String {
    let mut line = format!("{name:<46}");
    for cell in cells {
        write!(line, "{cell:<13}").unwrap();
    }
    format!("{}\n", line.trim_end())
}

fn is_golden(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/refusals.txt");
    if std::env::var_os("AMANAT_BLESS").is_some() {
        fs::write(&path, table).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    let new: Vec<_> = table
        .lines()
        .filter(|line| !golden.lines().any(|g| g == *line))
        .collect();
    assert!(
        golden == table,
        "lines that the golden table does not have:\n{}",
        new.join("\n")
    );
}

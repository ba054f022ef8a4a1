//! What a collector gets of the servers, and what it never gets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use amanat_connector::{Acting, Connector, Profile, Server};
use amanat_schema::{RecordId, case_file, methods, policy::Purpose, record::ReadRecordRequest};
use amanat_telemetry::{Kind, Metric};
use amanat_tests::{
    Running,
    collector::{Collected, Collector, Span},
    forge::Books,
    markers,
    needles::{Needles, forms},
    party::{Party, asked, id},
    pause,
    sharing::{self, Shared, share},
};
use tempfile::TempDir;
use tonic::metadata::AsciiMetadataValue;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const GATEWAY: &str = "amanat-gateway";
const CUSTODIAN: &str = "amanat-custodian";
const POLICE: &str = "police-lahore";
const SHELTER: &str = "darul-aman-lahore";
const STRANGER: &str = "fia-ahtc-lahore";
/// What a caller says of its trace, in the headers that nobody listens to.
const TOLD: &str = "name=Gulnar-Bibi-who-waits";

/// An exchange that exports everything; where to, `collector` says by the server's name.
fn exporting(collector: impl Fn(&str, &mut toml::Table)) -> Running {
    Running::start_with(PROGRAM, "trace", |name, config| {
        let telemetry = config["telemetry"].as_table_mut().unwrap();
        collector(name, telemetry);
        telemetry.insert("format".to_owned(), "json".into());
        telemetry.insert("sample_ratio".to_owned(), 1.0.into());
        telemetry.insert("export_s".to_owned(), 1.into());
    })
}

fn metrics() -> Vec<&'static Metric> {
    [
        amanat_server::METRICS,
        amanat_journal::METRICS,
        amanat_desk::METRICS,
        amanat_gateway::METRICS,
        amanat_custodian::METRICS,
    ]
    .concat()
}

/// What was played, and everything that must not have been told of it.
struct Played {
    running: Running,
    needles: Needles,
    collected: Collected,
}

/// Reads that are allowed.
const READS: u32 = 3;

impl Played {
    async fn play() -> Self {
        let collector = Collector::default();
        let plain = collector.serve().await;
        let (https, authority) = collector.serve_tls().await;
        let folder = TempDir::new().unwrap();
        let pem = folder.path().join("collector-ca.pem");
        fs::write(&pem, authority).unwrap();
        let mut running = exporting(|name, telemetry| {
            if name == "gateway" {
                telemetry.insert("otlp".to_owned(), https.as_str().into());
                let pem = pem.to_str().unwrap();
                telemetry.insert("otlp_authority".to_owned(), pem.into());
            } else {
                telemetry.insert("otlp".to_owned(), plain.as_str().into());
            }
        });
        let mut needles = Needles::default();
        let police = known(&running, POLICE, &mut needles).await;
        let shelter = known(&running, SHELTER, &mut needles).await;
        let stranger = known(&running, STRANGER, &mut needles).await;
        for file in [sharing::file("police-case"), markers::every_leaf()] {
            for text in markers::texts(&file) {
                if text.len() >= 6 {
                    needles.add(&text, text.as_bytes());
                }
            }
        }

        let consent = sharing::consent_file("consent-police-to-shelter");
        let file = sharing::file("police-case");
        let shared = share(&police, &shelter, &file, &consent, None).await;
        for _ in 0..READS {
            shared.read(&shelter).await.unwrap();
        }
        let denied = stranger.read_case(&shared.request).await.err().unwrap();
        assert_eq!(denied.reason(), "ACCESS_DENIED");
        let deport = shared.asking(Purpose::ImmigrationEnforcement, &["subject.given_name"]);
        shelter.read_case(&deport).await.err().unwrap();
        let garbage = shared.asking(Purpose::Shelter, &["0000012345678"]);
        assert_eq!(
            shelter.read_case(&garbage).await.err().unwrap().reason(),
            "FIELD_INVALID"
        );
        police.withdraw_consent(shared.consent).await.unwrap();
        let anothers = Acting::Token(police.token().unwrap());
        let swapped = running.acting(SHELTER, anothers).await;
        let refused = swapped.read_case(&shared.request).await.err().unwrap();
        assert_eq!(refused.reason(), "CREDENTIAL_INVALID");
        let person = case_file::parse(&file).map_err(|_| "valid").unwrap();
        for identifier in person.identifiers() {
            needles.add("canonical", identifier.canonical().as_bytes());
        }
        let found = police
            .find_subject(&person.identifiers(), None)
            .await
            .unwrap();
        needles.add("pseudonym", found.pseudonym.to_string().as_bytes());
        needles.add("pseudonym", found.pseudonym.as_bytes());
        made_up(&running, &shared).await;

        needles.add("case", &shared.case.to_vec());
        needles.add("consent", &shared.consent.to_vec());
        needles.add("record", &shared.request.record.to_vec());
        for agency in running.exchange.agencies.values() {
            needles.add("agency", &agency.id.to_vec());
        }
        needles.add("purpose", b"IMMIGRATION");
        needles.add("told", TOLD.as_bytes());
        // The last exports go out while the servers stop.
        assert!(running.gateway.stop() && running.custodian.stop());
        let collected = collector.collected();
        Self {
            running,
            needles,
            collected,
        }
    }

    fn span(&self, service: &str, method: &str, reason: &str) -> Vec<&Span> {
        let spans = self.collected.spans.iter();
        spans
            .filter(|span| span.service == service && span.name == "request")
            .filter(|span| span.attributes["rpc.method"].ends_with(&format!("/{method}")))
            .filter(|span| span.attributes["amanat.reason"] == reason)
            .collect()
    }
}

/// An agency's connector, whose officer and token are looked for.
async fn known(running: &Running, name: &str, needles: &mut Needles) -> Connector {
    let token = running.connector(name).await.token().unwrap();
    let profile = Profile::load(&running.exchange.agencies[name].folder).unwrap();
    needles.add("officer", profile.officers["default"].id.as_bytes());
    needles.add("token", token.split_once('.').unwrap().1.as_bytes());
    running.acting(name, Acting::Token(token)).await
}

/// A caller that puts values where names belong: in headers of a trace, and in the path.
async fn made_up(running: &Running, shared: &Shared) {
    let party = Party::open(running, SHELTER);
    let read = ReadRecordRequest {
        request_id: id(),
        case_id: shared.case.to_vec(),
        record_id: RecordId::new([7; 16]).to_vec(),
        ..ReadRecordRequest::default()
    };
    let mut request = asked(read, &party.token());
    for (header, value) in [
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("tracestate", TOLD),
        ("baggage", TOLD),
    ] {
        request
            .metadata_mut()
            .insert(header, AsciiMetadataValue::from_static(value));
    }
    party.records().read_record(request).await.unwrap_err();

    let mut client = tonic::client::Grpc::new(party.channel(Server::Gateway));
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<ReadRecordRequest, ReadRecordRequest>::default();
    let path = format!("/amanat.record.v1.RecordService/{}", TOLD.replace('=', "-"));
    let request = asked(ReadRecordRequest::default(), &party.token());
    let answer = client.unary(request, path.parse().unwrap(), codec).await;
    assert_eq!(answer.unwrap_err().code(), tonic::Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_learns_methods_outcomes_and_times_and_nothing_of_anybody() {
    let played = Played::play().await;
    nothing_personal(&played);
    only_what_is_listed(&played.collected);
    one_read_is_one_trace(&played);
    a_proof_is_fetched_in_a_readers_trace(&played);
    numbers_are_right(&played).await;
    lines_name_the_trace(&played);
}

fn nothing_personal(played: &Played) {
    let raw = played.collected.raw.concat();
    assert!(
        raw.len() > 10_000,
        "{} bytes are not all that was exported",
        raw.len()
    );
    assert_eq!(played.needles.find(&raw), BTreeSet::new());
    for form in forms(TOLD.as_bytes()) {
        let mut planted = raw.clone();
        planted.splice(raw.len() / 2..raw.len() / 2, form);
        assert!(
            played.needles.find(&planted).contains("told"),
            "the search is no empty gesture"
        );
    }
}

/// Every key and every word is one of those that were chosen.
fn only_what_is_listed(collected: &Collected) {
    let keys: BTreeSet<_> = collected.resource_keys.iter().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["service.name", "service.version"]));

    let mut methods: BTreeSet<_> = methods::METHODS.iter().map(|path| &path[1..]).collect();
    methods.extend(["unknown", "grpc.health.v1.Health/Check"]);
    for span in &collected.spans {
        let keys: Vec<_> = span.attributes.keys().map(String::as_str).collect();
        match span.name.as_str() {
            "request" => {
                assert_eq!(
                    keys,
                    [
                        "amanat.reason",
                        "rpc.grpc.status_code",
                        "rpc.method",
                        "rpc.system"
                    ]
                );
                assert!(
                    methods.contains(span.attributes["rpc.method"].as_str()),
                    "{span:?}"
                );
            }
            "journal" => assert_eq!(keys, ["amanat.batch.calls"]),
            "queue" | "decide" | "commit" | "follow" | "proof" => {
                assert!(keys.is_empty(), "{span:?}")
            }
            _ => panic!("{span:?} is not a span of this exchange"),
        }
        assert_eq!(span.extras, 0, "{span:?}");
        assert!(span.end >= span.start, "{span:?}");
    }

    let listed = metrics();
    for point in &collected.points {
        let metric = listed.iter().find(|metric| metric.name == point.metric);
        let metric = metric.unwrap_or_else(|| panic!("{} is on no list", point.metric));
        let said = (point.kind, point.unit.as_str(), point.help.as_str());
        assert_eq!(
            said,
            (kind(metric), metric.unit, metric.help),
            "{}",
            metric.name
        );
        let keys: BTreeSet<_> = point.attributes.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            metric.attributes.iter().copied().collect(),
            "{}",
            metric.name
        );
        if let Some(method) = point.attributes.get("method") {
            assert!(methods.contains(method.as_str()), "{method}");
        }
    }
    let seen: BTreeSet<_> = collected
        .points
        .iter()
        .map(|point| point.metric.as_str())
        .collect();
    let unseen: Vec<_> = listed
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !seen.contains(name))
        .collect();
    assert_eq!(
        unseen, [""; 0],
        "every instrument tells something in a day's work"
    );
}

pub fn kind(metric: &Metric) -> &'static str {
    match metric.kind {
        Kind::Counter => "counter",
        Kind::UpDown => "up-down counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

/// The gateway's part and the custodian's have one trace, and each its own work below it.
fn one_read_is_one_trace(played: &Played) {
    let reads = played.span(GATEWAY, "ReadRecord", "OK");
    assert_eq!(reads.len(), READS as usize);
    let traces: BTreeSet<_> = reads.iter().map(|read| &read.trace).collect();
    assert_eq!(traces.len(), reads.len(), "two reads are two traces");
    for read in reads {
        let releases = played.span(CUSTODIAN, "ReleaseKeys", "OK");
        let release = releases.iter().find(|release| release.trace == read.trace);
        let release = release.expect("the release is of the read's trace");
        for request in [read, *release] {
            assert!(
                !request.parent.is_empty(),
                "its parent is the connector's call"
            );
            let journal = below(played, request, "journal");
            assert!(
                journal.attributes["amanat.batch.calls"]
                    .parse::<u32>()
                    .unwrap()
                    >= 1
            );
            let [queue, decide, commit] =
                ["queue", "decide", "commit"].map(|name| below(played, journal, name));
            assert!(request.start <= queue.start && queue.end <= decide.end);
            assert!(decide.end <= commit.end && commit.end <= request.end);
        }
    }
    let denied = played.span(GATEWAY, "ReadRecord", "ACCESS_DENIED");
    assert!(!denied.is_empty());
    assert_eq!(denied[0].attributes["rpc.grpc.status_code"], "7");
}

fn below<'a>(played: &'a Played, span: &Span, name: &str) -> &'a Span {
    let under = played.collected.under(span);
    let found: Vec<_> = under.into_iter().filter(|span| span.name == name).collect();
    let [one] = found[..] else {
        panic!("{} {name} under {span:?}", found.len());
    };
    one
}

fn a_proof_is_fetched_in_a_readers_trace(played: &Played) {
    let proofs: Vec<_> = played
        .collected
        .spans
        .iter()
        .filter(|span| span.name == "proof")
        .collect();
    assert!(!proofs.is_empty());
    for proof in proofs {
        assert_eq!(proof.service, CUSTODIAN);
        let served = below(played, proof, "request");
        assert_eq!(served.service, GATEWAY);
        assert!(served.attributes["rpc.method"].ends_with("/GetConsistencyProof"));
    }
}

async fn numbers_are_right(played: &Played) {
    let collected = &played.collected;
    for (service, server) in [
        (GATEWAY, &played.running.exchange.gateway),
        (CUSTODIAN, &played.running.exchange.custodian),
    ] {
        #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
        let size = Books::of(server).size().await as f64;
        assert!(size > 5.0);
        assert_eq!(collected.sum(service, "amanat.log.entries", &[]), size);
        assert_eq!(collected.sum(service, "amanat.log.size", &[]), size);
        assert_eq!(collected.sum(service, "amanat.log.frozen", &[]), 0.0);
        assert_eq!(collected.sum(service, "amanat.requests.active", &[]), 0.0);
        assert_eq!(
            collected.sum(service, "amanat.telemetry.exports", &[("outcome", "lost")]),
            0.0
        );
        let days = collected.sum(service, "amanat.directory.expires", &[]) / 86400.0;
        let now = f64::from(u32::try_from(amanat_tests::party::now().seconds()).unwrap()) / 86400.0;
        assert!((29.0..=30.0).contains(&(days - now)), "{days} {now}");
    }
    let read = ("method", "amanat.record.v1.RecordService/ReadRecord");
    let count = |reason| collected.sum(GATEWAY, "amanat.requests", &[read, ("reason", reason)]);
    assert_eq!(count("OK"), f64::from(READS));
    assert_eq!(
        count("FIELD_INVALID"),
        2.0,
        "the garbage, and the made-up one"
    );
    let of_reads = [("action", "READ_RECORD"), ("decision", "ALLOW")];
    assert_eq!(
        collected.sum(GATEWAY, "amanat.log.entries", &of_reads),
        f64::from(READS)
    );
    let of_releases = [("action", "RELEASE_KEYS"), ("reason", "OK")];
    assert_eq!(
        collected.sum(CUSTODIAN, "amanat.log.entries", &of_releases),
        f64::from(READS)
    );
    assert_eq!(
        collected.sum(GATEWAY, "amanat.requests", &[("method", "unknown")]),
        1.0
    );
    assert!(
        collected.sum(
            CUSTODIAN,
            "amanat.identifiers.evaluated",
            &[("outcome", "evaluated")]
        ) > 0.0
    );
    assert_eq!(
        collected.sum(CUSTODIAN, "amanat.gateway.reachable", &[]),
        1.0
    );
}

fn lines_name_the_trace(played: &Played) {
    let read = played.span(GATEWAY, "ReadRecord", "OK")[0];
    let log = fs::read_to_string(&played.running.gateway.log).unwrap();
    let line = log.lines().find(|line| line.contains(&read.trace));
    let line: serde_json::Value = serde_json::from_str(line.expect("a line of the read")).unwrap();
    assert_eq!(line["span"]["trace_id"], read.trace);
    assert_eq!(line["span"]["span_id"], read.id);
    assert_eq!(line["span"]["method"], read.attributes["rpc.method"]);
}

/// It takes connections and never says a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_delays_no_request_and_no_stop() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let otlp = format!("http://{}", silent.local_addr().unwrap());
    let mut running = exporting(|_, telemetry| {
        telemetry.insert("otlp".to_owned(), otlp.as_str().into());
    });
    let (police, shelter) = (
        running.connector(POLICE).await,
        running.connector(SHELTER).await,
    );
    let consent = sharing::consent_file("consent-police-to-shelter");
    let shared = share(
        &police,
        &shelter,
        &sharing::file("police-case"),
        &consent,
        None,
    )
    .await;
    let warning = "telemetry.otlp takes nothing";
    let begun = Instant::now();
    while !fs::read_to_string(&running.gateway.log)
        .unwrap()
        .contains(warning)
    {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody was told");
        let read = Instant::now();
        shared.read(&shelter).await.unwrap();
        assert!(
            read.elapsed() < Duration::from_secs(3),
            "{:?}",
            read.elapsed()
        );
        pause().await;
    }
    drop((police, shelter));
    for server in [&mut running.gateway, &mut running.custodian] {
        let stopping = Instant::now();
        assert!(server.stop());
        assert!(
            stopping.elapsed() < Duration::from_secs(10),
            "{:?}",
            stopping.elapsed()
        );
    }
    let told = fs::read_to_string(&running.gateway.log).unwrap();
    assert_eq!(
        told.matches(warning).count(),
        1,
        "once, until it works again"
    );
}

//! What an operator is handed to watch the servers by: the list of metrics, the dashboard, the alerts.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use amanat_connector::{BACKLOG_JOBS, BACKLOG_OLDEST};
use amanat_telemetry::{Kind, Metric};
use amanat_tests::Running;

const ROOMS: [(&str, &str, &[&Metric]); 5] = [
    (
        "Both servers: connections and requests",
        "services/server",
        amanat_server::METRICS,
    ),
    (
        "Both servers: the log",
        "services/journal",
        amanat_journal::METRICS,
    ),
    (
        "Both servers: what runs out",
        "services/desk",
        amanat_desk::METRICS,
    ),
    ("The gateway", "services/gateway", amanat_gateway::METRICS),
    (
        "The custodian",
        "services/custodian",
        amanat_custodian::METRICS,
    ),
];

const INTRODUCTION: &str = "\
# Metrics

Every metric of gateway, custodian and connector, as the code describes it. This page is written by a test
(`AMANAT_BLESS=1 cargo test -p amanat-tests --test telemetry_pages`); the descriptions stand beside the code.

The servers export over OTLP; the names here are the ones that Prometheus gives them. Which server it is stands in the
label `job`: `amanat-gateway` or `amanat-custodian`. No metric has a label for an agency, an officer, a case or a
purpose, so that whoever runs the collector does not learn who deals with whom.
";

const OUTBOX: &str = "
## The connector

It sends nothing by itself. `amanat outbox metrics` prints these for the text files of a node exporter.

| Metric | Kind | Labels | Meaning |
|---|---|---|---|
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (title, room, metrics) in ROOMS {
        writeln!(page, "\n## {title}\n\n`{room}`\n").unwrap();
        page.push_str("| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n");
        for metric in metrics {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::UpDown | Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let labels: Vec<_> = metric
                .attributes
                .iter()
                .map(|key| format!("`{key}`"))
                .collect();
            let (name, labels) = (prometheus(metric), labels.join(", "));
            writeln!(page, "| `{name}` | {kind} | {labels} | {} |", metric.help).unwrap();
        }
    }
    page.push_str(OUTBOX);
    for (metric, labels) in [(BACKLOG_JOBS, "`state`"), (BACKLOG_OLDEST, "")] {
        writeln!(
            page,
            "| `{}` | gauge | {labels} | {} |",
            metric.name, metric.help
        )
        .unwrap();
    }
    page
}

/// As Prometheus and the OpenTelemetry collector translate a metric's name.
fn prometheus(metric: &Metric) -> String {
    let mut name = metric.name.replace('.', "_");
    match metric.unit {
        "s" => name.push_str("_seconds"),
        unit => assert!(
            unit.is_empty() || unit.starts_with('{'),
            "{unit} has no translation here"
        ),
    }
    if metric.kind == Kind::Counter {
        name.push_str("_total");
    }
    name
}

/// The names under which Prometheus knows what is exported, and whose they are.
fn series() -> BTreeMap<String, String> {
    let mut series = BTreeMap::new();
    for metric in ROOMS.iter().flat_map(|(.., metrics)| *metrics) {
        let name = prometheus(metric);
        match metric.kind {
            Kind::Histogram(_) => {
                for part in ["_bucket", "_sum", "_count"] {
                    series.insert(format!("{name}{part}"), name.clone());
                }
            }
            Kind::Counter | Kind::UpDown | Kind::Gauge => {
                series.insert(name.clone(), name);
            }
        }
    }
    for metric in [BACKLOG_JOBS, BACKLOG_OLDEST] {
        series.insert(metric.name.to_owned(), metric.name.to_owned());
    }
    series
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/telemetry")
        .join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

/// Every word that is a metric of ours.
fn names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("amanat_"))
        .map(str::to_owned)
        .collect()
}

/// The alerts, each as its text; without what stands in comments.
fn alerts() -> Vec<String> {
    let text = read("alerts.yaml");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let text = lines.join("\n");
    text.split("- alert: ").skip(1).map(str::to_owned).collect()
}

#[test]
fn the_list_of_metrics_is_the_codes_own() {
    let page = page();
    if env::var_os("AMANAT_BLESS").is_some() {
        fs::write(file("metrics.md"), &page).unwrap();
    }
    assert!(
        read("metrics.md") == page,
        "metrics.md is not what the code says: bless it"
    );
}

#[test]
fn a_metric_has_one_name_and_says_what_it_means() {
    let mut seen = BTreeSet::new();
    for metric in ROOMS.iter().flat_map(|(.., metrics)| *metrics) {
        assert!(seen.insert(metric.name), "{} stands twice", metric.name);
        assert!(metric.name.starts_with("amanat."), "{}", metric.name);
        assert!(metric.help.len() > 15, "{}", metric.name);
        let rising = match metric.kind {
            Kind::Histogram(bounds) => bounds.windows(2).all(|pair| pair[0] < pair[1]),
            Kind::Counter | Kind::UpDown | Kind::Gauge => true,
        };
        assert!(rising, "the bounds of {} do not rise", metric.name);
        for forbidden in [
            "agency", "officer", "case", "record", "purpose", "referral", "peer", "path",
        ] {
            assert!(
                !metric.attributes.contains(&forbidden),
                "{} tells the {forbidden}",
                metric.name
            );
        }
    }
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let series = series();
    let (dashboard, alerts) = (read("dashboard.json"), alerts().concat());
    for (page, text) in [("dashboard.json", &dashboard), ("alerts.yaml", &alerts)] {
        for name in names(text) {
            assert!(
                series.contains_key(&name),
                "{page} asks for {name}, which is not exported"
            );
        }
    }
    // What nobody looks at is not worth exporting.
    let shown: BTreeSet<_> = names(&(dashboard + &alerts))
        .iter()
        .map(|name| series[name].clone())
        .collect();
    let all: BTreeSet<_> = series.into_values().collect();
    assert_eq!(
        all.difference(&shown).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
}

#[test]
fn whoever_is_woken_is_told_what_to_do() {
    let alerts = alerts();
    let mut pages = 0;
    for alert in &alerts {
        let name = alert.lines().next().unwrap();
        let severity = ["page", "ticket"]
            .into_iter()
            .find(|severity| alert.contains(&format!("severity: {severity} ")));
        let severity = severity.unwrap_or_else(|| panic!("{name} has no severity"));
        let (_, next) = alert
            .split_once("\n          next:")
            .unwrap_or_else(|| panic!("{name} does not say what to do next"));
        let words = next.split_whitespace().count();
        pages += usize::from(severity == "page");
        let least = if severity == "page" { 15 } else { 5 };
        assert!(words >= least, "{name}: {words} words say too little");
    }
    assert!(
        pages > 10 && alerts.len() > 20,
        "{pages} of {}",
        alerts.len()
    );
}

#[test]
fn an_outbox_tells_how_much_waits_and_nothing_of_what() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_amanat"), "info");
    let metrics = |running: &Running| {
        let told = running.tell("police-lahore", &["outbox", "metrics"]);
        assert_eq!((told.code, told.err.as_str()), (0, ""));
        told.out
    };
    assert!(metrics(&running).contains("amanat_outbox_jobs{state=\"waiting\"} 0\n"));
    running.gateway.kill();
    running.custodian.kill();
    let case = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/quickstart/police-case.json"
    );
    assert_eq!(
        running
            .tell("police-lahore", &["case", "submit", case])
            .code,
        4
    );
    std::thread::sleep(Duration::from_millis(1100));
    let told = metrics(&running);
    assert!(
        told.contains("amanat_outbox_jobs{state=\"waiting\"} 2\n"),
        "{told}"
    );
    let age = told
        .lines()
        .find_map(|line| line.strip_prefix("amanat_outbox_oldest_seconds "));
    assert!(
        (1..120).contains(&age.unwrap().parse::<u64>().unwrap()),
        "{told}"
    );
    assert_eq!(told.lines().last(), Some("# EOF"));
    assert_eq!(
        names(&told),
        BTreeSet::from([BACKLOG_JOBS.name, BACKLOG_OLDEST.name].map(str::to_owned))
    );
    let words = told.len();
    assert!(words < 600, "{words} bytes hold more than numbers");
}

/// Options and arguments are left to the commands' own tests.
#[test]
fn every_command_that_an_alert_names_exists() {
    let alerts = alerts().concat();
    let words = alerts.split_whitespace().collect::<Vec<_>>().join(" ");
    let commands: BTreeSet<_> = words
        .split('`')
        .filter(|quoted| quoted.starts_with("amanat "))
        .collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let verbs = command
            .split(' ')
            .skip(1)
            .take_while(|word| !word.starts_with('-'));
        let told = Command::new(env!("CARGO_BIN_EXE_amanat"))
            .args(verbs)
            .arg("--help")
            .output()
            .unwrap();
        assert!(told.status.success(), "there is no `{command}`");
    }
}

//! The quickstart as a newcomer runs it: played, printed, tried out and stopped.

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
    io::{BufRead as _, BufReader, Read as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use amanat_tests::cli::Told;
use serde_json::{Value, json};
use tempfile::TempDir;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const AGENCIES: [&str; 8] = [
    "police-lahore",
    "fia-ahtc-lahore",
    "prosecution-lahore",
    "darul-aman-lahore",
    "ngo-shelter",
    "police-karachi",
    "prosecution-karachi",
    "oversight",
];

fn quickstart(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amanat"));
    command
        .arg("quickstart")
        .args(arguments)
        .current_dir(REPOSITORY)
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A quickstart that stays up; killed, if a test fails, together with its servers.
struct Stage {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Where a folder that it makes itself is made.
    temporary: TempDir,
}

impl Stage {
    fn start(arguments: &[&str]) -> Self {
        let temporary = TempDir::new().unwrap();
        let mut child = quickstart(arguments)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            stdout,
            temporary,
        }
    }

    /// What it prints up to a line that contains this.
    fn read_until(&mut self, end: &str) -> String {
        let mut printed = String::new();
        loop {
            let start = printed.len();
            let read = self.stdout.read_line(&mut printed).unwrap();
            assert!(read > 0, "it ended before saying {end}: {printed}");
            if printed[start..].contains(end) {
                return printed;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", name, &id]).status();
        assert!(told.unwrap().success());
    }

    fn ended(&mut self) -> Option<i32> {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap().code()
    }

    /// The folder that it made itself.
    fn own_folder(&self) -> PathBuf {
        let mut made = fs::read_dir(self.temporary.path()).unwrap();
        made.next().unwrap().unwrap().path()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Asked, not killed: its servers would outlive it.
        if self.child.try_wait().unwrap().is_none() {
            self.signal("TERM");
            self.child.wait().unwrap();
        }
    }
}

/// The addresses that the servers of an exchange listen on.
fn addresses(folder: &Path) -> Vec<String> {
    ["gateway", "custodian"]
        .map(|name| {
            let config = folder.join(name).join(format!("{name}.toml"));
            let config: toml::Table = toml::from_str(&fs::read_to_string(config).unwrap()).unwrap();
            config["server"]["listen"].as_str().unwrap().to_owned()
        })
        .to_vec()
}

fn are_closed(addresses: &[String]) -> bool {
    addresses
        .iter()
        .all(|address| TcpStream::connect(address).is_err())
}

/// Runs one command of a tour as its reader would, in a shell that took in the tour's names.
fn run_in_shell(tour: &Path, command: &str) -> Output {
    let script = format!(". '{}'\n{command}\n", tour.display());
    Command::new("sh")
        .args(["-ec", &script])
        .current_dir(REPOSITORY)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn succeeds(tour: &Path, command: &str) {
    let ran = run_in_shell(tour, command);
    assert!(
        ran.status.success(),
        "{command}\n{}{}",
        text(&ran.stdout),
        text(&ran.stderr)
    );
    assert!(!ran.stdout.is_empty(), "{command} says something");
}

/// Plays scenarios to their end; the lines for a program, all in order, without the verification.
fn played(scenario: &str) -> Vec<Value> {
    let ran = quickstart(&["--scenario", scenario, "--exit", "--json"])
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    let mut lines = objects(text(&ran.stdout));
    let verified = lines.pop().unwrap();
    are_in_order(&lines, &verified);
    lines
}

/// What was printed, an object a line.
fn objects(printed: &str) -> Vec<Value> {
    let lines = printed.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line.is_object(), "{line}");
        line
    });
    lines.collect()
}

fn are_in_order(lines: &[Value], verified: &Value) {
    assert_eq!(verified["verified"], true);
    for (key, log) in [
        ("audit_index", verified),
        ("custodian_audit_index", &verified["custodian"]),
    ] {
        let root = log["root"].as_str().unwrap();
        assert_eq!(hex::decode(root).unwrap().len(), 32);
        // Some acts are recorded at one server only.
        let recorded = lines.iter().filter(|line| !line[key].is_null());
        // The canary's alarm is written off the answers' path: on a slow machine in the middle of the walk.
        let told_later = |line: &&Value| line["action"] == "LIST_CANARY_HITS";
        let indexes: Vec<_> = recorded
            .filter(|line| !told_later(line))
            .map(|line| line[key].as_u64().unwrap())
            .collect();
        assert!(indexes.is_sorted_by(|before, after| before < after));
        assert!(indexes.last().unwrap() < &log["entries"].as_u64().unwrap());
    }
    for (step, line) in (1_u64..).zip(lines) {
        assert_eq!(line["step"], step);
        assert!(
            AGENCIES.contains(&line["agency"].as_str().unwrap()),
            "{line}"
        );
        assert!(!line["action"].as_str().unwrap().is_empty(), "{line}");
        let released = line["released"].as_array().unwrap();
        assert!(released.iter().all(Value::is_string), "{line}");
        for field in line["withheld"].as_array().unwrap() {
            assert!(field["path"].as_str().unwrap().contains('.'), "{line}");
            assert!(!field["reason"].as_str().unwrap().is_empty(), "{line}");
        }
        match line["decision"].as_str().unwrap() {
            "ALLOW" => {}
            "DENY" => assert!(released.is_empty(), "{line}"),
            other => panic!("{other}"),
        }
    }
}

/// An agency's lines of one kind.
fn acts<'a>(lines: &'a [Value], agency: &str, action: &str) -> Vec<&'a Value> {
    let of = |line: &&Value| line["agency"] == agency && line["action"] == action;
    lines.iter().filter(of).collect()
}

#[test]
fn all_scenarios_play_one_after_the_other_and_each_makes_its_point() {
    let lines = played("all");
    let scenarios: Vec<_> = lines
        .chunk_by(|a, b| a["scenario"] == b["scenario"])
        .collect();
    let [servitude, prosecution, walker] = scenarios[..] else {
        panic!("{} scenarios", scenarios.len());
    };
    for (number, lines) in [(1, servitude), (5, prosecution), (6, walker)] {
        assert_eq!(lines[0]["scenario"], number);
    }
    each_agency_gets_its_part(servitude);
    health_closes_in_mid_file(prosecution);
    the_walk_is_stopped_and_seen(walker);
}

fn each_agency_gets_its_part(lines: &[Value]) {
    let reads = |agency| acts(lines, agency, "READ_RECORD");
    let got = |agency, path: &str| {
        let reads = reads(agency);
        let mut paths = reads
            .iter()
            .flat_map(|line| line["released"].as_array().unwrap());
        paths.any(|released| released == path)
    };
    assert!(got("darul-aman-lahore", "needs.needs"));
    assert!(!got("darul-aman-lahore", "case.fir_number"));
    assert!(got("police-lahore", "trafficking.narrative"));
    assert!(!got("police-lahore", "placement.address"));
    assert!(got("prosecution-lahore", "suspects.identifiers"));
    assert!(!got("prosecution-lahore", "subject.given_name"));
    for outsider in ["fia-ahtc-lahore", "ngo-shelter"] {
        let reads = reads(outsider);
        assert!(!reads.is_empty() && reads.iter().all(|line| line["decision"] == "DENY"));
    }
    // Her consent withdrawn, the police are refused what they read before.
    let last = *reads("police-lahore").last().unwrap();
    let withheld = &last["withheld"][0];
    assert_eq!(withheld["path"], "trafficking.narrative");
    assert_eq!(withheld["reason"], "CONSENT_NOT_IN_FORCE");
}

/// The prosecutor's second read has all that the first had, but what she no longer consents to.
fn health_closes_in_mid_file(lines: &[Value]) {
    const HEALTH: &str = "needs.disability";
    let reads = acts(lines, "prosecution-karachi", "READ_RECORD");
    let [first, second] = reads[..] else {
        panic!("{} reads", reads.len());
    };
    let withdrawn = acts(lines, "police-karachi", "WITHDRAW_CONSENT");
    let between = first["step"].as_u64()..second["step"].as_u64();
    assert!(between.contains(&withdrawn[0]["step"].as_u64()));

    assert_eq!(first["withheld"], json!([]));
    let mut rest = first["released"].as_array().unwrap().clone();
    rest.retain(|path| path != HEALTH);
    assert!(rest.len() < first["released"].as_array().unwrap().len());
    assert!(rest.len() >= 3, "{first}");
    assert_eq!(second["released"], Value::from(rest));
    let withheld = json!([{ "path": HEALTH, "reason": "CONSENT_NOT_IN_FORCE" }]);
    assert_eq!(second["withheld"], withheld);
    assert_eq!([first, second].map(|read| &read["decision"]), ["ALLOW"; 2]);
}

/// The officer asks until he is refused; then oversight looks.
fn the_walk_is_stopped_and_seen(lines: &[Value]) {
    let mut acts: Vec<_> = lines
        .iter()
        .map(|line| ["agency", "action", "decision"].map(|key| line[key].as_str().unwrap()))
        .collect();
    // Two officers of oversight plant it.
    acts.dedup();
    let expected = [
        ["oversight", "PLANT_CANARY", "ALLOW"],
        ["darul-aman-lahore", "FIND_SUBJECT", "ALLOW"],
        ["police-lahore", "FIND_SUBJECT", "ALLOW"],
        ["police-lahore", "EVALUATE_IDENTIFIERS", "DENY"],
        ["oversight", "LIST_CANARY_HITS", "ALLOW"],
        ["oversight", "LIST_EVALUATIONS", "ALLOW"],
    ];
    assert_eq!(acts, expected);
}

#[test]
fn a_consent_withdrawn_between_two_reads_closes_its_fields_and_no_others() {
    let lines = played("5");
    assert!(lines.iter().all(|line| line["scenario"] == 5));
    health_closes_in_mid_file(&lines);
}

#[test]
fn the_officer_who_walked_is_found_by_oversight_in_what_both_servers_kept() {
    let mut stage = Stage::start(&["--scenario", "6", "--json"]);
    let mut lines = objects(&stage.read_until("tour.env"));
    lines.pop();
    let verified = lines.pop().unwrap();
    are_in_order(&lines, &verified);
    assert!(lines.iter().all(|line| line["scenario"] == 6));
    the_walk_is_stopped_and_seen(&lines);

    let oversight = stage.own_folder().join("agencies/oversight");
    let ask = |arguments: &[&str]| -> Vec<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_amanat"));
        command.arg("--profile").arg(&oversight).arg("--json");
        let told = Told::by(command.args(arguments));
        assert_eq!(told.code, 0, "{}", told.err);
        serde_json::from_str(&told.out).unwrap()
    };
    let refused = ask(&["audit", "list", "--log", "custodian", "--decision", "DENY"]);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["reason"], "QUOTA_EXCEEDED");
    assert_eq!(refused[0]["agency"], "police-lahore");
    assert_eq!(
        refused[0]["audit_index"],
        lines[lines.len() - 3]["custodian_audit_index"]
    );
    let alarms = ask(&["audit", "list", "--action", "ALARM"]);
    assert_eq!(alarms.len(), 1);
    assert_eq!(
        alarms[0]["audit_index"],
        lines[lines.len() - 2]["audit_index"]
    );
    assert_eq!(
        alarms[0]["agency"], "-",
        "the agency does not find it among its own"
    );
    let hits = ask(&["oversight", "hits"]);
    assert_eq!(
        (hits.len(), &hits[0]["agency"]),
        (1, &json!("police-lahore"))
    );
    let mut unused = ask(&["oversight", "evaluations", "--running"]);
    unused.retain(|row| row["agency"] == "police-lahore");
    let counts: u64 = unused
        .iter()
        .map(|row| row["count"].as_u64().unwrap())
        .sum();
    assert_eq!(counts, 60, "as many as the budget of a day");
    let officers: BTreeSet<_> = unused.iter().map(|row| row["officer"].as_str()).collect();
    assert_eq!(officers.len(), 1);
}

#[test]
fn a_person_reads_the_play_and_finds_it_verified() {
    let played = quickstart(&["--exit"]).output().unwrap();
    assert_eq!(played.status.code(), Some(0), "{}", text(&played.stderr));
    let shown = text(&played.stdout);
    assert!(shown.contains("verified by oversight"), "{shown}");
    assert!(shown.contains("CONSENT_NOT_IN_FORCE"), "{shown}");
    assert!(!shown.contains('{'), "{shown}");
}

#[test]
fn every_command_that_it_prints_can_be_pasted_and_an_interrupt_ends_it_in_order() {
    let mut stage = Stage::start(&[]);
    let printed = stage.read_until("Ctrl-C");
    let folder = stage.own_folder();
    let tour = folder.join("tour.env");
    assert!(
        printed.contains(&format!(". {}", tour.display())),
        "{printed}"
    );
    let commands: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("$AMANAT"))
        .collect();
    assert!(commands.len() >= 5, "{printed}");
    for command in commands {
        succeeds(&tour, command);
    }

    let addresses = addresses(&folder);
    assert!(!are_closed(&addresses));
    stage.signal("INT");
    assert_eq!(stage.ended(), Some(0));
    assert!(are_closed(&addresses));
    assert!(!folder.exists(), "the folder that it made is removed");
}

#[test]
fn a_folder_that_was_named_stays_and_is_not_used_twice() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("exchange");
    let dir = folder.to_str().unwrap();
    let mut stage = Stage::start(&["--dir", dir, "--json"]);
    stage.read_until("tour.env");
    let addresses = addresses(&folder);
    stage.signal("INT");
    assert_eq!(stage.ended(), Some(0));
    assert!(are_closed(&addresses));
    for kept in [
        "tour.env",
        "gateway/data/gateway.sqlite",
        "custodian/custodian.log",
    ] {
        assert!(folder.join(kept).exists(), "{kept}");
    }

    let refused = quickstart(&["--exit", "--dir", dir]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    let why = text(&refused.stderr);
    assert!(
        why.contains(dir) && why.contains("choose another folder"),
        "{why}"
    );
}

#[test]
fn an_interrupt_in_the_middle_of_the_play_leaves_nothing_behind() {
    for signal in ["INT", "TERM"] {
        let mut stage = Stage::start(&["--json"]);
        stage.read_until("SUBMIT_RECORD");
        let folder = stage.own_folder();
        let addresses = addresses(&folder);
        stage.signal(signal);
        assert_eq!(stage.ended(), Some(4), "it was not played to its end");
        assert!(are_closed(&addresses), "after SIG{signal}");
        assert!(!folder.exists(), "after SIG{signal}");
    }
}

/// The commands of the README's tour, in order; each is expected to succeed unless its line ends in
/// `# exit 1`. Nothing in the blocks is skipped but comments, blank lines and the line that takes in
/// `tour.env`.
fn tour(readme: &str) -> Vec<(String, i32)> {
    let mut commands = Vec::new();
    let mut parts = readme.split("<!-- tour:begin -->");
    parts.next();
    for part in parts {
        let (part, _) = part
            .split_once("<!-- tour:end -->")
            .expect("a tour that begins also ends");
        let mut in_shell = false;
        for line in part.replace("\\\n", " ").lines().map(str::trim) {
            if let Some(language) = line.strip_prefix("```") {
                in_shell = !in_shell && language.starts_with("sh");
            } else if !in_shell || line.is_empty() || line.starts_with('#') {
                // Prose, what a command prints, or a comment.
            } else if line.starts_with("$AMANAT ") {
                let code = i32::from(line.ends_with("# exit 1"));
                commands.push((line.to_owned(), code));
            } else {
                let takes_in = line.starts_with(". ") && line.ends_with("tour.env");
                assert!(takes_in, "the tour cannot run `{line}`");
            }
        }
    }
    commands
}

#[test]
fn the_tour_of_the_readme_runs_as_it_is_written() {
    let readme = Path::new(REPOSITORY).join("README.md");
    let readme = fs::read_to_string(readme).expect("there is a README.md");
    let commands = tour(&readme);
    assert!(
        !commands.is_empty(),
        "README.md has no tour between its markers"
    );

    let mut stage = Stage::start(&[]);
    stage.read_until("Ctrl-C");
    let names = stage.own_folder().join("tour.env");
    for (command, code) in commands {
        let ran = run_in_shell(&names, &command);
        let (out, err) = (text(&ran.stdout), text(&ran.stderr));
        assert_eq!(ran.status.code(), Some(code), "{command}\n{out}{err}");
    }
}

#[test]
fn the_tour_is_read_from_between_its_markers_only() {
    let readme = "```sh\n$AMANAT before\n```\n<!-- tour:begin -->\nprose\n```sh tour\n. x/tour.env\n\
                  $AMANAT a \\\n  b\n# note\n\n$AMANAT c # exit 1\n```\n```text\nshown\n```\n\
                  <!-- tour:end -->\n```sh\n$AMANAT after\n```\n";
    let commands = [
        ("$AMANAT a    b".to_owned(), 0),
        ("$AMANAT c # exit 1".to_owned(), 1),
    ];
    assert_eq!(tour(readme), commands);
}

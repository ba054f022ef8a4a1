//! The quickstart as a newcomer runs it: played, printed, tried out and stopped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const AGENCIES: [&str; 6] = [
    "police-lahore",
    "fia-ahtc-lahore",
    "prosecution-lahore",
    "darul-aman-lahore",
    "ngo-shelter",
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

#[test]
fn every_line_for_a_program_is_one_object_and_the_last_is_the_verification() {
    let played = quickstart(&["--exit", "--json"]).output().unwrap();
    assert_eq!(played.status.code(), Some(0), "{}", text(&played.stderr));
    let mut lines: Vec<Value> = text(&played.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();

    let verified = lines.pop().unwrap();
    assert_eq!(verified["verified"], true);
    let root = verified["root"].as_str().unwrap();
    assert_eq!(hex::decode(root).unwrap().len(), 32);

    let mut next_index = 0;
    for (step, line) in (1_u64..).zip(&lines) {
        assert!(line.is_object(), "{line}");
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
        let index = line["audit_index"].as_u64().unwrap();
        assert!(index >= next_index, "{line}");
        next_index = index + 1;
    }
    assert!(verified["entries"].as_u64().unwrap() >= next_index);
}

#[test]
fn the_play_shows_what_each_agency_gets_and_never_gets() {
    let played = quickstart(&["--exit", "--json"]).output().unwrap();
    let lines = text(&played.stdout).lines();
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let reads = |agency: &str| {
        lines
            .iter()
            .filter(move |line| line["agency"] == agency && line["action"] == "READ_RECORD")
            .collect::<Vec<_>>()
    };
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
    assert_eq!(refused.status.code(), Some(1));
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
        assert_eq!(stage.ended(), Some(1), "it was not played to its end");
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

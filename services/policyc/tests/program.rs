//! The program, as registrars and the build run it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use amanat_policyc::{TABLE, compiled, differences, write};
use serde_json::Value;
use tempfile::TempDir;

const RULES: &str = r#"// Health services treat her.
// Authority: ours.
@id("health")
permit (principal == AgencyKind::"HEALTH", action == Action::"HEALTH", resource)
when { resource in [FieldGroup::"ROUTING", FieldGroup::"HEALTH"] };

// A court reads by its own order.
// Authority: ours.
@id("court")
permit (principal == AgencyKind::"COURT", action == Action::"PROSECUTION", resource)
when { context.court_order_in_force && resource in [FieldGroup::"ROUTING", FieldGroup::"HEALTH"] };

// Nobody reads to enforce immigration law.
// Authority: ours.
@id("never")
forbid (principal, action == Action::"IMMIGRATION_ENFORCEMENT", resource);
"#;

fn deployed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policies")
}

/// A folder of its own, with rules that are few: compiling them is quick.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(desk.policies()).unwrap();
        fs::copy(
            deployed().join("schema.cedarschema"),
            desk.policies().join("schema.cedarschema"),
        )
        .unwrap();
        desk.set_rules(RULES);
        desk
    }

    fn policies(&self) -> PathBuf {
        self.0.path().join("deploy/policies")
    }

    fn set_rules(&self, text: &str) {
        fs::write(self.policies().join("rules.cedar"), text).unwrap();
    }

    fn table(&self) -> Option<String> {
        fs::read_to_string(self.policies().join(TABLE)).ok()
    }

    /// Runs the program where `deploy/policies` is this folder.
    fn run(&self, args: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_amanat-policy"))
            .args(args)
            .current_dir(self.0.path())
            .output();
        output.unwrap().into()
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

#[test]
fn the_checked_in_table_and_pages_are_what_the_rules_come_to() {
    let differences = differences(&deployed(), &compiled(&deployed()).unwrap()).unwrap();
    assert!(
        differences.is_empty(),
        "run `amanat-policy compile`:\n{}",
        differences.join("\n")
    );
}

#[test]
fn what_was_compiled_checks_and_compiles_to_the_same_bytes_again() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["check"]).code, 1, "nothing is compiled yet");
    let compiled = desk.run(&["compile"]);
    assert_eq!(compiled.code, 0, "{}", compiled.err);
    assert!(
        compiled.out.contains("4 cells open, 12 pages"),
        "{}",
        compiled.out
    );
    let table = desk.table();
    assert_eq!(desk.run(&["check"]).code, 0);
    assert_eq!(desk.run(&["compile"]).code, 0);
    assert_eq!(desk.table(), table);
    let page = desk.policies().join("pages/HEALTH.txt");
    assert!(
        fs::read_to_string(page)
            .unwrap()
            .starts_with("Purpose: HEALTH\n")
    );
}

#[test]
fn a_changed_rule_is_reported_cell_by_cell() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["compile"]).code, 0);
    desk.set_rules(&RULES.replace("context.court_order_in_force", "context.break_glass_open"));
    let check = desk.run(&["check"]);
    assert_eq!(check.code, 1, "{}", check.err);
    for says in [
        "decision-table.txt: COURT PROSECUTION HEALTH  opens if no court order is in force and break-glass is open",
        "    before: only if a court order is in force\n    after:  only if break-glass is open\n",
        "pages/PROSECUTION.txt: COURT PROSECUTION HEALTH: shown as c, should be b\n",
    ] {
        assert!(check.out.contains(says), "{says}\n{}", check.out);
    }
    assert!(!check.out.contains("HEALTH HEALTH"), "{}", check.out);
}

#[test]
fn a_table_or_page_that_was_edited_by_hand_is_reported() {
    let desk = Desk::new();
    let folder = desk.policies();
    let compiled = compiled(&folder).unwrap();
    write(&folder, &compiled).unwrap();
    let reported = || differences(&folder, &compiled).unwrap().join("\n");
    let (table, page) = (folder.join(TABLE), folder.join("pages/HEALTH.txt"));
    assert_eq!(reported(), "");
    for (file, from, to, says) in [
        (
            &table,
            "HEALTH HEALTH HEALTH ffffffff\n",
            "",
            "HEALTH HEALTH HEALTH  opens in any circumstances",
        ),
        (
            &table,
            "# health\n",
            "# nobody\n",
            "the cells are right, its comments are not",
        ),
        (
            &page,
            "yes",
            "-",
            "pages/HEALTH.txt: HEALTH HEALTH HEALTH: shown as -, should be yes",
        ),
        (
            &page,
            "Purpose: ",
            "For: ",
            "the words around them not (line 1)",
        ),
    ] {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(file, text.replace(from, to)).unwrap();
        assert!(reported().contains(says), "{says}\n{}", reported());
        fs::write(file, text).unwrap();
    }
    fs::remove_file(&page).unwrap();
    assert_eq!(reported(), "pages/HEALTH.txt is missing");
}

#[test]
fn rules_that_are_refused_or_fail_leave_the_folder_as_it_was() {
    let desk = Desk::new();
    for (from, to, says) in [
        (
            "FieldGroup::\"HEALTH\"",
            "FieldGroup::\"WEATHER\"",
            "rules.cedar, line 1:",
        ),
        ("// Authority: ours.\n", "", "Authority:"),
        (
            "when { resource",
            "when { 9223372036854775807 + 1 > 0 && resource",
            "health (rules.cedar, line 1) fails for HEALTH HEALTH ROUTING, in any circumstances:",
        ),
        (
            "forbid (",
            "permit (",
            "IMMIGRATION_ENFORCEMENT is never permitted",
        ),
        (
            "forbid (principal,",
            "forbid (principal == AgencyKind::\"COURT\",",
            "no one rule forbids IMMIGRATION_ENFORCEMENT",
        ),
        (
            "when { context.court_order_in_force",
            "when { context.court_order_in_force && !context.court_order_in_force",
            "court (rules.cedar, line 7) permits nothing:",
        ),
        (
            "action == Action::\"PROSECUTION\"",
            "action == Action::\"IMMIGRATION_ENFORCEMENT\"",
            "court (rules.cedar, line 7) permits nothing:",
        ),
    ] {
        let text = RULES.replace(from, to);
        assert_ne!(text, RULES);
        desk.set_rules(&text);
        for verb in ["compile", "check"] {
            let ran = desk.run(&[verb]);
            assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{verb}: {to}");
            assert!(ran.err.contains(says), "{says}\n{}", ran.err);
        }
        assert_eq!(fs::read_dir(desk.policies()).unwrap().count(), 2, "{to}");
    }
}

/// Copies what is deployed, but for the pages, in place of the few rules.
fn deploy(desk: &Desk) {
    fs::remove_file(desk.policies().join("rules.cedar")).unwrap();
    for entry in fs::read_dir(deployed()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), desk.policies().join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn deleting_the_wall_of_what_is_deployed_is_refused() {
    let desk = Desk::new();
    deploy(&desk);
    fs::remove_file(desk.policies().join("never.cedar")).unwrap();
    let check = desk.run(&["check"]);
    assert_eq!((check.code, check.out.as_str()), (2, ""));
    let says = "no one rule forbids IMMIGRATION_ENFORCEMENT";
    assert!(check.err.contains(says), "{}", check.err);
}

#[test]
fn a_page_that_no_purpose_has_is_named() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["compile"]).code, 0);
    let pages = desk.policies().join("pages");
    fs::copy(pages.join("HEALTH.txt"), pages.join("HEALTHCARE.txt")).unwrap();
    fs::write(pages.join("HEALTH.new"), "half").unwrap();
    let check = desk.run(&["check"]);
    assert_eq!(check.code, 1, "{}", check.err);
    let named = check
        .out
        .lines()
        .take_while(|line| line.starts_with("pages/"));
    assert_eq!(
        named.collect::<Vec<_>>(),
        [
            "pages/HEALTH.new is the page of no purpose: remove it",
            "pages/HEALTHCARE.txt is the page of no purpose: remove it",
        ]
    );
    fs::remove_file(pages.join("HEALTHCARE.txt")).unwrap();
    // What a crash left behind, compiling again takes away.
    assert_eq!(desk.run(&["compile"]).code, 0);
    assert_eq!(desk.run(&["check"]).code, 0);
}

#[test]
fn run_elsewhere_every_command_that_looks_for_the_rules_says_how_to_name_them() {
    let desk = Desk::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let rules = desk.policies();
    for command in [
        &["compile"][..],
        &["check"],
        &["explain", "HEALTH", "HEALTH", "HEALTH"],
    ] {
        let run = |policies: &[&str]| -> Ran {
            let program = env!("CARGO_BIN_EXE_amanat-policy");
            let mut program = Command::new(program);
            program.args(command).args(policies);
            program.current_dir(&elsewhere).output().unwrap().into()
        };
        let lost = run(&[]);
        assert_eq!((lost.code, lost.out.as_str()), (2, ""), "{command:?}");
        assert!(
            lost.err.contains("cannot read deploy/policies: "),
            "{}",
            lost.err
        );
        assert!(lost.err.contains("`--policies DIR`"), "{}", lost.err);
        let found = run(&["--policies", rules.to_str().unwrap()]);
        assert_eq!(found.code, 0, "{command:?}\n{}", found.err);
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn diff_compares_tables_and_folders_for_people_and_programs() {
    let (before, after) = (Desk::new(), Desk::new());
    after.set_rules(&RULES.replacen(
        "[FieldGroup::\"ROUTING\", FieldGroup::\"HEALTH\"]",
        "[FieldGroup::\"ROUTING\"]",
        1,
    ));
    assert_eq!(before.run(&["compile"]).code, 0);
    let old = before.policies().join(TABLE);
    let (old, new) = (old.to_str().unwrap(), after.policies());
    let new = new.to_str().unwrap();

    let same = before.run(&["diff", old, "deploy/policies"]);
    assert_eq!((same.code, same.out.as_str()), (0, "no cell differs\n"));
    let closes = before.run(&["diff", old, new]);
    assert_eq!(closes.code, 1);
    assert!(
        closes
            .out
            .starts_with("HEALTH HEALTH HEALTH  closes in any circumstances\n"),
        "{}",
        closes.out
    );
    assert!(
        closes
            .out
            .ends_with("1 cell differs: 0 opening, 1 closing\n"),
        "{}",
        closes.out
    );

    let opens = before.run(&["diff", "--json", new, old]);
    assert_eq!(opens.code, 1);
    let json: Value = serde_json::from_str(&opens.out).unwrap();
    assert_eq!(json["opening"], 1);
    assert_eq!(json["cells"][0]["opens"], "in any circumstances");

    let none = before.run(&["diff", old, "nowhere.txt"]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("nowhere.txt"), "{}", none.err);
}

#[test]
fn explain_answers_by_the_facts_that_it_is_given() {
    let desk = Desk::new();
    let question = ["explain", "COURT", "PROSECUTION", "HEALTH"];
    let refused = desk.run(&question);
    assert_eq!(refused.code, 0, "{}", refused.err);
    assert!(
        refused
            .out
            .contains("COURT may not read HEALTH for PROSECUTION"),
        "{}",
        refused.out
    );
    let facts = [
        "--minor",
        "--holds-placement",
        "--owns-investigation",
        "--court-order",
        "--break-glass",
    ];
    let permitted = desk.run(&[&question[..], &facts[..]].concat());
    assert!(
        permitted
            .out
            .contains("COURT may read HEALTH for PROSECUTION"),
        "{}",
        permitted.out
    );
    assert!(
        permitted.out.contains("court (rules.cedar, line 7)"),
        "{}",
        permitted.out
    );

    let unknown = desk.run(&["explain", "BAKERY", "PROSECUTION", "HEALTH"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.err.contains("there are PROVINCIAL_POLICE, "),
        "{}",
        unknown.err
    );
}

#[test]
fn every_help_text_has_an_example() {
    let desk = Desk::new();
    for verb in [
        &["--help"][..],
        &["compile", "--help"],
        &["check", "--help"],
        &["diff", "--help"],
        &["explain", "--help"],
    ] {
        let help = desk.run(verb);
        assert_eq!(help.code, 0);
        assert!(help.out.contains("Example"), "{verb:?}");
        assert!(help.out.contains("\n  amanat-policy "), "{verb:?}");
    }
}

/// The commands of the README run as they are written, in a copy of what is deployed.
#[test]
fn the_how_to_runs_as_it_is_written() {
    let desk = Desk::new();
    deploy(&desk);
    let readme = fs::read_to_string(deployed().join("README.md")).unwrap();
    let (_, how_to) = readme.split_once("<!-- how-to:begin -->\n```sh\n").unwrap();
    let (how_to, _) = how_to.split_once("```\n<!-- how-to:end -->").unwrap();
    let commands: Vec<_> = how_to
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert!(!commands.is_empty());
    for command in commands {
        let args = command.strip_prefix("amanat-policy ").unwrap();
        let ran = desk.run(&args.split(' ').collect::<Vec<_>>());
        assert_eq!(ran.code, 0, "{command}\n{}{}", ran.out, ran.err);
    }
}

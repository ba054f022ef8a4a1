use std::{path::Path, sync::LazyLock};

use super::*;
use crate::compile::ask_all;

pub(crate) const SCHEMA_TEXT: &str = include_str!("../../../../deploy/policies/schema.cedarschema");

/// The rules that are deployed.
pub(crate) static DEPLOYED: LazyLock<Rules> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policies");
    Rules::read(&folder).unwrap()
});

/// All that they say; asking takes seconds.
pub(crate) static ANSWERS: LazyLock<Vec<Answers<'_>>> =
    LazyLock::new(|| ask_all(&DEPLOYED).unwrap());

pub(crate) fn one_file(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("rules.cedar".to_owned(), text.to_owned())])
}

/// A file of rules, each given by its id and its text.
pub(crate) fn file_of(rules: &[(&str, &str)]) -> String {
    let rules = rules
        .iter()
        .map(|(id, rule)| format!("// For a test.\n// Authority: ours.\n@id(\"{id}\")\n{rule}\n"));
    rules.collect::<Vec<_>>().join("\n")
}

pub(crate) const HEALTH: Cell = Cell {
    kind: AgencyKind::Health,
    purpose: Purpose::Health,
    group: FieldGroup::Health,
};

const ALL: &str = "permit (principal, action, resource);";

/// In which combinations the rules open the cell, and in which one fails; they pass no validation.
fn ask_unvalidated(rules: &[(&str, &str)], cell: Cell) -> (u32, u32) {
    let schema = crate::schema::parse(SCHEMA_TEXT).unwrap();
    let rules = Rules::unvalidated(&one_file(&file_of(rules)), schema).unwrap();
    let answers = Engine::new(&rules).unwrap().ask(cell).unwrap();
    let failed = answers.mask(|answer| !answer.failed.is_empty());
    (answers.mask(|answer| answer.permitted), failed)
}

#[test]
fn what_no_rule_permits_is_denied() {
    let one =
        r#"permit (principal == AgencyKind::"HEALTH", action == Action::"HEALTH", resource);"#;
    assert_eq!(ask_unvalidated(&[("one", one)], HEALTH), (u32::MAX, 0));
    let court = Cell {
        kind: AgencyKind::Court,
        ..HEALTH
    };
    assert_eq!(ask_unvalidated(&[("one", one)], court), (0, 0));
    assert_eq!(ask_unvalidated(&[], HEALTH), (0, 0));
}

#[test]
fn each_fact_reaches_its_bit() {
    for (bit, (name, _)) in (0..).zip(FACTS) {
        let rule = format!("permit (principal, action, resource) when {{ context.{name} }};");
        let expected = (0..32_u32)
            .filter(|combination| combination & 1 << bit != 0)
            .fold(0, |mask, combination| mask | 1_u32 << combination);
        assert_eq!(
            ask_unvalidated(&[("one", &rule)], HEALTH),
            (expected, 0),
            "{name}"
        );
    }
}

#[test]
fn a_forbid_beats_every_permit() {
    let forbid = r#"forbid (principal, action, resource == FieldGroup::"HEALTH")
                    when { context.subject_is_minor };"#;
    let narrow =
        r#"permit (principal == AgencyKind::"HEALTH", action == Action::"HEALTH", resource);"#;
    let rules = [("all", ALL), ("narrow", narrow), ("wall", forbid)];
    assert_eq!(ask_unvalidated(&rules, HEALTH), (0x5555_5555, 0));
}

#[test]
fn a_rule_that_fails_denies_even_where_another_permits() {
    for failing in [
        "permit (principal, action, resource) when { context.it_is_raining };",
        "permit (principal, action, resource) when { principal.rank > 3 };",
        "permit (principal, action, resource) when { 9223372036854775807 + 1 > 0 };",
        "forbid (principal, action, resource) when { 9223372036854775807 + 1 > 0 };",
        "forbid (principal, action, resource) when { context.subject_is_minor > 3 };",
    ] {
        let rules = [("all", ALL), ("failing", failing)];
        assert_eq!(ask_unvalidated(&rules, HEALTH), (0, u32::MAX), "{failing}");
    }
    let sometimes = "forbid (principal, action, resource)
                     when { context.court_order_in_force && 9223372036854775807 + 1 > 0 };";
    let rules = [("all", ALL), ("sometimes", sometimes)];
    assert_eq!(ask_unvalidated(&rules, HEALTH), (0x00ff_00ff, 0xff00_ff00));
}

#[test]
fn leaving_out_the_rules_for_other_purposes_changes_no_answer() {
    let engine = Engine::new(&DEPLOYED).unwrap();
    for answers in ANSWERS.iter().step_by(23) {
        let cell = answers.cell;
        for (at, circumstances) in engine.circumstances.iter().enumerate().step_by(5) {
            let request = Request::new(
                engine.kinds[&cell.kind].clone(),
                engine.purposes[&cell.purpose].0.clone(),
                engine.groups[&cell.group].clone(),
                circumstances.clone(),
                Some(&DEPLOYED.schema),
            );
            let answer = engine.answer(&request.unwrap(), &DEPLOYED.set).unwrap();
            let ids = |answer: &Answer<'_>| -> Vec<_> {
                answer
                    .decided_by
                    .iter()
                    .map(|rule| rule.place())
                    .map(|(file, line)| (file.to_owned(), line))
                    .collect()
            };
            assert_eq!(answer.permitted, answers.answers[at].permitted, "{cell}");
            assert_eq!(ids(&answer), ids(&answers.answers[at]), "{cell}");
        }
    }
}

#[test]
fn nothing_is_left_out() {
    assert!(ANSWERS.iter().map(|answers| answers.cell).eq(Cell::every()));
    assert!(ANSWERS.iter().all(|answers| answers.answers.len() == 32));
}

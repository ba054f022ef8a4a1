use super::*;
use crate::evaluate::tests::{SCHEMA_TEXT, one_file};

/// A rule that nothing is wrong with.
const GOOD: &str = r#"// Health services treat her.
// Authority: ours.
@id("good")
permit (principal == AgencyKind::"HEALTH", action == Action::"HEALTH", resource);
"#;

fn problems(text: &str) -> Vec<(usize, String)> {
    match Rules::parse(&one_file(text), SCHEMA_TEXT) {
        Ok(_) => Vec::new(),
        Err(Refused(problems)) => problems
            .into_iter()
            .map(|problem| (problem.line, problem.fault))
            .collect(),
    }
}

/// Asserts that the text is refused once, at this line, for a reason that says so.
fn refused(text: &str, line: usize, says: &str) {
    let problems = problems(text);
    let [(at, fault)] = problems.as_slice() else {
        panic!("{says}: {problems:?}");
    };
    assert_eq!(*at, line, "{fault}");
    assert!(fault.contains(says), "{says}: {fault}");
}

#[test]
fn a_rule_keeps_its_place_and_the_comment_above_it() {
    let text = format!("// About the file.\n\n{GOOD}");
    let rules = Rules::parse(&one_file(&text), SCHEMA_TEXT).unwrap();
    let [rule] = rules.rules.as_slice() else {
        panic!("{:?}", rules.rules);
    };
    assert_eq!(rule.to_string(), "good (rules.cedar, line 3)");
    assert_eq!(rule.comment, "Health services treat her.\nAuthority: ours.");
    assert_eq!(rule.effect, Effect::Permit);
}

#[test]
fn a_rule_without_authority_or_id_or_a_paragraph_of_its_own_is_refused() {
    refused(&GOOD.replace("// Authority: ours.\n", ""), 1, "Authority:");
    refused(&GOOD.replace("@id", "\n@id"), 4, "Authority:");
    refused(&GOOD.replace("@id(\"good\")\n", ""), 1, "@id");
    refused(&GOOD.replace("\"good\"", "\"Good rule\""), 1, "@id");
    let second = GOOD.replace("good", "second").replace("// ", "");
    let second = second.split_once("ours.\n").unwrap().1;
    refused(&format!("{GOOD}{second}"), 1, "not one rule");
    refused(&format!("\n{GOOD}\n{GOOD}"), 7, "has this @id already");
    refused(
        &GOOD.replace("== AgencyKind::\"HEALTH\"", "== ?principal"),
        1,
        "not one rule",
    );
}

#[test]
fn a_rule_with_a_blank_line_in_it_is_refused() {
    let problems = problems(&GOOD.replace("resource)", "\n\nresource)"));
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn every_problem_of_form_is_reported_at_once() {
    let bare = "permit (principal, action, resource);\n";
    assert_eq!(
        problems(&format!("{bare}\n{GOOD}\n{bare}\n{bare}")).len(),
        3
    );
}

#[test]
fn a_name_that_the_exchange_does_not_know_is_refused() {
    for (known, unknown) in [
        ("AgencyKind::\"HEALTH\"", "AgencyKind::\"BAKERY\""),
        ("AgencyKind::\"HEALTH\"", "Officer::\"HEALTH\""),
        ("Action::\"HEALTH\"", "Action::\"FISHING\""),
        ("resource)", "resource == FieldGroup::\"WEATHER\")"),
        ("resource)", "resource == AgencyKind::\"HEALTH\")"),
        (", resource)", ", resource) when { context.it_is_raining }"),
        (", resource)", ", resource) when { principal.rank > 3 }"),
    ] {
        let text = GOOD.replacen(known, unknown, 1);
        assert_ne!(text, GOOD);
        let problems = problems(&text);
        assert!(!problems.is_empty(), "{unknown}");
        assert!(problems.iter().all(|(line, _)| *line == 1), "{problems:?}");
    }
}

#[test]
fn a_rule_that_can_never_apply_is_refused() {
    refused(
        &GOOD.replace(
            "resource)",
            "resource) when { principal == AgencyKind::\"COURT\" && false }",
        ),
        1,
        "good",
    );
}

#[test]
fn a_folder_without_rules_or_without_a_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let none = Rules::read(folder.path()).unwrap_err();
    assert!(matches!(none, RulesError::NoRules(_)), "{none}");
    fs::write(folder.path().join("rules.cedar"), GOOD).unwrap();
    let schemaless = Rules::read(folder.path()).unwrap_err();
    assert!(
        schemaless.to_string().contains("schema.cedarschema"),
        "{schemaless}"
    );
    fs::write(folder.path().join("schema.cedarschema"), SCHEMA_TEXT).unwrap();
    assert_eq!(Rules::read(folder.path()).unwrap().rules.len(), 1);
}

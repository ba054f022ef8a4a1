use amanat_policy::TableFault;
use cedar_policy::Effect;

use super::*;
use crate::evaluate::tests::{ANSWERS, DEPLOYED, SCHEMA_TEXT, file_of, one_file};

const HEALTH: &str =
    r#"permit (principal == AgencyKind::"HEALTH", action == Action::"HEALTH", resource);"#;

fn compile_these(rules: &[(&str, &str)]) -> Result<Compiled, CompileError> {
    compile(&Rules::parse(&one_file(&file_of(rules)), SCHEMA_TEXT).unwrap())
}

fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn what_is_compiled_is_what_the_rules_said() {
    let compiled = compile_these(&[("health", HEALTH)]).unwrap();
    let health = lines(&compiled.text);
    assert_eq!(health.len(), 1 + 14);
    assert_eq!(health[..2], ["format 1", "HEALTH HEALTH ROUTING ffffffff"]);
    assert!(
        compiled
            .text
            .contains("\n\n# health\nHEALTH HEALTH ROUTING")
    );
    assert_eq!(compiled.pages.len(), 12);
}

#[test]
fn a_rule_that_fails_anywhere_makes_no_table_and_is_named_with_its_cells() {
    let overflow = r#"forbid (principal == AgencyKind::"COURT", action == Action::"HEALTH", resource)
        when { resource == FieldGroup::"CODED" && context.court_order_in_force
               && 9223372036854775807 + 1 > 0 };"#;
    let error = compile_these(&[("health", HEALTH), ("sum", overflow)]).unwrap_err();
    let CompileError::Failing(FailingRules(failing)) = &error else {
        panic!("{error}");
    };
    assert_eq!(failing.len(), 1, "{error}");
    let says = error.to_string();
    let expected = "sum (rules.cedar, line 6) fails for COURT HEALTH CODED, only if a court order is in force:";
    assert!(says.contains(expected), "{says}");
    assert!(says.contains("overflow"), "{says}");
}

#[test]
fn a_permit_for_immigration_enforcement_opens_nothing() {
    let permit = r#"permit (principal, action == Action::"IMMIGRATION_ENFORCEMENT", resource);"#;
    let forbid = r#"forbid (principal, action == Action::"IMMIGRATION_ENFORCEMENT", resource);"#;
    let everything = "permit (principal, action, resource);";
    let walled =
        compile_these(&[("never", forbid), ("permit", permit), ("health", HEALTH)]).unwrap();
    assert_eq!(
        walled.table,
        compile_these(&[("health", HEALTH)]).unwrap().table
    );
    // With the wall taken down there is no table at all.
    for opening in [permit, everything] {
        let error = compile_these(&[("opening", opening)]).unwrap_err();
        let CompileError::Table {
            error: table,
            lines,
        } = &error
        else {
            panic!("{error}");
        };
        assert!(
            table
                .0
                .iter()
                .all(|problem| problem.fault == TableFault::ImmigrationEnforcement)
        );
        assert_eq!(table.0.len(), 12 * 14);
        assert!(
            lines.contains("COURT IMMIGRATION_ENFORCEMENT HEALTH"),
            "{lines}"
        );
    }
}

#[test]
fn the_deployed_rules_hold_a_wall_before_immigration_enforcement() {
    let walls: Vec<_> = DEPLOYED
        .rules
        .iter()
        .filter(|rule| rule.effect == Effect::Forbid)
        .collect();
    assert_eq!(walls[0].id, "never-immigration-enforcement");
    assert_eq!(walls[0].file, "never.cedar");
}

#[test]
fn every_permit_opens_something_and_stands_above_what_it_opens() {
    let text = text(&ANSWERS);
    for rule in DEPLOYED
        .rules
        .iter()
        .filter(|rule| rule.effect == Effect::Permit)
    {
        let named =
            |line: &str| line.starts_with('#') && line.split(' ').any(|word| word == rule.id);
        assert!(text.lines().any(named), "{rule} opens nothing");
    }
}

#[test]
fn the_text_is_the_same_each_time_and_no_line_is_too_long() {
    assert_eq!(text(&ANSWERS), text(&ask_all(&DEPLOYED).unwrap()));
    for line in text(&ANSWERS).lines() {
        assert!(line.chars().count() <= 110, "{line}");
    }
}

/// The masks that the header explains are what they are said to be.
#[test]
fn the_header_explains_the_masks_rightly() {
    for (mask, words) in [
        ("ffffffff", "in any circumstances"),
        ("aaaaaaaa", "only if the survivor is a minor"),
        ("cccccccc", "only if the reader keeps her"),
        ("f0f0f0f0", "only if the investigation is the reader's own"),
        ("ff00ff00", "only if a court order is in force"),
        ("ffff0000", "only while break-glass is open"),
        (
            "88888888",
            "only if she is a minor and the reader keeps her",
        ),
    ] {
        assert!(HEADER.contains(&format!("#     {mask}  {words}")), "{mask}");
        let said = Circumstances(u32::from_str_radix(mask, 16).unwrap()).to_string();
        let plain = |words: &str| words.replace("the survivor", "she").replace("while", "if");
        assert_eq!(said, plain(words), "{mask}");
    }
}

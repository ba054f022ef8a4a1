use amanat_policy::TableFault;
use cedar_policy::Effect;

use super::*;
use crate::evaluate::tests::{ANSWERS, DEPLOYED, SCHEMA_TEXT, file_of, one_file};

const HEALTH: &str =
    r#"permit (principal == AgencyKind::"HEALTH", action == Action::"HEALTH", resource);"#;

const WALL: (&str, &str) = (
    "never",
    r#"forbid (principal, action == Action::"IMMIGRATION_ENFORCEMENT", resource);"#,
);
const EVERYTHING: &str = "permit (principal, action, resource);";

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
    let compiled = compile_these(&[("health", HEALTH), WALL]).unwrap();
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
fn a_permit_opens_nothing_for_immigration_enforcement() {
    let walled = compile_these(&[WALL, ("everything", EVERYTHING)]).unwrap();
    assert_eq!(lines(&walled.text).len(), 1 + 12 * 11 * 14);
    assert!(!lines(&walled.text).join(" ").contains("IMMIGRATION"));
    // With the wall taken down there is no table at all.
    let permit = r#"permit (principal, action == Action::"IMMIGRATION_ENFORCEMENT", resource);"#;
    for opening in [permit, EVERYTHING] {
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
fn rules_that_decide_no_cell_make_no_table_and_are_all_named() {
    let never = "when { context.subject_is_minor && !context.subject_is_minor };";
    let no_permit = HEALTH.replace(';', never);
    let no_forbid = format!("forbid (principal, action, resource) {never}");
    let overridden = r#"permit (principal == AgencyKind::"COURT", action, resource)
        when { action == Action::"IMMIGRATION_ENFORCEMENT" && context.court_order_in_force };"#;
    let error = compile_these(&[
        ("health", HEALTH),
        ("no-permit", &no_permit),
        ("no-forbid", &no_forbid),
        WALL,
        ("overridden", overridden),
    ])
    .unwrap_err();
    let CompileError::Idle(IdleRules(idle)) = &error else {
        panic!("{error}");
    };
    let ids: Vec<_> = idle.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["no-permit", "no-forbid", "overridden"]);
    let says = error.to_string();
    for expected in [
        "no-permit (rules.cedar, line 6) permits nothing:",
        "no-forbid (rules.cedar, line 11) forbids nothing:",
    ] {
        assert!(says.contains(expected), "{says}");
    }
}

#[test]
fn a_rule_that_decides_a_single_cell_in_a_single_combination_is_enough() {
    let once = r#"when {
        principal == AgencyKind::"HEALTH" && resource == FieldGroup::"CODED" &&
        context.subject_is_minor && context.recipient_holds_placement &&
        context.recipient_owns_investigation && context.court_order_in_force && context.break_glass_open
    };"#;
    let permit = format!(r#"permit (principal, action == Action::"SHELTER", resource) {once}"#);
    let forbid = format!(r#"forbid (principal, action == Action::"HEALTH", resource) {once}"#);
    // Nothing permits what this one forbids: it is the reason for the refusal all the same.
    let alone = r#"forbid (principal, action == Action::"STATISTICS", resource);"#;
    let compiled = compile_these(&[
        ("health", HEALTH),
        WALL,
        ("permit", &permit),
        ("forbid", &forbid),
        ("alone", alone),
    ])
    .unwrap();
    let lines = lines(&compiled.text);
    assert!(lines.contains(&"HEALTH SHELTER CODED 80000000"));
    assert!(lines.contains(&"HEALTH HEALTH CODED 7fffffff"));
}

#[test]
fn without_one_rule_that_always_forbids_immigration_enforcement_there_is_no_table() {
    let wall = WALL.1;
    let but_courts = wall.replace(';', "unless { principal == AgencyKind::\"COURT\" };");
    let but_codes = wall.replace("resource", "resource == FieldGroup::\"CODED\"");
    let but_emergencies = wall.replace(';', "unless { context.break_glass_open };");
    let of_emergencies = wall.replace(';', "when { context.break_glass_open };");
    for walls in [
        &[][..],
        &[("but-courts", but_courts.as_str())],
        &[("but-codes", &but_codes)],
        &[("but-emergencies", &but_emergencies)],
        &[
            ("but-emergencies", &but_emergencies),
            ("of-emergencies", &of_emergencies),
        ],
    ] {
        let error = compile_these(&[&[("health", HEALTH)], walls].concat()).unwrap_err();
        assert!(
            matches!(error, CompileError::Unwalled),
            "{walls:?}: {error}"
        );
    }
    let wider = r#"forbid (principal, action, resource)
        when { action in [Action::"IMMIGRATION_ENFORCEMENT", Action::"STATISTICS"] };"#;
    compile_these(&[("health", HEALTH), ("wider", wider)]).unwrap();
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

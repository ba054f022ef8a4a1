use amanat_policy::DecisionTable;
use amanat_schema::{
    catalogue::FieldGroup,
    policy::{AgencyKind, Purpose},
};
use cedar_policy::Effect;

use super::*;
use crate::evaluate::tests::{ANSWERS, DEPLOYED, SCHEMA_TEXT, file_of, one_file};

fn deployed_table() -> DecisionTable {
    let text = include_str!("../../../../deploy/policies/decision-table.txt");
    DecisionTable::parse(text).unwrap()
}

fn prosecution_reads(group: FieldGroup) -> Cell {
    Cell {
        kind: AgencyKind::Prosecution,
        purpose: Purpose::Prosecution,
        group,
    }
}

#[test]
fn an_explanation_agrees_with_the_table_in_every_cell_and_circumstance() {
    let table = deployed_table();
    for answers in ANSWERS.iter() {
        let Cell {
            kind,
            purpose,
            group,
        } = answers.cell;
        for context in Context::every() {
            let explanation = Explanation::of(answers, context);
            let permitted = table.permits(kind, purpose, group, context);
            assert_eq!(
                explanation.is_permitted(),
                permitted,
                "{} {context:?}",
                answers.cell
            );
            assert_eq!(explanation.open.0, table.mask(kind, purpose, group));
            // What permits is a permit and what forbids a forbid; something always permits.
            let effect = if permitted {
                Effect::Permit
            } else {
                Effect::Forbid
            };
            assert!(
                explanation
                    .decided_by
                    .iter()
                    .all(|rule| rule.effect == effect)
            );
            assert!(!permitted || explanation.decided_by().next().is_some());
        }
    }
}

#[test]
fn a_refusal_names_what_would_open_it_and_on_whose_authority() {
    let cell = prosecution_reads(FieldGroup::Identity);
    let explanation = explain(&DEPLOYED, cell, Context::default()).unwrap();
    assert!(!explanation.is_permitted());
    let text = explanation.to_string();
    for says in [
        "PROSECUTION may not read IDENTITY for PROSECUTION: none of the five facts holds.",
        "IDENTITY is subject.given_name, ",
        "No rule permits it in these circumstances",
        "It opens only if a court order is in force, by:",
        "prosecution-name-by-court-order (prosecution-and-courts.cedar, line ",
        "A court order may open the name behind the code.",
        "Authority: ours",
    ] {
        assert!(text.contains(says), "{says}\n{text}");
    }
}

#[test]
fn a_permit_names_the_rule_and_what_it_takes_besides() {
    let order = Context {
        court_order_in_force: true,
        ..Context::default()
    };
    let explanation = explain(&DEPLOYED, prosecution_reads(FieldGroup::Identity), order).unwrap();
    let by: Vec<_> = explanation.decided_by().collect();
    assert_eq!(by, ["prosecution-name-by-court-order"]);
    let text = explanation.to_string();
    assert!(text.contains("PROSECUTION may read IDENTITY"), "{text}");
    assert!(
        text.contains("An accepted referral is needed besides"),
        "{text}"
    );
}

#[test]
fn what_is_forbidden_names_the_wall() {
    let cell = Cell {
        purpose: Purpose::ImmigrationEnforcement,
        ..prosecution_reads(FieldGroup::Routing)
    };
    let text = explain(&DEPLOYED, cell, Context::default())
        .unwrap()
        .to_string();
    assert!(
        text.contains("Forbidden by:\n  never-immigration-enforcement (never.cedar"),
        "{text}"
    );
    assert!(text.contains("No circumstances open it."), "{text}");
}

#[test]
fn a_rule_that_fails_is_named_and_its_cell_refused() {
    let failing = file_of(&[
        ("all", "permit (principal, action, resource);"),
        (
            "sum",
            "permit (principal, action, resource) when { 9223372036854775807 + 1 > 0 };",
        ),
    ]);
    let rules = Rules::parse(&one_file(&failing), SCHEMA_TEXT).unwrap();
    let cell = prosecution_reads(FieldGroup::Routing);
    let explanation = explain(&rules, cell, Context::default()).unwrap();
    assert!(!explanation.is_permitted());
    let text = explanation.to_string();
    assert!(text.contains("a rule that fails denies"), "{text}");
    assert!(text.contains("\n  sum (rules.cedar, line 6)\n"), "{text}");
    assert!(!text.contains("Permitted by"), "{text}");
}

use super::*;

/// The table that an exchange starts from.
pub(crate) fn deployed() -> DecisionTable {
    DecisionTable::parse(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/policies/decision-table.txt"
    )))
    .unwrap()
}

/// Every specified code of a protobuf enum; ours have no gaps.
pub(crate) fn every<T: TryFrom<i32>>() -> Vec<T> {
    (1..).map_while(|number| T::try_from(number).ok()).collect()
}

pub(crate) fn contexts() -> impl Iterator<Item = Context> {
    (0..32).map(|combination: u32| Context {
        subject_is_minor: combination & 1 != 0,
        recipient_holds_placement: combination & 2 != 0,
        recipient_owns_investigation: combination & 4 != 0,
        court_order_in_force: combination & 8 != 0,
        break_glass_open: combination & 16 != 0,
    })
}

/// Whether the deployed table permits the group for any purpose in a context that passes the filter.
fn ever_permits(kind: AgencyKind, group: FieldGroup, when: impl Fn(&Context) -> bool) -> bool {
    let table = deployed();
    every::<Purpose>().into_iter().any(|purpose| {
        contexts()
            .filter(&when)
            .any(|context| table.permits(kind, purpose, group, context))
    })
}

fn faults(text: &str) -> Vec<(usize, TableFault)> {
    let problems = DecisionTable::parse(text).unwrap_err().0;
    problems
        .into_iter()
        .map(|problem| (problem.line, problem.fault))
        .collect()
}

#[test]
fn bit_i_of_a_mask_stands_for_context_combination_i() {
    for (at, open) in contexts().enumerate() {
        let text = format!("format 1\nCOURT PROSECUTION HEALTH {:08x}\n", 1_u32 << at);
        let table = DecisionTable::parse(&text).unwrap();
        for context in contexts() {
            let permits = table.permits(
                AgencyKind::Court,
                Purpose::Prosecution,
                FieldGroup::Health,
                context,
            );
            assert_eq!(
                permits,
                context == open,
                "{context:?} under combination {at}"
            );
        }
    }
}

#[test]
fn the_cells_listed_are_the_lines_and_their_combinations_the_bits() {
    let lines = "COURT PROSECUTION HEALTH 0000ff00\nFOREIGN REPATRIATION CODED ffffffff\n";
    let table = DecisionTable::parse(&format!("format 1\n{lines}")).unwrap();
    let name = |full: &'static str, prefix| full.strip_prefix(prefix).unwrap();
    let listed: String = table
        .cells()
        .map(|(kind, purpose, group, mask)| {
            let kind = name(kind.as_str_name(), "AGENCY_KIND_");
            let purpose = name(purpose.as_str_name(), "PURPOSE_");
            let group = name(group.as_str_name(), "FIELD_GROUP_");
            format!("{kind} {purpose} {group} {mask:08x}\n")
        })
        .collect();
    assert_eq!(listed, lines);
    assert_eq!(
        Context::every().collect::<Vec<_>>(),
        contexts().collect::<Vec<_>>()
    );
    assert!((0..32).eq(Context::every().map(Context::combination)));
}

#[test]
fn what_has_no_line_is_denied() {
    let table = DecisionTable::parse("format 1\nCOURT PROSECUTION HEALTH ffffffff\n").unwrap();
    let permits = |kind, purpose, group| table.permits(kind, purpose, group, Context::default());
    assert!(permits(
        AgencyKind::Court,
        Purpose::Prosecution,
        FieldGroup::Health
    ));
    assert!(!permits(
        AgencyKind::Court,
        Purpose::Prosecution,
        FieldGroup::Contact
    ));
    assert!(!permits(
        AgencyKind::Court,
        Purpose::Health,
        FieldGroup::Health
    ));
    assert!(!permits(
        AgencyKind::Prosecution,
        Purpose::Prosecution,
        FieldGroup::Health
    ));
    assert!(table.permits_any(AgencyKind::Court, Purpose::Prosecution));
    assert!(!table.permits_any(AgencyKind::Court, Purpose::Investigation));
    assert!(!table.permits_any(AgencyKind::Prosecution, Purpose::Prosecution));
}

#[test]
fn every_problem_is_reported_with_its_line() {
    let text = "\
# a comment
format 1

COURT PROSECUTION ffffffff
COURT PROSECUTION SUSPECT ffffffff
COURT PROSECUTION HEALTH ffffffff
COURT PROSECUTION SUSPECT 00000001
BAKERY PROSECUTION HEALTH ffffffff
UNSPECIFIED PROSECUTION HEALTH ffffffff
FOREIGN FISHING HEALTH ffffffff
FOREIGN REPATRIATION WEATHER ffffffff
FOREIGN REPATRIATION HEALTH 00000000
FOREIGN REPATRIATION HEALTH FFFFFFFF
FOREIGN REPATRIATION HEALTH +fffffff
FOREIGN REPATRIATION HEALTH ff
FOREIGN IMMIGRATION_ENFORCEMENT ROUTING ffffffff
FOREIGN  REPATRIATION HEALTH ffffffff
format 1
";
    assert_eq!(
        faults(text),
        [
            (4, TableFault::Shape),
            (6, TableFault::OutOfOrder),
            (7, TableFault::Duplicate),
            (8, TableFault::AgencyKind),
            (9, TableFault::AgencyKind),
            (10, TableFault::Purpose),
            (11, TableFault::Group),
            (12, TableFault::PermitsNothing),
            (13, TableFault::Mask),
            (14, TableFault::Mask),
            (15, TableFault::Mask),
            (16, TableFault::ImmigrationEnforcement),
            (17, TableFault::Shape),
            (18, TableFault::Shape),
        ]
    );
}

#[test]
fn a_table_of_another_format_or_of_none_is_refused() {
    assert_eq!(faults(""), [(1, TableFault::Format)]);
    assert_eq!(
        faults("# two\nformat 2\n"),
        [(2, TableFault::Format), (2, TableFault::Shape)]
    );
    assert_eq!(
        faults("COURT PROSECUTION HEALTH ffffffff\n"),
        [(1, TableFault::Format)]
    );
}

#[test]
fn the_error_names_lines_and_never_their_text() {
    let error = DecisionTable::parse("format 1\nBAKERY PROSECUTION HEALTH ffffffff\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the decision table is refused\n  line 2: no such agency kind"
    );
}

#[test]
fn immigration_enforcement_has_no_cell() {
    for kind in every() {
        assert!(
            !deployed().permits_any(kind, Purpose::ImmigrationEnforcement),
            "{kind:?}"
        );
    }
}

#[test]
fn every_kind_sees_the_routing_of_what_it_may_be_asked_to_do_and_nothing_for_other_purposes() {
    let table = deployed();
    for kind in every::<AgencyKind>() {
        let purposes: Vec<Purpose> = every()
            .into_iter()
            .filter(|purpose| table.permits_any(kind, *purpose))
            .collect();
        assert!(!purposes.is_empty(), "{kind:?} has no purpose");
        for purpose in purposes {
            for context in contexts() {
                assert!(
                    table.permits(kind, purpose, FieldGroup::Routing, context),
                    "{kind:?} {purpose:?}"
                );
            }
        }
    }
}

#[test]
fn police_never_learn_where_she_is_unless_break_glass_is_open() {
    for kind in [AgencyKind::ProvincialPolice, AgencyKind::FiaAhtc] {
        for group in [
            FieldGroup::Contact,
            FieldGroup::LocationHome,
            FieldGroup::LocationPlacement,
            FieldGroup::LocationRoute,
        ] {
            assert!(
                !ever_permits(kind, group, |context| !context.break_glass_open),
                "{kind:?} {group:?}"
            );
            assert!(
                ever_permits(kind, group, |context| context.break_glass_open),
                "{kind:?} {group:?}"
            );
        }
    }
}

#[test]
fn police_never_see_health_and_see_suspects_in_their_own_investigation_only() {
    for kind in [AgencyKind::ProvincialPolice, AgencyKind::FiaAhtc] {
        assert!(!ever_permits(kind, FieldGroup::Health, |_| true));
        assert!(!ever_permits(kind, FieldGroup::Suspect, |c| !c
            .recipient_owns_investigation));
        assert!(ever_permits(kind, FieldGroup::Suspect, |c| c
            .recipient_owns_investigation));
    }
}

#[test]
fn shelters_never_see_the_fir_the_suspects_or_her_health_and_no_site_but_their_own() {
    for kind in [AgencyKind::DarulAman, AgencyKind::NgoShelter] {
        for group in [
            FieldGroup::CourtRef,
            FieldGroup::Suspect,
            FieldGroup::Health,
        ] {
            assert!(!ever_permits(kind, group, |_| true), "{kind:?} {group:?}");
        }
        assert!(!ever_permits(kind, FieldGroup::LocationPlacement, |c| !c
            .recipient_holds_placement));
        assert!(ever_permits(kind, FieldGroup::LocationPlacement, |c| c
            .recipient_holds_placement));
    }
}

#[test]
fn both_kinds_of_shelter_are_held_to_the_same_rules() {
    let table = deployed();
    for purpose in every() {
        for group in every() {
            for context in contexts() {
                assert_eq!(
                    table.permits(AgencyKind::DarulAman, purpose, group, context),
                    table.permits(AgencyKind::NgoShelter, purpose, group, context),
                    "{purpose:?} {group:?} {context:?}"
                );
            }
        }
    }
}

#[test]
fn prosecution_and_foreign_authorities_learn_a_name_by_court_order_only() {
    for kind in [
        AgencyKind::Prosecution,
        AgencyKind::Court,
        AgencyKind::Foreign,
    ] {
        for group in [FieldGroup::Identity, FieldGroup::IdentityNumber] {
            assert!(
                !ever_permits(kind, group, |context| !context.court_order_in_force),
                "{kind:?}"
            );
            assert!(
                ever_permits(kind, group, |context| context.court_order_in_force),
                "{kind:?}"
            );
        }
    }
}

#[test]
fn child_protection_learns_who_a_minor_is_and_no_adult() {
    for group in [
        FieldGroup::Identity,
        FieldGroup::IdentityNumber,
        FieldGroup::Contact,
    ] {
        assert!(!ever_permits(
            AgencyKind::ChildProtection,
            group,
            |context| !context.subject_is_minor
        ));
        assert!(ever_permits(
            AgencyKind::ChildProtection,
            group,
            |context| context.subject_is_minor
        ));
    }
}

#[test]
fn laboratories_and_oversight_see_routing_only() {
    for kind in [AgencyKind::ForensicLab, AgencyKind::Oversight] {
        for group in every::<FieldGroup>() {
            assert_eq!(
                ever_permits(kind, group, |_| true),
                group == FieldGroup::Routing,
                "{kind:?} {group:?}"
            );
        }
    }
}

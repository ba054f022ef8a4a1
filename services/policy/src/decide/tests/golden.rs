//! Every decision of the deployed table, checked in: agency kind × purpose × field group × {without
//! consent, with consent}. A change of the table or of `decide` shows here as the cells that it moves.

use std::fmt::Write as _;

use amanat_schema::catalogue::FieldGroup;

use super::*;
use crate::table::tests::every;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/decisions.txt");
const LEGEND: &str = "\
# What an agency gets of an adult's record behind an accepted referral, for each purpose and field group:
# first without consent, then with a written one to every field.
#
#   R released   c CONSENT_NOT_IN_FORCE   n NOT_ALLOWED_FOR_ROLE   p PURPOSE_NOT_ALLOWED
#
# plain: nothing special holds. special: the reader keeps her, the investigation is its own, a court order
# is in force and break-glass is open; what is still refused there is refused always.
#
# Written by the test that checks it: UPDATE_GOLDEN=1 cargo test -p amanat-policy golden
";

const LETTERS: [(WithheldReason, char); 3] = [
    (WithheldReason::ConsentNotInForce, 'c'),
    (WithheldReason::NotAllowedForRole, 'n'),
    (WithheldReason::PurposeNotAllowed, 'p'),
];

/// All leaves of a group are decided alike, or a cell would not tell.
fn letter(read: &Read) -> char {
    let outcome = read.decide();
    let withheld = outcome.withheld.iter().map(|field| {
        let letter = LETTERS.iter().find(|(reason, _)| *reason == field.reason());
        letter.expect("a reason of the legend").1
    });
    let letters: BTreeSet<char> = withheld.chain(outcome.release.map(|_| 'R')).collect();
    assert_eq!(
        letters.len(),
        1,
        "the group of {:?} is not decided alike",
        read.asked
    );
    letters.into_iter().next().unwrap()
}

fn cell(kind: AgencyKind, purpose: Purpose, group: FieldGroup, context: Context) -> String {
    let without = Read {
        asked: FIELDS
            .iter()
            .filter(|field| field.group == group)
            .map(|field| field.id)
            .collect(),
        purpose,
        reader: Reader {
            agency: READER,
            kind,
        },
        context,
        ..Read::by_shelter()
    };
    let mut consent = permit(7);
    consent.terms.purpose = purpose;
    let with = without.clone().with(consent);
    [letter(&without), letter(&with)].iter().collect()
}

fn render() -> String {
    let special = Context {
        subject_is_minor: false,
        recipient_holds_placement: true,
        recipient_owns_investigation: true,
        court_order_in_force: true,
        break_glass_open: true,
    };
    let mut text = format!("{LEGEND}circumstances kind purpose");
    for group in every::<FieldGroup>() {
        write!(
            text,
            " {}",
            group.as_str_name().trim_start_matches("FIELD_GROUP_")
        )
        .unwrap();
    }
    for (name, context) in [("plain", Context::default()), ("special", special)] {
        for kind in every::<AgencyKind>() {
            for purpose in every::<Purpose>() {
                let kind_name = kind.as_str_name().trim_start_matches("AGENCY_KIND_");
                let purpose_name = purpose.as_str_name().trim_start_matches("PURPOSE_");
                write!(text, "\n{name:7} {kind_name:17} {purpose_name:23}").unwrap();
                for group in every() {
                    write!(text, " {}", cell(kind, purpose, group, context)).unwrap();
                }
            }
        }
    }
    text.push('\n');
    text
}

/// (`circumstances kind purpose group`, cell).
fn cells(text: &str) -> BTreeMap<String, String> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let groups: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(3)
        .collect();
    let mut cells = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (row, values) = words.split_at(3);
        for (group, value) in groups.iter().zip(values) {
            cells.insert(format!("{} {group}", row.join(" ")), (*value).to_owned());
        }
    }
    cells
}

#[test]
fn every_cell_is_decided_as_the_golden_file_says() {
    let decided = render();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &decided).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    let (was, is) = (cells(&golden), cells(&decided));
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let moved: Vec<String> = names
        .into_iter()
        .filter(|name| was.get(*name) != is.get(*name))
        .map(|name| {
            format!(
                "{name}: golden {:?}, decided {:?}",
                was.get(name),
                is.get(name)
            )
        })
        .collect();
    assert!(
        moved.is_empty(),
        "{} cells moved:\n{}",
        moved.len(),
        moved.join("\n")
    );
    assert_eq!(golden, decided, "the cells agree, the file's form does not");
}

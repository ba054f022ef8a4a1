use super::*;
use crate::evaluate::tests::HEALTH;

fn table(lines: &str) -> DecisionTable {
    DecisionTable::parse(&format!("format 1\n{lines}")).unwrap()
}

#[test]
fn every_cell_is_on_its_page_and_no_line_is_too_wide() {
    let table = table(
        "COURT HEALTH CODED 00000001\nHEALTH HEALTH ROUTING ffffffff\n\
         HEALTH HEALTH HEALTH ff00ff00\nHEALTH HEALTH SUPPORT 00000010\n",
    );
    for purpose in Purpose::every() {
        let page = render(&table, purpose);
        let shown = cells(purpose, &page);
        assert!(
            shown
                .keys()
                .copied()
                .eq(Cell::every().filter(|cell| cell.purpose == purpose))
        );
        for line in page.lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
        for word in AgencyKind::every().flat_map(|kind| kind.name().split('_')) {
            assert!(page.contains(word), "{word} is not in the heading");
        }
        for (cell, mark) in shown {
            let mask = table.mask(cell.kind, purpose, cell.group);
            let note = format!(" {mark} {}", Circumstances(mask));
            let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(page.contains(&note), "{cell}: {mark}\n{page}");
        }
    }
}

#[test]
fn two_masks_never_share_a_mark() {
    let table = table("COURT HEALTH CODED 00000001\nHEALTH HEALTH CODED 00000010\n");
    let page = render(&table, Purpose::Health);
    let mut marks: Vec<_> = cells(Purpose::Health, &page).into_values().collect();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks, ["(1)", "(2)", "-"]);
}

#[test]
fn a_page_that_shows_something_else_is_told_by_cell() {
    let open = render(&table("HEALTH HEALTH HEALTH ffffffff\n"), Purpose::Health);
    let ordered = render(&table("HEALTH HEALTH HEALTH ff00ff00\n"), Purpose::Health);
    let cell = HEALTH.to_string();
    assert_eq!(
        differences(Purpose::Health, &open, &open),
        Vec::<String>::new()
    );
    assert_eq!(
        differences(Purpose::Health, &open, &ordered),
        [format!("{cell}: shown as c, should be yes")]
    );
    let row = open
        .lines()
        .find(|line| line.starts_with("HEALTH "))
        .unwrap();
    let without = differences(Purpose::Health, &open, &open.replace(row, ""));
    assert_eq!(without.len(), 12);
    assert!(without.contains(&format!("{cell}: not shown, should be yes")));
}

#[test]
fn a_page_with_other_words_is_told_by_line() {
    let page = render(&table(""), Purpose::Health);
    let line = "the cells are right, the words around them not (line 1)";
    let other = page.replace("Purpose: HEALTH", "Purpose: SHELTER");
    assert_eq!(differences(Purpose::Health, &page, &other), [line]);
    assert_eq!(
        differences(Purpose::Health, &page, &format!("{page}more\n")).len(),
        1
    );
}

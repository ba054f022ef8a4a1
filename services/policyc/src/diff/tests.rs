use super::*;

fn difference(before: &str, after: &str) -> Difference {
    let parse = |lines| DecisionTable::parse(&format!("format 1\n{lines}")).unwrap();
    Difference::between(&parse(before), &parse(after))
}

#[test]
fn a_table_does_not_differ_from_itself() {
    let same = difference(
        "COURT PROSECUTION HEALTH ff00ff00\n",
        "COURT PROSECUTION HEALTH ff00ff00\n",
    );
    assert_eq!(same, Difference(Vec::new()));
    assert_eq!(same.to_string(), "no cell differs");
}

#[test]
fn what_opens_and_what_closes_is_said_in_words() {
    let before = "COURT PROSECUTION HEALTH ff00ff00\nHEALTH HEALTH HEALTH ffffffff\n";
    let after = "COURT PROSECUTION HEALTH ffffffff\nFOREIGN REPATRIATION CODED aaaaaaaa\n";
    assert_eq!(
        difference(before, after).to_string(),
        "COURT PROSECUTION HEALTH  opens if no court order is in force\n    \
         before: only if a court order is in force\n    \
         after:  in any circumstances\n\
         HEALTH HEALTH HEALTH  closes in any circumstances\n    \
         before: in any circumstances\n    \
         after:  never\n\
         FOREIGN REPATRIATION CODED  opens if she is a minor\n    \
         before: never\n    \
         after:  only if she is a minor\n\
         3 cells differ: 2 opening, 1 closing"
    );
}

#[test]
fn a_cell_may_open_in_some_circumstances_and_close_in_others() {
    let cell = difference(
        "COURT PROSECUTION HEALTH ff00ff00\n",
        "COURT PROSECUTION HEALTH ffff0000\n",
    );
    assert_eq!((cell.opening(), cell.closing()), (1, 1));
    let text = cell.to_string();
    assert!(
        text.contains("opens if no court order is in force and break-glass is open"),
        "{text}"
    );
    assert!(
        text.contains("closes if a court order is in force and break-glass is not open"),
        "{text}"
    );
}

#[test]
fn a_program_gets_names_words_and_masks() {
    let difference = difference("", "COURT PROSECUTION HEALTH ff00ff00\n");
    let expected = json!({
        "cells": [{
            "kind": "COURT",
            "purpose": "PROSECUTION",
            "group": "HEALTH",
            "opens": "if a court order is in force",
            "closes": null,
            "before": "never",
            "after": "only if a court order is in force",
            "mask_before": "00000000",
            "mask_after": "ff00ff00",
        }],
        "opening": 1,
        "closing": 0,
    });
    assert_eq!(difference.to_json(), expected);
}

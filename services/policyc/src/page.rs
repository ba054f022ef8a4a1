//! The pages that people review: one a purpose, who × what, the circumstances as marks with notes.

use std::{collections::BTreeMap, fmt::Write as _};

use amanat_policy::DecisionTable;
use amanat_schema::{
    catalogue::FieldGroup,
    policy::{AgencyKind, Purpose},
};

use crate::{
    domain::{Cell, Named},
    words::{self, Circumstances},
};

/// The file of a purpose's page.
pub(crate) fn file_name(purpose: Purpose) -> String {
    format!("{}.txt", purpose.name())
}

/// A purpose's page: a row for each group of fields, a column for each kind of agency, every cell of them.
/// No line is longer than 119 characters.
pub(crate) fn render(table: &DecisionTable, purpose: Purpose) -> String {
    let marks = Marks::of(table, purpose);
    let mut page = format!(
        "Purpose: {}\n\nThe most that an agency may read for this purpose. An accepted referral is needed besides, and for\n\
         all but ROUTING her consent or another lawful basis.\n\n",
        purpose.name()
    );
    heading(&mut page);
    for group in FieldGroup::every() {
        let marks = AgencyKind::every().map(|kind| marks.mark(table.mask(kind, purpose, group)));
        row(&mut page, group.name(), marks);
    }
    page.push('\n');
    for (mask, mark) in &marks.0 {
        let note = Circumstances(*mask).to_string();
        let note = words::lines(&format!("{mark:<7}"), "       ", note.split(' '));
        page.push_str(&note);
    }
    page.push_str(
        "\nWritten by `amanat-policy compile`. To change a cell, change a rule (../README.md).\n",
    );
    page
}

/// The masks of a page and what stands for each in a cell, in the order of first use after `-` and `yes`.
struct Marks(Vec<(u32, String)>);

impl Marks {
    fn of(table: &DecisionTable, purpose: Purpose) -> Self {
        let cells = FieldGroup::every().flat_map(|group| {
            AgencyKind::every().map(move |kind| table.mask(kind, purpose, group))
        });
        let mut marks: Vec<(u32, String)> = Vec::new();
        let mut numbered = 0;
        for mask in [0, u32::MAX].into_iter().chain(cells) {
            if marks.iter().all(|(known, _)| *known != mask) {
                let mark = Circumstances(mask).mark().unwrap_or_else(|| {
                    numbered += 1;
                    format!("({numbered})")
                });
                marks.push((mask, mark));
            }
        }
        Self(marks)
    }

    fn mark(&self, mask: u32) -> String {
        self.0
            .iter()
            .find(|(known, _)| *known == mask)
            .map(|(_, mark)| mark.clone())
            .unwrap_or_default()
    }
}

/// The names of the kinds, one word a line.
fn heading(page: &mut String) {
    for at in 0..2 {
        let words =
            AgencyKind::every().map(|kind| kind.name().split('_').nth(at).unwrap_or_default());
        row(page, "", words.map(str::to_owned));
    }
}

fn row(page: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let mut text = format!("{name:<19}");
    for (kind, cell) in AgencyKind::every().zip(cells) {
        let width = kind
            .name()
            .split('_')
            .map(str::len)
            .max()
            .unwrap_or_default()
            .max(5);
        write!(text, "{cell:<width$} ").ok();
    }
    line(page, &text);
}

fn line(page: &mut String, text: &str) {
    page.push_str(text.trim_end());
    page.push('\n');
}

/// What a page shows otherwise than it should, each difference in a line.
pub(crate) fn differences(purpose: Purpose, expected: &str, shown: &str) -> Vec<String> {
    let (expected_cells, shown_cells) = (cells(purpose, expected), cells(purpose, shown));
    let mut differences = Vec::new();
    for (cell, mark) in &expected_cells {
        match shown_cells.get(cell) {
            Some(shown) if shown == mark => {}
            Some(shown) => differences.push(format!("{cell}: shown as {shown}, should be {mark}")),
            None => differences.push(format!("{cell}: not shown, should be {mark}")),
        }
    }
    let mut lines = (1..).zip(expected.lines());
    if differences.is_empty() && expected != shown {
        let mut shown = shown.lines();
        let other = lines.find(|(_, line)| shown.next() != Some(line));
        let number = other.map_or_else(|| expected.lines().count() + 1, |(number, _)| number);
        differences.push(format!(
            "the cells are right, the words around them not (line {number})"
        ));
    }
    differences
}

/// The marks of a page by cell: rows begin with a group's name.
fn cells(purpose: Purpose, page: &str) -> BTreeMap<Cell, &str> {
    let rows = page.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let group = words.next().and_then(FieldGroup::from_name)?;
        Some((group, words))
    });
    rows.flat_map(|(group, marks)| {
        AgencyKind::every().zip(marks).map(move |(kind, mark)| {
            let cell = Cell {
                kind,
                purpose,
                group,
            };
            (cell, mark)
        })
    })
    .collect()
}

#[cfg(test)]
mod tests;

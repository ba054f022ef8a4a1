//! The decision table: the role ceiling of every agency kind, as the registrars sign it.

use std::{collections::BTreeMap, fmt};

use amanat_schema::{
    catalogue::FieldGroup,
    policy::{AgencyKind, Purpose},
};

/// The finite domain that the Cedar policies are compiled over, as a set of permitting cells.
///
/// # Text form
///
/// ```text
/// # Comments and blank lines stand anywhere.
/// format 1
/// PROVINCIAL_POLICE INVESTIGATION SUSPECT f0f0f0f0
/// ```
///
/// `format 1` comes first, then the cells by the numbers of agency kind, purpose and field group; words are
/// parted by one space. A cell ends in a mask of eight lower-case hexadecimal digits: bit *i* is set where
/// the cell permits under the context combination *i* (see [`Context`]). A table has one text but for its
/// comments: no line twice, none out of order, no cell that permits nothing. What has no line is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionTable {
    cells: BTreeMap<Cell, u32>,
}

/// The derived order is the order of lines.
type Cell = (AgencyKind, Purpose, FieldGroup);

/// The circumstances of a read that a cell may depend on. What is not known is `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// Bit 0 of a combination's number.
    pub subject_is_minor: bool,
    /// Bit 1: the survivor is kept by the reader.
    pub recipient_holds_placement: bool,
    /// Bit 2: the investigation is the reader's own.
    pub recipient_owns_investigation: bool,
    /// Bit 3.
    pub court_order_in_force: bool,
    /// Bit 4.
    pub break_glass_open: bool,
}

impl Context {
    /// Every combination, in the order of their numbers.
    pub fn every() -> impl Iterator<Item = Self> {
        (0..32_u32).map(|number| Self {
            subject_is_minor: number & 1 != 0,
            recipient_holds_placement: number & 1 << 1 != 0,
            recipient_owns_investigation: number & 1 << 2 != 0,
            court_order_in_force: number & 1 << 3 != 0,
            break_glass_open: number & 1 << 4 != 0,
        })
    }

    /// The number of this combination, 0 to 31: the bit of a mask that stands for it.
    pub fn combination(self) -> u32 {
        u32::from(self.subject_is_minor)
            | u32::from(self.recipient_holds_placement) << 1
            | u32::from(self.recipient_owns_investigation) << 2
            | u32::from(self.court_order_in_force) << 3
            | u32::from(self.break_glass_open) << 4
    }
}

/// A text that is no decision table, with everything that is wrong with it, in the order of lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TableError(pub Vec<TableProblem>);

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the decision table is refused")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct TableProblem {
    /// From 1.
    pub line: usize,
    pub fault: TableFault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableFault {
    #[error("the first line that is no comment must be `format 1`")]
    Format,
    #[error("not `<AGENCY_KIND> <PURPOSE> <GROUP> <mask>`, parted by one space")]
    Shape,
    #[error("no such agency kind")]
    AgencyKind,
    #[error("no such purpose")]
    Purpose,
    #[error("no such field group")]
    Group,
    #[error("a mask is eight lower-case hexadecimal digits")]
    Mask,
    #[error("a cell that permits nothing is left out")]
    PermitsNothing,
    #[error("IMMIGRATION_ENFORCEMENT is never permitted")]
    ImmigrationEnforcement,
    #[error("stands in the table twice")]
    Duplicate,
    #[error("out of order: cells stand by kind, purpose and group")]
    OutOfOrder,
}

impl DecisionTable {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`TableError`] with every problem; a table with any is not used at all.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let mut table = Self {
            cells: BTreeMap::new(),
        };
        let mut problems = Vec::new();
        let mut last = None;
        let mut lines = (1..)
            .zip(text.lines())
            .filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
            .peekable();

        if lines.next_if(|(_, text)| *text == "format 1").is_none() {
            let line = lines.peek().map_or(1, |(line, _)| *line);
            problems.push(TableProblem {
                line,
                fault: TableFault::Format,
            });
        }
        for (line, text) in lines {
            let added = parse_line(text).and_then(|(cell, mask)| table.add(cell, mask, &mut last));
            problems.extend(added.err().map(|fault| TableProblem { line, fault }));
        }
        if problems.is_empty() {
            Ok(table)
        } else {
            Err(TableError(problems))
        }
    }

    fn add(&mut self, cell: Cell, mask: u32, last: &mut Option<Cell>) -> Result<(), TableFault> {
        if self.cells.insert(cell, mask).is_some() {
            return Err(TableFault::Duplicate);
        }
        if last.is_some_and(|last| last > cell) {
            return Err(TableFault::OutOfOrder);
        }
        *last = Some(cell);
        Ok(())
    }

    /// Whether an agency of this kind may read this group for this purpose in this context, given consent.
    pub fn permits(
        &self,
        kind: AgencyKind,
        purpose: Purpose,
        group: FieldGroup,
        context: Context,
    ) -> bool {
        self.mask(kind, purpose, group) & (1 << context.combination()) != 0
    }

    /// The contexts in which the cell permits, as a mask (see the text form); 0 is a cell without a line.
    pub fn mask(&self, kind: AgencyKind, purpose: Purpose, group: FieldGroup) -> u32 {
        self.cells
            .get(&(kind, purpose, group))
            .copied()
            .unwrap_or_default()
    }

    /// The cells that permit anything, each with its mask, in the order of lines.
    pub fn cells(&self) -> impl Iterator<Item = (AgencyKind, Purpose, FieldGroup, u32)> + '_ {
        self.cells
            .iter()
            .map(|((kind, purpose, group), mask)| (*kind, *purpose, *group, *mask))
    }

    /// Whether there is any group and context in which this kind may read for this purpose.
    pub fn permits_any(&self, kind: AgencyKind, purpose: Purpose) -> bool {
        self.cells
            .range((kind, purpose, FieldGroup::Unspecified)..)
            .next()
            .is_some_and(|(cell, _)| (cell.0, cell.1) == (kind, purpose))
    }
}

fn parse_line(text: &str) -> Result<(Cell, u32), TableFault> {
    let words: Vec<&str> = text.split(' ').collect();
    match *words {
        [kind, purpose, group, mask] => Ok((parse_cell(kind, purpose, group)?, parse_mask(mask)?)),
        _ => Err(TableFault::Shape),
    }
}

fn parse_cell(kind: &str, purpose: &str, group: &str) -> Result<Cell, TableFault> {
    let kind = AgencyKind::from_str_name(&format!("AGENCY_KIND_{kind}"))
        .filter(|kind| *kind != AgencyKind::Unspecified)
        .ok_or(TableFault::AgencyKind)?;
    let purpose = Purpose::from_str_name(&format!("PURPOSE_{purpose}"))
        .filter(|purpose| *purpose != Purpose::Unspecified)
        .ok_or(TableFault::Purpose)?;
    let group = FieldGroup::from_str_name(&format!("FIELD_GROUP_{group}"))
        .filter(|group| *group != FieldGroup::Unspecified)
        .ok_or(TableFault::Group)?;
    if purpose == Purpose::ImmigrationEnforcement {
        return Err(TableFault::ImmigrationEnforcement);
    }
    Ok((kind, purpose, group))
}

fn parse_mask(digits: &str) -> Result<u32, TableFault> {
    // Checked first because from_str_radix also takes signs and capitals.
    if digits.len() != 8
        || !digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(TableFault::Mask);
    }
    match u32::from_str_radix(digits, 16) {
        Ok(0) => Err(TableFault::PermitsNothing),
        Ok(mask) => Ok(mask),
        Err(_) => Err(TableFault::Mask),
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! What a change of the rules opens and closes, cell by cell.

use std::fmt;

use amanat_policy::DecisionTable;
use serde_json::{Value, json};

use crate::{
    domain::{Cell, Named},
    words::Circumstances,
};

/// The cells in which two tables differ, in the order of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference(pub Vec<Change>);

/// A cell that is not as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub cell: Cell,
    pub before: u32,
    pub after: u32,
}

impl Difference {
    pub fn between(before: &DecisionTable, after: &DecisionTable) -> Self {
        let changes = Cell::every().filter_map(|cell| {
            let Cell {
                kind,
                purpose,
                group,
            } = cell;
            let before = before.mask(kind, purpose, group);
            let after = after.mask(kind, purpose, group);
            (before != after).then_some(Change {
                cell,
                before,
                after,
            })
        });
        Self(changes.collect())
    }

    /// How many cells open in some circumstances.
    pub fn opening(&self) -> usize {
        self.0.iter().filter(|change| change.opened() != 0).count()
    }

    /// How many cells close in some circumstances; one may open in some and close in others.
    pub fn closing(&self) -> usize {
        self.0.iter().filter(|change| change.closed() != 0).count()
    }

    /// For a program: every change, with masks and in words, and the counts.
    pub fn to_json(&self) -> Value {
        let cells: Vec<_> = self.0.iter().map(|change| change.to_json()).collect();
        json!({ "cells": cells, "opening": self.opening(), "closing": self.closing() })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no cell differs");
        }
        self.0
            .iter()
            .try_for_each(|change| writeln!(f, "{change}"))?;
        let (all, opening, closing) = (self.0.len(), self.opening(), self.closing());
        let cells = if all == 1 {
            "cell differs"
        } else {
            "cells differ"
        };
        write!(f, "{all} {cells}: {opening} opening, {closing} closing")
    }
}

impl Change {
    /// The combinations that the change opens, as a mask.
    pub fn opened(self) -> u32 {
        self.after & !self.before
    }

    /// The combinations that the change closes, as a mask.
    pub fn closed(self) -> u32 {
        self.before & !self.after
    }

    fn to_json(self) -> Value {
        let words = |mask| match mask {
            0 => Value::Null,
            mask => Circumstances(mask).condition().into(),
        };
        json!({
            "kind": self.cell.kind.name(),
            "purpose": self.cell.purpose.name(),
            "group": self.cell.group.name(),
            "opens": words(self.opened()),
            "closes": words(self.closed()),
            "before": Circumstances(self.before).to_string(),
            "after": Circumstances(self.after).to_string(),
            "mask_before": format!("{:08x}", self.before),
            "mask_after": format!("{:08x}", self.after),
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cell)?;
        for (what, mask) in [("opens", self.opened()), ("closes", self.closed())] {
            if mask != 0 {
                write!(f, "  {what} {}", Circumstances(mask).condition())?;
            }
        }
        let (before, after) = (Circumstances(self.before), Circumstances(self.after));
        write!(f, "\n    before: {before}\n    after:  {after}")
    }
}

#[cfg(test)]
mod tests;

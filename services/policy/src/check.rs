//! Collects what is wrong with a statement, all of it, so that its writer mends it once.

use std::{collections::BTreeSet, fmt::Display};

use amanat_schema::{
    IdError, Violation,
    catalogue::{self, Field, FieldId},
    policy::Purpose,
};

/// A specified purpose other than the one that is there to be refused.
pub(crate) fn is_admissible(purpose: Purpose) -> bool {
    !matches!(
        purpose,
        Purpose::Unspecified | Purpose::ImmigrationEnforcement
    )
}

pub(crate) struct Check {
    message: &'static str,
    violations: Vec<Violation>,
}

impl Check {
    pub(crate) fn new(message: &'static str) -> Self {
        Self {
            message,
            violations: Vec::new(),
        }
    }

    pub(crate) fn that(&mut self, holds: bool, field: impl Display, expected: &str) {
        if !holds {
            let path = format!("{}.{field}", self.message);
            self.violations.push(Violation {
                path,
                expected: expected.to_owned(),
            });
        }
    }

    /// A value that must be there: `None` is a violation.
    pub(crate) fn some<T>(
        &mut self,
        value: Option<T>,
        field: impl Display,
        expected: &str,
    ) -> Option<T> {
        self.that(value.is_some(), field, expected);
        value
    }

    pub(crate) fn id<T>(&mut self, id: Result<T, IdError>, field: &str) -> Option<T> {
        self.some(id.ok(), field, "16 bytes")
    }

    pub(crate) fn purpose(&mut self, purpose: Purpose) -> Option<Purpose> {
        let admissible = Some(purpose).filter(|purpose| is_admissible(*purpose));
        self.some(
            admissible,
            "purpose",
            "a purpose, and never IMMIGRATION_ENFORCEMENT",
        )
    }

    /// The leaves under `paths`: at least one, each known, fit and named once.
    pub(crate) fn paths(
        &mut self,
        paths: &[String],
        fits: impl Fn(&Field) -> bool,
        expected: &str,
    ) -> BTreeSet<FieldId> {
        self.that(!paths.is_empty(), "paths", "at least one path");
        let mut leaves = BTreeSet::new();
        for (at, path) in paths.iter().enumerate() {
            let at = format_args!("paths[{at}]");
            let leaf = catalogue::by_path(path).filter(|field| fits(field));
            if let Some(leaf) = self.some(leaf, at, expected) {
                self.that(
                    leaves.insert(leaf.id),
                    at,
                    "a path that is not listed before",
                );
            }
        }
        leaves
    }

    /// `value`, unless anything was found wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Violation>> {
        // INVARIANT: a part that is missing from `value` was found missing by this check.
        value
            .filter(|_| self.violations.is_empty())
            .ok_or(self.violations)
    }
}

//! What the rules are compiled over: every agency kind, purpose and field group, by their names.

use std::fmt;

use amanat_policy::Context;
use amanat_schema::{
    catalogue::FieldGroup,
    policy::{AgencyKind, Purpose},
};

/// Whether a fact holds.
pub(crate) type Holds = fn(Context) -> bool;

/// The facts of a read by the names that rules use, in the order of a mask's bits.
pub(crate) const FACTS: [(&str, Holds); 5] = [
    ("subject_is_minor", |context| context.subject_is_minor),
    ("recipient_holds_placement", |context| {
        context.recipient_holds_placement
    }),
    ("recipient_owns_investigation", |context| {
        context.recipient_owns_investigation
    }),
    ("court_order_in_force", |context| {
        context.court_order_in_force
    }),
    ("break_glass_open", |context| context.break_glass_open),
];

/// A code of the shared schema, by the name that rules, table and command line use.
pub trait Named: Copy + Ord + TryFrom<i32> {
    /// What the protobuf names begin with.
    const PREFIX: &'static str;
    /// What it is called in a message.
    const WHAT: &'static str;

    /// The protobuf name.
    fn full_name(self) -> &'static str;

    fn name(self) -> &'static str {
        let full = self.full_name();
        full.strip_prefix(Self::PREFIX).unwrap_or(full)
    }

    /// Every specified code, in the order of numbers. A gap in the numbers skips nothing; a test compares
    /// the count with the schema's.
    fn every() -> impl Iterator<Item = Self> {
        (1..=255).filter_map(|number| Self::try_from(number).ok())
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::every().find(|code| code.name() == name)
    }
}

impl Named for AgencyKind {
    const PREFIX: &'static str = "AGENCY_KIND_";
    const WHAT: &'static str = "agency kind";

    fn full_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Named for Purpose {
    const PREFIX: &'static str = "PURPOSE_";
    const WHAT: &'static str = "purpose";

    fn full_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Named for FieldGroup {
    const PREFIX: &'static str = "FIELD_GROUP_";
    const WHAT: &'static str = "field group";

    fn full_name(self) -> &'static str {
        self.as_str_name()
    }
}

/// Who, what for, what. The derived order is the order of a table's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub kind: AgencyKind,
    pub purpose: Purpose,
    pub group: FieldGroup,
}

impl Cell {
    /// The whole domain, in order.
    pub fn every() -> impl Iterator<Item = Self> {
        AgencyKind::every().flat_map(Self::of_kind)
    }

    /// The cells of one kind, in order.
    pub fn of_kind(kind: AgencyKind) -> impl Iterator<Item = Self> {
        Purpose::every().flat_map(move |purpose| {
            FieldGroup::every().map(move |group| Self {
                kind,
                purpose,
                group,
            })
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, purpose) = (self.kind.name(), self.purpose.name());
        write!(f, "{kind} {purpose} {}", self.group.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of codes that the generated code knows, UNSPECIFIED not counted.
    fn known<T: TryFrom<i32>>() -> usize {
        (1..100_000)
            .filter(|number| T::try_from(*number).is_ok())
            .count()
    }

    #[test]
    fn the_domain_is_whole() {
        assert_eq!(AgencyKind::every().count(), known::<AgencyKind>());
        assert_eq!(Purpose::every().count(), known::<Purpose>());
        assert_eq!(FieldGroup::every().count(), known::<FieldGroup>());
        assert_eq!(Cell::every().count(), 12 * 12 * 14);
        assert!(Cell::every().is_sorted());
    }

    #[test]
    fn a_name_is_found_again_and_unspecified_is_no_name() {
        for cell in Cell::every() {
            assert_eq!(AgencyKind::from_name(cell.kind.name()), Some(cell.kind));
            assert_eq!(Purpose::from_name(cell.purpose.name()), Some(cell.purpose));
            assert_eq!(FieldGroup::from_name(cell.group.name()), Some(cell.group));
        }
        assert_eq!(AgencyKind::from_name("UNSPECIFIED"), None);
        assert_eq!(Purpose::from_name("PURPOSE_SHELTER"), None);
    }
}

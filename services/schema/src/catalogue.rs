//! The field catalogue: every leaf of the shared record with its class, group and size, in the order of
//! their numbers. Written by the build script from `proto/amanat/record/v1/record.proto`.

use std::fmt;

pub use crate::record::{FieldClass, FieldFormat, FieldGroup, SizeClass};

/// The numbering and the classes that a header's fields refer to. Raised when a field is added or changed.
pub const SCHEMA_VERSION: u32 = 1;

/// Section number × 100 + field number; stable for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(u32);

impl FieldId {
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number of the section in the shared record's message.
    pub const fn section_number(self) -> u32 {
        self.0 / 100
    }

    /// The number of the field in its section's message.
    pub const fn field_number(self) -> u32 {
        self.0 % 100
    }
}

impl fmt::Debug for FieldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field().path)
    }
}

/// One leaf of the shared record.
#[derive(Debug)]
pub struct Field {
    pub id: FieldId,
    /// `section.field`, the unit of consent and of sealing.
    pub path: &'static str,
    pub section: &'static str,
    pub name: &'static str,
    pub class: FieldClass,
    pub group: FieldGroup,
    pub size: SizeClass,
    pub format: FieldFormat,
    /// Computed by the source's connector; refused in a case file.
    pub derived: bool,
    /// A list of values.
    pub repeated: bool,
    /// A column of a repeated section.
    pub column: bool,
    pub value: Value,
}

/// What a leaf holds.
#[derive(Debug)]
pub enum Value {
    Text,
    Bool,
    Uint,
    /// (number, name) of each code.
    Code(&'static [(i32, &'static str)]),
    /// Several named values that only make sense together.
    Group(&'static [Member]),
}

#[derive(Debug)]
pub struct Member {
    pub number: u32,
    pub name: &'static str,
    pub value: Value,
}

impl Field {
    /// ROUTING leaves stand in the header as commitments; all others are sealed.
    pub fn is_sealed(&self) -> bool {
        self.class != FieldClass::Routing
    }
}

impl FieldId {
    /// The catalogue's entry.
    #[expect(
        clippy::indexing_slicing,
        reason = "INVARIANT: a FieldId is made only from the catalogue, by `parse` or the build script"
    )]
    pub fn field(self) -> &'static Field {
        &FIELDS[FIELDS.partition_point(|field| field.id < self)]
    }

    /// From the wire; `None` if there is no such field.
    pub fn parse(number: u32) -> Option<Self> {
        let id = Self(number);
        FIELDS
            .binary_search_by_key(&id, |field| field.id)
            .ok()
            .map(|_| id)
    }
}

/// Every leaf, in the order of ids.
pub const FIELDS: &[Field] = include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// The leaf of a path such as `subject.given_name`; `None` if there is none.
pub fn by_path(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}

/// The leaves that are sealed, in the order of a header's `fields`.
pub fn sealed() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(|field| field.is_sealed())
}

/// The leaves that a header commits to one by one, in the order of its `routing`.
pub fn routing() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(|field| !field.is_sealed())
}

//! Case files: what is taken, what is refused and how, what is derived, and that plaintexts read back,
//! here and with any protobuf tool.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod derived;
mod generate;
mod reading_back;
mod refusals;

use amanat_schema::catalogue::{FieldId, by_path};
use serde_json::Value as Json;

/// An invented survivor, with every leaf that a case file can have.
fn full() -> Json {
    serde_json::from_str(include_str!("../golden/case_file.json")).unwrap()
}

fn id(path: &str) -> FieldId {
    by_path(path).unwrap().id
}

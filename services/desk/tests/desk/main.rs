//! What gateway and custodian do alike, over a real database.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod audits;
mod consents;
#[path = "../../../database/tests/support/mod.rs"]
mod database;
mod ledger;
mod lists;
mod overtaking;
mod pages;
mod refusals;
mod reloading;
mod settings;
#[path = "../../../identity/tests/support/mod.rs"]
mod support;

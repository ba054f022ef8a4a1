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
mod ledger;
mod lists;
mod pages;
mod refusals;
mod reloading;
#[path = "../../../identity/tests/support/mod.rs"]
mod support;

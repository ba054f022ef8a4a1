//! The journal over a real database, with a toy service for its verbs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may panic"
)]

mod backups;
mod batches;
mod checkpoints;
mod damaged_backups;
#[path = "../../../database/tests/support/mod.rs"]
mod database;
mod faults;
mod freezing;
mod own_keys;
mod reading;
mod replicas;
mod requests;
mod schema;
mod toy;
mod wire;

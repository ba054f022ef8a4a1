//! The journal over a real database, with a toy service for its verbs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod batches;
mod checkpoints;
mod faults;
mod freezing;
mod reading;
mod requests;
mod schema;
mod toy;

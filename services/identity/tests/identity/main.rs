//! Who is accepted as whom.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod directories;
mod looks;
mod revocations;
mod rotations;
mod statements;
#[path = "../support/mod.rs"]
mod support;
mod suspensions;
mod tls;
mod tokens;

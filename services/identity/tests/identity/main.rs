//! Who is accepted as whom.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod directories;
mod statements;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tokens;

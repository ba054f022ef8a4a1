//! A service process as its callers meet it: over real sockets and handshakes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod callers;
mod health;
mod live;
mod quotas;
mod refusals;
mod running;
mod stopping;
#[path = "../../../identity/tests/support/mod.rs"]
mod support;

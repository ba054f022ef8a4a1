//! The clock that a service process hands down; nothing below reads one.

use std::sync::Arc;

use crate::Time;

/// Tells the time, in UTC.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

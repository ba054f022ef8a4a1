//! The one place where the processes of this program read the clock.

use std::{sync::Arc, time::SystemTime};

use amanat_schema::{Time, clock::Clock};

/// The system's clock. One that stands before 1970 reads as 1970, when no directory is in force.
#[expect(clippy::expect_used, reason = "1970 is a valid time")]
pub fn system_clock() -> Clock {
    let epoch = Time::from_millis(0).expect("1970 is a valid time");
    Arc::new(move || epoch + SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

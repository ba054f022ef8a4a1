//! Time as the domain keeps it: UTC, to the millisecond, always handed in by a service process.

use std::{fmt, ops::Add, ops::Sub, time::Duration};

use prost_types::Timestamp;

/// Milliseconds since 1970-01-01T00:00:00Z. No clock is read below the service processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// A timestamp that is missing, before 1970, after 9999 or finer than a millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is UTC, between the years 1970 and 9999, in whole milliseconds")]
pub struct TimeError;

/// 9999-12-31T23:59:59.999Z.
const LAST: i64 = 253_402_300_799_999;

impl Time {
    /// # Errors
    /// [`TimeError`] outside the years 1970 to 9999.
    pub fn from_millis(millis: i64) -> Result<Self, TimeError> {
        (0..=LAST)
            .contains(&millis)
            .then_some(Self(millis))
            .ok_or(TimeError)
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds, as tokens count them.
    pub fn seconds(self) -> u64 {
        // INVARIANT: a Time is never negative.
        u64::try_from(self.0 / 1000).unwrap_or(0)
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`TimeError`] if it is missing or no valid [`Time`].
    pub fn parse(timestamp: Option<&Timestamp>) -> Result<Self, TimeError> {
        let timestamp = timestamp.ok_or(TimeError)?;
        if !(0..1_000_000_000).contains(&timestamp.nanos) || timestamp.nanos % 1_000_000 != 0 {
            return Err(TimeError);
        }
        let millis = timestamp
            .seconds
            .checked_mul(1000)
            .and_then(|s| s.checked_add(i64::from(timestamp.nanos / 1_000_000)))
            .ok_or(TimeError)?;
        Self::from_millis(millis)
    }

    pub fn to_timestamp(self) -> Timestamp {
        Timestamp {
            seconds: self.0 / 1000,
            // The remainder of a division by 1000 is under 1000 and fits.
            nanos: i32::try_from(self.0 % 1000).unwrap_or(0) * 1_000_000,
        }
    }

    /// The distance between two times, whichever is later.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Stops at the end of the year 9999.
    fn add(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(by).min(LAST))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    /// Stops at 1970.
    fn sub(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(by).max(0))
    }
}

impl fmt::Display for Time {
    /// RFC 3339, as in `2026-03-01T09:30:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The printer writes whole seconds without a fraction; ours always has three digits.
        let text = Timestamp {
            nanos: 0,
            ..self.to_timestamp()
        }
        .to_string();
        write!(f, "{}.{:03}Z", text.trim_end_matches('Z'), self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_wire_and_prints_as_rfc_3339() {
        let time = Time::from_millis(1_772_357_400_007).unwrap();
        assert_eq!(Time::parse(Some(&time.to_timestamp())), Ok(time));
        assert_eq!(time.to_string(), "2026-03-01T09:30:00.007Z");
    }

    #[test]
    fn a_time_that_cannot_be_kept_exactly_is_refused() {
        assert_eq!(Time::parse(None), Err(TimeError));
        for (seconds, nanos) in [(-1, 0), (0, 1), (0, -1), (i64::MAX, 0), (0, 1_000_000_000)] {
            assert_eq!(
                Time::parse(Some(&Timestamp { seconds, nanos })),
                Err(TimeError)
            );
        }
    }
}

//! Whether the gateway answers, and whether its clock is ours: without either nothing can be released.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use amanat_schema::{audit::GetCheckpointRequest, clock::Clock};
use amanat_server::Signs;
use tokio::time::MissedTickBehavior;
use tonic::{Code, metadata::MetadataMap};

use super::Gateway;
use crate::metrics::{CLOCK_OFFSET, GATEWAY_REACHABLE};

/// Between two looks.
const EACH: Duration = Duration::from_secs(5);
/// Clocks that are kept differ by less.
const NOTICED_MS: u64 = 5_000;
/// From here on tokens and decisions of one server are out of time at the other.
const UNFIT_MS: u64 = 30_000;

/// What the last look came to; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Pulse(Arc<Mutex<Signs>>);

impl Pulse {
    pub(crate) fn look(&self, signs: &mut Signs) {
        let Signs { reasons, warnings } = self.found().clone();
        signs.reasons.extend(reasons);
        signs.warnings.extend(warnings);
    }

    /// Looks until it is aborted.
    pub(crate) async fn watch(self, mut gateway: Gateway, clock: Clock) {
        let (reachable, offset) = (GATEWAY_REACHABLE.gauge(), CLOCK_OFFSET.gauge());
        let mut ticks = tokio::time::interval(EACH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let before = clock().millis();
            let asked = gateway.calls().get_checkpoint(GetCheckpointRequest {});
            let mut signs = Signs::default();
            let answered = asked.await;
            reachable.record(i64::from(answered.is_ok()), &[]);
            let theirs = match answered {
                Ok(answer) => time_of(answer.metadata()),
                Err(status) => {
                    signs.reasons.push(refused(status.code()));
                    time_of(status.metadata())
                }
            };
            if let Some(theirs) = theirs {
                let apart_ms = apart(before, theirs, clock().millis());
                offset.record(i64::try_from(apart_ms / 1000).unwrap_or(i64::MAX), &[]);
                compare(apart_ms, &mut signs);
            }
            *self.found() = signs;
        }
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Signs> {
        // A panic elsewhere cannot leave it half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(code: Code) -> String {
    let why = if code == Code::Unauthenticated {
        "refuses this custodian's certificate, or has no directory in force; see its log"
    } else {
        "cannot be reached; see that it runs and that custody.gateway is its address"
    };
    format!("nothing can be released, for the gateway {why}")
}

/// When an answer was given, in milliseconds since 1970, to the second.
fn time_of(answer: &MetadataMap) -> Option<i64> {
    let date = answer.get("date")?.to_str().ok()?;
    let since = httpdate::parse_http_date(date).ok()?;
    let since = since.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// Theirs stands for its whole second, and was read between two looks at ours.
fn apart(before: i64, theirs: i64, after: i64) -> u64 {
    if theirs > after {
        theirs.abs_diff(after)
    } else if theirs + 999 < before {
        before.abs_diff(theirs + 999)
    } else {
        0
    }
}

fn compare(apart: u64, signs: &mut Signs) {
    let told = format!(
        "this server's clock and the gateway's differ by {} s; check NTP on both",
        apart / 1000
    );
    if apart > UNFIT_MS {
        signs.reasons.push(told);
    } else if apart > NOTICED_MS {
        signs.warnings.push(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_from_5_seconds_and_stops_work_from_30_either_way() {
        let now = 1_772_357_400_000;
        for (theirs, reasons, warnings) in [
            (0, 0, 0),
            (-1_000, 0, 0),
            (5_000, 0, 0),
            (-5_999, 0, 0),
            (7_000, 0, 1),
            (-7_000, 0, 1),
            (31_000, 1, 0),
            (-32_000, 1, 0),
        ] {
            let mut signs = Signs::default();
            compare(apart(now, now + theirs, now), &mut signs);
            let told = (signs.reasons.len(), signs.warnings.len());
            assert_eq!(told, (reasons, warnings), "{theirs}");
        }
    }
}

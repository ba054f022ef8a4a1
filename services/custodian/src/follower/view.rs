//! The observed head as the operator sees it.

use amanat_telemetry::{Counter, Gauge, KeyValue};

use crate::{
    metrics::{HEAD_FETCHES, HEAD_FROZEN, HEAD_OBSERVED, HEAD_SIZE},
    store::head::Observation,
};

pub(super) struct View {
    size: Gauge<i64>,
    observed: Gauge<i64>,
    frozen: Gauge<i64>,
    fetches: Counter<u64>,
}

impl View {
    pub(super) fn new() -> Self {
        Self {
            size: HEAD_SIZE.gauge(),
            observed: HEAD_OBSERVED.gauge(),
            frozen: HEAD_FROZEN.gauge(),
            fetches: HEAD_FETCHES.counter(),
        }
    }

    pub(super) fn show(&self, head: Option<&Observation>, is_frozen: bool) {
        if let Some(seen) = head {
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            self.size.record(number(seen.head.size), &[]);
            self.observed.record(number(seen.at.seconds()), &[]);
        }
        self.frozen.record(i64::from(is_frozen), &[]);
    }

    pub(super) fn fetched(&self, is_proved: bool) {
        let outcome = if is_proved { "proved" } else { "failed" };
        self.fetches.add(1, &[KeyValue::new("outcome", outcome)]);
    }
}

//! A batch as its operator sees it: how many calls, how long, what was logged. Everything is counted once a
//! batch, and only sampled calls have spans.

use std::collections::BTreeMap;

use amanat_schema::{audit::Action, error::Reason, policy::Decision};
use amanat_telemetry::{Counter, Gauge, Histogram, KeyValue, Moment, Trace};

use crate::{
    metrics::{BATCH, COMMIT_DURATION, ENTRIES, FAILURES, FROZEN, SIZE, WAITING},
    store::EntryRow,
};

/// Since when a sampled call waits; `None` for all others.
pub(crate) struct Queued(Option<(Trace, Moment)>);

impl Queued {
    pub(crate) fn now() -> Self {
        Self(Trace::current().map(|trace| (trace, Moment::now())))
    }
}

/// The times of a batch.
pub(crate) struct Stages {
    pub(crate) begun: Moment,
    pub(crate) decided: Moment,
}

/// The writer's instruments.
pub(crate) struct Watch {
    entries: Counter<u64>,
    size: Gauge<i64>,
    frozen: Gauge<i64>,
    failures: Counter<u64>,
    waiting: Gauge<i64>,
    batch: Histogram<f64>,
    commit: Histogram<f64>,
}

impl Watch {
    pub(crate) fn new(size: u64, is_frozen: bool) -> Self {
        let watch = Self {
            entries: ENTRIES.counter(),
            size: SIZE.gauge(),
            frozen: FROZEN.gauge(),
            failures: FAILURES.counter(),
            waiting: WAITING.gauge(),
            batch: BATCH.histogram(),
            commit: COMMIT_DURATION.histogram(),
        };
        watch.grown(size);
        watch.frozen.record(i64::from(is_frozen), &[]);
        watch.failures.add(0, &[]);
        watch
    }

    pub(crate) fn waiting(&self, calls: usize) {
        self.waiting
            .record(i64::try_from(calls).unwrap_or(i64::MAX), &[]);
    }

    pub(crate) fn failed(&self) {
        self.failures.add(1, &[]);
    }

    pub(crate) fn froze(&self) {
        self.frozen.record(1, &[]);
    }

    pub(crate) fn grown(&self, size: u64) {
        self.size
            .record(i64::try_from(size).unwrap_or(i64::MAX), &[]);
    }

    /// A batch that is durable.
    pub(crate) fn committed<'a>(
        &self,
        stages: &Stages,
        calls: impl ExactSizeIterator<Item = &'a Queued>,
        rows: &[EntryRow],
    ) {
        let now = Moment::now();
        let size = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        self.batch.record(f64::from(size), &[]);
        self.commit
            .record(now.since(stages.begun).as_secs_f64(), &[]);
        self.count(rows);
        for (trace, queued) in calls.filter_map(|call| call.0.as_ref()) {
            let call = trace.past(
                "journal",
                (*queued, now),
                [KeyValue::new("amanat.batch.calls", i64::from(size))],
            );
            call.past("queue", (*queued, stages.begun), []);
            call.past("decide", (stages.begun, stages.decided), []);
            call.past("commit", (stages.decided, now), []);
        }
    }

    fn count(&self, rows: &[EntryRow]) {
        let mut kinds = BTreeMap::new();
        for row in rows {
            let body = &row.parsed;
            let kind = (body.action, body.decision, body.public_reason.as_str());
            *kinds.entry(kind).or_insert(0) += 1;
        }
        for ((action, decision, reason), count) in kinds {
            let attributes = [
                KeyValue::new("action", name_of_action(action)),
                KeyValue::new("decision", name_of_decision(decision)),
                KeyValue::new("reason", name_of_reason(reason)),
            ];
            self.entries.add(count, &attributes);
        }
    }
}

fn name_of_action(action: i32) -> &'static str {
    let action = Action::try_from(action).unwrap_or_default();
    action.as_str_name().trim_start_matches("ACTION_")
}

fn name_of_decision(decision: i32) -> &'static str {
    let decision = Decision::try_from(decision).unwrap_or_default();
    decision.as_str_name().trim_start_matches("DECISION_")
}

fn name_of_reason(reason: &str) -> &'static str {
    if reason.is_empty() {
        return "OK";
    }
    let reason = Reason::from_str_name(&format!("REASON_{reason}")).unwrap_or_default();
    reason.as_str_name().trim_start_matches("REASON_")
}

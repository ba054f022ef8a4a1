//! What a log shows of itself.

use amanat_telemetry::{Kind, Metric};

/// From a lone call on a fast disk to one that somebody should look at.
const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 5.0,
];
/// Up to the largest batch.
const CALLS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

pub(crate) const ENTRIES: Metric = Metric {
    name: "amanat.log.entries",
    kind: Kind::Counter,
    unit: "{entry}",
    attributes: &["action", "decision", "reason"],
    help: "Entries appended since the start, by action, decision and public reason (OK where nothing was \
           refused): reads, releases, evaluations, refusals and alarms are counted here, as they are logged",
};

pub(crate) const SIZE: Metric = Metric {
    name: "amanat.log.size",
    kind: Kind::Gauge,
    unit: "{entry}",
    attributes: &[],
    help: "Entries in the log",
};

pub(crate) const FROZEN: Metric = Metric {
    name: "amanat.log.frozen",
    kind: Kind::Gauge,
    unit: "",
    attributes: &[],
    help: "1 while the log contradicts itself: nothing is signed or disclosed until a person has looked",
};

pub(crate) const UNWRITABLE: Metric = Metric {
    name: "amanat.log.unwritable",
    kind: Kind::Gauge,
    unit: "",
    attributes: &["file"],
    help: "1 while something cannot be written: the database, then nothing is disclosed; or the file outside \
           it that holds the last checkpoint or observed head, which then falls behind",
};

pub(crate) const FAILURES: Metric = Metric {
    name: "amanat.log.failures",
    kind: Kind::Counter,
    unit: "{transaction}",
    attributes: &[],
    help: "Transactions that were not committed; nothing of them was answered",
};

pub(crate) const WAITING: Metric = Metric {
    name: "amanat.log.waiting",
    kind: Kind::Gauge,
    unit: "{call}",
    attributes: &[],
    help: "Calls that wait for the transaction after the one that was begun last",
};

pub(crate) const BATCH: Metric = Metric {
    name: "amanat.log.batch",
    kind: Kind::Histogram(CALLS),
    unit: "{call}",
    attributes: &[],
    help: "Calls that one transaction served; their number is that of the commits",
};

pub(crate) const COMMIT_DURATION: Metric = Metric {
    name: "amanat.log.commit.duration",
    kind: Kind::Histogram(SECONDS),
    unit: "s",
    attributes: &[],
    help: "From the begin of a transaction to its durable commit",
};

/// All of this room.
pub const METRICS: &[&Metric] = &[
    &ENTRIES,
    &SIZE,
    &FROZEN,
    &UNWRITABLE,
    &FAILURES,
    &WAITING,
    &BATCH,
    &COMMIT_DURATION,
];

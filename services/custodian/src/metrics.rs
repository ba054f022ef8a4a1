//! What the custodian shows of the gateway's log, as it sees it, and of what it evaluates.

use amanat_telemetry::{Kind, Metric};

pub(crate) const HEAD_SIZE: Metric = Metric {
    name: "amanat.head.size",
    kind: Kind::Gauge,
    unit: "{entry}",
    attributes: &[],
    help: "Entries of the gateway's log as observed here; behind the gateway's own count by what nobody has \
           brought a receipt of yet, and never ahead of it",
};

pub(crate) const HEAD_OBSERVED: Metric = Metric {
    name: "amanat.head.observed",
    kind: Kind::Gauge,
    unit: "s",
    attributes: &[],
    help: "When the observed head last moved, in seconds since 1970",
};

pub(crate) const HEAD_FROZEN: Metric = Metric {
    name: "amanat.head.frozen",
    kind: Kind::Gauge,
    unit: "",
    attributes: &[],
    help: "1 since the gateway's log contradicted what was observed of it: nothing is released until a person \
           has looked",
};

pub(crate) const HEAD_FETCHES: Metric = Metric {
    name: "amanat.head.fetches",
    kind: Kind::Counter,
    unit: "{call}",
    attributes: &["outcome"],
    help: "Consistency proofs asked of the gateway, by outcome: proved, or failed because it gave none",
};

pub(crate) const CLOCK_OFFSET: Metric = Metric {
    name: "amanat.clock.offset",
    kind: Kind::Gauge,
    unit: "s",
    attributes: &[],
    help: "How far this server's clock and the gateway's are apart, either way; beyond 30 seconds nothing is \
           released",
};

pub(crate) const GATEWAY_REACHABLE: Metric = Metric {
    name: "amanat.gateway.reachable",
    kind: Kind::Gauge,
    unit: "",
    attributes: &[],
    help: "1 while the gateway answers this custodian; without it nothing is released",
};

pub(crate) const IDENTIFIERS_EVALUATED: Metric = Metric {
    name: "amanat.identifiers.evaluated",
    kind: Kind::Counter,
    unit: "{identifier}",
    attributes: &["outcome"],
    help: "Blinded identifiers that were asked for, by outcome: evaluated, or refused, for the budget of a day \
           or for any other reason",
};

/// All of this room.
pub const METRICS: &[&Metric] = &[
    &HEAD_SIZE,
    &HEAD_OBSERVED,
    &HEAD_FROZEN,
    &HEAD_FETCHES,
    &CLOCK_OFFSET,
    &GATEWAY_REACHABLE,
    &IDENTIFIERS_EVALUATED,
];

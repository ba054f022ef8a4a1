//! What a server counts of its connections and requests.

use amanat_telemetry::{Kind, Metric};

/// From what a cached answer takes to the deadline.
const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 5.0,
    10.0, 20.0,
];

pub(crate) const REQUESTS: Metric = Metric {
    name: "amanat.requests",
    kind: Kind::Counter,
    unit: "{request}",
    attributes: &["method", "reason"],
    help: "Requests answered, by method and published reason: OK, a reason of amanat.error.v1.Reason, or \
           CANCELLED for those that were given up or took too long",
};

pub(crate) const REQUEST_DURATION: Metric = Metric {
    name: "amanat.request.duration",
    kind: Kind::Histogram(SECONDS),
    unit: "s",
    attributes: &["method"],
    help: "From the head of a request to the head of its answer, by method",
};

pub(crate) const REQUESTS_ACTIVE: Metric = Metric {
    name: "amanat.requests.active",
    kind: Kind::UpDown,
    unit: "{request}",
    attributes: &[],
    help: "Requests under way",
};

pub(crate) const CONNECTIONS: Metric = Metric {
    name: "amanat.connections",
    kind: Kind::UpDown,
    unit: "{connection}",
    attributes: &[],
    help: "Connections of admitted peers that are open",
};

pub(crate) const HANDSHAKES: Metric = Metric {
    name: "amanat.handshakes",
    kind: Kind::Counter,
    unit: "{handshake}",
    attributes: &["outcome"],
    help: "Connections that came, by outcome: accepted, or refused for their certificate, their silence or \
           their number",
};

pub(crate) const CREDENTIALS_REFUSED: Metric = Metric {
    name: "amanat.credentials.refused",
    kind: Kind::Counter,
    unit: "{refusal}",
    attributes: &[],
    help: "Connections and requests refused for their credentials; the log has one entry an agency and minute",
};

pub(crate) const EXPORTS: Metric = Metric {
    name: "amanat.telemetry.exports",
    kind: Kind::Counter,
    unit: "{export}",
    attributes: &["signal", "outcome"],
    help: "Exports to the collector, by signal (traces, metrics) and outcome: delivered, or lost",
};

pub(crate) const SPANS: Metric = Metric {
    name: "amanat.telemetry.spans",
    kind: Kind::Counter,
    unit: "{span}",
    attributes: &["outcome"],
    help: "Spans that ended, were delivered, or were lost with an export that failed; what ended and is \
           neither delivered nor lost was dropped, or waits for the next export",
};

/// All of this room.
pub const METRICS: &[&Metric] = &[
    &REQUESTS,
    &REQUEST_DURATION,
    &REQUESTS_ACTIVE,
    &CONNECTIONS,
    &HANDSHAKES,
    &CREDENTIALS_REFUSED,
    &EXPORTS,
    &SPANS,
];

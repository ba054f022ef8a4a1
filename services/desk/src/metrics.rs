//! What runs out, before it does. Times are told as such: whoever watches compares them with its own clock, and
//! sees it even if nothing new comes.

use amanat_telemetry::{Kind, Metric};

pub(crate) const CERTIFICATE_EXPIRES: Metric = Metric {
    name: "amanat.certificate.expires",
    kind: Kind::Gauge,
    unit: "s",
    attributes: &[],
    help: "When the certificate that this server shows ends, in seconds since 1970",
};

pub(crate) const DIRECTORY_EXPIRES: Metric = Metric {
    name: "amanat.directory.expires",
    kind: Kind::Gauge,
    unit: "s",
    attributes: &[],
    help: "When the directory in use ends, in seconds since 1970; from then on every request is refused",
};

pub(crate) const DIRECTORY_VERSION: Metric = Metric {
    name: "amanat.directory.version",
    kind: Kind::Gauge,
    unit: "{version}",
    attributes: &[],
    help: "The version of the directory in use; it is the same at both servers but for moments",
};

pub(crate) const LISTS_EXPIRE: Metric = Metric {
    name: "amanat.revocations.expire",
    kind: Kind::Gauge,
    unit: "s",
    attributes: &[],
    help: "When the first of the revocation lists that count ends, in seconds since 1970; from then on its \
           authority's certificates are refused",
};

pub(crate) const LISTS_MISSING: Metric = Metric {
    name: "amanat.revocations.missing",
    kind: Kind::Gauge,
    unit: "{party}",
    attributes: &[],
    help: "Parties of the directory without a revocation list that counts: their certificates are refused now",
};

pub(crate) const TOKENS_CACHED: Metric = Metric {
    name: "amanat.tokens.cached",
    kind: Kind::Gauge,
    unit: "{token}",
    attributes: &[],
    help: "Officers' tokens remembered as verified",
};

/// All of this room.
pub const METRICS: &[&Metric] = &[
    &CERTIFICATE_EXPIRES,
    &DIRECTORY_EXPIRES,
    &DIRECTORY_VERSION,
    &LISTS_EXPIRE,
    &LISTS_MISSING,
    &TOKENS_CACHED,
];

//! Instruments and what they mean.

use opentelemetry::{
    global,
    metrics::{Counter, Gauge, Histogram, UpDownCounter},
};

use crate::SCOPE;

/// An instrument's description. Every room that has some lists them in a `METRICS` of its own.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// As UCUM has it: `s`, `By`, or what is counted in braces. Empty for a state, 0 or 1.
    pub unit: &'static str,
    /// The keys of its attributes.
    pub attributes: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Grows and shrinks by what happens.
    UpDown,
    /// As it was seen last.
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

impl Metric {
    /// For [`Kind::Counter`].
    pub fn counter(&self) -> Counter<u64> {
        global::meter(SCOPE)
            .u64_counter(self.name)
            .with_unit(self.unit)
            .with_description(self.help)
            .build()
    }

    /// For [`Kind::UpDown`].
    pub fn up_down(&self) -> UpDownCounter<i64> {
        global::meter(SCOPE)
            .i64_up_down_counter(self.name)
            .with_unit(self.unit)
            .with_description(self.help)
            .build()
    }

    /// For [`Kind::Gauge`].
    pub fn gauge(&self) -> Gauge<i64> {
        global::meter(SCOPE)
            .i64_gauge(self.name)
            .with_unit(self.unit)
            .with_description(self.help)
            .build()
    }

    /// For [`Kind::Histogram`].
    pub fn histogram(&self) -> Histogram<f64> {
        let meter = global::meter(SCOPE);
        let builder = meter
            .f64_histogram(self.name)
            .with_unit(self.unit)
            .with_description(self.help);
        match self.kind {
            Kind::Histogram(bounds) => builder.with_boundaries(bounds.to_vec()).build(),
            Kind::Counter | Kind::UpDown | Kind::Gauge => builder.build(),
        }
    }
}

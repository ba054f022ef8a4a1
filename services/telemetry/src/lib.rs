//! What the rooms of a server need to tell how it is doing: instruments, each described in one constant
//! beside the code that uses it, and the spans of a request. How and where any of it is sent is the
//! process's business; with nowhere to send it, an instrument costs a call that does nothing.
//!
//! INVARIANT: attributes are methods, actions, outcomes and public reasons, which are closed sets, and
//! numbers. Never an id of an agency, an officer, a case, a record, a consent or a referral, nor a purpose,
//! a pseudonym or a value: whoever runs a collector would learn from it who deals with whom.

mod metric;
mod trace;

pub use metric::{Kind, Metric};
pub use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, UpDownCounter},
};
pub use trace::{Moment, Trace};

/// Of every instrument and span.
pub const SCOPE: &str = "amanat";

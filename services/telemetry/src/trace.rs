//! The spans of a request that is sampled. They are made here and nowhere else: what is logged cannot reach a
//! collector, for logs and spans are two things.

use std::time::{Duration, SystemTime};

use opentelemetry::{
    Context, KeyValue, global,
    trace::{Span as _, SpanKind, TraceContextExt as _, Tracer as _},
};

use crate::SCOPE;

/// A point on a trace's own clock; nothing is decided by it.
#[derive(Debug, Clone, Copy)]
pub struct Moment(SystemTime);

/// A span of a sampled trace, under which others can hang.
#[derive(Debug, Clone)]
pub struct Trace(Context);

impl Moment {
    pub fn now() -> Self {
        Self(opentelemetry::time::now())
    }

    /// Nothing, if the clock was set back meanwhile.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0).unwrap_or_default()
    }
}

impl Trace {
    /// That of the request under way; `None` if it is not sampled, so that only those are paid for that are
    /// seen.
    pub fn current() -> Option<Self> {
        let is_sampled = |context: &Context| context.span().span_context().is_sampled();
        Context::map_current(is_sampled).then(|| Self(Context::current()))
    }

    /// Something that has happened.
    pub fn past(
        &self,
        name: &'static str,
        (from, to): (Moment, Moment),
        attributes: impl IntoIterator<Item = KeyValue>,
    ) -> Self {
        let tracer = global::tracer(SCOPE);
        let mut span = tracer
            .span_builder(name)
            .with_start_time(from.0)
            .with_attributes(attributes)
            .start_with_context(&tracer, &self.0);
        let context = span.span_context().clone();
        span.end_with_timestamp(to.0);
        Self(self.0.with_remote_span_context(context))
    }

    /// Something that begins now, and ends when all clones are dropped.
    pub fn begin(&self, name: &'static str) -> Self {
        self.of_kind(name, SpanKind::Internal)
    }

    /// The same, for a call of another server.
    pub fn calling(&self, name: &'static str) -> Self {
        self.of_kind(name, SpanKind::Client)
    }

    fn of_kind(&self, name: &'static str, kind: SpanKind) -> Self {
        let tracer = global::tracer(SCOPE);
        let span = tracer
            .span_builder(name)
            .with_kind(kind)
            .start_with_context(&tracer, &self.0);
        Self(self.0.with_span(span))
    }

    /// What takes the trace along to another server, as W3C's Trace Context has it.
    pub fn traceparent(&self) -> String {
        let span = self.0.span();
        let span = span.span_context();
        let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags());
        format!("00-{trace}-{id}-{flags:02x}")
    }
}

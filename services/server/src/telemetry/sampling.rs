//! Which requests leave a trace.

use std::{collections::hash_map::RandomState, hash::BuildHasher as _};

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId},
};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

/// A part of all traces, each as a whole. Neither what the caller says of sampling counts nor the number that it
/// chose for its trace: it is an agency's word, and the cost is the exchange's.
pub(super) fn sampler(ratio: f64) -> impl Into<Box<dyn ShouldSample>> {
    let drawn = Drawn {
        draw: RandomState::new(),
        part: Sampler::TraceIdRatioBased(ratio),
    };
    Sampler::parent_based(drawn.clone())
        .with_remote_parent_sampled(drawn.clone())
        .with_remote_parent_not_sampled(drawn)
}

/// By a number that this process alone can tell from the trace's. So gateway and custodian, whose operators know
/// no secret together, draw apart.
#[derive(Debug, Clone)]
struct Drawn {
    draw: RandomState,
    part: Sampler,
}

impl ShouldSample for Drawn {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let drawn = u128::from(self.draw.hash_one(trace.to_bytes()));
        let drawn = TraceId::from_bytes(drawn.to_be_bytes());
        self.part
            .should_sample(parent, drawn, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceState};
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    /// Traces that a caller numbered from 1 on; by their numbers alone each would be among the first to be taken.
    const TRACES: u128 = 2000;

    fn taken(sampler: &dyn ShouldSample, trace: u128, flags: TraceFlags) -> bool {
        let trace = TraceId::from_bytes(trace.to_be_bytes());
        let caller = SpanContext::new(
            trace,
            SpanId::from_bytes([1; 8]),
            flags,
            true,
            TraceState::NONE,
        );
        let parent = Context::new().with_remote_span_context(caller);
        let kind = SpanKind::Server;
        let sampled = sampler.should_sample(Some(&parent), trace, "request", &kind, &[], &[]);
        sampled.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_caller_does_not_choose_whether_its_traces_are_sampled() {
        let half: Box<dyn ShouldSample> = sampler(0.5).into();
        for flags in [TraceFlags::SAMPLED, TraceFlags::NOT_SAMPLED] {
            let count = (1..=TRACES)
                .filter(|trace| taken(&*half, *trace, flags))
                .count();
            assert!((700..=1300).contains(&count), "{count}");
        }
    }

    #[test]
    fn a_trace_is_sampled_as_a_whole() {
        let half: Box<dyn ShouldSample> = sampler(0.5).into();
        for trace in 1..=TRACES {
            let [first, again] = [TraceFlags::SAMPLED, TraceFlags::NOT_SAMPLED]
                .map(|flags| taken(&*half, trace, flags));
            assert_eq!(first, again, "{trace}");
        }
    }

    #[test]
    fn all_are_sampled_or_none_where_that_is_asked() {
        for (ratio, expected) in [(0.0, false), (1.0, true)] {
            let sampler: Box<dyn ShouldSample> = sampler(ratio).into();
            let flags = TraceFlags::default();
            assert!((1..=TRACES).all(|trace| taken(&*sampler, trace, flags) == expected));
        }
    }
}

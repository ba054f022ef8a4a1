//! What becomes of spans and exports, counted: what a collector did not get must show.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use amanat_telemetry::{Counter, KeyValue};
use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};

use crate::metrics::{EXPORTS, SPANS};

/// How it stands with the collector.
#[derive(Clone, Default)]
pub(super) struct Collecting(Arc<State>);

#[derive(Default)]
struct State {
    /// Made once there is somebody to count for.
    counters: OnceLock<Counters>,
    is_failing: AtomicBool,
}

struct Counters {
    exports: Counter<u64>,
    spans: Counter<u64>,
}

impl Collecting {
    /// Counts from now on.
    pub(super) fn count(&self) {
        self.0.counters.get_or_init(|| Counters {
            exports: EXPORTS.counter(),
            spans: SPANS.counter(),
        });
    }

    /// Says so when it begins to fail and when it works again, and not in between.
    fn exported(&self, signal: &'static str, result: &OTelSdkResult) {
        let outcome = if result.is_ok() { "delivered" } else { "lost" };
        if let Some(counters) = self.0.counters.get() {
            let attributes = [
                KeyValue::new("signal", signal),
                KeyValue::new("outcome", outcome),
            ];
            counters.exports.add(1, &attributes);
        }
        let was_failing = self.0.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match (was_failing, result) {
            (false, Err(error)) => tracing::warn!(
                "the collector of telemetry.otlp takes nothing ({error}); requests are served all the same, \
                 but nobody sees how: start it, or mend the address"
            ),
            (true, Ok(())) => {
                tracing::info!("the collector of telemetry.otlp takes what it is sent again")
            }
            (false, Ok(())) | (true, Err(_)) => {}
        }
    }

    fn spans(&self, outcome: &'static str, count: usize) {
        if let (Some(counters), Ok(count)) = (self.0.counters.get(), count.try_into()) {
            counters
                .spans
                .add(count, &[KeyValue::new("outcome", outcome)]);
        }
    }
}

/// An exporter whose outcomes are counted.
pub(super) struct Counted<E> {
    exporter: E,
    collecting: Collecting,
}

impl<E> Counted<E> {
    pub(super) fn new(exporter: E, collecting: &Collecting) -> Self {
        Self {
            exporter,
            collecting: collecting.clone(),
        }
    }
}

impl<E> fmt::Debug for Counted<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        let outcome = if result.is_ok() { "delivered" } else { "lost" };
        self.collecting.spans(outcome, count);
        self.collecting.exported("traces", &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.collecting.exported("metrics", &result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// Counts each span that ended, sent or not: what is neither delivered nor lost was dropped or waits.
#[derive(Debug)]
pub(super) struct CountedSpans<P> {
    processor: P,
    collecting: Collecting,
}

impl<P> CountedSpans<P> {
    pub(super) fn new(processor: P, collecting: &Collecting) -> Self {
        Self {
            processor,
            collecting: collecting.clone(),
        }
    }
}

impl fmt::Debug for Collecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collecting")
    }
}

impl<P: SpanProcessor> SpanProcessor for CountedSpans<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.collecting.spans("ended", 1);
        self.processor.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

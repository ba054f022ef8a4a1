//! The outermost layer: counts each request, and opens the span under which all that is done for it hangs.
//!
//! A span says method, outcome, public reason and, below, sizes, counts and times. It does not say which agency
//! asks: that is no personal value, but a collector that knew it would know who deals with whom. What links
//! an agency's request at the gateway with the one at the custodian is the trace's id alone, a random number that
//! its connector draws for each thing that it does; both servers log the two requests anyway.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::Instant,
};

use amanat_schema::{error::Reason, methods};
use amanat_telemetry::{Counter, Histogram, KeyValue, UpDownCounter};
use http::HeaderMap;
use opentelemetry::{
    Context,
    global::BoxedTracer,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{FutureExt as _, SpanKind, Status as SpanStatus, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};

use crate::{
    metrics::{REQUEST_DURATION, REQUESTS, REQUESTS_ACTIVE},
    telemetry,
};

/// The one header of a trace that is listened to: its others carry any text.
const TRACEPARENT: &str = "traceparent";
/// For paths that are nobody's: what a caller makes up must not become a name.
const UNKNOWN_METHOD: &str = "unknown";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// The method of a request's path, as spans, metrics and logs name it.
pub(crate) fn method(path: &str) -> &'static str {
    match methods::by_path(path) {
        Some(method) => method.trim_start_matches('/'),
        None if path == HEALTH => HEALTH.trim_start_matches('/'),
        None => UNKNOWN_METHOD,
    }
}

#[derive(Clone)]
pub(crate) struct Observing {
    instruments: Arc<Instruments>,
}

struct Instruments {
    requests: Counter<u64>,
    duration: Histogram<f64>,
    active: UpDownCounter<i64>,
    /// `None` where no collector is configured.
    tracer: Option<BoxedTracer>,
}

impl Observing {
    pub(crate) fn new() -> Self {
        Self {
            instruments: Arc::new(Instruments {
                requests: REQUESTS.counter(),
                duration: REQUEST_DURATION.histogram(),
                active: REQUESTS_ACTIVE.up_down(),
                tracer: telemetry::tracer(),
            }),
        }
    }
}

impl<S> Layer<S> for Observing {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            inner,
            instruments: Arc::clone(&self.instruments),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    instruments: Arc<Instruments>,
}

impl<S, B, R> Service<http::Request<B>> for Observed<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    type Response = http::Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = method(request.uri().path());
        let tracer = self.instruments.tracer.as_ref();
        let span = tracer.and_then(|tracer| sampled(tracer, request.headers()));
        let asked = Asked::begin(method, span.clone(), &self.instruments);
        let answering = self.inner.call(request);
        Box::pin(async move {
            let answered = match span {
                Some(span) => {
                    tell(&span);
                    answering.with_context(span).await
                }
                None => answering.await,
            };
            asked.end(answered.as_ref().map_or(Outcome::GIVEN_UP, Outcome::of));
            answered
        })
    }
}

/// The context of a request's span; `None` if it leaves no trace.
fn sampled(tracer: &BoxedTracer, headers: &HeaderMap) -> Option<Context> {
    let parent =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Parent(headers));
    let span = tracer
        .span_builder("request")
        .with_kind(SpanKind::Server)
        .start_with_context(tracer, &parent);
    let context = parent.with_span(span);
    context.span().is_recording().then_some(context)
}

/// Log lines of the request name its trace.
fn tell(context: &Context) {
    let here = tracing::Span::current();
    if !here.is_disabled() {
        let span = context.span();
        let span = span.span_context();
        here.record("trace_id", tracing::field::display(span.trace_id()));
        here.record("span_id", tracing::field::display(span.span_id()));
    }
}

struct Parent<'a>(&'a HeaderMap);

impl Extractor for Parent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key == TRACEPARENT {
            self.0.get(TRACEPARENT)?.to_str().ok()
        } else {
            None
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// What a request came to.
#[derive(Clone, Copy)]
struct Outcome {
    code: Code,
    /// Published; of a closed set.
    reason: &'static str,
}

impl Outcome {
    /// Of what was dropped before it was answered: the caller left, or it took too long.
    const GIVEN_UP: Self = Self {
        code: Code::Cancelled,
        reason: "CANCELLED",
    };

    fn of<R>(response: &http::Response<R>) -> Self {
        let Some(status) = response.extensions().get::<Status>() else {
            return Self {
                code: Code::Ok,
                reason: "OK",
            };
        };
        let published = status
            .get_details_error_info()
            .and_then(|info| Reason::from_str_name(&format!("REASON_{}", info.reason)));
        let reason = match published {
            Some(reason) => reason.as_str_name().trim_start_matches("REASON_"),
            None if status.code() == Code::Unimplemented => "UNIMPLEMENTED",
            None if status.code() == Code::Cancelled => Self::GIVEN_UP.reason,
            None => "UNKNOWN",
        };
        Self {
            code: status.code(),
            reason,
        }
    }
}

/// A request under way; counted when it ends, in whatever way.
struct Asked {
    method: &'static str,
    since: Instant,
    span: Option<Context>,
    outcome: Outcome,
    instruments: Arc<Instruments>,
}

impl Asked {
    fn begin(method: &'static str, span: Option<Context>, instruments: &Arc<Instruments>) -> Self {
        instruments.active.add(1, &[]);
        Self {
            method,
            since: Instant::now(),
            span,
            outcome: Outcome::GIVEN_UP,
            instruments: Arc::clone(instruments),
        }
    }

    fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let Outcome { code, reason } = self.outcome;
        let took = self.since.elapsed();
        let method = KeyValue::new("method", self.method);
        self.instruments.active.add(-1, &[]);
        self.instruments
            .duration
            .record(took.as_secs_f64(), std::slice::from_ref(&method));
        self.instruments
            .requests
            .add(1, &[method, KeyValue::new("reason", reason)]);
        tracing::debug!(reason, ?took, "answered");
        if let Some(context) = &self.span {
            let span = context.span();
            span.set_attribute(KeyValue::new("rpc.system", "grpc"));
            span.set_attribute(KeyValue::new("rpc.method", self.method));
            span.set_attribute(KeyValue::new(
                "rpc.grpc.status_code",
                i64::from(code as i32),
            ));
            span.set_attribute(KeyValue::new("amanat.reason", reason));
            if matches!(
                code,
                Code::DataLoss | Code::Internal | Code::Unavailable | Code::Unknown
            ) {
                span.set_status(SpanStatus::error(reason));
            }
            span.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_a_caller_makes_up_is_no_name() {
        assert_eq!(
            method("/amanat.record.v1.RecordService/PutRecord"),
            "amanat.record.v1.RecordService/PutRecord"
        );
        assert_eq!(
            method("/grpc.health.v1.Health/Check"),
            "grpc.health.v1.Health/Check"
        );
        assert_eq!(
            method("/amanat.record.v1.RecordService/0000012345678"),
            "unknown"
        );
        assert_eq!(method("/"), "unknown");
    }

    #[test]
    fn of_what_a_caller_says_of_its_trace_the_ids_alone_are_heard() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            ),
            ("tracestate", "case=0000012345678"),
            ("baggage", "name=Gulnar"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let heard = Parent(&headers);
        assert!(heard.get("traceparent").is_some());
        assert_eq!(
            (heard.get("tracestate"), heard.get("baggage")),
            (None, None)
        );
        assert_eq!(heard.keys(), ["traceparent"]);
    }
}

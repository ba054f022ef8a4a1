//! A random number for each thing that the connector does, sent along to both servers. With it, whoever operates
//! a server finds what belongs together; it says nothing else, and is of one read or delivery alone: two things
//! that an officer does cannot be linked by it. The connector itself sends nothing to any collector.

use std::future::Future;

use http::{HeaderName, HeaderValue, Request};

/// As W3C's Trace Context has it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

tokio::task_local! {
    static TRACE: [u8; 16];
}

/// All calls of it are of one trace.
pub(crate) async fn one<F: Future>(doing: F) -> F::Output {
    match amanat_seal::random() {
        Ok(trace) => TRACE.scope(trace, doing).await,
        // Without randomness there are worse things to tell.
        Err(_) => doing.await,
    }
}

/// With the trace that it is of, or one of its own.
pub(crate) fn carry<B>(mut request: Request<B>) -> Request<B> {
    let of = TRACE.try_with(|trace| *trace);
    let trace = of.or_else(|_| amanat_seal::random::<16>());
    if let (Ok(trace), Ok(call)) = (trace, amanat_seal::random::<8>()) {
        // Not sampled: nothing is recorded here. The servers go by the number alone.
        let parent = format!("00-{}-{}-00", hex::encode(trace), hex::encode(call));
        if let Ok(parent) = HeaderValue::try_from(parent) {
            request.headers_mut().insert(TRACEPARENT, parent);
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace_of(request: &Request<()>) -> (String, String) {
        let parent = request.headers()["traceparent"].to_str().unwrap();
        let parts: Vec<_> = parent.split('-').collect();
        assert_eq!(
            (parts[0], parts[1].len(), parts[2].len(), parts[3]),
            ("00", 32, 16, "00")
        );
        (parts[1].to_owned(), parts[2].to_owned())
    }

    #[tokio::test]
    async fn what_is_done_as_one_is_one_trace_and_nothing_else_is() {
        let (first, second) =
            one(async { (carry(Request::new(())), carry(Request::new(()))) }).await;
        let (first, second) = (trace_of(&first), trace_of(&second));
        assert_eq!(first.0, second.0);
        assert_ne!(first.1, second.1);
        let another = one(async { carry(Request::new(())) }).await;
        assert_ne!(trace_of(&another).0, first.0);
        let (alone, again) = (carry(Request::new(())), carry(Request::new(())));
        assert_ne!(trace_of(&alone).0, trace_of(&again).0);
    }
}

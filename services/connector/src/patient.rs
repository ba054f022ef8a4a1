//! A way to one server on which a call that came to nothing is made again: where a connection broke another
//! replica may answer, and what a server cannot do now it may do in a moment.
//!
//! A mutation has a request id, and the servers answer its repeat from memory; a read is written on the log once
//! more. What is neither says so with [`Once`].

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use tonic::{Code, Status, body::Body};
use tower::{Service, ServiceExt as _};

use crate::{
    ConnectorError, Server, again,
    client::{CallError, LARGEST_ANSWER},
};

/// The bytes before a message.
const FRAME: usize = 5;
/// Before the first repeat, and before a later one.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// With a request that is paid for each time that it arrives: it is made again only if it never left.
#[derive(Clone, Copy)]
pub(crate) struct Once;

#[derive(Clone)]
pub(crate) struct Patient<S> {
    inner: S,
    server: Server,
}

impl<S> Patient<S> {
    pub(crate) fn new(inner: S, server: Server) -> Self {
        Self { inner, server }
    }
}

impl<S> Service<Request<Body>> for Patient<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = CallError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, CallError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let unready = self.inner.clone();
        let ready = mem::replace(&mut self.inner, unready);
        Box::pin(again::patiently(ask(ready, self.server, request)))
    }
}

async fn ask<S>(
    mut inner: S,
    server: Server,
    request: Request<Body>,
) -> Result<Response<Body>, CallError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = CallError>,
{
    let (head, body) = request.into_parts();
    let message = match body.collect().await {
        Ok(message) => message.to_bytes(),
        Err(status) => return Ok(status.into_http()),
    };
    let is_once = head.extensions.get::<Once>().is_some();
    let mut shortest = SHORTEST;
    loop {
        let begun = Instant::now();
        let body = Body::new(Full::new(message.clone()));
        let outcome = match inner.call(Request::from_parts(head.clone(), body)).await {
            Ok(answer) => whole(answer, server).await,
            Err(error) => Err(error),
        };
        let Some(told) = may_pass(&outcome, is_once) else {
            return outcome;
        };
        let pause = told.unwrap_or_else(|| jittered(shortest));
        if !again::bears(begun.elapsed() + pause) {
            return outcome;
        }
        tokio::time::sleep(pause).await;
        shortest = (shortest * 2).min(LONGEST);
        inner.ready().await?;
    }
}

/// An answer that has come to its end: one that breaks off is none.
async fn whole(answer: Response<Body>, server: Server) -> Result<Response<Body>, CallError> {
    let (head, body) = answer.into_parts();
    match Limited::new(body, FRAME + LARGEST_ANSWER).collect().await {
        Ok(body) => Ok(Response::from_parts(head, Body::new(body))),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let told = format!("the answer has more than {LARGEST_ANSWER} bytes");
            Ok(Status::out_of_range(told).into_http())
        }
        Err(source) => Err(CallError { server, source }),
    }
}

/// Whether the same call may come to something later; with the pause before, if the server tells.
fn may_pass(
    outcome: &Result<Response<Body>, CallError>,
    is_once: bool,
) -> Option<Option<Duration>> {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(error) => {
            let broke = match error.unconnected() {
                Some(unconnected) => unconnected.may_pass(),
                None => !is_once || error.came_too_late(),
            };
            return broke.then_some(None);
        }
    };
    let status = Status::from_header_map(answer.headers()).filter(|_| !is_once)?;
    let code = status.code();
    let Some(refusal) = ConnectorError::from(status).refusal().cloned() else {
        return (code == Code::Unavailable).then_some(None);
    };
    // What is superseded is no more good for anything, however often it is shown.
    (refusal.retry && !refusal.superseded).then_some(refusal.retry_after)
}

/// Those whose connections broke together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let [random] = amanat_seal::random().unwrap_or([u8::MAX]);
    pause / 2 + pause * u32::from(random) / 512
}

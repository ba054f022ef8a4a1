//! A server that refuses a credential cannot know that the clocks differ; whoever hears both can. Each answer
//! has the server's time: one that is far from this machine's is told with the refusal.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use amanat_schema::{Time, clock::Clock};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use tower::Service;

use crate::Server;

/// Of an answer, beside the server's own headers: how far the clocks are apart, in words. Whatever a server sends
/// under this name is removed.
pub(crate) const APART: &str = "amanat-clocks-apart";
const NAME: HeaderName = HeaderName::from_static(APART);
/// Clocks that are kept are nearer, and tokens bear as much.
const BORNE: Duration = Duration::from_secs(30);

/// A way to one server that compares its clock with ours.
#[derive(Clone)]
pub(crate) struct Compared<S> {
    inner: S,
    server: Server,
    clock: Clock,
}

impl<S> Compared<S> {
    pub(crate) fn new(inner: S, server: Server, clock: Clock) -> Self {
        Self {
            inner,
            server,
            clock,
        }
    }
}

impl<S, B, A> Service<Request<B>> for Compared<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future =
        Pin<Box<dyn std::future::Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, clock) = (self.server, self.clock.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            let apart = apart(answer.headers(), server, clock());
            let headers = answer.headers_mut();
            headers.remove(NAME);
            if let Some(told) = apart {
                headers.insert(NAME, told);
            }
            Ok(answer)
        })
    }
}

/// How this machine's clock stands to the server's, if they are too far apart.
fn apart(headers: &HeaderMap, server: Server, now: Time) -> Option<HeaderValue> {
    let date = headers.get(header::DATE)?.to_str().ok()?;
    let theirs = httpdate::parse_http_date(date).ok()?;
    let theirs = theirs.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let (ours, theirs) = (now.seconds(), theirs.as_secs());
    let by = ours.abs_diff(theirs);
    if by <= BORNE.as_secs() {
        return None;
    }
    let way = if ours > theirs { "ahead of" } else { "behind" };
    let told = format!(
        "this machine's clock is {by} s {way} the {}'s",
        server.name()
    );
    HeaderValue::try_from(told).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_far_apart_are_told_either_way_and_near_ones_are_not() {
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_357_400);
        let headers = [(
            header::DATE,
            httpdate::fmt_http_date(date).try_into().unwrap(),
        )];
        let headers = HeaderMap::from_iter(headers);
        let told = |seconds: i64| {
            let now = Time::from_millis((1_772_357_400 + seconds) * 1000).unwrap();
            let told = apart(&headers, Server::Custodian, now);
            told.map(|told| told.to_str().unwrap().to_owned())
        };
        assert_eq!((told(30), told(-30)), (None, None));
        let words = "this machine's clock is 3600 s";
        assert_eq!(
            told(3600).unwrap(),
            format!("{words} ahead of the custodian's")
        );
        assert_eq!(
            told(-3600).unwrap(),
            format!("{words} behind the custodian's")
        );
    }
}

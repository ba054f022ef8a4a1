//! What one party has under way is counted before anything is decoded, and every answer tells by which clock it
//! was given.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use amanat_identity::PeerName;
use amanat_schema::Time;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{Guard, Limits, Refusal, admission::Admission, guard::agency_of, limits::Shares};

/// Refuses what is more than a party's share, and knows how much is under way.
#[derive(Clone)]
pub(crate) struct Quota {
    guard: Guard,
    shares: Arc<Shares<PeerName>>,
    under_way: UnderWay,
}

/// How many requests were let in and are not answered to their last byte.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<AtomicUsize>);

/// One request's.
struct Place {
    under_way: UnderWay,
    _share: Option<OwnedSemaphorePermit>,
}

impl UnderWay {
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.under_way.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Quota {
    pub(crate) fn new(guard: Guard, limits: &Limits) -> Self {
        Self {
            guard,
            shares: Arc::new(Shares::new(limits.in_flight_per_agency)),
            under_way: UnderWay::default(),
        }
    }

    pub(crate) fn under_way(&self) -> UnderWay {
        self.under_way.clone()
    }

    fn place<B>(&self, request: &Request<B>) -> Result<Place, Refusal> {
        // Without one the guard refuses it.
        let peer = request.extensions().get::<Admission>().map(Admission::peer);
        let share = peer
            .map(|peer| {
                let share = self.shares.take(peer.name);
                share.ok_or_else(|| self.guard.crowd(agency_of(peer.name)))
            })
            .transpose()?;
        self.under_way.0.fetch_add(1, Ordering::SeqCst);
        Ok(Place {
            under_way: self.under_way.clone(),
            _share: share,
        })
    }
}

impl<S> Layer<S> for Quota {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            quota: self.clone(),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    quota: Quota,
}

impl<S, B, A> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
    A: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    A::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = std::pin::Pin<
        Box<dyn std::future::Future<Output = Result<Self::Response, Self::Error>> + Send>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let date = date((self.quota.guard.clock)());
        let place = match self.quota.place(&request) {
            Ok(place) => place,
            Err(refusal) => {
                let refused = Status::from(refusal).into_http();
                return Box::pin(async { Ok(dated(refused, date)) });
            }
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // An answer is under way to its last byte.
            let held = answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _held = &place;
                    frame
                }))
            });
            Ok(dated(held, date))
        })
    }
}

fn dated(mut answer: Response<Body>, date: Option<HeaderValue>) -> Response<Body> {
    if let Some(date) = date {
        answer.headers_mut().insert(header::DATE, date);
    }
    answer
}

/// The time as HTTP tells it, to the second.
fn date(now: Time) -> Option<HeaderValue> {
    let since = Duration::from_secs(now.seconds());
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    HeaderValue::try_from(date).ok()
}

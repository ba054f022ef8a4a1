//! Serving: from a listening socket to the last answered request.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_rustls::rustls::ServerConfig;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    service::{InterceptorLayer, Routes, RoutesBuilder},
    transport::Server,
};
use tracing::field::Empty;

use crate::{
    Guard, Health, Limits, listener,
    observe::{self, Observing},
    quota::{Quota, UnderWay},
};

/// The longest that a request may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Requests under way on one connection.
const PER_CONNECTION: usize = 256;
/// A connection is closed after this, so that a new handshake checks its certificate again.
const CONNECTION_LIFE: Duration = Duration::from_secs(3600);
/// How long requests under way may take after the stop signal. With what the log's tasks need for their last
/// word, and telemetry for its own, a stop takes 10 s at most.
const DRAIN: Duration = Duration::from_secs(6);
/// How long a connection without a request may take to close after it was told; one whose client does not
/// answer is then cut.
const QUIET: Duration = Duration::from_secs(1);
/// For connections that are cut.
const CUT: Duration = Duration::from_millis(500);
/// Between two looks at what is under way.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("serving failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Every request under way was answered.
    Drained,
    /// Some took longer than the drain allows.
    CutOff,
}

/// Binds the address; port 0 picks a free one.
///
/// # Errors
/// [`ServeError::Listen`] naming the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

/// What its operator decides about a server.
#[derive(Clone, Default)]
pub struct Operation {
    pub health: Health,
    pub limits: Limits,
}

/// Serves until `stop` completes, then answers what is under way.
///
/// # Errors
/// [`ServeError::Transport`].
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    guard: Guard,
    Operation { health, limits }: Operation,
    add_services: impl FnOnce(&mut RoutesBuilder),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Served, ServeError> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    health.serving();
    let mirror = tokio::spawn(health.clone().mirror(reporter));
    let mut routes = RoutesBuilder::default();
    routes.add_service(health_service);
    add_services(&mut routes);
    let routes: Routes = routes.routes();

    let (cut, is_cut) = watch::channel(false);
    let connections = listener::accept(listener, tls, guard.clone(), &limits, is_cut);
    let quota = Quota::new(guard.clone(), &limits);
    let under_way = quota.under_way();
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    // The layers, outermost first: what a request passes before a service's own file.
    let server = Server::builder()
        .trace_fn(|request| {
            let method = observe::method(request.uri().path());
            tracing::info_span!("request", method, trace_id = Empty, span_id = Empty)
        })
        .timeout(DEADLINE)
        .concurrency_limit_per_connection(PER_CONNECTION)
        .max_connection_age(CONNECTION_LIFE)
        .layer(Observing::new())
        .layer(quota)
        .layer(InterceptorLayer::new(guard))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
            stop.await;
            health.draining();
            if stopping.send(()).is_err() {
                tracing::debug!("serving ended before it was told to");
            }
        });
    tokio::pin!(server);
    let served = tokio::select! {
        served = &mut server => served.map(|()| Served::Drained),
        _ = stopped => drain(server, under_way, cut).await,
    };
    mirror.abort();
    Ok(served?)
}

/// Waits for what is under way; then for nobody.
async fn drain(
    mut server: impl Future<Output = Result<(), tonic::transport::Error>> + Unpin,
    under_way: UnderWay,
    cut: watch::Sender<bool>,
) -> Result<Served, tonic::transport::Error> {
    let deadline = Instant::now() + DRAIN;
    let mut quiet_since = Instant::now();
    let mut looks = tokio::time::interval(LOOK);
    let ended = loop {
        tokio::select! {
            served = &mut server => return served.map(|()| Served::Drained),
            now = looks.tick() => {
                if !under_way.is_nothing() {
                    quiet_since = now;
                }
                if now - quiet_since >= QUIET {
                    break Served::Drained;
                }
                if now >= deadline {
                    break Served::CutOff;
                }
            }
        }
    };
    tracing::debug!("connections whose clients do not close them are cut");
    cut.send_replace(true);
    match tokio::time::timeout(CUT, server).await {
        Ok(served) => served.map(|()| ended),
        Err(_) => Ok(ended),
    }
}

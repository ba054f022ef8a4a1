//! Serving: from a listening socket to the last answered request.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    service::{InterceptorLayer, Routes, RoutesBuilder},
    transport::Server,
};

use crate::{Guard, listener};

/// The longest that a request may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Requests under way on one connection.
const PER_CONNECTION: usize = 256;
/// A connection is closed after this, so that a new handshake checks its certificate again.
const CONNECTION_LIFE: Duration = Duration::from_secs(3600);
/// How long requests under way may take after the stop signal.
const DRAIN: Duration = Duration::from_secs(7);

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

/// Serves until `stop` completes, then answers what is under way.
///
/// # Errors
/// [`ServeError::Transport`].
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    guard: Guard,
    add_services: impl FnOnce(&mut RoutesBuilder),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Served, ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    let mut routes = RoutesBuilder::default();
    routes.add_service(health_service);
    add_services(&mut routes);
    let routes: Routes = routes.routes();

    let connections = ReceiverStream::new(listener::accept(listener, tls, guard.clone()));
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    // The layers, outermost first: what a request passes before a service's own file.
    let server = Server::builder()
        .trace_fn(|request| tracing::info_span!("request", method = request.uri().path()))
        .timeout(DEADLINE)
        .concurrency_limit_per_connection(PER_CONNECTION)
        .max_connection_age(CONNECTION_LIFE)
        .layer(InterceptorLayer::new(guard))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, async move {
            stop.await;
            health
                .set_service_status("", tonic_health::ServingStatus::NotServing)
                .await;
            if stopping.send(()).is_err() {
                tracing::debug!("serving ended before it was told to");
            }
        });
    tokio::pin!(server);
    tokio::select! {
        served = &mut server => {
            served?;
            return Ok(Served::Drained);
        }
        _ = stopped => {}
    }
    match tokio::time::timeout(DRAIN, server).await {
        Ok(served) => {
            served?;
            Ok(Served::Drained)
        }
        Err(_) => Ok(Served::CutOff),
    }
}

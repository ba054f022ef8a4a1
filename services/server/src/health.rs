//! Whether this server can do its work, for whoever watches over it: on loopback over HTTP, and to peers as
//! the gRPC health service. In plain words, and never with a value of the exchange.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use amanat_config::Section;
use http::{Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::ServeError;

/// For a question's header; an answer needs none.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions under way at once.
const ASKING: usize = 16;

/// `[health]`: where this machine asks whether the server is well.
#[derive(Debug, Clone, Copy)]
pub struct HealthAddress {
    /// On loopback: what it tells is for this machine alone, and goes unencrypted.
    pub listen: SocketAddr,
}

impl HealthAddress {
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        const LOOPBACK: &str = "an address of the loopback interface, as in 127.0.0.1:9443";
        let listen: SocketAddr = section.required("listen", LOOPBACK)?;
        if !listen.ip().is_loopback() {
            return section.refuse("listen", LOOPBACK);
        }
        Some(Self { listen })
    }
}

/// What stands in the way of work, and what will.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    /// Why requests are refused.
    pub reasons: Vec<String>,
    /// What somebody should see to before it becomes a reason.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Draining,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    phase: Phase,
    signs: Signs,
}

/// What a server says of itself; cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<watch::Sender<State>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State {
            phase: Phase::Starting,
            signs: Signs::default(),
        })))
    }
}

impl Health {
    /// Answers on `address` from now on, if there is one: while the log is still being checked, and to the end
    /// of the process.
    ///
    /// # Errors
    /// [`ServeError::Listen`] naming the address.
    pub async fn start(address: Option<HealthAddress>) -> Result<Self, ServeError> {
        let health = Self::default();
        if let Some(HealthAddress { listen }) = address {
            let listener = crate::listen(listen).await?;
            tokio::spawn(health.clone().answer(listener));
        }
        Ok(health)
    }

    /// Says what there is now; the log hears of what is new.
    pub fn show(&self, signs: Signs) {
        self.0.send_if_modified(|state| {
            if state.signs == signs {
                return false;
            }
            for new in without(&signs.reasons, &state.signs.reasons) {
                tracing::error!("not ready: {new}");
            }
            for new in without(&signs.warnings, &state.signs.warnings) {
                tracing::warn!("{new}");
            }
            if signs.reasons.is_empty() && !state.signs.reasons.is_empty() {
                tracing::info!("ready again");
            }
            state.signs = signs;
            true
        });
    }

    /// The log is open, and requests are answered.
    pub(crate) fn serving(&self) {
        self.enter(Phase::Serving);
    }

    /// Nothing new is taken.
    pub(crate) fn draining(&self) {
        self.enter(Phase::Draining);
    }

    fn enter(&self, phase: Phase) {
        self.0.send_modify(|state| state.phase = phase);
    }

    /// Tells the gRPC health service, until it is aborted.
    pub(crate) async fn mirror(self, reporter: HealthReporter) {
        let mut states = self.0.subscribe();
        loop {
            let status = if states.borrow_and_update().is_ready() {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            reporter.set_service_status("", status).await;
            if states.changed().await.is_err() {
                return;
            }
        }
    }

    async fn answer(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(ASKING));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let health = self.clone();
            tokio::spawn(async move {
                health.converse(stream).await;
                drop(place);
            });
        }
    }

    /// One question a connection, so that whoever keeps one open takes no place.
    async fn converse(self, stream: TcpStream) {
        let service = service_fn(|request| {
            let answer = self.respond(&request);
            async { Ok::<_, Infallible>(answer) }
        });
        let conversation = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // A whole one is short; one that is not read is given up.
        if !matches!(
            tokio::time::timeout(PATIENCE * 2, conversation).await,
            Ok(Ok(()))
        ) {
            tracing::debug!("a question about health was broken off");
        }
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<String> {
        let state = self.0.borrow().clone();
        let (is_so, told) = match request.uri().path() {
            _ if request.method() != Method::GET => (None, json!({ "error": "ask with GET" })),
            "/live" => (Some(true), json!({ "live": true })),
            "/started" => {
                let started = state.phase != Phase::Starting;
                (Some(started), json!({ "started": started }))
            }
            "/ready" => (Some(state.is_ready()), state.told()),
            _ => (
                None,
                json!({ "error": "there are /live, /ready and /started" }),
            ),
        };
        let mut response = Response::new(format!("{told}\n"));
        *response.status_mut() = match is_so {
            Some(true) => StatusCode::OK,
            Some(false) => StatusCode::SERVICE_UNAVAILABLE,
            None => StatusCode::NOT_FOUND,
        };
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        response
    }
}

impl State {
    fn is_ready(&self) -> bool {
        self.phase == Phase::Serving && self.signs.reasons.is_empty()
    }

    fn told(&self) -> Value {
        let phase = match self.phase {
            Phase::Starting => Some("it is starting: keys, directory and log are being checked"),
            Phase::Serving => None,
            Phase::Draining => Some("it is stopping: what is under way is answered, nothing new"),
        };
        let reasons: Vec<_> = phase
            .into_iter()
            .chain(self.signs.reasons.iter().map(String::as_str))
            .collect();
        json!({ "ready": self.is_ready(), "reasons": reasons, "warnings": self.signs.warnings })
    }
}

fn without<'a>(all: &'a [String], known: &'a [String]) -> impl Iterator<Item = &'a String> {
    all.iter().filter(|sign| !known.contains(sign))
}

//! A service process: the TLS listener, the one list of layers, how a request's caller is known, how a
//! refusal becomes a status, telemetry, health and graceful shutdown. Gateway and custodian bring their
//! routes.

mod admission;
mod guard;
mod health;
mod limits;
mod listener;
mod metrics;
mod observe;
mod quota;
mod refusal;
mod serve;
mod telemetry;

pub use guard::{Guard, peer};
pub use health::{Health, HealthAddress, Signs};
pub use limits::Limits;
pub use metrics::METRICS;
pub use refusal::Refusal;
pub use serve::{Operation, ServeError, Served, listen, serve};
pub use telemetry::{ExportError, LogFormat, Reporting, Telemetry};

/// The largest request that is served; larger ones are refused as TOO_LARGE.
pub const LARGEST_REQUEST: usize = 512 * 1024;
/// What the transport decodes at most, so that a request a little too large gets a proper refusal.
pub const LARGEST_MESSAGE: usize = 4 * LARGEST_REQUEST;
/// The same for services whose requests hold ids and filters only.
pub const LARGEST_QUESTION: usize = 64 * 1024;

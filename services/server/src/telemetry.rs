//! Structured logs on standard error. Spans carry method names and ids of the exchange, never values.

use std::io::IsTerminal as _;

use amanat_config::Section;
use tracing_subscriber::{EnvFilter, fmt};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `[telemetry]`: log lines on standard error.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// As in `info` or `amanat_gateway=debug,info`.
    filter: String,
    format: LogFormat,
}

impl Telemetry {
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        const FILTER: &str = "what is logged, as in info or amanat_gateway=debug,info";
        let filter: Option<String> = section.required("filter", FILTER);
        let format = section.or("format", LogFormat::default(), "text or json");
        let filter = filter?;
        if EnvFilter::try_new(&filter).is_err() {
            return section.refuse("filter", FILTER);
        }
        Some(Self {
            filter,
            format: format?,
        })
    }
}

/// Starts logging for the process. A second call changes nothing.
pub fn start_telemetry(telemetry: &Telemetry) {
    let filter = EnvFilter::new(&telemetry.filter);
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match telemetry.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

//! What a server tells its operator: log lines on standard error and, if a collector is configured, metrics and
//! traces.
//!
//! Logs and spans are two things: a span holds what [`crate::observe`] and the rooms put into it by hand, and
//! nothing that is logged ever becomes a part of one. So a log filter, however wide, sends nothing to anybody.

mod counted;
mod export;
mod sampling;

use std::{io::IsTerminal as _, time::Duration};

use amanat_config::Section;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, filter::LevelFilter, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

pub use export::ExportError;
pub(crate) use export::tracer;
use export::{Collector, Exporting};

/// For the last spans and numbers of a server that stops; the rest of its ten seconds is its requests'.
const LAST_WORD: Duration = Duration::from_millis(800);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `[telemetry]`: log lines on standard error, and where metrics and traces go.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// As in `info` or `amanat_gateway=debug,info`.
    filter: String,
    format: LogFormat,
    /// Nothing is sent anywhere without one.
    collector: Option<Collector>,
}

impl Telemetry {
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        const FILTER: &str = "what is logged, as in info or amanat_gateway=debug,info";
        let filter: Option<String> = section.required("filter", FILTER);
        let format = section.or("format", LogFormat::default(), "text or json");
        let collector = Collector::read(section);
        let filter = filter?;
        if !is_filter(&filter) {
            return section.refuse("filter", FILTER);
        }
        Some(Self {
            filter,
            format: format?,
            collector: collector?,
        })
    }
}

/// Whether it is one, and says no word alone that is no level: the library would take that for the name of a
/// module, and nothing would be logged.
fn is_filter(text: &str) -> bool {
    let mut words = text.split(',').map(str::trim);
    EnvFilter::try_new(text).is_ok()
        && words.all(|word| {
            let is_plain = !word.contains(['=', '[', ']', '{', '}']);
            !is_plain || word.parse::<LevelFilter>().is_ok()
        })
}

/// A process that tells how it is doing, until [`Reporting::end`].
pub struct Reporting {
    filter: reload::Handle<EnvFilter, Registry>,
    exporting: Option<Exporting>,
}

impl Reporting {
    /// Starts logging and, if a collector is configured, sending to it; before any instrument is made. In a
    /// process that logs already nothing of that changes.
    ///
    /// # Errors
    /// [`ExportError`] naming the setting.
    pub fn start(service: &'static str, telemetry: &Telemetry) -> Result<Self, ExportError> {
        let (filter, handle) = reload::Layer::new(EnvFilter::new(&telemetry.filter));
        let lines = fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let lines = match telemetry.format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        let started = tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init();
        if started.is_err() {
            tracing::debug!("logging was started before");
        }
        let exporting = match &telemetry.collector {
            Some(collector) => Some(Exporting::start(service, collector)?),
            None => None,
        };
        Ok(Self {
            filter: handle,
            exporting,
        })
    }

    /// Takes another log filter into use; where metrics and traces go stays until the next start.
    pub fn filter(&self, telemetry: &Telemetry) {
        if self
            .filter
            .reload(EnvFilter::new(&telemetry.filter))
            .is_err()
        {
            tracing::warn!("the log filter stays; logging was not started here");
        }
    }

    /// Sends what is left, within its time.
    pub async fn end(self) {
        if let Some(exporting) = self.exporting
            && tokio::time::timeout(LAST_WORD, exporting.end())
                .await
                .is_err()
        {
            tracing::warn!("the collector did not take the last spans and numbers in time");
        }
    }
}

//! Metrics and traces over OTLP, to one collector.

use std::{net::IpAddr, num::NonZeroU64, path::PathBuf, sync::OnceLock, time::Duration};

use amanat_config::{FileError, Section, read_file};
use amanat_telemetry::{KeyValue, SCOPE};
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, RetryPolicy, SpanExporter, WithExportConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use tokio::sync::oneshot;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};

use super::{
    counted::{Collecting, Counted, CountedSpans},
    sampling::sampler,
};

/// For a connection to the collector, and for one export.
const PATIENCE: Duration = Duration::from_secs(5);
/// Spans that wait to be sent; further ones are dropped, and counted.
const WAITING: usize = 2048;

/// Set once this process sends spans.
static SENDING: OnceLock<()> = OnceLock::new();

/// What makes the spans of requests; `None` where no collector is configured, so that nothing is made in vain.
pub(crate) fn tracer() -> Option<BoxedTracer> {
    SENDING.get().map(|()| global::tracer(SCOPE))
}

/// Where metrics and traces go.
#[derive(Debug, Clone)]
pub(super) struct Collector {
    /// `otlp`: its gRPC address. Over plain HTTP on this machine only: when which call took how long is
    /// about survivors' cases.
    address: Uri,
    /// `otlp_authority`: of its certificate; PEM. Needed for https, where it is the only one trusted.
    authority: Option<PathBuf>,
    /// `sample_ratio`: which part of all requests leave a trace, from 0 to 1.
    sample_ratio: f64,
    /// `export_s`: seconds between two exports.
    export_s: NonZeroU64,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("telemetry.otlp_authority: {0}")]
    Authority(#[from] FileError),
    #[error("telemetry.otlp cannot be used: {0}")]
    Address(#[from] tonic::transport::Error),
    #[error("telemetry.otlp cannot be used: {0}")]
    Exporter(#[from] ExporterBuildError),
}

impl Collector {
    /// The outer `None` says that a setting is refused, the inner one that no collector is configured.
    #[expect(
        clippy::option_option,
        reason = "absent and refused are two things, as in the section's own reading"
    )]
    pub(super) fn read(section: &mut Section<'_>) -> Option<Option<Self>> {
        const ADDRESS: &str = "the collector's gRPC address: https://, or http:// on the loopback interface, \
                               as in http://127.0.0.1:4317";
        const RATIO: &str = "a part of all requests, from 0.0 to 1.0";
        let address: Option<Option<String>> = section.optional("otlp", ADDRESS);
        let sample_ratio = section.or("sample_ratio", 0.01, RATIO);
        let export_s = section.or(
            "export_s",
            NonZeroU64::new(15).unwrap_or(NonZeroU64::MIN),
            "a number of seconds, at least 1",
        );
        let (sample_ratio, export_s) = (sample_ratio?, export_s?);
        if !(0.0..=1.0).contains(&sample_ratio) {
            return section.refuse("sample_ratio", RATIO);
        }
        let Some(address) = address? else {
            return Some(None);
        };
        let Ok(address) = address.parse::<Uri>() else {
            return section.refuse("otlp", ADDRESS);
        };
        let authority = match address.scheme_str() {
            Some("https") => Some(section.path("otlp_authority")?),
            Some("http") if is_loopback(&address) => None,
            _ => return section.refuse("otlp", ADDRESS),
        };
        Some(Some(Self {
            address,
            authority,
            sample_ratio,
            export_s,
        }))
    }

    /// Connects with the first export, and again when it must.
    fn channel(&self) -> Result<Channel, ExportError> {
        let mut endpoint = Endpoint::from(self.address.clone())
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE);
        if let Some(authority) = &self.authority {
            let pem = read_file(authority)?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls)?;
        }
        Ok(endpoint.connect_lazy())
    }
}

/// Names are not looked up: what a name means on this machine is for its files to say.
fn is_loopback(address: &Uri) -> bool {
    let host = address.host().unwrap_or_default().trim_matches(['[', ']']);
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What sends, on threads of its own: no request ever waits for a collector.
pub(super) struct Exporting {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
}

impl Exporting {
    pub(super) fn start(service: &'static str, collector: &Collector) -> Result<Self, ExportError> {
        let channel = collector.channel()?;
        let every = Duration::from_secs(collector.export_s.get());
        // Nothing of this machine: no host name, no process, no environment.
        let resource = Resource::builder_empty()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();

        let numbers = MetricExporter::builder()
            .with_tonic()
            .with_channel(channel.clone())
            .with_timeout(PATIENCE)
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        let collecting = Collecting::default();
        let reader = PeriodicReader::builder(Counted::new(numbers, &collecting))
            .with_interval(every)
            .build();
        let metrics = SdkMeterProvider::builder()
            .with_resource(resource.clone())
            .with_reader(reader)
            .build();
        global::set_meter_provider(metrics.clone());
        collecting.count();

        let spans = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(PATIENCE)
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        let batch = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING)
            .with_scheduled_delay(every)
            .build();
        let spans = BatchSpanProcessor::builder(Counted::new(spans, &collecting))
            .with_batch_config(batch)
            .build();
        let traces = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampler(collector.sample_ratio))
            .with_span_processor(CountedSpans::new(spans, &collecting))
            .build();
        global::set_tracer_provider(traces.clone());
        SENDING.get_or_init(|| ());
        Ok(Self { traces, metrics })
    }

    /// Sends what is left. The threads are not waited for beyond that: a collector that does not answer must
    /// not keep the process.
    pub(super) async fn end(self) {
        let (done, ended) = oneshot::channel();
        std::thread::spawn(move || {
            // The numbers last, with those of the spans in them.
            let spans = self.traces.shutdown_with_timeout(super::LAST_WORD);
            let numbers = self.metrics.shutdown();
            if spans.is_err() || numbers.is_err() || done.send(()).is_err() {
                tracing::debug!("the last spans or numbers were not sent");
            }
        });
        ended.await.ok();
    }
}

#[cfg(test)]
mod tests {
    use crate::Telemetry;

    /// What is said of the settings; empty if they are taken.
    fn said(settings: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.toml");
        std::fs::write(&file, format!("[telemetry]\nfilter = \"info\"\n{settings}")).unwrap();
        amanat_config::read(&file, |top| top.section("telemetry", Telemetry::read))
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn telemetry_leaves_this_machine_under_tls_only() {
        for taken in [
            "",
            "otlp = \"http://127.0.0.1:4317\"",
            "otlp = \"http://[::1]:4317\"\nsample_ratio = 1.0\nexport_s = 1",
            "otlp = \"https://collector.example:4317\"\notlp_authority = \"ca.pem\"",
        ] {
            assert_eq!(said(taken), "", "{taken}");
        }
        for otlp in [
            "http://collector.example:4317",
            "http://10.0.0.1:4317",
            "http://0.0.0.0:4317",
            "http://localhost:4317",
            "http://127.0.0.1.example:4317",
            "grpc://127.0.0.1:4317",
            "127.0.0.1:4317",
            "",
        ] {
            let said = said(&format!("otlp = \"{otlp}\""));
            assert!(said.contains("telemetry.otlp:"), "{otlp}: {said}");
        }
    }

    #[test]
    fn a_collectors_authority_is_named_where_it_is_needed_and_nowhere_else() {
        let https = "otlp = \"https://collector.example:4317\"";
        assert!(said(https).contains("telemetry.otlp_authority"));
        let both = "otlp = \"http://127.0.0.1:4317\"\notlp_authority = \"ca.pem\"";
        assert!(said(both).contains("otlp_authority"));
        assert!(said("sample_ratio = 1.5").contains("telemetry.sample_ratio"));
        assert!(said("export_s = 0").contains("telemetry.export_s"));
    }
}

//! A collector: takes what servers export over OTLP, and keeps all of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{NumberDataPoint, metric::Data, number_data_point},
    resource::v1::Resource,
};
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

/// A running collector; it runs as long as the test.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Collected>>);

/// What came, in the order of coming.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    pub spans: Vec<Span>,
    pub points: Vec<Point>,
    /// Whole exports, as they came.
    pub raw: Vec<Vec<u8>>,
    /// Keys of what is said of the process itself.
    pub resource_keys: Vec<String>,
}

pub type Attributes = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub struct Span {
    /// Which server, as in `amanat-gateway`.
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty for none.
    pub parent: String,
    pub start: u64,
    pub end: u64,
    pub attributes: Attributes,
    /// Events, links and dropped attributes: nothing here makes any.
    pub extras: usize,
}

#[derive(Debug, Clone)]
pub struct Point {
    pub service: String,
    pub metric: String,
    pub unit: String,
    pub help: String,
    pub kind: &'static str,
    pub attributes: Attributes,
    /// Of a histogram how many.
    pub value: f64,
}

impl Collector {
    /// Takes exports from now on; where, as `telemetry.otlp` has it.
    pub async fn serve(&self) -> String {
        let address = self.serve_with(Server::builder()).await;
        format!("http://{address}")
    }

    /// The same over TLS, with a certificate for this address; where, and by which authority, PEM.
    pub async fn serve_tls(&self) -> (String, String) {
        let authority_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap();
        let identity = Identity::from_pem(own.pem(), key.serialize_pem());
        let tls = ServerTlsConfig::new().identity(identity);
        let address = self
            .serve_with(Server::builder().tls_config(tls).unwrap())
            .await;
        (format!("https://{address}"), authority)
    }

    async fn serve_with(&self, mut server: Server) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = server
            .add_service(TraceServiceServer::new(self.clone()))
            .add_service(MetricsServiceServer::new(self.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(serving);
        address
    }

    pub fn collected(&self) -> Collected {
        self.0.lock().unwrap().clone()
    }
}

impl Collected {
    /// The last value of each series of a metric at a server.
    pub fn last(&self, service: &str, metric: &str) -> BTreeMap<Attributes, f64> {
        self.points
            .iter()
            .filter(|point| point.service == service && point.metric == metric)
            .map(|point| (point.attributes.clone(), point.value))
            .collect()
    }

    /// Their sum, over all series that have these attributes.
    pub fn sum(&self, service: &str, metric: &str, of: &[(&str, &str)]) -> f64 {
        let is_of = |attributes: &Attributes| {
            of.iter()
                .all(|(key, value)| attributes.get(*key).is_some_and(|found| found == value))
        };
        self.last(service, metric)
            .into_iter()
            .filter(|(attributes, _)| is_of(attributes))
            .map(|(_, value)| value)
            .sum()
    }

    /// The spans right under one.
    pub fn under(&self, span: &Span) -> Vec<&Span> {
        let is_under = |child: &&Span| child.trace == span.trace && child.parent == span.id;
        self.spans.iter().filter(is_under).collect()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let export = request.into_inner();
        let mut collected = self.0.lock().unwrap();
        collected.raw.push(export.encode_to_vec());
        for of in export.resource_spans {
            let service = collected.resource(of.resource);
            for span in of.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                collected.spans.push(Span {
                    service: service.clone(),
                    name: span.name,
                    trace: hex::encode(span.trace_id),
                    id: hex::encode(span.span_id),
                    parent: hex::encode(span.parent_span_id),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    attributes: attributes(span.attributes),
                    extras: span.events.len() + span.links.len() + span.trace_state.len(),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let export = request.into_inner();
        let mut collected = self.0.lock().unwrap();
        collected.raw.push(export.encode_to_vec());
        for of in export.resource_metrics {
            let service = collected.resource(of.resource);
            for metric in of.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let Some((kind, points)) = points(metric.data) else {
                    panic!("{} is of no kind that is used here", metric.name);
                };
                for (attributes, value) in points {
                    collected.points.push(Point {
                        service: service.clone(),
                        metric: metric.name.clone(),
                        unit: metric.unit.clone(),
                        help: metric.description.clone(),
                        kind,
                        attributes,
                        value,
                    });
                }
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Collected {
    /// Keeps what is said of a process; returns its name.
    fn resource(&mut self, resource: Option<Resource>) -> String {
        let said = attributes(resource.unwrap_or_default().attributes);
        let name = said.get("service.name").cloned().unwrap_or_default();
        self.resource_keys.extend(said.into_keys());
        name
    }
}

fn points(data: Option<Data>) -> Option<(&'static str, Vec<(Attributes, f64)>)> {
    let number = |point: NumberDataPoint| {
        #[allow(clippy::cast_precision_loss, reason = "no test counts so far")]
        let value = match point.value {
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            Some(number_data_point::Value::AsDouble(value)) => value,
            None => f64::NAN,
        };
        (attributes(point.attributes), value)
    };
    Some(match data? {
        Data::Gauge(gauge) => ("gauge", gauge.data_points.into_iter().map(number).collect()),
        Data::Sum(sum) => {
            let kind = if sum.is_monotonic {
                "counter"
            } else {
                "up-down counter"
            };
            (kind, sum.data_points.into_iter().map(number).collect())
        }
        Data::Histogram(histogram) => {
            #[allow(clippy::cast_precision_loss, reason = "no test counts so far")]
            let points = histogram
                .data_points
                .into_iter()
                .map(|point| (attributes(point.attributes), point.count as f64));
            ("histogram", points.collect())
        }
        Data::ExponentialHistogram(_) | Data::Summary(_) => return None,
    })
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    pairs
        .into_iter()
        .map(|pair| {
            let value = match pair.value.and_then(|value| value.value) {
                Some(Value::StringValue(text)) => text,
                Some(Value::IntValue(number)) => number.to_string(),
                other => format!("{other:?}"),
            };
            (pair.key, value)
        })
        .collect()
}

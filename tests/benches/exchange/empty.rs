//! The empty call: everything that a real one passes, and nothing behind it. It always carries an officer's token in
//! its metadata, as all but a put do.

use std::{
    convert::Infallible,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
};

use amanat_desk::setup::Setup;
use amanat_gateway::Config;
use amanat_identity::token::Audience;
use amanat_server::{Guard, LARGEST_MESSAGE, Operation, Reporting};
use amanat_tests::raw::{self, RawCodec};
use bytes::Bytes;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{
        BoxFuture, Service,
        http::{self, uri::PathAndQuery},
    },
    server::{NamedService, UnaryService},
    transport::Channel,
};

use crate::{
    beside::{self, Beside},
    load::{self, Failure},
    servers::Servers,
    stage::{Agency, Stage, of},
};

const METHOD: &str = "/amanat.bench.Empty/Call";
/// Any answer is a piece of it. Not zeros, in case anything below treats them specially.
static ANSWER: [u8; 1 << 20] = [0xa5; 1 << 20];

/// How long the messages of an operation are, as they are encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload {
    pub(crate) request: usize,
    pub(crate) answer: usize,
}

/// As in `5 calls, 29822→15301 B`.
pub(crate) fn described(payloads: &[Payload]) -> String {
    let request: usize = payloads.iter().map(|payload| payload.request).sum();
    let answer: usize = payloads.iter().map(|payload| payload.answer).sum();
    match payloads {
        [_] => format!("{request}→{answer} B"),
        calls => format!("{} calls, {request}→{answer} B", calls.len()),
    }
}

/// The process that answers empty calls, and who calls it.
pub(crate) struct EmptyServer {
    process: Beside,
    caller: Arc<Agency>,
    channels: Vec<Channel>,
}

impl EmptyServer {
    pub(crate) fn start(stage: &Stage) -> Self {
        let process = Beside::start("--serve-empty", &stage.running);
        let caller = Arc::clone(&stage.reader);
        Self {
            channels: caller.channels("gateway", &process.server),
            process,
            caller,
        }
    }

    pub(crate) fn servers(&self) -> Servers {
        Servers::new([self.process.id()], None)
    }
}

/// Serves empty calls.
pub(crate) async fn serve(config: &Path) {
    let config = Config::load(config).unwrap();
    let reporting = Reporting::start("amanat-empty", &config.telemetry).unwrap();
    let setup = Setup::load(
        &config.server,
        &config.directory,
        Audience::Gateway,
        amanat::system_clock(),
    );
    let Setup { guard, tls, .. } = setup.unwrap();
    let listener = beside::listen().await;
    let empty = Empty(Arc::new(guard.clone()));
    let add = |routes: &mut tonic::service::RoutesBuilder| {
        routes.add_service(empty);
    };
    let operation = Operation {
        limits: config.limits,
        ..Operation::default()
    };
    amanat_server::serve(listener, tls, guard, operation, add, beside::closed())
        .await
        .unwrap();
    reporting.end().await;
}

/// Its messages are bytes and nothing else, so that they cost as little as messages of that size can.
#[derive(Clone)]
struct Empty(Arc<Guard>);

impl NamedService for Empty {
    const NAME: &'static str = "amanat.bench.Empty";
}

impl Service<http::Request<Body>> for Empty {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let empty = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(RawCodec)
                .apply_max_message_size_config(Some(LARGEST_MESSAGE), None);
            Ok(grpc.unary(empty, request).await)
        })
    }
}

impl UnaryService<Bytes> for Empty {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            guard.caller(&request)?;
            let wanted = wanted(request.get_ref());
            Ok(Response::new(Bytes::from_static(&ANSWER[..wanted])))
        })
    }
}

/// A request says in its first bytes how long an answer it wants.
fn wanted(request: &Bytes) -> usize {
    let wanted = u32::from_be_bytes(request[..4].try_into().unwrap());
    usize::try_from(wanted).unwrap()
}

/// Empty calls of these payloads, one after the other.
pub(crate) struct EmptyCall {
    server: Arc<EmptyServer>,
    requests: Vec<Bytes>,
}

impl EmptyCall {
    pub(crate) fn new(server: Arc<EmptyServer>, payloads: &[Payload]) -> Self {
        let request = |payload: &Payload| {
            let wanted = u32::try_from(payload.answer).unwrap().to_be_bytes();
            let mut request = vec![0xa5; payload.request.max(wanted.len())];
            request[..4].copy_from_slice(&wanted);
            Bytes::from(request)
        };
        Self {
            server,
            requests: payloads.iter().map(request).collect(),
        }
    }
}

impl load::Operation for EmptyCall {
    type Request = ();

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<()> {
        vec![(); count]
    }

    async fn call(&self, worker: usize, (): ()) -> Result<(), Failure> {
        for bytes in &self.requests {
            let request = self.server.caller.asked(bytes.clone());
            let channel = of(&self.server.channels, worker);
            let answer = raw::unary(channel, PathAndQuery::from_static(METHOD), request).await?;
            assert_eq!(answer.len(), wanted(bytes));
        }
        Ok(())
    }
}

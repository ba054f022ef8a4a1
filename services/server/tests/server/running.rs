//! A server with one service that tells what it was told of its caller.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use amanat_identity::{
    Directory, RevocationFolder, TokenVerifier, Trust, Trusted, tls::server_config, token::Audience,
};
use amanat_schema::{
    Time,
    audit::WithheldField,
    catalogue,
    clock::Clock,
    directory::{
        GetDirectoryRequest, GetDirectoryResponse,
        directory_service_client::DirectoryServiceClient,
        directory_service_server::{DirectoryService, DirectoryServiceServer},
    },
    policy::WithheldReason,
    statement::Envelope,
};
use amanat_server::{
    Guard, Health, HealthAddress, Limits, Operation, Refusal, ServeError, Served, listen, peer,
    serve,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::support::{Authority, Exchange, GATEWAY, Leaf, now};

/// Answers by what the metadata `ask` says, in the payload type of an envelope.
struct Teller(Guard);

#[tonic::async_trait]
impl DirectoryService for Teller {
    async fn get_directory(
        &self,
        request: Request<GetDirectoryRequest>,
    ) -> Result<Response<GetDirectoryResponse>, Status> {
        let ask = request.metadata().get("ask").unwrap().to_str().unwrap();
        let told = match ask {
            "caller" => {
                let caller = self.0.caller(&request)?;
                assert!(request.metadata().get("authorization").is_none());
                format!("{} {:?} {}", caller.agency, caller.kind, caller.officer.id)
            }
            "peer" => format!("{:?}", peer(&request)?.name),
            "agency" => self.0.peer_agency(&request)?.0.to_string(),
            "everything withheld" => {
                let withheld: Vec<_> = catalogue::FIELDS
                    .iter()
                    .map(|field| WithheldField {
                        path: field.path.to_owned(),
                        reason: WithheldReason::ConsentNotInForce.into(),
                    })
                    .collect();
                return Err(Refusal::nothing_releasable(&withheld)
                    .logged(Some(u64::MAX))
                    .into());
            }
            "slow" => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                "at last".to_owned()
            }
            "endless" => std::future::pending().await,
            other => panic!("{other}"),
        };
        let directory = Some(Envelope {
            payload_type: told,
            ..Envelope::default()
        });
        Ok(Response::new(GetDirectoryResponse { directory }))
    }
}

/// The gateway of an invented exchange, at work.
pub(crate) struct Running {
    pub(crate) exchange: Exchange,
    pub(crate) guard: Guard,
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    /// Where it is asked for over HTTP.
    pub(crate) health_address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<Served, ServeError>>,
    time: Arc<Mutex<Time>>,
    /// The revocation lists, one of each authority.
    pub(crate) lists: TempDir,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_within(Limits::default()).await
    }

    pub(crate) async fn start_within(limits: Limits) -> Self {
        let exchange = Exchange::new();
        let lists = TempDir::new().unwrap();
        exchange.put_lists(lists.path());
        let trusted = Trusted::new(exchange.trust(lists.path()));
        let leaf = &exchange.gateway.leaf;
        let time = Arc::new(Mutex::new(now()));
        let clock: Clock = {
            let time = Arc::clone(&time);
            Arc::new(move || *time.lock().unwrap())
        };
        let tls = server_config(leaf.shown(), trusted.clone(), &clock).unwrap();
        let guard = Guard::new(trusted, TokenVerifier::new(Audience::Gateway), clock);
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (health, health_address) = start_health().await;
        let operation = Operation {
            health: health.clone(),
            limits,
        };
        let (stop, stopped) = oneshot::channel();
        let at_work = guard.clone();
        let served = tokio::spawn(async move {
            let teller = Teller(at_work.clone());
            let services = |routes: &mut tonic::service::RoutesBuilder| {
                routes.add_service(DirectoryServiceServer::new(teller));
            };
            serve(listener, tls, at_work, operation, services, async {
                stopped.await.unwrap()
            })
            .await
        });
        Self {
            exchange,
            guard,
            address,
            health,
            health_address,
            stop,
            served,
            time,
            lists,
        }
    }

    /// Takes a directory and the lists as they lie there into use.
    pub(crate) fn swap(&self, directory: Directory) {
        let lists = RevocationFolder::new(self.lists.path());
        self.guard
            .replace(Trust::new(Arc::new(directory), &lists).unwrap());
    }

    pub(crate) fn set_time(&self, time: Time) {
        *self.time.lock().unwrap() = time;
    }

    /// Asks it to stop; how that ended.
    pub(crate) async fn stop(self) -> Served {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap()
    }

    /// Stops while something is under way.
    pub(crate) fn stopping(self) -> JoinHandle<Result<Served, ServeError>> {
        self.stop.send(()).unwrap();
        self.served
    }

    pub(crate) async fn connect(&self, leaf: &Leaf) -> Channel {
        self.try_connect(Some(leaf), &self.exchange.gateway.authority)
            .await
            .unwrap()
    }

    pub(crate) async fn try_connect(
        &self,
        leaf: Option<&Leaf>,
        trusted: &Authority,
    ) -> Result<Channel, tonic::transport::Error> {
        self.endpoint(leaf, trusted).connect().await
    }

    /// How an agency connects.
    pub(crate) fn endpoint(&self, leaf: Option<&Leaf>, trusted: &Authority) -> Endpoint {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(trusted.pem()))
            .domain_name(GATEWAY);
        if let Some(leaf) = leaf {
            tls = tls.identity(Identity::from_pem(&leaf.certificate_pem, &leaf.key_pem));
        }
        let address = format!("https://{}", self.address);
        Endpoint::from_shared(address)
            .unwrap()
            .tls_config(tls)
            .unwrap()
    }
}

/// On a port that was free.
pub(crate) async fn start_health() -> (Health, SocketAddr) {
    let free = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let health = Health::start(Some(HealthAddress { listen: address })).await;
    (health.unwrap(), address)
}

/// What the service tells.
pub(crate) async fn ask(
    channel: &Channel,
    what: &'static str,
    authorization: Option<&str>,
) -> Result<String, Status> {
    let mut request = Request::new(GetDirectoryRequest {});
    request.metadata_mut().insert("ask", what.parse().unwrap());
    if let Some(value) = authorization {
        request
            .metadata_mut()
            .insert("authorization", value.parse().unwrap());
    }
    let answer = DirectoryServiceClient::new(channel.clone())
        .get_directory(request)
        .await?;
    Ok(answer.into_inner().directory.unwrap().payload_type)
}

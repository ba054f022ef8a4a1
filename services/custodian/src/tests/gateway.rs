//! A gateway that is nothing but its log, and will log whatever a test wants.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use amanat_ledger::{
    Edge, Hash, Head, LogEntry, LogSigner, body, commitment, consistency_proof, inclusion_proof,
    sign,
};
use amanat_schema::audit::{
    ConsistencyProof, EntryBody, GetCheckpointRequest, GetCheckpointResponse,
    GetConsistencyProofRequest, GetConsistencyProofResponse, GetEntryBundleRequest,
    GetEntryBundleResponse, GetEntryRequest, GetEntryResponse, GetInclusionProofRequest,
    GetInclusionProofResponse, Linkage, ListEntriesRequest, ListEntriesResponse, Opening, Receipt,
    audit_service_client::AuditServiceClient,
    audit_service_server::{AuditService, AuditServiceServer},
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

/// What an entry says before it is committed to.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) body: EntryBody,
    pub(super) linkage: Linkage,
    pub(super) officer: String,
}

/// An entry's receipt in the tree of its time, with the officer's opening.
#[derive(Clone)]
pub(super) struct Logged {
    pub(super) receipt: Receipt,
    pub(super) officer: Opening,
}

#[derive(Clone)]
pub(super) struct GatewayLog {
    signer: Arc<LogSigner>,
    edge: Edge,
    nodes: HashMap<u64, Hash>,
}

impl GatewayLog {
    pub(super) fn new(signer: Arc<LogSigner>) -> Self {
        let (edge, nodes) = (Edge::empty(), HashMap::new());
        Self {
            signer,
            edge,
            nodes,
        }
    }

    pub(super) fn append(&mut self, entry: Entry) -> Logged {
        let Entry {
            mut body,
            linkage,
            officer,
        } = entry;
        let linkage = opening(&body::encode_linkage(&linkage));
        let officer = opening(officer.as_bytes());
        let commit = |of: fn(&[u8; 32], &[u8]) -> _, opening: &Opening| -> Vec<u8> {
            let committed: Result<[u8; 32], amanat_ledger::LedgerError> =
                of(opening.salt.as_slice().try_into().unwrap(), &opening.value);
            committed.unwrap().to_vec()
        };
        body.linkage_commitment = commit(commitment::linkage, &linkage);
        body.officer_commitment = commit(commitment::officer, &officer);
        let body = body::encode(&body);
        let salt = amanat_seal::random().unwrap();
        let index = self.edge.size();
        let nodes = self.edge.append(&LogEntry::new(&salt, &body));
        self.nodes.extend(nodes);
        let proof = inclusion_proof(index, index + 1, |i| self.nodes.get(&i).copied()).unwrap();
        let receipt = Receipt {
            index,
            body,
            salt: salt.to_vec(),
            linkage: Some(linkage),
            inclusion_proof: proof.iter().map(|hash| hash.0.to_vec()).collect(),
            checkpoint: self.note(),
        };
        Logged { receipt, officer }
    }

    pub(super) fn head(&self) -> Head {
        self.edge.head()
    }

    /// The signed checkpoint of now.
    pub(super) fn note(&self) -> String {
        sign(&self.signer, self.head()).unwrap().text
    }

    fn consistency(&self, old: u64, new: u64) -> Option<ConsistencyProof> {
        let hashes = consistency_proof(old, new, |i| self.nodes.get(&i).copied()).ok()?;
        let hashes = hashes.iter().map(|hash| hash.0.to_vec()).collect();
        Some(ConsistencyProof { hashes })
    }
}

fn opening(value: &[u8]) -> Opening {
    Opening {
        salt: amanat_seal::random::<32>().unwrap().to_vec(),
        value: value.to_vec(),
    }
}

/// Serves the log that is shown to the custodian.
#[derive(Clone)]
pub(super) struct GatewayServer {
    pub(super) log: Arc<Mutex<GatewayLog>>,
    /// Gives no proof.
    pub(super) silent: Arc<AtomicBool>,
}

impl GatewayServer {
    pub(super) fn start(log: GatewayLog) -> (Self, AuditServiceClient<Channel>) {
        let server = Self {
            log: Arc::new(Mutex::new(log)),
            silent: Arc::default(),
        };
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = AuditServiceServer::new(server.clone());
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        (server, AuditServiceClient::new(endpoint.connect_lazy()))
    }
}

#[tonic::async_trait]
impl AuditService for GatewayServer {
    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(Status::unavailable("silent"));
        }
        let sizes = request.into_inner().sizes;
        let log = self.log.lock().unwrap();
        let proofs: Option<Vec<_>> = sizes
            .windows(2)
            .map(|pair| log.consistency(pair[0], pair[1]))
            .collect();
        let proofs = proofs.ok_or_else(|| Status::invalid_argument("no such trees"))?;
        Ok(Response::new(GetConsistencyProofResponse { proofs }))
    }

    async fn list_entries(
        &self,
        _: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        unreachable!()
    }

    async fn get_entry(
        &self,
        _: Request<GetEntryRequest>,
    ) -> Result<Response<GetEntryResponse>, Status> {
        unreachable!()
    }

    async fn get_checkpoint(
        &self,
        _: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        unreachable!()
    }

    async fn get_entry_bundle(
        &self,
        _: Request<GetEntryBundleRequest>,
    ) -> Result<Response<GetEntryBundleResponse>, Status> {
        unreachable!()
    }

    async fn get_inclusion_proof(
        &self,
        _: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        unreachable!()
    }
}

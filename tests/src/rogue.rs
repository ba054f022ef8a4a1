//! A gateway that turned against the exchange. It holds the real one's keys, so its log, its checkpoints and
//! its proofs are as good as signatures can make them; it answers at the real one's address.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use amanat_connector::Server;
use amanat_ledger::{
    Edge, Hash, LogEntry, LogSigner, body, commitment, consistency_proof, inclusion_proof,
};
use amanat_schema::{
    audit::{
        ConsistencyProof, EntryBody, GetCheckpointRequest, GetCheckpointResponse,
        GetConsistencyProofRequest, GetConsistencyProofResponse, GetEntryBundleRequest,
        GetEntryBundleResponse, GetEntryRequest, GetEntryResponse, GetInclusionProofRequest,
        GetInclusionProofResponse, Linkage, ListEntriesRequest, ListEntriesResponse, Opening,
        Receipt,
        audit_service_server::{AuditService, AuditServiceServer},
    },
    record::ReadRecordResponse,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server as Transport, ServerTlsConfig, server::TcpIncoming},
};

use crate::{
    Running,
    party::{Party, id, now, private_key_der},
};

/// As long as the real gateway's receipts last.
const LIFE: Duration = Duration::from_secs(60);

/// The gateway's place, taken.
pub struct Rogue {
    pub signer: LogSigner,
    /// The tree that its proofs are of; replace it to show another one.
    pub tree: Arc<Mutex<Tree>>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// A log that grows as its holder likes.
#[derive(Clone)]
pub struct Tree {
    entries: Vec<LogEntry>,
    edge: Edge,
    nodes: BTreeMap<u64, Hash>,
}

/// What an entry says, before it is written.
#[derive(Clone)]
pub struct Forged {
    pub body: EntryBody,
    pub linkage: Linkage,
    pub officer: String,
}

impl Forged {
    /// The entry of a real read, restated as if it were read again now.
    pub fn of(answer: &ReadRecordResponse) -> Self {
        let receipt = answer.receipt.as_ref().unwrap();
        let mut body = body::parse(&receipt.body).unwrap();
        body.entry_id = id();
        // One reading of the clock: two may differ, and the entry would last too long.
        let from = now();
        body.time = Some(from.to_timestamp());
        body.expire_time = Some((from + LIFE).to_timestamp());
        let linkage = receipt.linkage.as_ref().unwrap();
        Self {
            body,
            linkage: body::parse_linkage(&linkage.value).unwrap(),
            officer: String::from_utf8(answer.officer.clone().unwrap().value).unwrap(),
        }
    }
}

impl Tree {
    pub fn of(entries: Vec<LogEntry>) -> Self {
        let mut tree = Self {
            entries: Vec::new(),
            edge: Edge::empty(),
            nodes: BTreeMap::new(),
        };
        for entry in entries {
            tree.append(entry);
        }
        tree
    }

    /// As it was when it had `size` entries.
    pub fn cut(&self, size: usize) -> Self {
        Self::of(self.entries[..size].to_vec())
    }

    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    fn append(&mut self, entry: LogEntry) {
        self.nodes.extend(self.edge.append(&entry));
        self.entries.push(entry);
    }

    /// Writes an entry and signs the tree with it: its receipt, and the opening of its officer commitment.
    pub fn write(&mut self, signer: &LogSigner, forged: &Forged) -> (Receipt, Opening) {
        let linkage = opening(&body::encode_linkage(&forged.linkage));
        let officer = opening(forged.officer.as_bytes());
        let commit = |commit: fn(&_, &_) -> _, opening: &Opening| {
            let salt = opening.salt.as_slice().try_into().unwrap();
            Result::<[u8; 32], _>::unwrap(commit(salt, opening.value.as_slice())).to_vec()
        };
        let body = body::encode(&EntryBody {
            linkage_commitment: commit(commitment::linkage, &linkage),
            officer_commitment: commit(commitment::officer, &officer),
            ..forged.body.clone()
        });
        let salt = amanat_seal::random().unwrap();
        let index = self.size();
        self.append(LogEntry::new(&salt, &body));
        let stored = |node| self.nodes.get(&node).copied();
        let proof = inclusion_proof(index, self.size(), stored).unwrap();
        let receipt = Receipt {
            index,
            body,
            salt: salt.to_vec(),
            linkage: Some(linkage),
            inclusion_proof: proof.iter().map(|hash| hash.0.to_vec()).collect(),
            checkpoint: amanat_ledger::sign(signer, self.edge.head()).unwrap().text,
        };
        (receipt, officer)
    }
}

fn opening(value: &[u8]) -> Opening {
    Opening {
        salt: amanat_seal::random::<32>().unwrap().to_vec(),
        value: value.to_vec(),
    }
}

impl Rogue {
    /// Kills the gateway and answers in its place, with its log up to now.
    pub async fn take_over(running: &mut Running, witness: &Party) -> Self {
        let request = GetEntryBundleRequest {
            from_index: 0,
            count: 4096,
        };
        let bundle = witness
            .audit(Server::Gateway)
            .get_entry_bundle(request)
            .await
            .unwrap();
        let entries = bundle.into_inner().entries;
        let entries = entries.iter().map(|entry| LogEntry::parse(entry).unwrap());
        let tree = Arc::new(Mutex::new(Tree::of(entries.collect())));
        running.gateway.kill();

        let keys = running.exchange.gateway.folder.join("keys");
        let identity = Identity::from_pem(
            fs::read(keys.join("server.pem")).unwrap(),
            fs::read(keys.join("server.key")).unwrap(),
        );
        let listener = TcpListener::bind(running.exchange.gateway.address)
            .await
            .unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = Transport::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .add_service(AuditServiceServer::new(Proofs(Arc::clone(&tree))))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), async {
                stopped.await.ok();
            });
        Self {
            signer: LogSigner::from_pkcs8(
                &origin(),
                private_key_der(&keys.join("log.key")).secret_der(),
            )
            .unwrap(),
            tree,
            stop,
            serving: tokio::spawn(async { serving.await.unwrap() }),
        }
    }

    /// Of the tree that is served.
    pub fn size(&self) -> u64 {
        self.tree.lock().unwrap().size()
    }

    /// Writes an entry on the tree that is served.
    pub fn write(&self, forged: &Forged) -> (Receipt, Opening) {
        self.tree.lock().unwrap().write(&self.signer, forged)
    }

    /// Gives the address back: the real gateway can start again.
    pub async fn leave(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
    }
}

/// The gateway's log, by its name.
pub fn origin() -> String {
    format!("gateway.{}/log", crate::exchange_id())
}

/// All that the custodian ever asks of the gateway.
struct Proofs(Arc<Mutex<Tree>>);

#[tonic::async_trait]
impl AuditService for Proofs {
    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let tree = self.0.lock().unwrap();
        let sizes = request.into_inner().sizes;
        let prove = |pair: &[u64]| {
            consistency_proof(pair[0], pair[1], |node| tree.nodes.get(&node).copied())
        };
        let proofs = sizes.windows(2).map(prove).collect::<Result<Vec<_>, _>>();
        let proofs = proofs.map_err(|_| Status::unavailable("no such tree"))?;
        let render = |proof: Vec<Hash>| ConsistencyProof {
            hashes: proof.iter().map(|hash| hash.0.to_vec()).collect(),
        };
        Ok(Response::new(GetConsistencyProofResponse {
            proofs: proofs.into_iter().map(render).collect(),
        }))
    }

    async fn list_entries(
        &self,
        _: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        Err(Status::unimplemented("never asked"))
    }

    async fn get_entry(
        &self,
        _: Request<GetEntryRequest>,
    ) -> Result<Response<GetEntryResponse>, Status> {
        Err(Status::unimplemented("never asked"))
    }

    async fn get_checkpoint(
        &self,
        _: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        Err(Status::unimplemented("never asked"))
    }

    async fn get_entry_bundle(
        &self,
        _: Request<GetEntryBundleRequest>,
    ) -> Result<Response<GetEntryBundleResponse>, Status> {
        Err(Status::unimplemented("never asked"))
    }

    async fn get_inclusion_proof(
        &self,
        _: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        Err(Status::unimplemented("never asked"))
    }
}

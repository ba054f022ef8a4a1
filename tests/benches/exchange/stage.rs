//! What the load runs on: the servers, agencies with their connections, and records that may be read.

use std::sync::Arc;

use amanat_connector::Profile;
use amanat_tests::{
    Running,
    party::{Party, channel},
    sharing::{self, Shared},
};
use tonic::{
    Request,
    metadata::AsciiMetadataValue,
    transport::{Channel, Identity},
};

use crate::empty::EmptyServer;

const SOURCE: &str = "police-lahore";
const READER: &str = "darul-aman-lahore";
/// Those that take cases in.
pub(crate) const INTAKES: [&str; 5] = [
    "police-lahore",
    "fia-ahtc-lahore",
    "darul-aman-lahore",
    "ngo-shelter",
    "police-karachi",
];
/// How many cases are read in turn.
const CASES: usize = 64;

pub(crate) struct Stage {
    pub(crate) running: Running,
    pub(crate) empty: EmptyServer,
    pub(crate) source: Arc<Agency>,
    pub(crate) reader: Arc<Agency>,
    /// Each of the source, in a case of its own; the reader may read some of it by consent and referral.
    pub(crate) shared: Vec<Shared>,
}

/// An agency with one officer's token for all that it asks, as an officer has who logs in once.
pub(crate) struct Agency {
    pub(crate) party: Party,
    pub(crate) token: String,
    pub(crate) bearer: AsciiMetadataValue,
    pub(crate) gateway: Vec<Channel>,
    pub(crate) custodian: Vec<Channel>,
    pub(crate) empty: Vec<Channel>,
}

impl Stage {
    pub(crate) async fn set(connections: usize) -> Self {
        let running = Running::start_for_load(env!("CARGO_BIN_EXE_amanat"));
        let log = running.folder().join("empty.log");
        let empty = EmptyServer::start(&running.exchange.gateway.config, &log);
        let agency = |name| Arc::new(Agency::open(&running, &empty, name, connections));
        let (source, reader) = (agency(SOURCE), agency(READER));
        let mut shared = Vec::with_capacity(CASES);
        let (from, to) = (
            running.connector(SOURCE).await,
            running.connector(READER).await,
        );
        let file = sharing::file("police-case");
        let consent = sharing::consent_file("consent-police-to-shelter");
        for _ in 0..CASES {
            shared.push(sharing::share(&from, &to, &file, &consent, None).await);
        }
        Self {
            running,
            empty,
            source,
            reader,
            shared,
        }
    }

    pub(crate) fn gateway(&self) -> u32 {
        self.running.gateway.id().unwrap()
    }

    pub(crate) fn custodian(&self) -> u32 {
        self.running.custodian.id().unwrap()
    }

    pub(crate) fn agency(&self, name: &str) -> Agency {
        let connections = self.source.gateway.len();
        Agency::open(&self.running, &self.empty, name, connections)
    }
}

impl Agency {
    fn open(running: &Running, empty: &EmptyServer, name: &str, connections: usize) -> Self {
        let profile = Profile::load(&running.exchange.agencies[name].folder).unwrap();
        let identity = Identity::from_pem(
            std::fs::read(&profile.tls.certificate).unwrap(),
            std::fs::read(&profile.tls.private_key).unwrap(),
        );
        let channels = |name, server| {
            let one = || channel(name, server, identity.clone());
            std::iter::repeat_with(one).take(connections).collect()
        };
        let exchange = &running.exchange;
        let at_empty = amanat::development::Server {
            folder: exchange.gateway.folder.clone(),
            config: exchange.gateway.config.clone(),
            address: empty.address,
        };
        let party = Party::of(running, &profile);
        let token = party.token();
        Self {
            bearer: format!("Bearer {token}").parse().unwrap(),
            token,
            gateway: channels("gateway", &exchange.gateway),
            custodian: channels("custodian", &exchange.custodian),
            empty: channels("gateway", &at_empty),
            party,
        }
    }

    pub(crate) fn asked<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = self.bearer.clone();
        request.metadata_mut().insert("authorization", bearer);
        request
    }
}

/// The connection of a worker.
pub(crate) fn of(channels: &[Channel], worker: usize) -> Channel {
    channels[worker % channels.len()].clone()
}

//! The two servers, over mutual TLS: each must prove to be the one that the directory lists.

use std::{sync::Arc, time::Duration};

use amanat_identity::{Directory, OwnCertificate, RevocationFolder};
use amanat_schema::{
    audit::audit_service_client::AuditServiceClient,
    clock::Clock,
    consent::consent_service_client::ConsentServiceClient,
    key::key_service_client::KeyServiceClient,
    record::record_service_client::RecordServiceClient,
    referral::referral_service_client::ReferralServiceClient,
    subject::{
        oprf_service_client::OprfServiceClient, subject_service_client::SubjectServiceClient,
    },
};
use tonic::{
    Request,
    body::Body,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tower::util::{MapErr, MapRequest};

use crate::{
    ConnectorError, Profile, Server,
    skew::Compared,
    trace,
    transport::{self, Client},
};

const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(30);
/// A read's answer: every ciphertext in its largest bucket stays under it.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Connections are made with the first call and made again when they break.
#[derive(Clone)]
pub(crate) struct Servers {
    gateway: Link,
    custodian: Link,
}

/// A channel whose failures name its server, which tells of clocks that differ, and carries the trace along.
type Link = MapErr<Compared<Traced>, fn(tonic::transport::Error) -> CallError>;
type Traced = MapRequest<Channel, fn(http::Request<Body>) -> http::Request<Body>>;

/// A call that failed below gRPC.
#[derive(Debug, thiserror::Error)]
#[error("a call of the {} failed", .server.name())]
pub(crate) struct CallError {
    pub(crate) server: Server,
    source: tonic::transport::Error,
}

impl Servers {
    pub(crate) fn new(
        profile: &Profile,
        own: &OwnCertificate,
        directory: &Arc<Directory>,
        clock: &Clock,
    ) -> Result<Self, ConnectorError> {
        let client = |server| Client {
            own: own.clone(),
            directory: Arc::clone(directory),
            server,
            lists: RevocationFolder::new(&profile.directory.crls),
            clock: Arc::clone(clock),
        };
        Ok(Self {
            gateway: link(&profile.gateway, client(Server::Gateway))?,
            custodian: link(&profile.custodian, client(Server::Custodian))?,
        })
    }

    pub(crate) fn records(&self) -> RecordServiceClient<Link> {
        RecordServiceClient::new(self.gateway.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn referrals(&self) -> ReferralServiceClient<Link> {
        ReferralServiceClient::new(self.gateway.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn subjects(&self) -> SubjectServiceClient<Link> {
        SubjectServiceClient::new(self.gateway.clone())
    }

    pub(crate) fn oprf(&self) -> OprfServiceClient<Link> {
        OprfServiceClient::new(self.custodian.clone())
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<Link> {
        KeyServiceClient::new(self.custodian.clone())
    }

    pub(crate) fn consents(&self, server: Server) -> ConsentServiceClient<Link> {
        ConsentServiceClient::new(self.channel(server)).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn audit(&self, server: Server) -> AuditServiceClient<Link> {
        AuditServiceClient::new(self.channel(server)).max_decoding_message_size(LARGEST_ANSWER)
    }

    fn channel(&self, server: Server) -> Link {
        match server {
            Server::Gateway => self.gateway.clone(),
            Server::Custodian => self.custodian.clone(),
        }
    }
}

fn link(url: &str, client: Client) -> Result<Link, ConnectorError> {
    let invalid = || ConnectorError::Input {
        what: "gateway and custodian are https:// addresses".to_owned(),
        next: "mend profile.toml; `amanat config check` tells what is wrong with it",
    };
    let address = url.strip_prefix("https://").ok_or_else(invalid)?;
    // The transport brings its own TLS, so that gRPC sees a plain connection of an https origin.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| invalid())?
        .origin(url.parse().map_err(|_| invalid())?)
        .connect_timeout(CONNECT)
        .timeout(REQUEST);
    let failed: fn(_) -> _ = match client.server {
        Server::Gateway => |source| CallError {
            server: Server::Gateway,
            source,
        },
        Server::Custodian => |source| CallError {
            server: Server::Custodian,
            source,
        },
    };
    let (server, clock) = (client.server, Arc::clone(&client.clock));
    let carry: fn(_) -> _ = trace::carry;
    let channel = MapRequest::new(transport::channel(endpoint, client)?, carry);
    let channel = Compared::new(channel, server, clock);
    Ok(MapErr::new(channel, failed))
}

/// A request that an officer asks with a token.
pub(crate) fn with_token<T>(message: T, token: &str) -> Result<Request<T>, ConnectorError> {
    let mut request = Request::new(message);
    let value =
        MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| ConnectorError::Input {
            what: "the token is not one line of text".to_owned(),
            next: "have your identity provider issue a token, and give its file as it is",
        })?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

//! The two servers, over mutual TLS: each must prove to be the one that the directory lists.

use std::{error::Error, iter, sync::Arc};

use amanat_config::ServerAddresses;
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
use tonic::{Request, body::Body, metadata::MetadataValue, transport::Channel};
use tower::util::{MapErr, MapRequest};

use crate::{
    ConnectorError, Profile, Server,
    patient::Patient,
    skew::Compared,
    trace,
    transport::{self, Client, ConnectError},
};

/// A read's answer: every ciphertext in its largest bucket stays under it.
pub(crate) const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Connections are made with the first call and made again when they break.
#[derive(Clone)]
pub(crate) struct Servers {
    gateway: Link,
    custodian: Link,
}

/// A channel whose failures name its server, which tells of clocks that differ, carries the trace along, and makes
/// a call again that came to nothing.
type Link = Patient<MapErr<Compared<Traced>, fn(tonic::transport::Error) -> CallError>>;
type Traced = MapRequest<Channel, fn(http::Request<Body>) -> http::Request<Body>>;

/// A call that failed below gRPC.
#[derive(Debug, thiserror::Error)]
#[error("a call of the {} failed", .server.name())]
pub(crate) struct CallError {
    pub(crate) server: Server,
    pub(crate) source: Box<dyn Error + Send + Sync>,
}

impl CallError {
    /// Why there was no connection to make the call on, if that is why it failed: nothing of it was sent.
    pub(crate) fn unconnected(&self) -> Option<&ConnectError> {
        self.causes().find_map(|cause| cause.downcast_ref())
    }

    /// Whether the connection turned out to be gone before anything of the call was sent on it: whoever makes the
    /// next call at once may be faster than the news of what broke the one before.
    pub(crate) fn came_too_late(&self) -> bool {
        let mut causes = self.causes().filter_map(|cause| cause.downcast_ref());
        causes.any(hyper::Error::is_canceled)
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        let first: &(dyn Error + 'static) = &*self.source;
        iter::successors(Some(first), |&error| error.source())
    }
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

fn link(addresses: &ServerAddresses, client: Client) -> Result<Link, ConnectorError> {
    let failed: fn(_) -> _ = match client.server {
        Server::Gateway => |source: tonic::transport::Error| CallError {
            server: Server::Gateway,
            source: source.into(),
        },
        Server::Custodian => |source| CallError {
            server: Server::Custodian,
            source: source.into(),
        },
    };
    let (server, clock) = (client.server, Arc::clone(&client.clock));
    let carry: fn(_) -> _ = trace::carry;
    let channel = transport::channel(addresses.clone(), client)?;
    let channel = Compared::new(MapRequest::new(channel, carry), server, clock);
    Ok(Patient::new(MapErr::new(channel, failed), server))
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

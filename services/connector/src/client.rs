//! The two servers, over mutual TLS: each must prove to be the one that the directory lists.

use std::{sync::Arc, time::Duration};

use amanat_identity::{Directory, RevocationFolder};
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
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::{
    ConnectorError, Profile,
    transport::{self, Client},
};

const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(30);
/// A read's answer: every ciphertext in its largest bucket stays under it.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Connections are made with the first call and made again when they break.
#[derive(Clone)]
pub(crate) struct Servers {
    gateway: Channel,
    custodian: Channel,
}

impl Servers {
    pub(crate) fn new(
        profile: &Profile,
        directory: &Arc<Directory>,
        clock: &Clock,
    ) -> Result<Self, ConnectorError> {
        let client = |server| -> Result<Client, ConnectorError> {
            Ok(Client {
                chain: profile.certificates()?,
                key: profile.private_key()?,
                directory: Arc::clone(directory),
                server,
                lists: RevocationFolder::new(&profile.directory.crls),
                clock: Arc::clone(clock),
            })
        };
        Ok(Self {
            gateway: channel(&profile.gateway, client(crate::Server::Gateway)?)?,
            custodian: channel(&profile.custodian, client(crate::Server::Custodian)?)?,
        })
    }

    pub(crate) fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.gateway.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn referrals(&self) -> ReferralServiceClient<Channel> {
        ReferralServiceClient::new(self.gateway.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn subjects(&self) -> SubjectServiceClient<Channel> {
        SubjectServiceClient::new(self.gateway.clone())
    }

    pub(crate) fn oprf(&self) -> OprfServiceClient<Channel> {
        OprfServiceClient::new(self.custodian.clone())
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.custodian.clone())
    }

    pub(crate) fn consents(&self, server: crate::Server) -> ConsentServiceClient<Channel> {
        ConsentServiceClient::new(self.channel(server)).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn audit(&self, server: crate::Server) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel(server)).max_decoding_message_size(LARGEST_ANSWER)
    }

    fn channel(&self, server: crate::Server) -> Channel {
        match server {
            crate::Server::Gateway => self.gateway.clone(),
            crate::Server::Custodian => self.custodian.clone(),
        }
    }
}

fn channel(url: &str, client: Client) -> Result<Channel, ConnectorError> {
    let invalid = || ConnectorError::Input("gateway and custodian are https:// addresses".into());
    let address = url.strip_prefix("https://").ok_or_else(invalid)?;
    // The transport brings its own TLS, so that gRPC sees a plain connection of an https origin.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| invalid())?
        .origin(url.parse().map_err(|_| invalid())?)
        .connect_timeout(CONNECT)
        .timeout(REQUEST);
    transport::channel(endpoint, client)
}

/// A request that an officer asks with a token.
pub(crate) fn with_token<T>(message: T, token: &str) -> Result<Request<T>, ConnectorError> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| ConnectorError::Input("the token is not one line of text".into()))?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

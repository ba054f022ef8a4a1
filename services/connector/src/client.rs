//! The two servers, over mutual TLS: each must prove to be the one that the directory lists.

use amanat_identity::{Directory, Service};
use amanat_schema::{
    audit::audit_service_client::AuditServiceClient,
    consent::consent_service_client::ConsentServiceClient,
    key::key_service_client::KeyServiceClient, record::record_service_client::RecordServiceClient,
    referral::referral_service_client::ReferralServiceClient,
};
use std::time::Duration;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{ConnectorError, Profile};

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
    pub(crate) fn new(profile: &Profile, directory: &Directory) -> Result<Self, ConnectorError> {
        let identity =
            Identity::from_pem(profile.certificate_pem()?, profile.private_key_pem()?.as_slice());
        Ok(Self {
            gateway: channel(&profile.gateway, directory.gateway(), identity.clone())?,
            custodian: channel(&profile.custodian, directory.custodian(), identity)?,
        })
    }

    pub(crate) fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.gateway.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn referrals(&self) -> ReferralServiceClient<Channel> {
        ReferralServiceClient::new(self.gateway.clone()).max_decoding_message_size(LARGEST_ANSWER)
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

fn channel(url: &str, service: &Service, identity: Identity) -> Result<Channel, ConnectorError> {
    let invalid = |_| ConnectorError::Input("gateway and custodian are https:// addresses".into());
    let authority = Certificate::from_pem(pem(&service.issuing_ca));
    let tls = ClientTlsConfig::new()
        .ca_certificate(authority)
        .identity(identity)
        .domain_name(&service.server_name);
    Ok(Endpoint::from_shared(url.to_owned())
        .map_err(invalid)?
        .connect_timeout(CONNECT)
        .timeout(REQUEST)
        .tcp_nodelay(true)
        .tls_config(tls)
        .map_err(invalid)?
        .connect_lazy())
}

/// The client library takes authorities as PEM only.
fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        BASE64_STANDARD.encode(der)
    )
}

/// A request that an officer asks with a token.
pub(crate) fn with_token<T>(message: T, token: &str) -> Result<Request<T>, ConnectorError> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| ConnectorError::Input("the token is not one line of text".into()))?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

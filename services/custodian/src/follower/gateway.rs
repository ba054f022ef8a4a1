//! The gateway as the custodian reaches it: the one that the directory lists, with a certificate that its own
//! authority has not revoked.

use std::{io, sync::Arc, time::Duration};

use amanat_desk::Rulebook;
use amanat_identity::{
    OwnCertificate, RevocationFolder, RevocationLists, ShownCertificate,
    tls::{TlsError, client_config},
};
use amanat_schema::{audit::audit_service_client::AuditServiceClient, clock::Clock};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, CertificateError},
};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::FollowError;

/// For a connection to the gateway, and for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the custodian shows itself to the gateway, and what it demands of it: all as it is when a connection is
/// made.
pub(crate) struct Client {
    pub(crate) own: ShownCertificate,
    pub(crate) rules: Rulebook,
    pub(crate) lists: RevocationFolder,
    pub(crate) clock: Clock,
}

/// The gateway's proofs; it is connected to when first needed, and again when it must be.
pub(crate) struct Gateway {
    calls: AuditServiceClient<Channel>,
    /// `None` where no certificate is shown: in a test without TLS.
    door: Option<Door>,
}

struct Door {
    client: Arc<Client>,
    endpoint: Endpoint,
    /// What the connection was made with.
    shown: [u8; 32],
}

impl Gateway {
    /// # Errors
    /// [`FollowError::Address`] if the address is unusable.
    pub(crate) fn new(address: &str, client: Client) -> Result<Self, FollowError> {
        let unusable = || FollowError::Address;
        let host = address.strip_prefix("https://").ok_or_else(unusable)?;
        // The connector brings TLS, so that gRPC sees a plain connection of an https origin.
        let endpoint = Endpoint::from_shared(format!("http://{host}"))
            .map_err(|_| unusable())?
            .origin(address.parse().map_err(|_| unusable())?)
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE);
        let client = Arc::new(client);
        let own = client.own.current();
        Ok(Self {
            calls: calls(&endpoint, &client, own.clone()),
            door: Some(Door {
                shown: own.sha256(),
                client,
                endpoint,
            }),
        })
    }

    #[cfg(test)]
    pub(crate) fn plain(calls: AuditServiceClient<Channel>) -> Self {
        Self { calls, door: None }
    }

    /// Over a connection with the certificate in use now: the one that it took the place of may be revoked.
    pub(crate) fn calls(&mut self) -> &mut AuditServiceClient<Channel> {
        if let Some(door) = &mut self.door {
            let own = door.client.own.current();
            if own.sha256() != door.shown {
                door.shown = own.sha256();
                self.calls = calls(&door.endpoint, &door.client, own);
            }
        }
        &mut self.calls
    }
}

fn calls(
    endpoint: &Endpoint,
    client: &Arc<Client>,
    own: OwnCertificate,
) -> AuditServiceClient<Channel> {
    let client = Arc::clone(client);
    let connect = service_fn(move |uri: Uri| {
        let (client, own) = (Arc::clone(&client), own.clone());
        async move { client.connect(&uri, own).await.map(TokioIo::new) }
    });
    AuditServiceClient::new(endpoint.connect_with_connector_lazy(connect))
}

impl Client {
    async fn connect(&self, uri: &Uri, own: OwnCertificate) -> io::Result<TlsStream<TcpStream>> {
        let revoked = self.lists.of_gateway();
        let directory = Arc::clone(&self.rules.current().directory);
        let gateway = directory.gateway();
        let name = ServerName::try_from(gateway.server_name.clone()).map_err(io::Error::other)?;
        let tls = client_config(own, gateway, &revoked, &self.clock).map_err(unusable)?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        let shaken = TlsConnector::from(Arc::new(tls)).connect(name, stream);
        shaken.await.inspect_err(|error| tell(error, &revoked))
    }
}

fn unusable(error: TlsError) -> io::Error {
    tracing::error!("nothing is released, for the gateway cannot be known: {error}");
    io::Error::other(error)
}

/// The operator hears what only a person can mend.
fn tell(error: &io::Error, revoked: &RevocationLists) {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(inner): Option<&rustls::Error> = inner else {
        return;
    };
    if let Some(found) = revoked.judge(inner) {
        tracing::error!("nothing is released, for the gateway cannot be known: {found}");
    } else if *inner == rustls::Error::InvalidCertificate(CertificateError::Revoked) {
        tracing::error!(
            "nothing is released, for the gateway's certificate is revoked by its own authority: find out \
             who answers at custody.gateway, and have the gateway take its new certificate into use"
        );
    }
}

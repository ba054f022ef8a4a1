//! The gateway as the custodian reaches it: the one that the directory lists, with a certificate that its own
//! authority has not revoked.

use std::{io, sync::Arc, time::Duration};

use amanat_identity::{
    Directory, RevocationFolder, RevocationList,
    tls::{TlsError, client_config},
};
use amanat_schema::{audit::audit_service_client::AuditServiceClient, clock::Clock};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
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

/// How the custodian shows itself to the gateway, and what it demands of it.
pub(crate) struct Client {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) directory: Arc<Directory>,
    /// Read with each new connection.
    pub(crate) lists: RevocationFolder,
    pub(crate) clock: Clock,
}

/// A client of the gateway, as this custodian; it connects when first needed, and again when it must.
///
/// # Errors
/// [`FollowError::Address`] if the address or the listed name is unusable.
pub(crate) fn connect(
    address: &str,
    client: Client,
) -> Result<AuditServiceClient<Channel>, FollowError> {
    let unusable = || FollowError::Address;
    let host = address.strip_prefix("https://").ok_or_else(unusable)?;
    let name = ServerName::try_from(client.directory.gateway().server_name.clone())
        .map_err(|_| unusable())?;
    // The connector brings TLS, so that gRPC sees a plain connection of an https origin.
    let endpoint = Endpoint::from_shared(format!("http://{host}"))
        .map_err(|_| unusable())?
        .origin(address.parse().map_err(|_| unusable())?)
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    let client = Arc::new(client);
    let channel = endpoint.connect_with_connector_lazy(service_fn(move |uri: Uri| {
        let (client, name) = (Arc::clone(&client), name.clone());
        async move { client.connect(&uri, name).await.map(TokioIo::new) }
    }));
    Ok(AuditServiceClient::new(channel))
}

impl Client {
    async fn connect(
        &self,
        uri: &Uri,
        name: ServerName<'static>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let revoked = self.lists.of_gateway();
        let tls = client_config(
            self.chain.clone(),
            self.key.clone_key(),
            self.directory.gateway(),
            &revoked,
            &self.clock,
        )
        .map_err(unusable)?;
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
fn tell(error: &io::Error, revoked: &RevocationList) {
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

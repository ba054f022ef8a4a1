//! The connection below gRPC: mutual TLS, known to be accepted before the first request.
//!
//! In TLS 1.3 a server refuses a client's certificate after the client's handshake is done. HTTP/2 servers
//! speak first, so a connection counts as made when the first bytes have come: a refusal is then seen as
//! what it is, and not as a connection that broke.

use std::{io, sync::Arc};

use amanat_identity::{
    CrlError, Directory, OwnCertificate, RevocationFolder, RevocationLists, Service,
    tls::{TlsError, client_config},
};
use amanat_schema::clock::Clock;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, CertificateError},
};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::{ConnectorError, Server};

/// The header of an HTTP/2 frame.
const GREETING: usize = 9;

/// How a connection to one server is made: by the revocation list that lies in its file then.
pub(crate) struct Client {
    pub(crate) own: OwnCertificate,
    pub(crate) directory: Arc<Directory>,
    pub(crate) server: Server,
    pub(crate) lists: RevocationFolder,
    pub(crate) clock: Clock,
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(TlsError),
    /// It is not known whether the server's certificate is revoked.
    #[error(transparent)]
    Revocation(CrlError),
    #[error("the certificate of {0} is revoked")]
    Revoked(String),
}

/// A channel to one server; it connects with the first call and again when it must.
pub(crate) fn channel(endpoint: Endpoint, client: Client) -> Result<Channel, ConnectorError> {
    let name = ServerName::try_from(client.service().server_name.clone()).map_err(|_| {
        ConnectorError::Input {
            what: "the directory's server names are no names".to_owned(),
            next: "have your registrars publish a directory with the servers' names",
        }
    })?;
    let client = Arc::new(client);
    Ok(
        endpoint.connect_with_connector_lazy(service_fn(move |uri: Uri| {
            let (client, name) = (Arc::clone(&client), name.clone());
            async move { client.connect(uri, name).await.map(TokioIo::new) }
        })),
    )
}

impl Client {
    fn service(&self) -> &Service {
        match self.server {
            Server::Gateway => self.directory.gateway(),
            Server::Custodian => self.directory.custodian(),
        }
    }

    async fn connect(
        &self,
        uri: Uri,
        name: ServerName<'static>,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, ConnectError> {
        let revoked = match self.server {
            Server::Gateway => self.lists.of_gateway(),
            Server::Custodian => self.lists.of_custodian(),
        };
        let tls = client_config(self.own.clone(), self.service(), &revoked, &self.clock);
        let tls = TlsConnector::from(Arc::new(tls.map_err(unusable)?));
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        let shaken = tls.connect(name, stream).await;
        let mut stream = shaken.map_err(|error| self.refused(error, &revoked))?;
        let mut greeting = [0; GREETING];
        stream.read_exact(&mut greeting).await?;
        let (read, write) = tokio::io::split(stream);
        Ok(tokio::io::join(
            io::Cursor::new(greeting).chain(read),
            write,
        ))
    }

    /// A handshake that failed because of what this side knows of revocations, told as such.
    fn refused(&self, error: io::Error, revoked: &RevocationLists) -> ConnectError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(inner): Option<&rustls::Error> = inner else {
            return ConnectError::Io(error);
        };
        if let Some(found) = revoked.judge(inner) {
            return ConnectError::Revocation(found);
        }
        if *inner == rustls::Error::InvalidCertificate(CertificateError::Revoked) {
            return ConnectError::Revoked(self.service().server_name.clone());
        }
        ConnectError::Io(error)
    }
}

fn unusable(error: TlsError) -> ConnectError {
    match error {
        TlsError::Revocation(error) => ConnectError::Revocation(error),
        TlsError::Authority(_) | TlsError::Version(_) => ConnectError::Tls(error),
    }
}

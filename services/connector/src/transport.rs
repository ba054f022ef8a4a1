//! The connection below gRPC: mutual TLS, known to be accepted before the first request.
//!
//! In TLS 1.3 a server refuses a client's certificate after the client's handshake is done. HTTP/2 servers
//! speak first, so a connection counts as made when the first bytes have come: a refusal is then seen as
//! what it is, and not as a connection that broke.

use std::{io, sync::Arc};

use amanat_identity::Service;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::ConnectorError;

/// The header of an HTTP/2 frame.
const GREETING: usize = 9;

/// A channel to one server; it connects with the first call and again when it must.
pub(crate) fn channel(
    endpoint: Endpoint,
    tls: ClientConfig,
    server: &Service,
) -> Result<Channel, ConnectorError> {
    let tls = TlsConnector::from(Arc::new(tls));
    let name = ServerName::try_from(server.server_name.clone())
        .map_err(|_| ConnectorError::Input("the directory's server names are no names".into()))?;
    Ok(
        endpoint.connect_with_connector_lazy(service_fn(move |uri: Uri| {
            let (tls, name) = (tls.clone(), name.clone());
            async move { connect(uri, tls, name).await.map(TokioIo::new) }
        })),
    )
}

async fn connect(
    uri: Uri,
    tls: TlsConnector,
    name: ServerName<'static>,
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let mut stream = tls.connect(name, stream).await?;
    let mut greeting = [0; GREETING];
    stream.read_exact(&mut greeting).await?;
    let (read, write) = tokio::io::split(stream);
    Ok(tokio::io::join(
        io::Cursor::new(greeting).chain(read),
        write,
    ))
}

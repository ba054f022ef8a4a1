//! The connection below gRPC: mutual TLS, known to be accepted before the first request.
//!
//! In TLS 1.3 a server refuses a client's certificate after the client's handshake is done. HTTP/2 servers
//! speak first, so a connection counts as made when the first bytes have come: a refusal is then seen as
//! what it is, and not as a connection that broke.

use std::{io, sync::Arc, time::Duration};

use amanat_config::{ServerAddress, ServerAddresses, Turns};
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
    time::{Instant, timeout_at},
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
/// For each address.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(30);
/// While an answer is waited for: a server that is gone without a word is noticed before patience ends.
const STILL_THERE: Duration = Duration::from_secs(3);
const NOT_THERE: Duration = Duration::from_secs(4);

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
    /// Nobody takes a connection.
    #[error(transparent)]
    Silent(io::Error),
    /// Whoever took it broke it off.
    #[error(transparent)]
    Broken(io::Error),
    /// The server does not let this side in.
    #[error(transparent)]
    Refused(io::Error),
    /// The certificate is not that of the directory's server.
    #[error(transparent)]
    Stranger(io::Error),
    #[error(transparent)]
    Tls(TlsError),
    /// It is not known whether the server's certificate is revoked.
    #[error(transparent)]
    Revocation(CrlError),
    #[error("the certificate of {0} is revoked")]
    Revoked(String),
}

impl ConnectError {
    /// Whether the same server may let in who asks again at once.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Broken(_))
    }

    /// What an address that answers must not hide: a person has to look.
    fn is_alarm(&self) -> bool {
        match self {
            Self::Silent(_) | Self::Broken(_) | Self::Refused(_) => false,
            Self::Stranger(_) | Self::Tls(_) | Self::Revocation(_) | Self::Revoked(_) => true,
        }
    }
}

/// A channel to one server; it connects with the first call and again when it must.
pub(crate) fn channel(
    addresses: ServerAddresses,
    client: Client,
) -> Result<Channel, ConnectorError> {
    let invalid = || ConnectorError::Input {
        what: "the directory's server names are no names".to_owned(),
        next: "have your registrars publish a directory with the servers' names",
    };
    let server_name = client.service().server_name.clone();
    let origin: Uri = format!("https://{server_name}")
        .parse()
        .map_err(|_| invalid())?;
    // The transport brings its own TLS, so that gRPC sees a plain connection of an https origin.
    let endpoint = Endpoint::from_shared(format!("http://{server_name}"))
        .map_err(|_| invalid())?
        .origin(origin)
        .timeout(REQUEST)
        .http2_keep_alive_interval(STILL_THERE)
        .keep_alive_timeout(NOT_THERE);
    let name = ServerName::try_from(server_name).map_err(|_| invalid())?;
    let turns = Turns::begin(addresses, u32::from_le_bytes(amanat_seal::random()?));
    let way = Arc::new((client, turns, name));
    Ok(
        endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let way = Arc::clone(&way);
            async move {
                let (client, turns, name) = &*way;
                client.connect(turns, name).await.map(TokioIo::new)
            }
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

    /// To the first address that lets this side in. If none does, what the last one said that took a connection.
    async fn connect(
        &self,
        turns: &Turns,
        name: &ServerName<'static>,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, ConnectError> {
        let revoked = match self.server {
            Server::Gateway => self.lists.of_gateway(),
            Server::Custodian => self.lists.of_custodian(),
        };
        let tls = client_config(self.own.clone(), self.service(), &revoked, &self.clock);
        let tls = TlsConnector::from(Arc::new(tls.map_err(unusable)?));
        let mut told = ConnectError::Silent(io::ErrorKind::NotConnected.into());
        for (place, address) in turns.all() {
            let until = Instant::now() + CONNECT;
            let stream = match timeout_at(until, tcp(address))
                .await
                .map_err(io::Error::from)
            {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) | Err(error) => {
                    if let ConnectError::Silent(_) = told {
                        told = ConnectError::Silent(error);
                    }
                    continue;
                }
            };
            let accepted = timeout_at(until, accepted(&tls, name, stream)).await;
            match accepted.map_err(io::Error::from).flatten() {
                Ok(stream) => {
                    turns.answered(place);
                    return Ok(stream);
                }
                Err(error) => told = self.refused(error, &revoked),
            }
            if told.is_alarm() {
                break;
            }
        }
        Err(told)
    }

    /// A handshake that failed because of what either side knows of the other, told as such.
    fn refused(&self, error: io::Error, revoked: &RevocationLists) -> ConnectError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(inner): Option<&rustls::Error> = inner else {
            return ConnectError::Broken(error);
        };
        if let Some(found) = revoked.judge(inner) {
            return ConnectError::Revocation(found);
        }
        if *inner == rustls::Error::InvalidCertificate(CertificateError::Revoked) {
            return ConnectError::Revoked(self.service().server_name.clone());
        }
        if let rustls::Error::InvalidCertificate(_) = inner {
            return ConnectError::Stranger(error);
        }
        if let rustls::Error::AlertReceived(_) = inner {
            return ConnectError::Refused(error);
        }
        ConnectError::Broken(error)
    }
}

async fn tcp(address: &ServerAddress) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((address.host(), address.port())).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Over a connection, once the server has spoken.
async fn accepted(
    tls: &TlsConnector,
    name: &ServerName<'static>,
    stream: TcpStream,
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
    let mut stream = tls.connect(name.clone(), stream).await?;
    let mut greeting = [0; GREETING];
    stream.read_exact(&mut greeting).await?;
    let (read, write) = tokio::io::split(stream);
    Ok(tokio::io::join(
        io::Cursor::new(greeting).chain(read),
        write,
    ))
}

fn unusable(error: TlsError) -> ConnectError {
    match error {
        TlsError::Revocation(error) => ConnectError::Revocation(error),
        TlsError::Authority(_) | TlsError::Version(_) => ConnectError::Tls(error),
    }
}

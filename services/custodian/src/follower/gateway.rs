//! The gateway as the custodian reaches it: the one that the directory lists, with a certificate that its own
//! authority has not revoked.

use std::{io, sync::Arc, time::Duration};

use amanat_config::{ServerAddress, ServerAddresses, Turns};
use amanat_desk::Rulebook;
use amanat_identity::{
    OwnCertificate, RevocationFolder, RevocationLists, ShownCertificate,
    tls::{TlsError, client_config},
};
use amanat_schema::{audit::audit_service_client::AuditServiceClient, clock::Clock};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, CertificateError},
};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::FollowError;

/// For a connection to each address of the gateway, and for its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A gateway that is gone without a word is noticed before its answer is given up: the next call is another
/// replica's.
const STILL_THERE: Duration = Duration::from_secs(2);

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
    way: Arc<Way>,
    endpoint: Endpoint,
    /// What the connection was made with.
    shown: [u8; 32],
}

/// To the gateway, by each of its addresses.
struct Way {
    client: Client,
    turns: Turns,
}

impl Gateway {
    /// # Errors
    /// [`FollowError::Address`] if no connection can be made.
    pub(crate) fn new(addresses: &ServerAddresses, client: Client) -> Result<Self, FollowError> {
        let unusable = || FollowError::Address;
        let server_name = client
            .rules
            .current()
            .directory
            .gateway()
            .server_name
            .clone();
        // The connector brings TLS, so that gRPC sees a plain connection of an https origin.
        let endpoint = Endpoint::from_shared(format!("http://{server_name}"))
            .map_err(|_| unusable())?
            .origin(
                format!("https://{server_name}")
                    .parse()
                    .map_err(|_| unusable())?,
            )
            .timeout(PATIENCE)
            .http2_keep_alive_interval(STILL_THERE)
            .keep_alive_timeout(STILL_THERE);
        let random = amanat_seal::random().map_err(|_| unusable())?;
        let turns = Turns::begin(addresses.clone(), u32::from_le_bytes(random));
        let own = client.own.current();
        let way = Arc::new(Way { client, turns });
        Ok(Self {
            calls: calls(&endpoint, &way, own.clone()),
            door: Some(Door {
                shown: own.sha256(),
                way,
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
            let own = door.way.client.own.current();
            if own.sha256() != door.shown {
                door.shown = own.sha256();
                self.calls = calls(&door.endpoint, &door.way, own);
            }
        }
        &mut self.calls
    }
}

fn calls(endpoint: &Endpoint, way: &Arc<Way>, own: OwnCertificate) -> AuditServiceClient<Channel> {
    let way = Arc::clone(way);
    let connect = service_fn(move |_: Uri| {
        let (way, own) = (Arc::clone(&way), own.clone());
        async move { way.connect(own).await.map(TokioIo::new) }
    });
    AuditServiceClient::new(endpoint.connect_with_connector_lazy(connect))
}

impl Way {
    /// To the first address that lets this side in. What is wrong with one before is told, though another answers.
    async fn connect(&self, own: OwnCertificate) -> io::Result<TlsStream<TcpStream>> {
        let client = &self.client;
        let revoked = client.lists.of_gateway();
        let directory = Arc::clone(&client.rules.current().directory);
        let gateway = directory.gateway();
        let name = ServerName::try_from(gateway.server_name.clone()).map_err(io::Error::other)?;
        let tls = client_config(own, gateway, &revoked, &client.clock).map_err(unusable)?;
        let tls = TlsConnector::from(Arc::new(tls));
        let mut last = io::ErrorKind::NotConnected.into();
        for (place, address) in self.turns.all() {
            let shaken = timeout(PATIENCE, shaken(address, &tls, &name)).await;
            match shaken.map_err(io::Error::from).flatten() {
                Ok(stream) => {
                    self.turns.answered(place);
                    return Ok(stream);
                }
                Err(error) => {
                    tell(&error, address, &revoked);
                    last = error;
                }
            }
        }
        Err(last)
    }
}

async fn shaken(
    address: &ServerAddress,
    tls: &TlsConnector,
    name: &ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((address.host(), address.port())).await?;
    stream.set_nodelay(true)?;
    tls.connect(name.clone(), stream).await
}

fn unusable(error: TlsError) -> io::Error {
    tracing::error!("nothing is released, for the gateway cannot be known: {error}");
    io::Error::other(error)
}

/// The operator hears what only a person can mend.
fn tell(error: &io::Error, address: &ServerAddress, revoked: &RevocationLists) {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(inner): Option<&rustls::Error> = inner else {
        return;
    };
    let why = if let Some(found) = revoked.judge(inner) {
        format!("the gateway cannot be known: {found}")
    } else if *inner == rustls::Error::InvalidCertificate(CertificateError::Revoked) {
        "the gateway's certificate is revoked by its own authority: find out who answers at this address of \
         custody.gateway, and have the gateway take its new certificate into use"
            .to_owned()
    } else if let rustls::Error::InvalidCertificate(_) = inner {
        "the certificate is not that of the directory's gateway: find out who answers at this address of \
         custody.gateway"
            .to_owned()
    } else {
        return;
    };
    tracing::error!(%address, "nothing is released by proofs from there, for {why}");
}

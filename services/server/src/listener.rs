//! The TLS listener: a connection reaches the service only after its handshake, with its peer known.

use std::{
    future::Future,
    io,
    net::IpAddr,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use amanat_identity::PeerName;
use amanat_telemetry::{Counter, KeyValue, UpDownCounter};
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::{
    Guard, Limits, Refusal,
    admission::Admission,
    guard::agency_of,
    limits::{NetworkPlace, NetworkShares, Shares},
    metrics::{CONNECTIONS, HANDSHAKES as HANDSHAKES_BY_OUTCOME},
};

/// For a client's hello, and then for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the rest of a handshake: one answer of the client's, which may have to be sent again on a bad line. Until then
/// it holds a slot.
const HANDSHAKE: Duration = Duration::from_secs(4);
/// Connections that have not begun their handshake; further ones are closed. A silent one takes 10 KiB.
const WAITING: usize = 8 * 1024;
/// Of those, as many of one address (IPv6: of one /64, and four times as many of one /48).
const WAITING_PER_ADDRESS: usize = WAITING / 32;
/// How long, and for how many bytes, a refused client is listened to until it has read why.
const PARTING: Duration = Duration::from_secs(1);
const PARTING_BYTES: u64 = 64 * 1024;
/// Handshakes under way at once. One takes 20 KiB, and no time while its client is waited for: the slots are many,
/// so that those who begin handshakes and end none keep nobody out.
const HANDSHAKES: usize = 1024;
/// Connections accepted and not yet taken by the service.
const ACCEPTED: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection whose peer the directory confirms.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    admission: Admission,
    /// Completes when it is at its end: its peer is no longer admitted, and has had time to read why; or the
    /// server stops and waits no longer. `None` from then on.
    ending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Of its agency's connections.
    _share: OwnedSemaphorePermit,
    _open: Open,
}

/// Accepts until the receiver is dropped; every connection ends when `cut` turns true.
pub(crate) fn accept(
    listener: TcpListener,
    tls: ServerConfig,
    guard: Guard,
    limits: &Limits,
    cut: watch::Receiver<bool>,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(ACCEPTED);
    let per_address = NonZeroUsize::new(WAITING_PER_ADDRESS).unwrap_or(NonZeroUsize::MIN);
    let door = Arc::new(Door {
        tls: Arc::new(tls),
        guard,
        cut,
        handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
        handshakes_of: NetworkShares::new(limits.handshakes_per_address),
        waiting_of: NetworkShares::new(per_address),
        connections_of: Shares::new(limits.connections_per_agency),
        counts: Counts::new(),
    });
    tokio::spawn(async move {
        let waiting = Arc::new(Semaphore::new(WAITING));
        loop {
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, address)) = accepted else {
                // Out of file descriptors, most likely; give others time to close theirs.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let address = address.ip();
            let places = (
                door.waiting_of.take(address),
                Arc::clone(&waiting).try_acquire_owned(),
            );
            let (Some(own), Ok(place)) = places else {
                tracing::debug!("too many connections are waiting");
                door.guard.refuse(None);
                door.counts.came("refused");
                continue;
            };
            let (sender, door) = (sender.clone(), Arc::clone(&door));
            tokio::spawn(async move {
                // Who is not let in was counted.
                let shaken = door.handshake(stream, address, (own, place)).await;
                door.counts.came(if shaken.is_ok() {
                    "accepted"
                } else {
                    "refused"
                });
                if let Ok(connection) = shaken
                    && sender.send(Ok(connection)).await.is_err()
                {
                    tracing::debug!("a connection came while stopping");
                }
            });
        }
    });
    receiver
}

struct Door {
    tls: Arc<ServerConfig>,
    guard: Guard,
    cut: watch::Receiver<bool>,
    handshakes: Arc<Semaphore>,
    handshakes_of: NetworkShares,
    waiting_of: NetworkShares,
    connections_of: Shares<PeerName>,
    counts: Counts,
}

/// Of those who come.
struct Counts {
    handshakes: Counter<u64>,
    connections: UpDownCounter<i64>,
}

impl Counts {
    fn new() -> Self {
        Self {
            handshakes: HANDSHAKES_BY_OUTCOME.counter(),
            connections: CONNECTIONS.up_down(),
        }
    }

    fn came(&self, outcome: &'static str) {
        let outcome = KeyValue::new("outcome", outcome);
        self.handshakes.add(1, &[outcome]);
    }
}

/// An open connection, counted until it is dropped.
struct Open(UpDownCounter<i64>);

impl Open {
    fn count(connections: &UpDownCounter<i64>) -> Self {
        connections.add(1, &[]);
        Self(connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.add(-1, &[]);
    }
}

impl Door {
    /// A client gives its place up for a slot only when it has said hello: whoever connects and is silent
    /// keeps nobody else out.
    async fn handshake(
        &self,
        stream: TcpStream,
        address: IpAddr,
        places: (NetworkPlace, OwnedSemaphorePermit),
    ) -> Result<Connection, Refusal> {
        let stranger = || self.guard.refuse(None);
        stream.set_nodelay(true).map_err(|_| stranger())?;
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let Ok(Ok(hello)) = timeout(PATIENCE, hello).await else {
            tracing::debug!("a client said no hello");
            return Err(stranger());
        };
        let Ok(Some(slot)) = timeout(PATIENCE, self.slot(address)).await else {
            tracing::debug!("a client had no turn for its handshake");
            return Err(stranger());
        };
        drop(places);
        // Taken before the handshake: if another one is in use when it ends, the first request verifies again.
        let trust = self.guard.trust();
        let accepting = hello.into_stream(Arc::clone(&self.tls)).into_fallible();
        let accepted = timeout(HANDSHAKE, accepting).await;
        drop(slot);
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                tracing::debug!(%error, "a handshake was refused");
                part(stream).await;
                return Err(stranger());
            }
            Err(_) => {
                tracing::debug!("a handshake took too long");
                return Err(stranger());
            }
        };
        let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        let chain = chain.ok_or_else(stranger)?;
        let peer = amanat_identity::tls::peer(&chain, trust.directory()).ok_or_else(stranger)?;
        let share = self.connections_of.take(peer.name).ok_or_else(|| {
            tracing::debug!(peer = ?peer.name, "as many connections as it may have are open");
            self.guard.crowd(agency_of(peer.name))
        })?;
        let admission = Admission::new(chain, peer, &trust, (self.guard.clock)());
        Ok(Connection {
            stream,
            ending: Some(Box::pin(self.ending(admission.clone()))),
            admission,
            _share: share,
            _open: Open::count(&self.counts.connections),
        })
    }

    /// Its own turn first: those of one address keep nobody else from the slots.
    async fn slot(&self, address: IpAddr) -> Option<(NetworkPlace, OwnedSemaphorePermit)> {
        let turn = self.handshakes_of.wait(address).await?;
        let slot = Arc::clone(&self.handshakes).acquire_owned().await;
        Some((turn, slot.ok()?))
    }

    fn ending(&self, admission: Admission) -> impl Future<Output = ()> + Send + use<> {
        let (guard, mut cut) = (self.guard.clone(), self.cut.clone());
        async move {
            let parted = async {
                guard.until_refused(admission).await;
                tokio::time::sleep(PARTING).await;
            };
            tokio::select! {
                () = parted => {}
                // Its sender is gone when the server is.
                _ = cut.wait_for(|cut| *cut) => {}
            }
        }
    }
}

/// Closes a connection so that the client reads the alert. In TLS 1.3 it is done with its half of the
/// handshake before it is refused, and may be sending already: closed with bytes unread, the connection would
/// be reset and the alert lost.
async fn part(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        let (mut rest, mut nowhere) = (stream.take(PARTING_BYTES), tokio::io::sink());
        let heard = tokio::io::copy(&mut rest, &mut nowhere);
        if timeout(PARTING, heard).await.is_err() {
            tracing::debug!("a refused client stays");
        }
    }
}

impl Connection {
    fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(ending) = &mut self.ending
            && ending.as_mut().poll(cx).is_ready()
        {
            self.ending = None;
        }
        self.ending.is_none()
    }
}

/// To whoever would write on: a client that reads nothing does not keep its connection by that.
fn ended() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Connected for Connection {
    type ConnectInfo = Admission;

    fn connect_info(&self) -> Admission {
        self.admission.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_ended(cx) {
            // As if the client had closed it, so that what holds it ends.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.has_ended(cx) {
            return Poll::Ready(Err(ended()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.has_ended(cx) {
            return Poll::Ready(Err(ended()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_ended(cx) {
            return Poll::Ready(Err(ended()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

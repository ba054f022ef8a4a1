//! The TLS listener: a connection reaches the service only after its handshake, with its peer known.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::{Guard, admission::Admission};

/// For a client's hello, and for the rest of its handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that have not begun their handshake; further ones are closed.
const WAITING: usize = 4096;
/// How long, and for how many bytes, a refused client is listened to until it has read why.
const PARTING: Duration = Duration::from_secs(1);
const PARTING_BYTES: u64 = 64 * 1024;
/// Handshakes under way at once; a handshake costs public-key operations before anyone is known.
const HANDSHAKES: usize = 64;
/// Connections accepted and not yet taken by the service.
const ACCEPTED: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection whose peer the directory confirms.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    admission: Admission,
    /// Completes when nothing more is read: its peer is no longer admitted, and has had time to read why.
    /// `None` from then on.
    ending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Accepts until the receiver is dropped.
pub(crate) fn accept(
    listener: TcpListener,
    tls: ServerConfig,
    guard: Guard,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(ACCEPTED);
    let door = Arc::new(Door {
        tls: Arc::new(tls),
        guard,
        handshakes: Semaphore::new(HANDSHAKES),
    });
    tokio::spawn(async move {
        let waiting = Arc::new(Semaphore::new(WAITING));
        loop {
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, most likely; give others time to close theirs.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&waiting).try_acquire_owned() else {
                tracing::debug!("too many connections are waiting");
                door.guard.refuse(None);
                continue;
            };
            let (sender, door) = (sender.clone(), Arc::clone(&door));
            tokio::spawn(async move {
                match door.handshake(stream, place).await {
                    Some(connection) => {
                        if sender.send(Ok(connection)).await.is_err() {
                            tracing::debug!("a connection came while stopping");
                        }
                    }
                    None => {
                        door.guard.refuse(None);
                    }
                }
            });
        }
    });
    receiver
}

struct Door {
    tls: Arc<ServerConfig>,
    guard: Guard,
    handshakes: Semaphore,
}

impl Door {
    /// A client gives its place up for a slot only when it has said hello: whoever connects and is silent
    /// keeps nobody else out.
    async fn handshake(
        &self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
    ) -> Option<Connection> {
        stream.set_nodelay(true).ok()?;
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let Ok(Ok(hello)) = timeout(PATIENCE, hello).await else {
            tracing::debug!("a client said no hello");
            return None;
        };
        let slot = self.handshakes.acquire().await.ok()?;
        drop(place);
        // Taken before the handshake: if another one is in use when it ends, the first request verifies again.
        let trust = self.guard.trust();
        let accepting = hello.into_stream(Arc::clone(&self.tls)).into_fallible();
        let accepted = timeout(PATIENCE, accepting).await;
        drop(slot);
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                tracing::debug!(%error, "a handshake was refused");
                part(stream).await;
                return None;
            }
            Err(_) => {
                tracing::debug!("a handshake took too long");
                return None;
            }
        };
        let chain = stream.get_ref().1.peer_certificates()?.to_vec();
        let peer = amanat_identity::tls::peer(&chain, trust.directory())?;
        let admission = Admission::new(chain, peer, &trust, (self.guard.clock)());
        Some(Connection::new(stream, admission, self.guard.clone()))
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
    fn new(stream: TlsStream<TcpStream>, admission: Admission, guard: Guard) -> Self {
        let refused = guard.until_refused(admission.clone());
        let ending = async {
            refused.await;
            tokio::time::sleep(PARTING).await;
        };
        Self {
            stream,
            admission,
            ending: Some(Box::pin(ending)),
        }
    }

    fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(ending) = &mut self.ending
            && ending.as_mut().poll(cx).is_ready()
        {
            self.ending = None;
        }
        self.ending.is_none()
    }
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
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

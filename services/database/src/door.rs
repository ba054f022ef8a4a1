//! The way to one PostgreSQL server over TCP. The driver is let in at a local socket, and what it says goes on over a
//! connection of our own making: it verifies the server against the one authority that is configured, sends what is
//! written at once, and notices when nobody hears it any more. The driver alone would trust the public web's
//! authorities too, and would wait for the acknowledgement of a batch's first half before it sends the second.

use std::{
    fmt::Display,
    future, io,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs, version::TLS13};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName,
    pem::{self, PemObject as _},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixListener, UnixStream},
    runtime::{self, Handle},
    sync::OnceCell,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

/// For the server to take a connection and to prove who it is.
const CONNECT: Duration = Duration::from_secs(3);
/// Of silence, before the server is asked for a sign of life; and between such questions.
const SILENCE: Duration = Duration::from_secs(10);
/// For what was sent to be acknowledged.
const UNHEARD: Duration = Duration::from_secs(15);
/// Before the next connection, if one could not be taken.
const AGAIN: Duration = Duration::from_millis(50);
/// Passed on at a time.
const PIECE: usize = 64 * 1024;
/// PostgreSQL takes no longer startup message.
const LONGEST_STARTUP: usize = 10_000;
/// Length and code of the request to go on with TLS.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// PostgreSQL's code for a connection that could not be made; no server says it of itself.
pub(crate) const NOT_CONNECTED: &str = "08001";

/// Where the files of a verified connection are. They are read for each one, so new ones count at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) authority: PathBuf,
    /// Certificate and private key, if the server knows its clients by them.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `None` within this machine.
    pub(crate) tls: Option<Tls>,
}

/// Opened with the first connection.
pub(crate) struct Door {
    way: Arc<Way>,
    open: OnceCell<Open>,
}

struct Open {
    socket: PathBuf,
    accepting: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Door {
    pub(crate) fn new(way: Way) -> Self {
        Self {
            way: Arc::new(way),
            open: OnceCell::new(),
        }
    }

    /// The folder, as the driver takes it, of the socket that the driver connects to.
    pub(crate) async fn socket(&self) -> io::Result<PathBuf> {
        let open = async || {
            let porter = porter()?;
            let listening = porter.enter();
            let (socket, listener) = listen(self.way.port)?;
            drop(listening);
            let accepting = porter.spawn(accept(listener, Arc::clone(&self.way)));
            Ok::<_, io::Error>(Open { socket, accepting })
        };
        Ok(self.open.get_or_try_init(open).await?.socket.clone())
    }
}

/// The thread that passes on, for all doors of this process: what a batch waits for at each of its statements must not
/// stand in line behind the requests that are being answered.
fn porter() -> io::Result<Handle> {
    static PORTER: Mutex<Option<Handle>> = Mutex::new(None);
    let mut porter = PORTER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(porter) = porter.as_ref() {
        return Ok(porter.clone());
    }
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("postgres-door".to_owned())
        .spawn(move || runtime.block_on(future::pending::<()>()))?;
    Ok(porter.insert(handle).clone())
}

/// A socket of Linux's abstract namespace: it has no file that could stay behind or be in the way.
fn listen(port: u16) -> io::Result<(PathBuf, UnixListener)> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket = PathBuf::from(format!("\0amanat-{}-{next}", process::id()));
        match UnixListener::bind(socket.join(format!(".s.PGSQL.{port}"))) {
            Ok(listener) => return Ok((socket, listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

/// Without end: a door that closed would leave its name to whoever takes it, and the driver would not know the
/// difference.
async fn accept(listener: UnixListener, way: Arc<Way>) {
    loop {
        match listener.accept().await {
            Ok((driver, _)) if is_ours(&driver) => {
                let way = Arc::clone(&way);
                tokio::spawn(async move { way.serve(driver).await });
            }
            Ok(_) => {}
            // As when no file can be opened any more: soon one can.
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// Whoever else is on this machine could connect to such a socket, and would get in by our certificate.
fn is_ours(driver: &UnixStream) -> bool {
    let other = driver.peer_cred().ok().and_then(|other| other.pid());
    other.and_then(|other| u32::try_from(other).ok()) == Some(process::id())
}

impl Way {
    /// The connection ends when either side ends it.
    async fn serve(&self, mut driver: UnixStream) {
        // Whatever it is told is the answer to this.
        let Ok(startup) = read_startup(&mut driver).await else {
            return;
        };
        let connected = match &self.tls {
            None => self.reach().await.map(|server| Box::new(server) as _),
            Some(tls) => self.reach_verified(tls).await,
        };
        let server = match connected {
            Ok(server) => server,
            Err(why) => return tell(driver, why).await,
        };
        introduce(driver, startup, server).await;
    }

    async fn reach(&self) -> Result<TcpStream, String> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = within(connecting).await.map_err(unreached)?;
        heard(&stream).map_err(unreached)?;
        Ok(stream)
    }

    async fn reach_verified(&self, tls: &Tls) -> Result<Box<dyn Stream>, String> {
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| "its host is no name that a certificate can have".to_owned())?;
        // Other connections do not wait for these files.
        let files = tls.clone();
        let config = spawn_blocking(move || files.config()).await;
        let config = config.map_err(unreached)??;
        let mut stream = self.reach().await?;
        let stream = within(async {
            stream.write_all(&TLS_REQUEST).await?;
            if stream.read_u8().await? != b'S' {
                return Err(io::Error::other("it speaks no TLS"));
            }
            TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
        })
        .await
        .map_err(unreached)?;
        Ok(Box::new(stream))
    }
}

impl Tls {
    fn config(&self) -> Result<ClientConfig, String> {
        let mut authorities = RootCertStore::empty();
        for authority in certificates(&self.authority)? {
            let added = authorities.add(authority);
            added.map_err(|error| unusable(&self.authority, &error))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(authorities);
        let mut config = match &self.own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let private =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| unread(key, error))?;
                config
                    .with_client_auth_cert(certificates(certificate)?, private)
                    .map_err(|error| unusable(certificate, &error))?
            }
        };
        // A resumed session would not be verified again.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let read: Vec<_> = read.map_err(|error| unread(file, error))?;
    match read.is_empty() {
        true => Err(format!("{} holds no certificate", file.display())),
        false => Ok(read),
    }
}

fn unread(file: &Path, error: pem::Error) -> String {
    let file = file.display();
    if let pem::Error::Io(error) = error {
        format!("cannot read {file}: {error}")
    } else {
        format!("{file} is not the PEM file that it should be")
    }
}

fn unusable(file: &Path, error: &rustls::Error) -> String {
    format!("{} cannot be used: {error}", file.display())
}

/// What is written goes out at once, and a server that is gone is noticed.
fn heard(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(SILENCE)
            .with_interval(SILENCE),
    )?;
    socket.set_tcp_user_timeout(Some(UNHEARD))
}

async fn within<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    timeout(CONNECT, connecting)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn unreached(error: impl Display) -> String {
    error.to_string()
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Until the server has answered the first message, the driver can still be told in the server's stead why it does
/// not: a certificate that the server refuses is known only then.
async fn introduce(mut driver: UnixStream, startup: Vec<u8>, mut server: Box<dyn Stream>) {
    let mut bytes = vec![0; PIECE];
    let first = async {
        server.write_all(&startup).await?;
        server.flush().await?;
        server.read(&mut bytes).await
    };
    let first = tokio::select! {
        first = first => first,
        // It has nothing to say before the answer, so it has gone.
        _ = driver.read_u8() => return,
    };
    let read = match first {
        Ok(0) => {
            return tell(
                driver,
                "it ended the connection without an answer".to_owned(),
            )
            .await;
        }
        Ok(read) => read,
        Err(error) => return tell(driver, error.to_string()).await,
    };
    let answer = bytes.get(..read).unwrap_or_default();
    if driver.write_all(answer).await.is_err() {
        return;
    }
    let (from_driver, to_driver) = driver.into_split();
    let (from_server, to_server) = tokio::io::split(server);
    // Whoever is left has nobody to speak to.
    tokio::select! {
        _ = pass(from_driver, to_server) => {}
        _ = pass(from_server, to_driver) => {}
    }
}

async fn read_startup(driver: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = driver.read_u32().await?;
    let is_startup = |&length: &usize| (4..=LONGEST_STARTUP).contains(&length);
    let whole = usize::try_from(length).ok().filter(is_startup);
    let whole = whole.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut startup = length.to_be_bytes().to_vec();
    startup.resize(whole, 0);
    let rest = startup.get_mut(size_of::<u32>()..).unwrap_or_default();
    driver.read_exact(rest).await?;
    Ok(startup)
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut bytes = vec![0; PIECE];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(bytes.get(..read).unwrap_or_default()).await?;
        to.flush().await?;
    }
}

/// As the server's own refusal would be told.
async fn tell(mut driver: UnixStream, why: String) {
    let fields = format!("SFATAL\0VFATAL\0C{NOT_CONNECTED}\0M{why}\0\0");
    let length = u32::try_from(size_of::<u32>() + fields.len()).unwrap_or_default();
    let mut message = vec![b'E'];
    message.extend(length.to_be_bytes());
    message.extend(fields.into_bytes());
    // Who is not there any more is told nothing.
    driver.write_all(&message).await.ok();
}

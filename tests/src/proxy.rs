//! Another address of a server: whatever comes is passed on to it, until the test decides otherwise.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// All is passed on.
    Good,
    /// The server hears, and nobody hears it: with its next words the connection is cut.
    LosesAnswers,
    /// Nothing is passed on, and nobody is told.
    Dead,
    /// Each is cut once the server has said so many bytes and up to as many more.
    CutAfter(usize),
}

/// Closed, with all its connections, when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    line: watch::Sender<Line>,
    seen: Arc<Seen>,
    listening: Option<AbortHandle>,
    to: SocketAddr,
}

#[derive(Default)]
struct Seen {
    accepted: AtomicUsize,
    cut: AtomicUsize,
}

impl Proxy {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut proxy = Self {
            address: listener.local_addr().unwrap(),
            line: watch::Sender::new(Line::Good),
            seen: Arc::default(),
            listening: None,
            to: server,
        };
        proxy.listen(listener);
        proxy
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// From now on, for connections that are open too.
    pub fn is(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// How many connections were made.
    pub fn accepted(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    /// How many of them were cut.
    pub fn cut(&self) -> usize {
        self.seen.cut.load(Ordering::SeqCst)
    }

    /// As a server that is killed: its connections break, and nobody listens.
    pub fn close(&mut self) {
        // Its connections end with the sender that they watch.
        self.line = watch::Sender::new(Line::Good);
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }

    /// Again, at the same address.
    pub async fn open(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => crate::pause().await,
            }
        };
        self.listen(listener);
    }

    fn listen(&mut self, listener: TcpListener) {
        let (line, seen, to) = (self.line.subscribe(), Arc::clone(&self.seen), self.to);
        let listening: JoinHandle<()> = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                seen.accepted.fetch_add(1, Ordering::SeqCst);
                let (line, seen) = (line.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(to).await {
                        pass(client, server, line, &seen).await;
                    }
                });
            }
        });
        self.listening = Some(listening.abort_handle());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

async fn pass(client: TcpStream, server: TcpStream, line: watch::Receiver<Line>, seen: &Seen) {
    let mut closed = line.clone();
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        () = asks(from_client, to_server, line.clone()) => {}
        () = answers(from_server, to_client, line) => {
            seen.cut.fetch_add(1, Ordering::SeqCst);
        }
        _ = async { while closed.changed().await.is_ok() {} } => {}
    }
}

async fn asks(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: watch::Receiver<Line>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if *line.borrow() != Line::Dead && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: watch::Receiver<Line>) {
    let random = usize::from(u16::from_le_bytes(amanat_seal::random().unwrap()));
    let mut bytes = vec![0; 16 * 1024];
    let mut said = 0;
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        said += read;
        let line = *line.borrow();
        match line {
            Line::Good => {}
            Line::Dead => continue,
            Line::LosesAnswers => return,
            Line::CutAfter(most) if said > most + random % most => {
                // A part of an answer comes.
                to.write_all(&bytes[..read / 2]).await.ok();
                return;
            }
            Line::CutAfter(_) => {}
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

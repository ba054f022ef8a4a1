//! What lies between a writer and its server, and can go silent as a network does: nothing is refused, nothing comes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use amanat_database::Place;
use amanat_journal::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::toy::Lab;

pub(crate) struct Wire {
    port: u16,
    /// Connections made before this many silences are dead.
    silences: Arc<AtomicU64>,
}

impl Wire {
    /// To the server that the tests were given, over TCP.
    pub(crate) async fn to(lab: &Lab) -> Self {
        let server = lab.server();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silences = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&silences);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let made = counted.load(Ordering::Relaxed);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                for (from, to) in [(from_client, to_server), (from_server, to_client)] {
                    tokio::spawn(carry(from, to, made, Arc::clone(&counted)));
                }
            }
        });
        Self { port, silences }
    }

    pub(crate) async fn config(&self, lab: &Lab) -> Config {
        let address = lab.address_at(self.port).await;
        Config {
            database: Place::of_address(&address).unwrap().unwrap(),
            ..lab.config()
        }
    }

    /// The connections that there are carry nothing any more; new ones do.
    pub(crate) fn silence(&self) {
        self.silences.fetch_add(1, Ordering::Relaxed);
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    made: u64,
    silences: Arc<AtomicU64>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut bytes).await {
        if silences.load(Ordering::Relaxed) > made {
            // Held open, and nothing said.
            std::future::pending::<()>().await;
        }
        if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

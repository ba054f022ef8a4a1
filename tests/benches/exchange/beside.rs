//! Servers of this program's own, each a process that is measured beside the real ones.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use amanat::development;
use amanat_tests::Running;
use tokio::net::TcpListener;

/// This program again, with the gateway's certificate, directory and log filter.
pub(crate) struct Beside {
    child: Child,
    /// With the gateway's name and authority.
    pub(crate) server: development::Server,
}

impl Beside {
    /// `flag` says which.
    pub(crate) fn start(flag: &str, running: &Running) -> Self {
        let gateway = &running.exchange.gateway;
        let log = running.folder().join(flag.trim_start_matches('-'));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(flag)
            .arg(&gateway.config)
            // It ends when this is closed, however this program ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(log.with_extension("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().parse();
        Self {
            child,
            server: development::Server {
                folder: gateway.folder.clone(),
                config: gateway.config.clone(),
                address: address.unwrap_or_else(|_| panic!("{flag} did not start")),
            },
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// In the process that was started: a free port, and says which.
pub(crate) async fn listen() -> TcpListener {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = amanat_server::listen(address).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    listener
}

/// In the process that was started: when it is no longer needed.
pub(crate) async fn closed() {
    let closed = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(closed).await.ok();
}

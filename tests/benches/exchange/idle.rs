//! What a server keeps in memory for a connection that asks nothing: over mutual TLS with HTTP/2, after one call, as
//! a connector has it that waits; and for one of TLS alone, to tell what of it is whose.

use std::{
    fs,
    future::Future,
    path::Path,
    process::{self, Command},
    sync::Arc,
    time::Duration,
};

use amanat_connector::Profile;
use amanat_desk::setup::Setup;
use amanat_gateway::Config;
use amanat_identity::token::Audience;
use amanat_schema::audit::{GetCheckpointRequest, audit_service_client::AuditServiceClient};
use amanat_tests::exchange_id;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use toml::Table;

use crate::{
    beside::{self, Beside},
    report::Figure,
    servers::resident_mib,
    stage::{Engine, Stage},
};

/// Open before the first look, so that what is made once does not count.
const BEFORE: usize = 100;
/// Handshakes under way at once, as many as an address may have.
const TOGETHER: usize = 16;
/// Files that client and server have open beside the connections.
const OTHER_FILES: usize = 500;
/// Until all that the handshakes left behind is gone.
const SETTLED: Duration = Duration::from_secs(2);

/// # Errors
/// That so many files may not be open.
pub(crate) async fn measure(engine: Engine, connections: usize) -> Result<Vec<Figure>, String> {
    // Before the servers start, which inherit it.
    allow_files(connections + BEFORE + OTHER_FILES)?;
    let stage = Arc::new(Stage::set(engine, 1, |_, config| {
        let mut limits = Table::new();
        let most = i64::try_from(connections + 2 * BEFORE).unwrap();
        limits.insert("connections_per_agency".to_owned(), most.into());
        config.insert("limits".to_owned(), limits.into());
    }));
    let gateway = stage.running.gateway.id().unwrap();
    let whole = kib_each(gateway, connections, || called(Arc::clone(&stage))).await;

    let beside = Beside::start("--serve-tls", &stage.running);
    let client = Arc::new(client(&stage));
    let address = beside.server.address;
    let alone = kib_each(beside.id(), connections, || {
        let client = Arc::clone(&client);
        async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from(format!("gateway.{}", exchange_id())).unwrap();
            let mut stream = TlsConnector::from(client)
                .connect(name, stream)
                .await
                .unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), GREETING);
            stream
        }
    })
    .await;
    let name = format!("idle connection, of {connections}");
    Ok(vec![
        Figure::new(&format!("{name}: at the gateway"), whole, "KiB"),
        Figure::new(&format!("{name}: of TLS alone"), alone, "KiB"),
        Figure::new(
            &format!("{name}: of HTTP/2 and what the gateway keeps"),
            whole - alone,
            "KiB",
        ),
    ])
}

/// By how much a process grows with each connection that is open.
async fn kib_each<T, F>(server: u32, connections: usize, open: impl Fn() -> F) -> f64
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    eprintln!("opening {connections} connections");
    let mut held = Vec::new();
    many(&mut held, BEFORE, &open).await;
    tokio::time::sleep(SETTLED).await;
    let before = resident_mib(server);
    many(&mut held, connections, &open).await;
    tokio::time::sleep(SETTLED).await;
    let after = resident_mib(server);
    drop(held);
    (after - before) * 1024.0 / connections as f64
}

async fn many<T, F>(held: &mut Vec<T>, count: usize, open: impl Fn() -> F)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    for _ in 0..count {
        if under_way.len() == TOGETHER {
            held.push(under_way.join_next().await.unwrap().unwrap());
        }
        under_way.spawn(open());
    }
    held.extend(under_way.join_all().await);
}

async fn called(stage: Arc<Stage>) -> AuditServiceClient<tonic::transport::Channel> {
    let (reader, gateway) = (&stage.reader, &stage.running.exchange.gateway);
    let mut audit = AuditServiceClient::new(reader.channel("gateway", gateway));
    let asked = reader.asked(GetCheckpointRequest {});
    audit.get_checkpoint(asked).await.unwrap();
    audit
}

/// The reader's, as its connector has it.
fn client(stage: &Stage) -> ClientConfig {
    let exchange = &stage.running.exchange;
    let profile = Profile::load(&exchange.agencies["darul-aman-lahore"].folder).unwrap();
    let chain = CertificateDer::pem_file_iter(&profile.tls.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&profile.tls.private_key).unwrap();
    let mut authorities = RootCertStore::empty();
    let authority = exchange.gateway.folder.join("ca/ca.pem");
    authorities
        .add(CertificateDer::from_pem_file(authority).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(authorities)
        .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Says that the server has verified its client.
const GREETING: u8 = b'!';

/// Holds connections by the gateway's own TLS, and does nothing with them.
pub(crate) async fn serve_tls(config: &Path) {
    let config = Config::load(config).unwrap();
    let setup = Setup::load(
        &config.server,
        &config.directory,
        Audience::Gateway,
        amanat::system_clock(),
    );
    let acceptor = TlsAcceptor::from(Arc::new(setup.unwrap().tls));
    let listener = beside::listen().await;
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                stream.write_u8(GREETING).await.unwrap();
                stream.flush().await.unwrap();
                // Until the client closes it.
                stream.read_u8().await.ok();
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = beside::closed() => {}
    }
}

/// For this process and those that it starts from now on.
fn allow_files(needed: usize) -> Result<(), String> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let mut fields = line.split_whitespace().map(str::parse::<usize>);
    // `unlimited` is no number.
    let mut limit = || fields.next().and_then(Result::ok).unwrap_or(usize::MAX);
    let (soft, hard) = (limit(), limit());
    if hard < needed {
        return Err(format!(
            "{needed} files must be open at once and {hard} may be: raise the hard limit (ulimit -Hn {needed})"
        ));
    }
    if soft < needed {
        let raised = Command::new("prlimit")
            .arg(format!("--pid={}", process::id()))
            .arg(format!("--nofile={needed}:"))
            .status();
        assert!(raised.unwrap().success(), "prlimit");
    }
    Ok(())
}

//! How a server of ours comes to PostgreSQL: over TLS to a server that the configured authority vouches for, by its own
//! certificate, and by a way that no other process of the machine can take.
//!
//! Where PostgreSQL is not installed these tests say loudly that they were skipped; with `CI` set they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step is a failed test"
)]

use std::{fs, process};

use amanat::development::free_address;
use amanat_database::{Connection, Error, Place, PlaceError, Sql, unreachable};
use amanat_tests::postgres::{Cluster, is_here, query, try_query};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpListener};

async fn connect(address: &str) -> Result<Connection, Error> {
    Place::of_address(address).unwrap().unwrap().connect().await
}

/// Why no connection came about, as an operator is told.
async fn told(address: &str) -> String {
    let error = connect(address).await.err().expect("no connection");
    unreachable(&error).unwrap_or_else(|| panic!("{error:?}"))
}

/// The code of PostgreSQL's own refusal.
async fn refused(address: &str) -> String {
    let error = connect(address).await.err().expect("no connection");
    assert_eq!(unreachable(&error), None);
    let refusal = error.as_database_error().expect("PostgreSQL's refusal");
    refusal.code().unwrap().into_owned()
}

#[tokio::test]
async fn a_service_gets_in_by_its_own_certificate_alone() {
    if !is_here("a_service_gets_in_by_its_own_certificate_alone") {
        return;
    }
    let cluster = Cluster::start();
    cluster.query("CREATE ROLE amanat_gateway LOGIN");
    let bare = cluster.tls_url("amanat_gateway");
    let own = format!("{bare}{}", cluster.certificate_of("amanat_gateway"));
    let mut connection = connect(&own).await.unwrap();
    let row = Sql::new(
        "SELECT version || ' ' || client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    );
    let seen: String = row
        .fetch_one(&mut connection)
        .await
        .unwrap()
        .get(0)
        .unwrap();
    assert_eq!(seen, "TLSv1.3 /CN=amanat_gateway");

    const NOT_AUTHORISED: &str = "28000";
    assert_eq!(refused(&bare).await, NOT_AUTHORISED);
    let custodians = cluster.certificate_of("amanat_custodian");
    let custodians = format!("{bare}{custodians}");
    assert_eq!(refused(&custodians).await, NOT_AUTHORISED);
    let port = cluster.port();
    let clear = format!("postgres://amanat_gateway@localhost:{port}/amanat?sslmode=disable");
    assert_eq!(refused(&clear).await, NOT_AUTHORISED);
}

#[tokio::test]
async fn a_server_that_the_configured_authority_does_not_vouch_for_is_told_nothing() {
    if !is_here("a_server_that_the_configured_authority_does_not_vouch_for_is_told_nothing") {
        return;
    }
    let [cluster, stranger] = [Cluster::start(), Cluster::start()];
    let own = |of: &Cluster| {
        let certificate = of.certificate_of("amanat");
        format!("{}{certificate}", of.tls_url("amanat"))
    };
    let (ours, theirs) = (own(&cluster), own(&stranger));
    connect(&ours).await.unwrap();
    let authority = |of: &Cluster| format!("{}", of.tls("root.crt").display());
    let swapped = ours.replace(&authority(&cluster), &authority(&stranger));
    let foreign = theirs.replace(&authority(&stranger), &authority(&cluster));
    for address in [swapped, foreign] {
        let told = told(&address).await;
        assert!(told.starts_with("invalid peer certificate"), "{told}");
    }

    let missing = ours.replace("root.crt", "none.crt");
    assert!(told(&missing).await.contains("none.crt: No such file"));
    let no_certificate = ours.replace("root.crt", "amanat.key");
    assert!(told(&no_certificate).await.contains("amanat.key"));

    let nobody = free_address().unwrap().port();
    let nowhere = ours.replace(&cluster.port().to_string(), &nobody.to_string());
    assert!(told(&nowhere).await.contains("refused"));
}

/// As whoever sits between would have it.
#[tokio::test]
async fn a_server_without_tls_hears_the_request_for_it_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(b"N").await.unwrap();
        let mut more = Vec::new();
        stream.read_to_end(&mut more).await.unwrap();
        more.len()
    });
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&authority, made.cert.pem()).unwrap();
    let authority = authority.display();
    let address = format!(
        "postgres://amanat@localhost:{port}/amanat?sslmode=verify-full&sslrootcert={authority}"
    );
    assert_eq!(told(&address).await, "it speaks no TLS");
    assert_eq!(heard.await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_of_the_machine_is_not_let_in_by_our_certificate() {
    if !is_here("another_process_of_the_machine_is_not_let_in_by_our_certificate") {
        return;
    }
    let cluster = Cluster::start();
    let certificate = cluster.certificate_of("amanat");
    let address = format!("{}{certificate}", cluster.tls_url("amanat"));
    let place = Place::of_address(&address).unwrap().unwrap();
    let _open = place.connect().await.unwrap();

    let port = cluster.port();
    let ours = format!("@amanat-{}-", process::id());
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let socket = sockets
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().last())
        .filter(|name| name.starts_with(&ours))
        .find_map(|name| name.strip_suffix(&format!("/.s.PGSQL.{port}")))
        .expect("the door");
    let of_another = format!("host={socket} port={port} user=amanat dbname=amanat");
    let refused = try_query(&of_another, "SELECT 1").unwrap_err();
    assert!(refused.contains("closed the connection"), "{refused}");
    // The socket is the right one, and the way behind it open.
    place.connect().await.unwrap();
    assert_eq!(query(&cluster.url(), "SELECT 1"), "1");
}

#[test]
fn an_address_says_one_of_two_things_and_nothing_by_the_way() {
    let files = "sslrootcert=/etc/ca.pem";
    for (rest, expected) in [
        ("db1/amanat", PlaceError::Unverified),
        ("db1/amanat?sslmode=disable", PlaceError::Unverified),
        ("localhost,db1/amanat", PlaceError::Unverified),
        ("db1/amanat?sslmode=require", PlaceError::Mode),
        ("localhost/amanat?sslmode=prefer", PlaceError::Mode),
        ("localhost/amanat?sslmode=verify-full", PlaceError::Mode),
        ("localhost/amanat?sslrootcert=/etc/ca.pem", PlaceError::Mode),
        (
            "%2Frun/amanat?sslmode=verify-full&sslrootcert=/a",
            PlaceError::Mode,
        ),
        (
            "localhost/amanat?sslcert=/a&sslkey=/b",
            PlaceError::Certificate,
        ),
        ("localhost/amanat?password=1", PlaceError::Password),
        ("localhost/amanat?sslpassword=1", PlaceError::Password),
        ("localhost/amanat?host=db2", PlaceError::Query),
        (
            "localhost/amanat?options=-c%20a%3Db&options=",
            PlaceError::Query,
        ),
    ] {
        let refused = Place::of_address(&format!("postgres://amanat@{rest}"));
        assert_eq!(refused.err(), Some(expected), "{rest}");
    }
    for query in [
        format!("sslmode=verify-full&{files}&sslcert=/a"),
        format!("sslmode=verify-full&{files}&sslkey=/b"),
    ] {
        let refused = Place::of_address(&format!("postgres://amanat@db1/amanat?{query}"));
        assert_eq!(refused.err(), Some(PlaceError::Certificate), "{query}");
    }
    for rest in [
        format!("db1,db2:5433/amanat?sslmode=verify-full&{files}"),
        format!("db1/amanat?sslmode=verify-full&{files}&sslcert=/a&sslkey=/b&options=-c%20a%3Db"),
        "localhost/amanat".to_owned(),
        "localhost/amanat?sslmode=disable".to_owned(),
        "%2Frun%2Fpostgresql/amanat".to_owned(),
    ] {
        let place = Place::of_address(&format!("postgres://amanat@{rest}"));
        assert!(place.unwrap().is_some(), "{rest}");
    }
}

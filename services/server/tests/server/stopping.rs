//! A stop answers what is under way and takes nothing new.

use std::time::{Duration, Instant};

use amanat_server::{Served, listen};
use tokio::{net::TcpStream, runtime, sync::oneshot};
use tonic::transport::Endpoint;

use crate::running::{Running, ask};

#[tokio::test]
async fn what_is_under_way_is_answered() {
    let running = Running::start().await;
    let channel = running.connect(&running.exchange.shelter.client).await;
    let slow = tokio::spawn({
        let channel = channel.clone();
        async move { ask(&channel, "slow", None).await }
    });
    // Its turn comes before the stop.
    ask(&channel, "peer", None).await.unwrap();
    let address = running.address;
    let served = running.stopping();
    assert_eq!(slow.await.unwrap().unwrap(), "at last");
    assert_eq!(served.await.unwrap().unwrap(), Served::Drained);
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
    assert!(ask(&channel, "peer", None).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_a_stop() {
    let running = Running::start().await;
    let channel = running.connect(&running.exchange.shelter.client).await;
    ask(&channel, "peer", None).await.unwrap();
    assert_eq!(running.stop().await, Served::Drained);
}

/// A client that asks for something and then neither reads nor writes, until the thread ends with the test.
fn stuck(endpoint: Endpoint, what: &'static str) -> oneshot::Receiver<()> {
    let (connected, is_connected) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _channel = runtime.block_on(async {
            let channel = endpoint.connect().await.unwrap();
            let asking = ask(&channel, what, None);
            tokio::time::timeout(Duration::from_millis(300), asking)
                .await
                .ok();
            channel
        });
        connected.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(60));
    });
    is_connected
}

#[tokio::test]
async fn a_client_that_does_not_answer_and_asks_nothing_holds_a_stop_up_for_a_second() {
    let running = Running::start().await;
    let exchange = &running.exchange;
    let endpoint = running.endpoint(Some(&exchange.shelter.client), &exchange.gateway.authority);
    stuck(endpoint, "peer").await.unwrap();
    let began = Instant::now();
    assert_eq!(running.stop().await, Served::Drained);
    assert!(began.elapsed() < Duration::from_secs(2), "{began:?}");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_in_time_for_the_rest() {
    let running = Running::start().await;
    let exchange = &running.exchange;
    let endpoint = running.endpoint(Some(&exchange.shelter.client), &exchange.gateway.authority);
    stuck(endpoint, "endless").await.unwrap();
    let began = Instant::now();
    assert_eq!(running.stop().await, Served::CutOff);
    assert!(began.elapsed() < Duration::from_secs(7), "{began:?}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let running = Running::start().await;
    let refused = listen(running.address).await.unwrap_err();
    assert!(refused.to_string().contains(&running.address.to_string()));
}

//! A stop answers what is under way and takes nothing new.

use amanat_server::{Served, listen};
use tokio::net::TcpStream;

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

#[tokio::test]
async fn an_address_in_use_is_named() {
    let running = Running::start().await;
    let refused = listen(running.address).await.unwrap_err();
    assert!(refused.to_string().contains(&running.address.to_string()));
}

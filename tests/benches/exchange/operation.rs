//! What the servers are asked.

pub(crate) mod audit_query;
pub(crate) mod evaluate;
pub(crate) mod intake;
pub(crate) mod list;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod submit;

use std::{future::Future, sync::Arc};

use crate::{empty::Payload, load::Operation, servers::Servers, stage::Stage};

/// An operation of the exchange: a row of the table for each engine.
pub(crate) trait Verb: Operation {
    const NAME: &'static str;

    fn on(stage: Arc<Stage>) -> impl Future<Output = Self> + Send
    where
        Self: Sized;

    /// Of each of its calls.
    fn payloads(self: &Arc<Self>) -> impl Future<Output = Vec<Payload>> + Send;

    /// Those that have a part in it.
    fn servers(stage: &Stage) -> Servers {
        stage.gateway()
    }
}

/// One of so many for each number, all of them in their turn and none near the one before.
pub(crate) fn scattered(number: usize, among: usize) -> usize {
    // By steps of the golden section.
    let place = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((u128::from(place) * among as u128) >> 64).unwrap()
}

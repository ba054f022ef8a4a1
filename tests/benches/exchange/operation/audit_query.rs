//! A page of the gateway's log, anywhere in it, as the oversight desk reads it: bodies opened, and an entry of its own.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use amanat_schema::audit::ListEntriesRequest;
use amanat_tests::raw;
use bytes::Bytes;
use prost::Message as _;
use tonic::codegen::http::uri::PathAndQuery;

use crate::{
    empty::Payload,
    load::{Failure, Operation},
    operation::{Verb, scattered},
    stage::{Stage, of},
};

const METHOD: &str = "/amanat.audit.v1.AuditService/ListEntries";
const PAGE: u32 = 50;

pub(crate) struct AuditQuery {
    stage: Arc<Stage>,
    next: AtomicUsize,
}

impl AuditQuery {
    /// So many that were not asked before, from all over the log as it is now.
    pub(crate) async fn requests(&self, count: usize) -> Result<Vec<Bytes>, Failure> {
        let from = self.next.fetch_add(count, Ordering::Relaxed);
        let starts = usize::try_from(self.stage.entries().await? - u64::from(PAGE))?;
        let requests = (from..from + count).map(|number| Self::request(number, starts));
        Ok(requests.collect())
    }

    fn request(number: usize, starts: usize) -> Bytes {
        let request = ListEntriesRequest {
            page_size: PAGE,
            from_index: scattered(number, starts) as u64,
            ..ListEntriesRequest::default()
        };
        request.encode_to_vec().into()
    }

    async fn ask(&self, worker: usize, request: Bytes) -> Result<Bytes, Failure> {
        let oversight = &self.stage.oversight;
        let channel = of(&oversight.gateway, worker);
        let path = PathAndQuery::from_static(METHOD);
        Ok(raw::unary(channel, path, oversight.asked(request)).await?)
    }
}

impl Verb for AuditQuery {
    const NAME: &'static str = "audit query";

    async fn on(stage: Arc<Stage>) -> Self {
        Self {
            stage,
            next: AtomicUsize::new(0),
        }
    }

    async fn payloads(self: &Arc<Self>) -> Vec<Payload> {
        let request = self.requests(1).await.unwrap().remove(0);
        vec![Payload {
            request: request.len(),
            answer: self.ask(0, request).await.unwrap().len(),
        }]
    }
}

impl Operation for AuditQuery {
    type Request = Bytes;

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<Bytes> {
        self.requests(count).await.unwrap()
    }

    async fn call(&self, worker: usize, request: Bytes) -> Result<(), Failure> {
        let answer = self.ask(worker, request).await?;
        // Each body has an id, a salt and three commitments at least.
        let least = usize::try_from(PAGE).unwrap() * 144;
        assert!(answer.len() > least, "not a whole page");
        Ok(())
    }
}

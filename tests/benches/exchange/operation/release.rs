//! A release at the custodian, alone and after its read.

use std::sync::Arc;

use amanat_schema::{
    key::{ReleaseKeysRequest, ReleaseKeysResponse, key_service_client::KeyServiceClient},
    record::{ReadRecordRequest, ReadRecordResponse},
};
use amanat_tests::{
    party::{honest_ask, id},
    raw,
};
use bytes::Bytes;
use prost::Message as _;
use tonic::codegen::http::uri::PathAndQuery;

use crate::{
    empty::Payload,
    load::{Failure, Operation},
    loading::together,
    operation::{Verb, read::Read},
    servers::Servers,
    stage::{Stage, of},
};

const METHOD: &str = "/amanat.key.v1.KeyService/ReleaseKeys";

/// The keys of what a read released: the receipt and the log behind it checked, decided again, a durable entry, the
/// keys derived. The receipts are fetched right before, for each lasts a minute.
pub(crate) struct Release {
    stage: Arc<Stage>,
    read: Read,
}

impl Release {
    fn new(stage: Arc<Stage>) -> Self {
        let read = Read::new(Arc::clone(&stage));
        Self { stage, read }
    }

    async fn allowed(self: Arc<Self>, number: usize) -> ReleaseKeysRequest {
        let request = self.read.request(number);
        request_of(&self.read.ask(number, request).await.unwrap())
    }

    async fn ask(
        &self,
        worker: usize,
        request: ReleaseKeysRequest,
    ) -> Result<ReleaseKeysResponse, Failure> {
        let reader = &self.stage.reader;
        let channel = of(&reader.custodian, worker);
        let answer = KeyServiceClient::new(channel)
            .release_keys(reader.asked(request))
            .await?;
        Ok(answer.into_inner())
    }
}

impl Verb for Release {
    const NAME: &'static str = "release";

    async fn on(stage: Arc<Stage>) -> Self {
        Self::new(stage)
    }

    async fn payloads(self: &Arc<Self>) -> Vec<Payload> {
        let request = Arc::clone(self).allowed(0).await;
        let length = request.encoded_len();
        let answer = self.ask(0, request).await.unwrap();
        vec![Payload {
            request: length,
            answer: answer.encoded_len(),
        }]
    }

    /// The custodian fetches proofs from the gateway for it.
    fn servers(stage: &Stage) -> Servers {
        stage.both()
    }
}

/// For exactly the sealed paths that the read released.
fn request_of(answer: &ReadRecordResponse) -> ReleaseKeysRequest {
    ReleaseKeysRequest {
        request_id: id(),
        ..honest_ask(answer)
    }
}

impl Operation for Release {
    type Request = Bytes;

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<Bytes> {
        let taken = self.read.take(count);
        let encoded = |number| {
            let allowed = Arc::clone(self).allowed(taken.start + number);
            async { allowed.await.encode_to_vec().into() }
        };
        together(count, encoded).await
    }

    async fn call(&self, worker: usize, request: Bytes) -> Result<(), Failure> {
        let reader = &self.stage.reader;
        let channel = of(&reader.custodian, worker);
        let answer = raw::unary(
            channel,
            PathAndQuery::from_static(METHOD),
            reader.asked(request),
        )
        .await?;
        assert!(!answer.is_empty(), "a release without keys");
        Ok(())
    }
}

/// A read, and its release when it is answered.
pub(crate) struct ReadAndRelease {
    release: Release,
}

impl Verb for ReadAndRelease {
    const NAME: &'static str = "read and release";

    async fn on(stage: Arc<Stage>) -> Self {
        Self {
            release: Release::new(stage),
        }
    }

    async fn payloads(self: &Arc<Self>) -> Vec<Payload> {
        let read = Arc::new(Read::new(Arc::clone(&self.release.stage)));
        let release = Arc::new(Release::new(Arc::clone(&self.release.stage)));
        [read.payloads().await, release.payloads().await].concat()
    }

    fn servers(stage: &Stage) -> Servers {
        stage.both()
    }
}

impl Operation for ReadAndRelease {
    type Request = ReadRecordRequest;

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<ReadRecordRequest> {
        let request = |number| self.release.read.request(number);
        self.release.read.take(count).map(request).collect()
    }

    async fn call(&self, worker: usize, request: ReadRecordRequest) -> Result<(), Failure> {
        let read = self.release.read.ask(worker, request).await?;
        let request = request_of(&read).encode_to_vec();
        self.release.call(worker, request.into()).await
    }
}

//! A read at the gateway: the decision field by field, its durable entry, the ciphertexts and the receipt.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use amanat_schema::record::{
    ReadRecordRequest, ReadRecordResponse, record_service_client::RecordServiceClient,
};
use amanat_tests::{party::id, raw};
use bytes::Bytes;
use prost::Message as _;
use prost_types::FieldMask;
use tonic::codegen::http::uri::PathAndQuery;

use crate::{
    empty::Payload,
    load::{Failure, Operation},
    loading::PURPOSE,
    operation::{Verb, scattered},
    stage::{Stage, of},
};

const METHOD: &str = "/amanat.record.v1.RecordService/ReadRecord";

pub(crate) struct Read {
    stage: Arc<Stage>,
    /// Where the warm-up ended, the measurement goes on: what it reads first was not read just before.
    next: AtomicUsize,
}

impl Read {
    pub(crate) fn new(stage: Arc<Stage>) -> Self {
        Self {
            stage,
            next: AtomicUsize::new(0),
        }
    }

    /// So many that were not taken before.
    pub(crate) fn take(&self, count: usize) -> Range<usize> {
        let from = self.next.fetch_add(count, Ordering::Relaxed);
        from..from + count
    }

    /// For all that the consent names, of one of all cases.
    pub(crate) fn request(&self, number: usize) -> ReadRecordRequest {
        let cases = &self.stage.cases;
        let read = &cases[scattered(number, cases.len())];
        ReadRecordRequest {
            request_id: id(),
            case_id: read.case.to_vec(),
            record_id: read.record.to_vec(),
            source_id: self.stage.source.party.agency.to_vec(),
            fields: Some(FieldMask {
                paths: self.stage.paths.clone(),
            }),
            purpose: PURPOSE.into(),
        }
    }

    pub(crate) async fn ask(
        &self,
        worker: usize,
        request: ReadRecordRequest,
    ) -> Result<ReadRecordResponse, Failure> {
        let reader = &self.stage.reader;
        let channel = of(&reader.gateway, worker);
        let answer = RecordServiceClient::new(channel)
            .read_record(reader.asked(request))
            .await?;
        Ok(answer.into_inner())
    }
}

impl Verb for Read {
    const NAME: &'static str = "read";

    async fn on(stage: Arc<Stage>) -> Self {
        Self::new(stage)
    }

    async fn payloads(self: &Arc<Self>) -> Vec<Payload> {
        let request = self.request(0);
        let length = request.encoded_len();
        let answer = self.ask(0, request).await.unwrap();
        vec![Payload {
            request: length,
            answer: answer.encoded_len(),
        }]
    }
}

impl Operation for Read {
    type Request = Bytes;

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<Bytes> {
        let encoded = |number| self.request(number).encode_to_vec().into();
        self.take(count).map(encoded).collect()
    }

    async fn call(&self, worker: usize, request: Bytes) -> Result<(), Failure> {
        let reader = &self.stage.reader;
        let channel = of(&reader.gateway, worker);
        let answer = raw::unary(
            channel,
            PathAndQuery::from_static(METHOD),
            reader.asked(request),
        )
        .await?;
        assert!(!answer.is_empty(), "a read without its receipt");
        Ok(())
    }
}

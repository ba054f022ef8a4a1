//! A read at the gateway: the decision field by field, its durable entry, the ciphertexts and the receipt.

use std::sync::Arc;

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
    stage::{Stage, of},
};

const METHOD: &str = "/amanat.record.v1.RecordService/ReadRecord";

pub(crate) struct Read {
    stage: Arc<Stage>,
}

impl Read {
    pub(crate) fn new(stage: Arc<Stage>) -> Self {
        Self { stage }
    }

    /// For all that the consent names, of one case after the other.
    pub(crate) fn request(&self, number: usize) -> ReadRecordRequest {
        let shared = &self.stage.shared[number % self.stage.shared.len()];
        let read = &shared.request;
        ReadRecordRequest {
            request_id: id(),
            case_id: read.case.to_vec(),
            record_id: read.record.to_vec(),
            source_id: read.source.to_vec(),
            fields: Some(FieldMask {
                paths: read.fields.clone(),
            }),
            purpose: read.purpose.into(),
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

    pub(crate) async fn payload(&self) -> Payload {
        let request = self.request(0);
        let length = request.encoded_len();
        let answer = self.ask(0, request).await.unwrap();
        Payload {
            request: length,
            answer: answer.encoded_len(),
        }
    }
}

impl Operation for Read {
    type Request = Bytes;

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<Bytes> {
        let encoded = |number| self.request(number).encode_to_vec().into();
        (0..count).map(encoded).collect()
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

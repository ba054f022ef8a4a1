//! A put of a record that is sealed, signed and deposited before: signatures checked, stored, with its durable entry.

use std::sync::Arc;

use amanat_schema::{
    CaseId, RecordId,
    key::{DepositKeyResponse, key_service_client::KeyServiceClient},
    record::{PutRecordRequest, PutRecordResponse, record_service_client::RecordServiceClient},
};
use amanat_tests::{raw, story::Sealed};
use bytes::Bytes;
use prost::Message as _;
use tonic::{Request, codegen::http::uri::PathAndQuery};

use crate::{
    empty::Payload,
    load::{Failure, Operation},
    loading::together,
    operation::Verb,
    stage::{Stage, of},
};

const METHOD: &str = "/amanat.record.v1.RecordService/PutRecord";

pub(crate) struct Submit {
    stage: Arc<Stage>,
}

impl Submit {
    pub(crate) fn new(stage: Arc<Stage>) -> Self {
        Self { stage }
    }

    /// Seals a record, in a case of its own, and deposits its key.
    pub(crate) async fn deposit(
        &self,
        number: usize,
    ) -> Result<(Sealed, DepositKeyResponse), Failure> {
        let source = &self.stage.source;
        let case = CaseId::new(amanat_seal::random().unwrap());
        let record = RecordId::new(amanat_seal::random().unwrap());
        let sealed = Sealed::under(&source.token(), &source.party, case, record, None);
        let deposited = KeyServiceClient::new(of(&source.custodian, number))
            .deposit_key(sealed.deposit())
            .await?;
        Ok((sealed, deposited.into_inner()))
    }

    pub(crate) async fn deposited(&self, number: usize) -> Result<PutRecordRequest, Failure> {
        let (sealed, deposited) = self.deposit(number).await?;
        Ok(sealed.put_request(deposited.deposit_receipt))
    }

    /// The officer's token stands in the signed header's statement, and nowhere else.
    pub(crate) async fn ask(
        &self,
        worker: usize,
        request: PutRecordRequest,
    ) -> Result<PutRecordResponse, Failure> {
        let channel = of(&self.stage.source.gateway, worker);
        let answer = RecordServiceClient::new(channel)
            .put_record(request)
            .await?;
        Ok(answer.into_inner())
    }
}

impl Verb for Submit {
    const NAME: &'static str = "submit";

    async fn on(stage: Arc<Stage>) -> Self {
        Self::new(stage)
    }

    async fn payloads(self: &Arc<Self>) -> Vec<Payload> {
        let request = self.deposited(0).await.unwrap();
        let length = request.encoded_len();
        let answer = self.ask(0, request).await.unwrap();
        vec![Payload {
            request: length,
            answer: answer.encoded_len(),
        }]
    }
}

impl Operation for Submit {
    type Request = Bytes;

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<Bytes> {
        let encoded = |number| {
            let submit = Arc::clone(self);
            async move {
                let deposited = submit.deposited(number).await;
                deposited.unwrap().encode_to_vec().into()
            }
        };
        together(count, encoded).await
    }

    async fn call(&self, worker: usize, request: Bytes) -> Result<(), Failure> {
        let channel = of(&self.stage.source.gateway, worker);
        let answer = raw::unary(
            channel,
            PathAndQuery::from_static(METHOD),
            Request::new(request),
        )
        .await?;
        assert!(!answer.is_empty(), "a put without its receipt");
        Ok(())
    }
}

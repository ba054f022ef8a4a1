//! Blinded identifiers evaluated at the custodian, ten at a time: counted, logged, evaluated with their proof.

use std::sync::Arc;

use amanat_schema::{
    identifier::Identifier,
    subject::{
        EvaluateIdentifiersRequest, EvaluateIdentifiersResponse, EvaluationReason,
        IdentifierDomain, oprf_service_client::OprfServiceClient,
    },
};
use amanat_tests::{
    oprf::{blind, cnic, evaluation},
    raw,
};
use bytes::Bytes;
use prost::Message as _;
use tonic::codegen::http::uri::PathAndQuery;

use crate::{
    empty::Payload,
    load::{Failure, Operation},
    operation::Verb,
    servers::Servers,
    stage::{Agency, INTAKES, Stage, of},
};

const METHOD: &str = "/amanat.subject.v1.OprfService/EvaluateIdentifiers";
const BATCH: u32 = 10;

/// Workers ask for several agencies: calls that debit one agency's budget wait for each other.
pub(crate) struct Evaluate {
    agencies: Vec<Agency>,
    /// The same in each request: the server cannot tell, and does the same work.
    points: Vec<[u8; 32]>,
}

impl Evaluate {
    /// For a case of its own.
    fn request(&self) -> EvaluateIdentifiersRequest {
        let reason = EvaluationReason::Intake;
        evaluation(IdentifierDomain::Victim, reason, &self.points)
    }

    async fn ask(
        &self,
        worker: usize,
        request: EvaluateIdentifiersRequest,
    ) -> Result<EvaluateIdentifiersResponse, Failure> {
        let agency = &self.agencies[worker % self.agencies.len()];
        let channel = of(&agency.custodian, worker);
        let answer = OprfServiceClient::new(channel)
            .evaluate_identifiers(agency.asked(request))
            .await?;
        Ok(answer.into_inner())
    }
}

impl Verb for Evaluate {
    const NAME: &'static str = "evaluate 10";

    async fn on(stage: Arc<Stage>) -> Self {
        let numbers = (0..BATCH).map(|number| cnic(&format!("00000{number:08}")));
        let identifiers: Vec<Identifier> = numbers.collect();
        let identifiers: Vec<&Identifier> = identifiers.iter().collect();
        Self {
            agencies: INTAKES.map(|name| stage.agency(name)).into(),
            points: blind(IdentifierDomain::Victim, &identifiers)
                .elements()
                .to_vec(),
        }
    }

    async fn payloads(self: &Arc<Self>) -> Vec<Payload> {
        let request = self.request();
        let length = request.encoded_len();
        let answer = self.ask(0, request).await.unwrap();
        vec![Payload {
            request: length,
            answer: answer.encoded_len(),
        }]
    }

    fn servers(stage: &Stage) -> Servers {
        stage.custodian()
    }
}

impl Operation for Evaluate {
    type Request = Bytes;

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<Bytes> {
        std::iter::repeat_with(|| self.request().encode_to_vec().into())
            .take(count)
            .collect()
    }

    async fn call(&self, worker: usize, request: Bytes) -> Result<(), Failure> {
        let agency = &self.agencies[worker % self.agencies.len()];
        let channel = of(&agency.custodian, worker);
        let answer = raw::unary(
            channel,
            PathAndQuery::from_static(METHOD),
            agency.asked(request),
        )
        .await?;
        let least = self.points.len() * self.points[0].len();
        assert!(answer.len() > least, "not every point came back");
        Ok(())
    }
}

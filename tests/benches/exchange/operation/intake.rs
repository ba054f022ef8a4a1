//! A whole intake, as `amanat case submit` does it: the connector seals a case file, keeps it in its durable outbox,
//! has the person's identifiers evaluated, asks for the agency's pseudonym, deposits the key, puts the record and
//! activates the key. Five calls, one after the other, and several durable writes of the connector's own.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use amanat_connector::{Acting, Connector};
use amanat_schema::{
    case_file::{self, CaseFile},
    identifier::Identifier,
    key::{ActivateKeyRequest, key_service_client::KeyServiceClient},
    subject::{EvaluationReason, IdentifierDomain, oprf_service_client::OprfServiceClient},
};
use amanat_tests::{
    oprf::{Secrets, blind, cnic, evaluation},
    party::id,
    sharing,
};
use prost::Message as _;
use serde_json::Value;

use crate::{
    empty::Payload,
    load::{Failure, Operation},
    operation::{Verb, submit::Submit},
    servers::Servers,
    stage::{INTAKES, Stage},
};

pub(crate) struct Intake {
    stage: Arc<Stage>,
    /// One an agency, each with its own outbox.
    connectors: Vec<Connector>,
    /// How many persons were taken in.
    persons: AtomicUsize,
    file: Value,
}

impl Intake {
    /// Of a person whom nobody knows.
    fn new_person(&self) -> CaseFile {
        let number = self.persons.fetch_add(1, Ordering::Relaxed);
        let mut file = self.file.clone();
        file["subject"]["cnic"] = format!("00000{number:08}").into();
        file["subject"]["given_name"] = format!("Noor {}", in_letters(number)).into();
        case_file::parse(&file).unwrap()
    }
}

/// A number as a name could be written.
fn in_letters(mut number: usize) -> String {
    let mut letters = String::new();
    loop {
        letters.push(char::from(b'a' + u8::try_from(number % 26).unwrap()));
        number /= 26;
        if number == 0 {
            return letters;
        }
    }
}

impl Verb for Intake {
    const NAME: &'static str = "intake";

    async fn on(stage: Arc<Stage>) -> Self {
        let mut connectors = Vec::new();
        for name in INTAKES {
            let token = Acting::Token(stage.agency(name).token());
            connectors.push(stage.running.acting(name, token).await);
        }
        let mut file = sharing::file("police-case");
        // A phone of many persons would make each a doubt of the next.
        let subject = file["subject"].as_object_mut().unwrap();
        subject.remove("mobile_phone").unwrap();
        Self {
            stage,
            connectors,
            persons: AtomicUsize::new(0),
            file,
        }
    }

    /// Of its five calls, by the same messages made by hand.
    async fn payloads(self: &Arc<Self>) -> Vec<Payload> {
        let (source, exchange) = (&self.stage.source, &self.stage.running.exchange);
        let person = cnic("0000099999999");
        let name = Identifier::composite("Noor Mustafa", "Ghulam Mustafa", 2001).unwrap();
        let batch = |domain, identifier| {
            let point = blind(domain, &[identifier]).elements()[0];
            evaluation(domain, EvaluationReason::Intake, &[point])
        };
        let mut evaluate = batch(IdentifierDomain::Victim, &person);
        let second = batch(IdentifierDomain::Composite, &name);
        evaluate.batches.extend(second.batches);
        let evaluated = OprfServiceClient::new(source.custodian[0].clone())
            .evaluate_identifiers(source.asked(evaluate.clone()))
            .await;

        let find = Secrets::of(exchange).question(&[person, name]);
        let found = source.party.find(find.clone()).await;

        let submit = Submit::new(Arc::clone(&self.stage));
        let (deposit, deposited) = submit.deposit(0).await.unwrap();
        let put = deposit.put_request(deposited.deposit_receipt.clone());
        let put_length = put.encoded_len();
        let answer = submit.ask(0, put).await.unwrap();
        let activate = ActivateKeyRequest {
            request_id: id(),
            put_receipt: answer.receipt.clone(),
        };
        let activated = KeyServiceClient::new(source.custodian[0].clone())
            .activate_key(source.asked(activate.clone()))
            .await;
        [
            (
                evaluate.encoded_len(),
                evaluated.unwrap().get_ref().encoded_len(),
            ),
            (find.encoded_len(), found.unwrap().encoded_len()),
            (deposit.deposit().encoded_len(), deposited.encoded_len()),
            (put_length, answer.encoded_len()),
            (
                activate.encoded_len(),
                activated.unwrap().get_ref().encoded_len(),
            ),
        ]
        .map(|(request, answer)| Payload { request, answer })
        .into()
    }

    fn servers(stage: &Stage) -> Servers {
        stage.both()
    }
}

impl Operation for Intake {
    type Request = CaseFile;

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<CaseFile> {
        std::iter::repeat_with(|| self.new_person())
            .take(count)
            .collect()
    }

    async fn call(&self, worker: usize, file: CaseFile) -> Result<(), Failure> {
        let connector = &self.connectors[worker % self.connectors.len()];
        connector.submit_case(file, None).await?.delivered()?;
        Ok(())
    }
}

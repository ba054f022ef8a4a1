//! Pseudonyms seen from outside: the servers' own keys, as whoever copies their files holds them, and the raw
//! calls by which an agency asks who somebody is.

use std::{fs, path::PathBuf};

use amanat::development::Exchange;
use amanat_connector::{ConnectorError, Server};
use amanat_schema::{
    AgencyId,
    identifier::Identifier,
    subject::{
        BlindedBatch, EpochToken, EvaluateIdentifiersRequest, EvaluationReason, FindSubjectRequest,
        FindSubjectResponse, IdentifierDomain, IdentifierTokens, PlantCanaryRequest,
        SubjectIdentifierType, oprf_service_client::OprfServiceClient,
        subject_service_client::SubjectServiceClient,
    },
};
use amanat_seal::{
    oprf::{Blinding, Evaluated, OprfInput, OprfKey},
    pseudonym::Peppers,
};

use crate::party::{Party, asked, id};

/// The one epoch of a new exchange's keys.
pub const EPOCH: u32 = 1;

/// Where an exchange's servers keep their keys.
pub struct Secrets {
    gateway: PathBuf,
    custodian: PathBuf,
}

impl Secrets {
    pub fn of(exchange: &Exchange) -> Self {
        Self {
            gateway: exchange.gateway.folder.join("keys"),
            custodian: exchange.custodian.folder.join("keys"),
        }
    }

    /// Every secret of 32 bytes, with the file that it is in.
    pub fn all(&self) -> Vec<(PathBuf, [u8; 32])> {
        let folders = [&self.gateway, &self.custodian];
        let files = folders.map(|folder| fs::read_dir(folder).unwrap());
        let mut all = Vec::new();
        for file in files.into_iter().flatten() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let bytes = hex::decode(text.trim()).unwrap_or_default();
            all.extend(bytes.try_into().map(|secret| (path, secret)));
        }
        all.sort();
        all
    }

    pub fn seed(&self, domain: IdentifierDomain) -> [u8; 32] {
        let name = domain.as_str_name().to_lowercase();
        let name = name.trim_start_matches("identifier_domain_");
        read(self.custodian.join(format!("oprf-{name}-{EPOCH}.key")))
    }

    pub fn pepper(&self) -> [u8; 32] {
        read(self.gateway.join("pepper-1.key"))
    }

    /// What the gateway stores of an agency's token.
    pub fn stored(&self, agency: AgencyId, token: &[u8; 64]) -> [u8; 32] {
        Peppers::from_keys(vec![self.pepper().into()])
            .unwrap()
            .stored(agency, token)
    }

    /// The token that this exchange makes of an identifier, without asking anybody.
    pub fn token(&self, domain: IdentifierDomain, identifier: &Identifier) -> [u8; 64] {
        let key = OprfKey::from_seed(&self.seed(domain)).unwrap();
        let blinding = blind(domain, &[identifier]);
        let blinded: Vec<_> = blinding.elements().iter().map(|e| e.to_vec()).collect();
        let Evaluated { elements, proof } = key.evaluate(&blinded).unwrap();
        let evaluated: Vec<_> = elements.iter().map(|e| e.to_vec()).collect();
        let tokens = blinding.finalize(&evaluated, &proof, &key.public_key());
        *tokens.unwrap()[0].as_bytes()
    }

    /// As an agency presents identifiers to the gateway.
    pub fn presented(&self, identifiers: &[Identifier]) -> Vec<IdentifierTokens> {
        let presented = identifiers.iter().map(|identifier| IdentifierTokens {
            r#type: identifier.kind().into(),
            tokens: vec![EpochToken {
                epoch: EPOCH,
                token: self.token(identifier.domain(), identifier).to_vec(),
            }],
        });
        presented.collect()
    }

    /// An intake's question about one person, of which every byte is known here.
    pub fn question(&self, about: &[Identifier]) -> FindSubjectRequest {
        FindSubjectRequest {
            request_id: id(),
            identifiers: self.presented(about),
            nonce: [id(), id()].concat(),
            reason: EvaluationReason::Intake.into(),
        }
    }
}

/// A secret of 64 hexadecimal digits.
fn read(path: PathBuf) -> [u8; 32] {
    let digits = fs::read_to_string(path).unwrap();
    hex::decode(digits.trim()).unwrap().try_into().unwrap()
}

pub fn cnic(number: &str) -> Identifier {
    Identifier::parse(SubjectIdentifierType::Cnic, number).unwrap()
}

pub fn phone(number: &str) -> Identifier {
    Identifier::parse(SubjectIdentifierType::Phone, number).unwrap()
}

pub fn blind(domain: IdentifierDomain, identifiers: &[&Identifier]) -> Blinding {
    let inputs = identifiers.iter().map(|one| OprfInput::new(domain, one));
    Blinding::new(inputs.collect::<Result<_, _>>().unwrap()).unwrap()
}

/// A question to the custodian for a case of its own.
pub fn evaluation(
    domain: IdentifierDomain,
    reason: EvaluationReason,
    points: &[[u8; 32]],
) -> EvaluateIdentifiersRequest {
    let of_a_case = reason != EvaluationReason::Canary;
    EvaluateIdentifiersRequest {
        request_id: id(),
        case_id: if of_a_case { id() } else { Vec::new() },
        reason: reason.into(),
        batches: vec![BlindedBatch {
            domain: domain.into(),
            epoch: EPOCH,
            blinded_elements: points.iter().map(|point| point.to_vec()).collect(),
        }],
    }
}

/// What an identifier was on its way through the custodian.
pub struct Walked {
    pub blinded: [u8; 32],
    pub evaluated: Vec<u8>,
    pub token: [u8; 64],
}

impl Party {
    /// The custodian's answer about one identifier in a domain, checked against the key that the exchange's
    /// directory lists.
    pub async fn evaluate(
        &self,
        public_key: &[u8; 32],
        domain: IdentifierDomain,
        identifier: &Identifier,
    ) -> Walked {
        let blinding = blind(domain, &[identifier]);
        let blinded = blinding.elements()[0];
        let request = evaluation(domain, EvaluationReason::Search, &[blinded]);
        let answer = OprfServiceClient::new(self.channel(Server::Custodian))
            .evaluate_identifiers(asked(request, &self.token()))
            .await;
        let mut batches = answer.unwrap().into_inner().batches;
        let batch = batches.pop().unwrap();
        let evaluated = batch.evaluated_elements;
        let tokens = blinding.finalize(&evaluated, &batch.proof, public_key);
        Walked {
            blinded,
            token: *tokens.unwrap()[0].as_bytes(),
            evaluated: evaluated.into_iter().next().unwrap(),
        }
    }

    /// Two officers plant an invented person's identifier at the gateway.
    pub async fn plant(&self, canary: &IdentifierTokens) {
        for officer in [self.officer.clone(), self.colleague()] {
            let request = PlantCanaryRequest {
                request_id: id(),
                identifier: Some(canary.clone()),
                label: "ledger 7".to_owned(),
                nonce: [id(), id()].concat(),
            };
            SubjectServiceClient::new(self.channel(Server::Gateway))
                .plant_canary(asked(request, &self.token_of(&officer)))
                .await
                .unwrap();
        }
    }

    /// Asks the gateway for this agency's pseudonym.
    pub async fn find(
        &self,
        request: FindSubjectRequest,
    ) -> Result<FindSubjectResponse, ConnectorError> {
        let answer = SubjectServiceClient::new(self.channel(Server::Gateway))
            .find_subject(asked(request, &self.token()))
            .await;
        Ok(answer?.into_inner())
    }
}

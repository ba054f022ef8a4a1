//! The OPRF as the tests have it: keys, and what agencies and oversight ask.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use amanat_schema::{
    audit::EntryBody,
    identifier::Identifier,
    subject::{
        BlindedBatch, EvaluateIdentifiersRequest, EvaluateIdentifiersResponse, EvaluationReason,
        IdentifierDomain, ListUnusedEvaluationsRequest, ListUnusedEvaluationsResponse,
        SubjectIdentifierType, UnusedEvaluation, oprf_service_server::OprfService as _,
    },
};
use amanat_seal::{
    oprf::{Blinding, OprfInput, OprfKey},
    pseudonym::HandleKey,
    sha256,
};
use prost::Message as _;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{
    acts::OFFICER,
    exchange::{Agency, CASE, id},
    world::World,
};
use crate::{
    config::{Domain, Oprf, OprfKeyFile},
    oprf::{OprfDesk, OprfKeys},
};

/// The custodian's OPRF keys: victims' change epochs just now.
pub(super) const OPRF_KEYS: [(Domain, u32); 4] = [
    (Domain::Victim, 1),
    (Domain::Victim, 2),
    (Domain::Composite, 1),
    (Domain::Suspect, 1),
];
/// How many identifiers a day.
pub(super) const OFFICERS: u32 = 40;
pub(super) const AGENCYS: u32 = 50;
/// How long a deposit may take.
pub(super) const TERM: Duration = Duration::from_hours(72);
pub(super) const COLLEAGUE: &str = "officer 2";

pub(super) fn inputs(domain: IdentifierDomain, count: u32) -> Vec<OprfInput> {
    let input = |n: u32| {
        let identifier = if domain == IdentifierDomain::Composite {
            Identifier::composite(&format!("name {n}"), "father", 1990)
        } else {
            Identifier::parse(SubjectIdentifierType::Cnic, &format!("00000{n:08}"))
        };
        OprfInput::new(domain, &identifier.unwrap()).unwrap()
    };
    (0..count).map(input).collect()
}

pub(super) fn batch(domain: IdentifierDomain, epoch: u32, count: u32) -> BlindedBatch {
    let blinding = Blinding::new(inputs(domain, count)).unwrap();
    BlindedBatch {
        domain: domain.into(),
        epoch,
        blinded_elements: points(&blinding),
    }
}

pub(super) fn points(blinding: &Blinding) -> Vec<Vec<u8>> {
    blinding.elements().iter().map(|e| e.to_vec()).collect()
}

/// So many identifiers of victims, for a new record.
pub(super) fn intake(case: [u8; 16], count: u32) -> EvaluateIdentifiersRequest {
    EvaluateIdentifiersRequest {
        request_id: id().to_vec(),
        case_id: case.to_vec(),
        reason: EvaluationReason::Intake.into(),
        batches: vec![batch(IdentifierDomain::Victim, 1, count)],
    }
}

pub(super) fn canary() -> EvaluateIdentifiersRequest {
    EvaluateIdentifiersRequest {
        case_id: vec![],
        reason: EvaluationReason::Canary.into(),
        ..intake(CASE, 1)
    }
}

/// The fields that a refusal names.
pub(super) fn fields<T>(answer: Result<T, Status>) -> Vec<String> {
    let details = answer.err().expect("a refusal").get_error_details();
    let violations = details.bad_request().unwrap().field_violations.clone();
    violations.into_iter().map(|found| found.field).collect()
}

impl World {
    pub(super) fn oprf(&self) -> OprfDesk {
        let keys = OprfKeys::load(&self.oprf_config(), &self.rules.current().directory);
        OprfDesk {
            desk: self.custodian.desk.clone(),
            keys: Arc::new(keys.unwrap()),
            handles: Arc::new(HandleKey::from_bytes(&[7; 32]).unwrap()),
            identifiers: crate::metrics::IDENTIFIERS_EVALUATED.counter(),
        }
    }

    pub(super) fn oprf_config(&self) -> Oprf {
        let keys = OPRF_KEYS.map(|(domain, epoch)| OprfKeyFile {
            domain,
            epoch,
            seed: seed_file(self.folder.path(), domain, epoch),
        });
        Oprf {
            keys: keys.into(),
            officer_per_day: OFFICERS.try_into().unwrap(),
            agency_per_day: AGENCYS.try_into().unwrap(),
            deposit_within_h: 72.try_into().unwrap(),
        }
    }

    pub(super) async fn evaluate(
        &self,
        agency: &Agency,
        officer: &str,
        request: EvaluateIdentifiersRequest,
    ) -> Result<EvaluateIdentifiersResponse, Status> {
        let request = agency.asks(officer, request);
        let answer = self.oprf().evaluate_identifiers(request).await?;
        Ok(answer.into_inner())
    }

    /// By the shelter's officer.
    pub(super) async fn take_in(&self, count: u32) -> Result<EvaluateIdentifiersResponse, Status> {
        self.evaluate(&self.shelter, OFFICER, intake(CASE, count))
            .await
    }

    pub(super) async fn list(
        &self,
        request: ListUnusedEvaluationsRequest,
    ) -> Result<ListUnusedEvaluationsResponse, Status> {
        let request = self.commission.asks(OFFICER, request);
        let answer = self.oprf().list_unused_evaluations(request).await?;
        Ok(answer.into_inner())
    }

    /// What oversight is told when the time of all is over.
    pub(super) async fn unused(&self) -> Vec<UnusedEvaluation> {
        self.list(ListUnusedEvaluationsRequest::default())
            .await
            .unwrap()
            .evaluations
    }

    /// How many identifiers wait for a deposit, their time over or not.
    pub(super) async fn unaccounted(&self) -> Vec<u32> {
        let all = ListUnusedEvaluationsRequest {
            include_running: true,
            ..ListUnusedEvaluationsRequest::default()
        };
        let evaluations = self.list(all).await.unwrap().evaluations;
        evaluations.into_iter().map(|found| found.count).collect()
    }

    pub(super) async fn last_body(&self) -> EntryBody {
        let body: Vec<u8> = self
            .value("SELECT body FROM entries ORDER BY idx DESC LIMIT 1")
            .await;
        EntryBody::decode(body.as_slice()).unwrap()
    }
}

pub(super) fn write_seeds(folder: &Path) {
    for (domain, epoch) in OPRF_KEYS {
        let digits = hex::encode(seed(domain, epoch));
        let path = seed_file(folder, domain, epoch);
        amanat_config::write_private(&path, digits.as_bytes()).unwrap();
    }
}

fn seed(domain: Domain, epoch: u32) -> [u8; 32] {
    sha256(format!("{domain:?} {epoch}").as_bytes())
}

fn seed_file(folder: &Path, domain: Domain, epoch: u32) -> PathBuf {
    folder.join(format!("oprf-{domain:?}-{epoch}.key"))
}

pub(super) fn public_key(domain: Domain, epoch: u32) -> [u8; 32] {
    let key = OprfKey::from_seed(&seed(domain, epoch)).unwrap();
    key.public_key()
}

pub(super) fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

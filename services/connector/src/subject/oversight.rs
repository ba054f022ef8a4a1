//! What an oversight desk does about officers who walk identifiers.

use amanat_schema::{
    AgencyId, Time,
    audit::Action,
    identifier::Identifier,
    subject::{
        CanaryHit, EvaluationReason, ListCanaryHitsRequest, ListUnusedEvaluationsRequest,
        PlantCanaryRequest, UnusedEvaluation,
    },
};

use super::{CUSTODIAN, GATEWAY};
use crate::{
    Connector, ConnectorError, Delivery, Server, case::request_id, client::with_token, jobs::Asked,
    pages::Pages,
};

/// Somebody asked for a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryHitSeen {
    pub label: String,
    pub agency: AgencyId,
    /// The same for the same officer of the agency, hexadecimal; which officer it is, the agency can tell.
    pub officer: String,
    pub hit: Time,
}

/// Identifiers that were evaluated and became no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedSeen {
    pub agency: AgencyId,
    /// As in [`CanaryHitSeen::officer`], but of the custodian.
    pub officer: String,
    pub reason: EvaluationReason,
    /// How many of them no deposit accounts for.
    pub count: u32,
    pub evaluated: Time,
    /// By when the deposit had to come.
    pub deposit_by: Time,
}

impl Connector {
    /// Plants an invented person's identifier: whoever asks for it raises an alarm, and is not told.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] with ACCESS_DENIED for anybody but an auditor of OVERSIGHT.
    pub async fn plant_canary(
        &self,
        identifier: Identifier,
        label: &str,
    ) -> Result<Delivery, ConnectorError> {
        let mut evaluated = self
            .evaluate(&[identifier], None, EvaluationReason::Canary)
            .await?;
        let request = PlantCanaryRequest {
            request_id: request_id()?,
            identifier: evaluated.identifiers.pop(),
            label: label.to_owned(),
            nonce: amanat_seal::random::<32>()?.to_vec(),
        };
        let asked = Asked::of(Server::Gateway, Action::PlantCanary, &request);
        let session = self.session()?;
        let request = with_token(request, &session.signer.token()?)?;
        let answer = session.servers.subjects().plant_canary(request).await?;
        let receipt = answer.into_inner().receipt;
        let proven = self.keep_receipt(&asked, receipt.as_ref()).await?;
        let planted = (Server::Gateway, proven.index);
        Ok(Delivery {
            entries: evaluated.entry.into_iter().chain([planted]).collect(),
        })
    }

    /// Who asked for a canary, oldest first.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`]; [`ConnectorError::Untrustworthy`] if the list is malformed.
    pub async fn canary_hits(&self) -> Result<Vec<CanaryHitSeen>, ConnectorError> {
        let mut hits = Vec::new();
        let mut pages = Pages::default();
        loop {
            let request = ListCanaryHitsRequest {
                page_size: 0,
                page_token: pages.token(),
            };
            let asked = Asked::of(Server::Gateway, Action::ListCanaryHits, &request);
            let session = self.session()?;
            let request = with_token(request, &session.signer.token()?)?;
            let answer = session.servers.subjects().list_canary_hits(request).await?;
            let answer = answer.into_inner();
            self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
            for hit in &answer.hits {
                hits.push(
                    CanaryHitSeen::parse(hit).ok_or_else(|| {
                        ConnectorError::untrustworthy(GATEWAY, "a malformed list")
                    })?,
                );
            }
            if !pages.next(GATEWAY, answer.next_page_token)? {
                return Ok(hits);
            }
        }
    }

    /// The evaluations that no deposit accounts for in time, and those whose time still runs if asked.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`]; [`ConnectorError::Untrustworthy`] if the list is malformed.
    pub async fn unused_evaluations(
        &self,
        include_running: bool,
        agency: Option<AgencyId>,
    ) -> Result<Vec<UnusedSeen>, ConnectorError> {
        let mut evaluations = Vec::new();
        let mut pages = Pages::default();
        loop {
            let request = ListUnusedEvaluationsRequest {
                include_running,
                agency_id: agency.map(AgencyId::to_vec).unwrap_or_default(),
                page_size: 0,
                page_token: pages.token(),
            };
            let asked = Asked::of(Server::Custodian, Action::ListEvaluations, &request);
            let session = self.session()?;
            let request = with_token(request, &session.signer.token()?)?;
            let answer = session
                .servers
                .oprf()
                .list_unused_evaluations(request)
                .await?;
            let answer = answer.into_inner();
            self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
            for unused in &answer.evaluations {
                evaluations.push(
                    UnusedSeen::parse(unused).ok_or_else(|| {
                        ConnectorError::untrustworthy(CUSTODIAN, "a malformed list")
                    })?,
                );
            }
            if !pages.next(CUSTODIAN, answer.next_page_token)? {
                return Ok(evaluations);
            }
        }
    }
}

impl CanaryHitSeen {
    fn parse(wire: &CanaryHit) -> Option<Self> {
        Some(Self {
            label: wire.label.clone(),
            agency: AgencyId::parse(&wire.agency_id).ok()?,
            officer: hex::encode(&wire.officer_handle),
            hit: Time::parse(wire.hit_time.as_ref()).ok()?,
        })
    }
}

impl UnusedSeen {
    fn parse(wire: &UnusedEvaluation) -> Option<Self> {
        Some(Self {
            agency: AgencyId::parse(&wire.agency_id).ok()?,
            officer: hex::encode(&wire.officer_handle),
            reason: wire.reason(),
            count: wire.count,
            evaluated: Time::parse(wire.evaluate_time.as_ref()).ok()?,
            deposit_by: Time::parse(wire.deposit_by_time.as_ref()).ok()?,
        })
    }
}

//! Consents: from an officer's file to a signed statement at both ledgers.

use std::{collections::BTreeSet, time::Duration};

use amanat_schema::{
    AgencyId, CaseId, ConsentId, Time, Violation,
    audit::Action,
    catalogue::{self, FieldClass},
    consent::{
        ConsentStatus, ListConsentsRequest, RecordConsentRequest, RecordedConsent,
        WithdrawConsentRequest,
    },
    policy::Purpose,
    statement::{Consent, ConsentDecision, Withdrawal},
};
use prost::Message as _;
use serde::Deserialize;

use crate::{
    Connector, ConnectorError, Delivery, Server,
    case::request_id,
    client::with_token,
    jobs::{Asked, Kind, NewJob},
    pages::{self, Pages},
};

/// A consent as an officer writes it down; unknown keys are refused. Without `Debug`: its evidence part tells
/// who took it from whom.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentFile {
    /// PERMIT or DENY.
    #[serde(default = "permit")]
    pub decision: String,
    /// Leaf paths, as in `needs.needs`.
    #[serde(default)]
    pub paths: Vec<String>,
    /// STATISTICAL or SENSITIVE: every leaf of the class, listed before signing.
    #[serde(default)]
    pub classes: Vec<String>,
    /// This agency's own name for the recipient.
    pub recipient: String,
    /// As in SHELTER.
    pub purpose: String,
    /// From now; 90 if absent, 7 if a LOCATION field is among them.
    pub valid_days: Option<u32>,
    /// 0 or absent: as many as the time allows.
    #[serde(default)]
    pub max_reads: u32,
    /// WRITTEN, THUMB_IMPRESSION, AUDIO or ORAL_WITNESSED.
    pub mode: String,
    /// The guardian's permit and the child's assent, for a minor.
    #[serde(default)]
    pub minor: bool,
    #[serde(default)]
    pub guardian_ok: bool,
    #[serde(default)]
    pub assent_ok: bool,
    /// The consent that this one replaces.
    pub supersedes: Option<ConsentId>,
    /// How it was obtained; sealed, kept by the gateway, readable by this agency alone.
    #[serde(default)]
    pub evidence: serde_json::Map<String, serde_json::Value>,
}

fn permit() -> String {
    "PERMIT".to_owned()
}

/// A consent that was handed in.
#[derive(Debug, Clone)]
pub struct Granted {
    pub consent: ConsentId,
    pub recipient: AgencyId,
    pub purpose: Purpose,
    pub paths: Vec<String>,
    pub expires: Time,
    pub delivery: Delivery,
}

/// Which consents to list.
#[derive(Debug, Clone, Default)]
pub struct ConsentQuery {
    pub case: Option<CaseId>,
    pub recipient: Option<AgencyId>,
    pub purpose: Option<Purpose>,
    /// At most this many; all of them if absent.
    pub limit: Option<usize>,
}

impl From<Option<CaseId>> for ConsentQuery {
    /// All of a case, or of every case.
    fn from(case: Option<CaseId>) -> Self {
        Self {
            case,
            ..Self::default()
        }
    }
}

/// A consent in a list.
#[derive(Debug, Clone)]
pub struct ConsentSeen {
    pub consent: ConsentId,
    pub case: CaseId,
    pub source: AgencyId,
    pub recipient: AgencyId,
    pub decision: ConsentDecision,
    pub purpose: Purpose,
    pub paths: Vec<String>,
    pub expires: Time,
    /// When the server recorded it.
    pub recorded: Time,
    pub status: ConsentStatus,
    /// False if the directory lists the source or its key no more: the signature can no longer be checked.
    pub verified: bool,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const USUAL_DAYS: u32 = 90;
const LOCATION_DAYS: u32 = 7;
const FORMAL: [&str; 2] = ["WRITTEN", "THUMB_IMPRESSION"];
const INFORMAL: [&str; 2] = ["AUDIO", "ORAL_WITNESSED"];
/// The label under which the evidence part is sealed.
const EVIDENCE: &str = "amanat/consent-evidence/v1";

impl Connector {
    /// Signs a consent over this agency's records of a case and hands it to both ledgers.
    ///
    /// # Errors
    /// [`ConnectorError::Invalid`] with every violation; otherwise as for any delivery.
    pub async fn grant_consent(
        &self,
        case: CaseId,
        file: &ConsentFile,
    ) -> Result<Granted, ConnectorError> {
        let consent = ConsentId::new(amanat_seal::random()?);
        let recipient = self.agency_named(&file.recipient)?;
        let Terms {
            decision,
            purpose,
            paths,
            days,
            formal_mode,
        } = file.terms()?;
        let now = self.now();
        let expires = now + DAY * days;
        let evidence = serde_json::to_vec(&(&file.mode, &file.evidence)).map_err(|_| {
            ConnectorError::Input {
                what: "the evidence part is not JSON".to_owned(),
                next: "mend the consent file, and grant it again",
            }
        })?;
        let sealed_evidence = self
            .local
            .wrap(EVIDENCE, &[consent.as_bytes()], &evidence)?;
        let statement = self.session()?.signer.sign(case, None, |head| Consent {
            head: Some(head),
            consent_id: consent.to_vec(),
            decision: decision.into(),
            paths: paths.clone(),
            recipient_id: recipient.to_vec(),
            source_id: self.profile.agency.to_vec(),
            purpose: purpose.into(),
            valid_from_time: Some(now.to_timestamp()),
            expire_time: Some(expires.to_timestamp()),
            max_reads: file.max_reads,
            onward_sharing: false,
            supersedes: file.supersedes.map(ConsentId::to_vec).unwrap_or_default(),
            formal_mode,
            guardian_ok: file.guardian_ok,
            assent_ok: file.assent_ok,
            minor: file.minor,
            evidence_sha256: amanat_seal::sha256(&sealed_evidence).to_vec(),
        })?;
        let request = |sealed_evidence| {
            Ok::<_, ConnectorError>(RecordConsentRequest {
                request_id: request_id()?,
                consent: Some(statement.clone()),
                sealed_evidence,
            })
        };
        let requests = vec![
            request(Vec::new())?.encode_to_vec(),
            request(sealed_evidence)?.encode_to_vec(),
        ];
        self.keep.granted(consent, case).await?;
        let delivery = self
            .deliver_now(Kind::Consent, &consent.to_string(), requests)
            .await?;
        Ok(Granted {
            consent,
            recipient,
            purpose,
            paths,
            expires,
            delivery,
        })
    }

    /// Withdraws a consent at both servers; each is told even if the other cannot be reached.
    ///
    /// # Errors
    /// [`ConnectorError::Input`] if this agency knows of no such consent; otherwise as for any delivery:
    /// what could not be delivered stays in the outbox.
    pub async fn withdraw_consent(&self, consent: ConsentId) -> Result<Delivery, ConnectorError> {
        let case = self.case_of_consent(consent).await?;
        let session = self.latest_session();
        let withdrawal = session.signer.sign(case, None, |head| Withdrawal {
            head: Some(head),
            consent_id: consent.to_vec(),
        })?;
        let subject = consent.to_string();
        let mut jobs = Vec::new();
        for kind in [Kind::WithdrawalToCustodian, Kind::WithdrawalToGateway] {
            let request = WithdrawConsentRequest {
                request_id: request_id()?,
                withdrawal: Some(withdrawal.clone()),
            };
            jobs.push(NewJob {
                kind,
                subject: &subject,
                requests: vec![request.encode_to_vec()],
            });
        }
        self.deliver_all(jobs).await
    }

    /// The case that a withdrawal must name: one that names another would close nothing. So no server alone is
    /// believed what it is.
    async fn case_of_consent(&self, consent: ConsentId) -> Result<CaseId, ConnectorError> {
        if let Some(case) = self.keep.case_of(consent).await? {
            return Ok(case);
        }
        let mut unverified = Vec::new();
        for server in [Server::Gateway, Server::Custodian] {
            match self.list_consents(server, None).await {
                Ok(consents) => match consents.iter().find(|seen| seen.consent == consent) {
                    Some(seen) if seen.verified => return Ok(seen.case),
                    Some(seen) => unverified.push(seen.case),
                    None => {}
                },
                // The other one may still answer.
                Err(ConnectorError::Unreachable(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let (what, next) = match unverified.as_slice() {
            [one, other] if one == other => return Ok(*one),
            [] => (
                "this agency neither granted nor received a consent of that id, as far as can be told now",
                "see `amanat consent list`",
            ),
            _ => (
                "the signature of that consent can no longer be checked, and not both servers say now which \
                 case it is of",
                "try again when both can be reached",
            ),
        };
        let what = what.to_owned();
        Err(ConnectorError::Unfit { what, next })
    }

    /// The consents that this agency signed or is the recipient of, at one server, oldest first.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`].
    pub async fn list_consents(
        &self,
        server: Server,
        query: impl Into<ConsentQuery>,
    ) -> Result<Vec<ConsentSeen>, ConnectorError> {
        let query = query.into();
        let mut consents = Vec::new();
        let mut pages = Pages::default();
        while let Some(page_size) = pages::size(query.limit, consents.len()) {
            let request = ListConsentsRequest {
                case_id: query.case.map(CaseId::to_vec).unwrap_or_default(),
                page_size,
                page_token: pages.token(),
                recipient_id: query.recipient.map(AgencyId::to_vec).unwrap_or_default(),
                purpose: query.purpose.unwrap_or_default().into(),
            };
            let asked = Asked::of(server, Action::ListConsents, &request);
            let session = self.session()?;
            let request = with_token(request, &session.signer.token()?)?;
            let answer = session
                .servers
                .consents(server)
                .list_consents(request)
                .await?
                .into_inner();
            self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
            for consent in &answer.consents {
                consents.push(self.seen_consent(server, consent)?);
            }
            if !pages.next(server.name(), answer.next_page_token)? {
                break;
            }
        }
        Ok(consents)
    }

    fn seen_consent(
        &self,
        server: Server,
        wire: &RecordedConsent,
    ) -> Result<ConsentSeen, ConnectorError> {
        let malformed = || ConnectorError::untrustworthy(server.name(), "a malformed consent");
        let envelope = wire.consent.as_ref().ok_or_else(malformed)?;
        let recorded = Time::parse(wire.record_time.as_ref()).map_err(|_| malformed())?;
        let told = self.told::<Consent>(server, envelope, Some(recorded))?;
        let terms = amanat_policy::parse_consent(&told.message).map_err(|_| malformed())?;
        Ok(ConsentSeen {
            consent: terms.consent,
            case: terms.case,
            source: terms.source,
            recipient: terms.recipient,
            decision: told.message.decision(),
            purpose: terms.purpose,
            paths: terms
                .paths
                .iter()
                .map(|field| field.field().path.to_owned())
                .collect(),
            expires: terms.expires_at,
            recorded,
            status: wire.status(),
            verified: told.verified,
        })
    }
}

/// What a file comes to.
struct Terms {
    decision: ConsentDecision,
    purpose: Purpose,
    paths: Vec<String>,
    days: u32,
    formal_mode: bool,
}

impl ConsentFile {
    fn terms(&self) -> Result<Terms, ConnectorError> {
        let mut violations = Vec::new();
        let mut wrong = |path: &str, expected: &str| {
            violations.push(Violation {
                path: path.to_owned(),
                expected: expected.to_owned(),
            });
        };
        let decision =
            ConsentDecision::from_str_name(&format!("CONSENT_DECISION_{}", self.decision));
        let decision = decision.filter(|decision| *decision != ConsentDecision::Unspecified);
        if decision.is_none() {
            wrong("decision", "PERMIT or DENY");
        }
        let purpose = Purpose::from_str_name(&format!("PURPOSE_{}", self.purpose));
        let purpose = purpose.filter(|purpose| *purpose != Purpose::Unspecified);
        if purpose.is_none() {
            wrong("purpose", "a purpose, as in SHELTER");
        }
        let formal_mode = FORMAL.contains(&self.mode.as_str());
        if !formal_mode && !INFORMAL.contains(&self.mode.as_str()) {
            wrong("mode", "WRITTEN, THUMB_IMPRESSION, AUDIO or ORAL_WITNESSED");
        }
        let mut paths = BTreeSet::new();
        for (at, path) in self.paths.iter().enumerate() {
            match catalogue::by_path(path) {
                Some(field) => {
                    paths.insert(field.id);
                }
                None => wrong(&format!("paths[{at}]"), "a leaf of the shared record"),
            }
        }
        for (at, class) in self.classes.iter().enumerate() {
            let class = match class.as_str() {
                "STATISTICAL" => FieldClass::Statistical,
                "SENSITIVE" => FieldClass::Sensitive,
                _ => {
                    wrong(
                        &format!("classes[{at}]"),
                        "STATISTICAL or SENSITIVE; list others by path",
                    );
                    continue;
                }
            };
            paths.extend(
                catalogue::FIELDS
                    .iter()
                    .filter(|f| f.class == class)
                    .map(|f| f.id),
            );
        }
        let locates = paths
            .iter()
            .any(|id| id.field().class == FieldClass::Location);
        let days = self
            .valid_days
            .unwrap_or(if locates { LOCATION_DAYS } else { USUAL_DAYS });
        match (decision, purpose) {
            (Some(decision), Some(purpose)) if violations.is_empty() => Ok(Terms {
                decision,
                purpose,
                paths: paths.iter().map(|id| id.field().path.to_owned()).collect(),
                days,
                formal_mode,
            }),
            _ => Err(ConnectorError::Invalid(violations)),
        }
    }
}

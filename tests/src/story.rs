//! One survivor's case as the attacks find it: a record of the police, her consent that the Dar-ul-Aman reads
//! some of it, and a referral that the Dar-ul-Aman accepted. And the single calls that it is made of.

use std::time::Duration;

use amanat_connector::{ConnectorError, NewReferral, Server, Submitted};
use amanat_schema::{
    AgencyId, CaseId, ConsentId, RecordId, ReferralId, Time,
    audit::Receipt,
    case_file::{self, CaseFile},
    catalogue::SCHEMA_VERSION,
    consent::{RecordConsentRequest, WithdrawConsentRequest},
    key::{ActivateKeyRequest, DepositKeyRequest},
    policy::{HandlingCode, Purpose},
    record::{MinorBand, Need, PutRecordRequest, ReadRecordRequest, RoutingValue, Urgency},
    statement::{Consent, ConsentDecision, Envelope, RecordHeader, Statement, Withdrawal},
};
use amanat_seal::{Binding, SUITE, SealedRecord};
use prost::Message as _;

use crate::{
    Running,
    party::{Party, asked, id, mask, now},
};

pub const POLICE: &str = "police-lahore";
pub const SHELTER: &str = "darul-aman-lahore";
pub const NGO: &str = "ngo-shelter";
pub const OVERSIGHT: &str = "oversight";

const POLICE_CASE: &str = include_str!("../../deploy/quickstart/police-case.json");
pub const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Sealed by its agency; the servers see bytes.
const EVIDENCE: &[u8] = b"sealed evidence";

/// What the survivor lets the Dar-ul-Aman read.
pub const PERMITTED: [&str; 2] = ["needs.needs", "subject.given_name"];

pub struct Story {
    pub case: CaseId,
    pub record: RecordId,
    /// The police.
    pub source: AgencyId,
    pub consent: ConsentId,
    pub referral: ReferralId,
}

pub fn police_case() -> CaseFile {
    case_file::parse(&serde_json::from_str(POLICE_CASE).unwrap()).unwrap()
}

impl Story {
    /// All of it, up to where the Dar-ul-Aman may read.
    pub async fn tell(running: &Running) -> Self {
        let submitted = submit(running).await;
        let (police, shelter) = (Party::open(running, POLICE), Party::open(running, SHELTER));
        let (case, from) = (submitted.case, now() - HOUR);
        let (consent, statement) =
            consent(&police, case, shelter.agency, &PERMITTED, from, from + DAY);
        for server in [Server::Custodian, Server::Gateway] {
            record_consent(&police, server, &statement).await.unwrap();
        }
        let referral = refer(running, case, &PERMITTED).await;
        Self {
            case,
            record: submitted.record,
            source: police.agency,
            consent,
            referral,
        }
    }

    /// The Dar-ul-Aman's question.
    pub fn ask(&self, paths: &[&str]) -> ReadRecordRequest {
        ReadRecordRequest {
            request_id: Vec::new(),
            case_id: self.case.to_vec(),
            record_id: self.record.to_vec(),
            fields: mask(paths),
            purpose: Purpose::Shelter.into(),
            source_id: self.source.to_vec(),
        }
    }
}

/// The police hand in a record in a case of its own.
pub async fn submit(running: &Running) -> Submitted {
    let police = running.connector(POLICE).await;
    let submitted = police.submit_case(police_case(), None).await.unwrap();
    submitted.delivered().unwrap()
}

/// The police refer the case to the Dar-ul-Aman, which accepts.
pub async fn refer(running: &Running, case: CaseId, paths: &[&str]) -> ReferralId {
    let referral = refer_only(running, case, paths).await;
    let shelter = running.connector(SHELTER).await;
    shelter.acknowledge_referral(referral).await.unwrap();
    shelter.accept_referral(referral).await.unwrap();
    referral
}

/// The police refer the case to the Dar-ul-Aman, which has not answered.
pub async fn refer_only(running: &Running, case: CaseId, paths: &[&str]) -> ReferralId {
    let new = NewReferral {
        case,
        recipient: running.exchange.agencies[SHELTER].id,
        purpose: Purpose::Shelter,
        services: vec![Need::Safehouse],
        urgency: Urgency::Urgent,
        minor_band: MinorBand::Adult,
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    let police = running.connector(POLICE).await;
    police.submit_referral(&new).await.unwrap().referral
}

/// A permit, for SHELTER, in writing, signed by `source`.
pub fn consent(
    source: &Party,
    case: CaseId,
    recipient: AgencyId,
    paths: &[&str],
    from: Time,
    until: Time,
) -> (ConsentId, Statement) {
    let consent = ConsentId::parse(&id()).unwrap();
    let terms = |head| Consent {
        head: Some(head),
        consent_id: consent.to_vec(),
        decision: ConsentDecision::Permit.into(),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        recipient_id: recipient.to_vec(),
        source_id: source.agency.to_vec(),
        purpose: Purpose::Shelter.into(),
        valid_from_time: Some(from.to_timestamp()),
        expire_time: Some(until.to_timestamp()),
        formal_mode: true,
        evidence_sha256: amanat_seal::sha256(EVIDENCE).to_vec(),
        ..Consent::default()
    };
    (consent, source.sign(case, &[], terms))
}

/// Hands a signed consent to one ledger.
pub async fn record_consent(
    party: &Party,
    server: Server,
    consent: &Statement,
) -> Result<(), ConnectorError> {
    let sealed_evidence = match server {
        Server::Gateway => EVIDENCE.to_vec(),
        Server::Custodian => Vec::new(),
    };
    let request = RecordConsentRequest {
        request_id: id(),
        consent: Some(consent.clone()),
        sealed_evidence,
    };
    party.consents(server).record_consent(request).await?;
    Ok(())
}

/// Withdraws a consent at one server only.
pub async fn withdraw(
    party: &Party,
    server: Server,
    case: CaseId,
    consent: ConsentId,
) -> Result<(), ConnectorError> {
    let withdrawal = party.sign(case, &[], |head| Withdrawal {
        head: Some(head),
        consent_id: consent.to_vec(),
    });
    let request = WithdrawConsentRequest {
        request_id: id(),
        withdrawal: Some(withdrawal),
    };
    party.consents(server).withdraw_consent(request).await?;
    Ok(())
}

/// A record version that is sealed and signed, and not handed in.
pub struct Sealed {
    pub header: Statement,
    sealed: SealedRecord,
    routing: Vec<RoutingValue>,
}

impl Sealed {
    /// The police's case file under any ids, by any agency. `before` is the header that it follows.
    pub fn new(source: &Party, case: CaseId, record: RecordId, before: Option<&Envelope>) -> Self {
        Self::under(&source.token(), source, case, record, before)
    }

    /// Under an officer's token that serves for more than this.
    pub fn under(
        token: &str,
        source: &Party,
        case: CaseId,
        record: RecordId,
        before: Option<&Envelope>,
    ) -> Self {
        let previous = before.map(|before| RecordHeader::decode(before.payload.as_slice()));
        let binding = Binding {
            case,
            record,
            version: previous.map_or(1, |previous| previous.unwrap().version + 1),
            source: source.agency,
        };
        let file = police_case();
        let conflict = file.guardian_conflict();
        let file = file.with_derived(MinorBand::Adult, source.agency);
        let sealed = amanat_seal::seal_record(&binding, file.values()).unwrap();
        let (commitments, routing) = amanat_seal::commit_routing(&binding, file.values()).unwrap();
        let follows = before.map(|before| amanat_seal::sha256(&before.payload));
        let follows = follows.map(Vec::from).unwrap_or_default();
        let header = source.sign_with(token, case, &follows, |head| RecordHeader {
            head: Some(head),
            record_id: record.to_vec(),
            version: binding.version,
            schema_version: SCHEMA_VERSION,
            suite: SUITE,
            key_commitment: sealed.key_commitment.to_vec(),
            minor_band: MinorBand::Adult.into(),
            guardian_conflict: conflict.into(),
            handling_code: HandlingCode::H0None.into(),
            fields: sealed.fields.clone(),
            routing: commitments,
        });
        Self {
            header,
            sealed,
            routing,
        }
    }

    pub fn deposit(&self) -> DepositKeyRequest {
        DepositKeyRequest {
            request_id: id(),
            header: Some(self.header.clone()),
            record_key: self.sealed.key.expose().to_vec(),
        }
    }

    /// Deposits the key and puts the record; the key stays pending.
    pub async fn put(&self, source: &Party) -> Receipt {
        let deposited = source.keys().deposit_key(self.deposit()).await.unwrap();
        let put = self.put_request(deposited.into_inner().deposit_receipt);
        let put = source.records().put_record(put).await.unwrap();
        put.into_inner().receipt.unwrap()
    }

    /// What puts the record, with the custodian's receipt of its key.
    pub fn put_request(&self, deposit_receipt: Option<Envelope>) -> PutRecordRequest {
        PutRecordRequest {
            request_id: id(),
            header: Some(self.header.clone()),
            sealed: Some(self.sealed.slots.clone()),
            routing: self.routing.clone(),
            deposit_receipt,
        }
    }
}

/// Shows the custodian the receipt of a put.
pub async fn activate(source: &Party, put: Receipt) -> Result<(), ConnectorError> {
    let request = ActivateKeyRequest {
        request_id: id(),
        put_receipt: Some(put),
    };
    let request = asked(request, &source.token());
    source.keys().activate_key(request).await?;
    Ok(())
}

//! What the parties do in a test, honest unless the test changes it.

use std::{collections::BTreeMap, time::Duration};

use amanat_schema::{
    CaseId, RecordId,
    audit::{Action, Basis, EntryBody, Linkage, ReleasedField},
    catalogue::{self, FieldId, SCHEMA_VERSION},
    consent::{
        RecordConsentRequest, WithdrawConsentRequest, consent_service_server::ConsentService as _,
    },
    key::{
        ActivateKeyRequest, DepositKeyRequest, DepositKeyResponse, FieldKey, ReleaseKeysRequest,
        key_service_server::KeyService as _,
    },
    policy::{BasisKind, Decision, HandlingCode, Purpose, ReferralState},
    record::{GuardianConflict, MinorBand, Need, Urgency},
    statement::{
        Consent, ConsentDecision, Envelope, RecordHeader, Referral, Statement, Withdrawal,
    },
};
use amanat_seal::{Binding, RecordKey, SUITE, commit_routing, seal_record, sha256};
use prost_types::FieldMask;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::{
    exchange::{Agency, CASE, POLICE, SHELTER, id},
    gateway::{Entry, Logged},
    world::World,
};

pub(super) const NAMES: [&str; 2] = ["subject.given_name", "subject.family_name"];
pub(super) const OFFICER: &str = "officer 1";

/// What is wrong with a thing, and how it is made so.
pub(super) type Lie<T> = (&'static str, fn(&mut T));

/// One sealed version of the shelter's record.
pub(super) struct Version {
    pub(super) binding: Binding,
    pub(super) header: Statement,
    pub(super) key: RecordKey,
}

impl Version {
    pub(super) fn sha256(&self) -> [u8; 32] {
        payload_sha256(self.header.envelope.as_ref().unwrap())
    }

    pub(super) fn field_key(&self, path: &str) -> Vec<u8> {
        let key = self.key.field_key(&self.binding, leaf(path));
        key.expose().to_vec()
    }
}

/// A statement that a release rests on.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) id: [u8; 16],
    pub(super) envelope: Envelope,
}

pub(super) fn leaf(path: &str) -> FieldId {
    catalogue::by_path(path).unwrap().id
}

pub(super) fn payload_sha256(envelope: &Envelope) -> [u8; 32] {
    sha256(&envelope.payload)
}

/// The published reason of a refusal.
pub(super) fn reason<T>(answer: Result<T, Status>) -> String {
    let status = answer.err().expect("a refusal");
    status
        .get_error_details()
        .error_info()
        .unwrap()
        .reason
        .clone()
}

impl World {
    pub(super) fn first_version(&self) -> Version {
        self.version(CASE, RecordId::new(id()), 1, vec![])
    }

    pub(super) fn next_version(&self, before: &Version) -> Version {
        let Binding {
            record, version, ..
        } = before.binding;
        self.version(CASE, record, version + 1, before.sha256().to_vec())
    }

    pub(super) fn version(
        &self,
        case: [u8; 16],
        record: RecordId,
        version: u32,
        follows: Vec<u8>,
    ) -> Version {
        let binding = Binding {
            case: CaseId::new(case),
            record,
            version,
            source: SHELTER,
        };
        let sealed = seal_record(&binding, &BTreeMap::new()).unwrap();
        let (routing, _) = commit_routing(&binding, &BTreeMap::new()).unwrap();
        let header = self.shelter.states(self.now(), |mut head| {
            head.case_id = case.to_vec();
            head.follows = follows;
            RecordHeader {
                head: Some(head),
                record_id: record.to_vec(),
                version,
                schema_version: SCHEMA_VERSION,
                suite: SUITE,
                key_commitment: sealed.key_commitment.to_vec(),
                minor_band: MinorBand::Adult.into(),
                guardian_conflict: GuardianConflict::None.into(),
                handling_code: HandlingCode::H0None.into(),
                fields: sealed.fields,
                routing,
            }
        });
        Version {
            binding,
            header,
            key: sealed.key,
        }
    }

    pub(super) async fn deposit(&self, version: &Version) -> Result<DepositKeyResponse, Status> {
        let key = version.key.expose().to_vec();
        self.deposit_as(&version.header, key, id()).await
    }

    pub(super) async fn deposit_as(
        &self,
        header: &Statement,
        record_key: Vec<u8>,
        request_id: [u8; 16],
    ) -> Result<DepositKeyResponse, Status> {
        let request = self.shelter.connect(Request::new(DepositKeyRequest {
            request_id: request_id.to_vec(),
            header: Some(header.clone()),
            record_key,
        }));
        let answer = self.custodian.deposit_key(request).await;
        answer.map(tonic::Response::into_inner)
    }

    /// The gateway's entry of a put.
    pub(super) fn put(&self, version: &Version) -> Entry {
        let mut entry = self.entry(Action::PutRecord, version);
        entry.body.agency_id = SHELTER.to_vec();
        entry.body.certificate_sha256 = self.shelter.certificate.to_vec();
        entry.linkage.statement_sha256 = version.sha256().to_vec();
        entry
    }

    pub(super) fn log(&self, entry: Entry) -> Logged {
        self.gateway.log.lock().unwrap().append(entry)
    }

    pub(super) async fn activate(&self, put: &Logged) -> Result<(), Status> {
        let request = self.shelter.asks(
            OFFICER,
            ActivateKeyRequest {
                request_id: id().to_vec(),
                put_receipt: Some(put.receipt.clone()),
            },
        );
        self.custodian.activate_key(request).await.map(drop)
    }

    pub(super) async fn keep(&self, version: &Version) {
        self.deposit(version).await.unwrap();
        self.put_late(version).await;
    }

    /// The gateway takes a version that was deposited before.
    pub(super) async fn put_late(&self, version: &Version) {
        self.activate(&self.log(self.put(version))).await.unwrap();
    }

    /// A consent for the police to read the names, not yet recorded.
    pub(super) fn consent(&self, change: impl FnOnce(&mut Consent)) -> (Ground, Statement) {
        self.consent_by(&self.shelter, change)
    }

    pub(super) fn consent_by(
        &self,
        source: &Agency,
        change: impl FnOnce(&mut Consent),
    ) -> (Ground, Statement) {
        let now = self.now();
        let consent_id = id();
        let statement = source.states(now, |head| {
            let mut consent = Consent {
                head: Some(head),
                consent_id: consent_id.to_vec(),
                decision: ConsentDecision::Permit.into(),
                paths: NAMES.map(str::to_owned).to_vec(),
                recipient_id: POLICE.to_vec(),
                source_id: source.id.to_vec(),
                purpose: Purpose::Investigation.into(),
                valid_from_time: Some(now.to_timestamp()),
                expire_time: Some((now + Duration::from_hours(24 * 30)).to_timestamp()),
                formal_mode: true,
                evidence_sha256: vec![0; 32],
                ..Consent::default()
            };
            change(&mut consent);
            consent
        });
        let envelope = statement.envelope.clone().unwrap();
        let ground = Ground {
            id: consent_id,
            envelope,
        };
        (ground, statement)
    }

    pub(super) async fn record(&self, consent: Statement) {
        self.record_by(&self.shelter, consent).await;
    }

    pub(super) async fn record_by(&self, source: &Agency, consent: Statement) {
        let request = source.connect(Request::new(RecordConsentRequest {
            request_id: id().to_vec(),
            consent: Some(consent),
            sealed_evidence: vec![],
        }));
        self.consents().record_consent(request).await.unwrap();
    }

    pub(super) async fn consented(&self, change: impl FnOnce(&mut Consent)) -> Ground {
        let (ground, statement) = self.consent(change);
        self.record(statement).await;
        ground
    }

    pub(super) async fn withdraw(&self, consent: &Ground) {
        let withdrawal = self.shelter.states(self.now(), |head| Withdrawal {
            head: Some(head),
            consent_id: consent.id.to_vec(),
        });
        let request = self.shelter.connect(Request::new(WithdrawConsentRequest {
            request_id: id().to_vec(),
            withdrawal: Some(withdrawal),
        }));
        self.consents().withdraw_consent(request).await.unwrap();
    }

    /// The shelter's referral of the case to the police.
    pub(super) fn referral(&self, change: impl FnOnce(&mut Referral)) -> Ground {
        self.referral_by(&self.shelter, change)
    }

    pub(super) fn referral_by(
        &self,
        sender: &Agency,
        change: impl FnOnce(&mut Referral),
    ) -> Ground {
        let referral_id = id();
        let mut referral = Referral {
            head: Some(sender.head(self.now())),
            referral_id: referral_id.to_vec(),
            recipient_id: POLICE.to_vec(),
            purpose: Purpose::Investigation.into(),
            services: vec![Need::LegalAid.into()],
            urgency: Urgency::Routine.into(),
            minor_band: MinorBand::Adult.into(),
            paths: NAMES.map(str::to_owned).to_vec(),
            previous_referral_id: vec![],
        };
        change(&mut referral);
        Ground {
            id: referral_id,
            envelope: sender.sign(&referral),
        }
    }

    /// The gateway's entry of an allowed read of the names by the police.
    pub(super) fn read(&self, version: &Version, consent: &Ground, referral: &Ground) -> Entry {
        let mut entry = self.entry(Action::ReadRecord, version);
        entry.body.expire_time = Some((self.now() + Duration::from_secs(60)).to_timestamp());
        entry.body.released = NAMES
            .map(|path| released(path, BasisKind::Consent, Some(0)))
            .to_vec();
        entry.body.referral_state = ReferralState::Accepted.into();
        entry.linkage.referral_id = referral.id.to_vec();
        entry.linkage.bases = vec![Basis {
            kind: BasisKind::Consent.into(),
            id: consent.id.to_vec(),
            statement_sha256: payload_sha256(&consent.envelope).to_vec(),
        }];
        entry
    }

    fn entry(&self, action: Action, version: &Version) -> Entry {
        let body = EntryBody {
            format: amanat_ledger::body::FORMAT,
            entry_id: id().to_vec(),
            origin: "gateway.test/log".to_owned(),
            boot_id: id().to_vec(),
            time: Some(self.now().to_timestamp()),
            action: action.into(),
            decision: Decision::Allow.into(),
            agency_id: POLICE.to_vec(),
            agency_kind: self.police.kind.into(),
            certificate_sha256: self.police.certificate.to_vec(),
            purpose: Purpose::Investigation.into(),
            directory_sha256: self.rules.current().directory.sha256().to_vec(),
            table_sha256: self.rules.current().table_sha256.to_vec(),
            ..EntryBody::default()
        };
        let linkage = Linkage {
            case_id: CASE.to_vec(),
            record_id: version.binding.record.to_vec(),
            version: version.binding.version,
            source_id: SHELTER.to_vec(),
            ..Linkage::default()
        };
        Entry {
            body,
            linkage,
            officer: OFFICER.to_owned(),
        }
    }

    pub(super) async fn release(
        &self,
        request: ReleaseKeysRequest,
    ) -> Result<Vec<FieldKey>, Status> {
        self.release_to(OFFICER, request).await
    }

    /// As another officer of the police.
    pub(super) async fn release_to(
        &self,
        officer: &str,
        request: ReleaseKeysRequest,
    ) -> Result<Vec<FieldKey>, Status> {
        let request = self.police.asks(officer, request);
        let answer = self.custodian.release_keys(request).await?;
        Ok(answer.into_inner().keys)
    }
}

/// Asks for the keys of the names.
pub(super) fn ask(read: &Logged, referral: &Ground) -> ReleaseKeysRequest {
    ReleaseKeysRequest {
        request_id: id().to_vec(),
        read_receipt: Some(read.receipt.clone()),
        officer: Some(read.officer.clone()),
        referral: Some(referral.envelope.clone()),
        fields: Some(mask(&NAMES)),
    }
}

pub(super) fn mask(paths: &[&str]) -> FieldMask {
    FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    }
}

pub(super) fn released(path: &str, kind: BasisKind, basis: Option<u32>) -> ReleasedField {
    ReleasedField {
        path: path.to_owned(),
        basis_kind: kind.into(),
        basis,
    }
}

//! Records: read and open, list; [`submit`] seals and hands in.

mod submit;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use amanat_identity::{Signed, SignedError};
use amanat_ledger::Proven;
use amanat_schema::{
    AgencyId, CaseId, RecordId, RequestId, Time,
    audit::Action,
    case_file,
    catalogue::FieldId,
    key::{ReleaseKeysRequest, ReleaseKeysResponse},
    policy::{BasisKind, Purpose, WithheldReason},
    record::{ListVersionsRequest, ReadRecordRequest, ReadRecordResponse, RecordVersion},
    statement::{Envelope, RecordHeader},
};
use amanat_seal::{FieldKey, Header};
use prost_types::FieldMask;

use crate::{
    Connector, ConnectorError, Server,
    again::{self, Attempts},
    client::with_token,
    jobs::Asked,
    keep::VersionRow,
    pages::{self, Pages},
    session::Session,
    trace,
};

pub(crate) use submit::version_of;
pub use submit::{SamePerson, Submitted, Undelivered};

/// What to read.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    pub case: CaseId,
    pub record: RecordId,
    pub source: AgencyId,
    /// Leaf paths, as in `subject.given_name`.
    pub fields: Vec<String>,
    pub purpose: Purpose,
}

/// An opened read. The record holds personal values: show it to the officer who asked, and to nobody else.
pub struct Read {
    pub case: CaseId,
    pub record_id: RecordId,
    pub source: AgencyId,
    pub version: u32,
    /// The released values, in the form of a case file; a released field without a value is absent.
    pub record: serde_json::Value,
    /// Path and basis of each released field.
    pub released: Vec<(String, BasisKind)>,
    pub withheld: Vec<(String, WithheldReason)>,
    /// The entry in the gateway's log.
    pub gateway_index: u64,
    /// The entry in the custodian's log; `None` if no sealed field was released.
    pub custodian_index: Option<u64>,
}

/// Which record versions to list.
#[derive(Debug, Clone, Default)]
pub struct VersionQuery {
    pub case: Option<CaseId>,
    pub record: Option<RecordId>,
    pub source: Option<AgencyId>,
    /// At most this many; all of them if absent.
    pub limit: Option<usize>,
}

impl From<Option<CaseId>> for VersionQuery {
    /// All of a case, or of every case.
    fn from(case: Option<CaseId>) -> Self {
        Self {
            case,
            ..Self::default()
        }
    }
}

/// A record version in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSeen {
    pub case: CaseId,
    pub record: RecordId,
    pub version: u32,
    pub source: AgencyId,
    /// Of the signed header's payload.
    pub header_sha256: [u8; 32],
    pub put: Time,
}

impl Connector {
    /// Reads fields of a record: the gateway decides and logs, the custodian decides again and releases
    /// the keys, and what is opened is exactly what the source sealed.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] with each field's public reason if nothing is released;
    /// [`ConnectorError::Untrustworthy`] if an answer does not hold.
    pub async fn read_case(&self, read: &ReadRequest) -> Result<Read, ConnectorError> {
        again::patiently(async {
            let mut attempts = Attempts::default();
            loop {
                let session = self.session()?;
                match trace::one(self.read(&session, read)).await {
                    Err(error) => attempts.go_on(self, &session, error).await?,
                    Ok(read) => return Ok(read),
                }
            }
        })
        .await
    }

    /// All of it by one session: the custodian releases to the certificate that the gateway decided for.
    async fn read(&self, session: &Session, read: &ReadRequest) -> Result<Read, ConnectorError> {
        let token = session.signer.token()?;
        let request = ReadRecordRequest {
            request_id: request_id()?,
            case_id: read.case.to_vec(),
            record_id: read.record.to_vec(),
            source_id: read.source.to_vec(),
            fields: Some(FieldMask {
                paths: read.fields.clone(),
            }),
            purpose: read.purpose.into(),
        };
        let asked = Asked::of(Server::Gateway, Action::ReadRecord, &request);
        let answer = session
            .servers
            .records()
            .read_record(with_token(request, &token)?)
            .await?;
        let answer = answer.into_inner();
        let entry = self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
        let header = self.check_header(read, &answer).await?;
        let released = check_entry(read, &header, &entry, &answer)?;

        let mut values = BTreeMap::new();
        for value in &answer.routing {
            let (field, bytes) = header
                .open_routing(value)
                .map_err(|e| ConnectorError::untrustworthy(GATEWAY, e))?;
            values.insert(field, bytes.to_vec());
        }
        let mut custodian_index = None;
        let sealed = answer.sealed.clone().unwrap_or_default();
        if !sealed.slots.is_empty() {
            let keys = self.release_keys(session, &answer, &entry, &token).await?;
            custodian_index = keys.receipt.as_ref().map(|receipt| receipt.index);
            for slot in &sealed.slots {
                let unknown = || ConnectorError::untrustworthy(GATEWAY, "there is no such field");
                let field = FieldId::parse(slot.field).ok_or_else(unknown)?;
                let key = keys
                    .keys
                    .iter()
                    .find(|key| key.field == slot.field)
                    .ok_or_else(|| {
                        ConnectorError::untrustworthy(CUSTODIAN, "a field's key is missing")
                    })?;
                let value = header
                    .open(field, &FieldKey::from_bytes(&key.key)?, &slot.ciphertext)
                    .map_err(|error| ConnectorError::untrustworthy(GATEWAY, error))?;
                values.insert(field, value.to_vec());
            }
        }
        values.retain(|_, value| !value.is_empty());
        let record = case_file::render(&values)
            .map_err(|error| ConnectorError::untrustworthy("source", error))?;
        Ok(Read {
            case: read.case,
            record_id: read.record,
            source: read.source,
            version: header.binding().version,
            record,
            released,
            withheld: answer
                .withheld
                .iter()
                .map(|w| (w.path.clone(), w.reason()))
                .collect(),
            gateway_index: entry.index,
            custodian_index,
        })
    }

    /// The record versions that this agency may know of, oldest first.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`].
    pub async fn list_versions(
        &self,
        query: impl Into<VersionQuery>,
    ) -> Result<Vec<VersionSeen>, ConnectorError> {
        let query = query.into();
        let mut versions = Vec::new();
        let mut pages = Pages::default();
        while let Some(page_size) = pages::size(query.limit, versions.len()) {
            let request = ListVersionsRequest {
                case_id: query.case.map(CaseId::to_vec).unwrap_or_default(),
                record_id: query.record.map(RecordId::to_vec).unwrap_or_default(),
                source_id: query.source.map(AgencyId::to_vec).unwrap_or_default(),
                page_size,
                page_token: pages.token(),
            };
            let asked = Asked::of(Server::Gateway, Action::ListVersions, &request);
            let session = self.session()?;
            let request = with_token(request, &session.signer.token()?)?;
            let answer = session
                .servers
                .records()
                .list_versions(request)
                .await?
                .into_inner();
            self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
            for version in &answer.versions {
                let seen = VersionSeen::parse(version)
                    .ok_or_else(|| ConnectorError::untrustworthy(GATEWAY, "a malformed list"))?;
                versions.push(seen);
            }
            if !pages.next(GATEWAY, answer.next_page_token)? {
                break;
            }
        }
        Ok(versions)
    }

    /// The header is the source's own, of the record asked for, and no older than one seen before.
    async fn check_header(
        &self,
        read: &ReadRequest,
        answer: &ReadRecordResponse,
    ) -> Result<Header, ConnectorError> {
        let envelope = answer.header.as_ref();
        let envelope =
            envelope.ok_or_else(|| ConnectorError::untrustworthy(GATEWAY, "there is no header"))?;
        let directory = Arc::clone(&self.session()?.directory);
        let signed = match Signed::<RecordHeader>::verify_envelope(envelope, &directory) {
            // It counts if it was put before. The custodian, which releases its keys, goes by its own time.
            Err(SignedError::Compromised) => {
                let put = self.put_time(read, envelope).await?;
                Signed::verify_recorded(envelope, &directory, put)?
            }
            signed => signed?,
        };
        let header = Header::parse(signed.message())
            .map_err(|_| ConnectorError::untrustworthy("source", "the header is not valid"))?;
        let binding = header.binding();
        if (binding.case, binding.record, binding.source) != (read.case, read.record, read.source) {
            return Err(ConnectorError::untrustworthy(
                GATEWAY,
                "the header is of another record",
            ));
        }
        let sha256 = signed.payload_sha256();
        if let Some((version, seen)) = self.keep.version(read.source, read.record).await? {
            let other = binding.version == version && seen != sha256;
            if binding.version < version || other {
                let what = format!("version {version} was seen here before");
                return Err(ConnectorError::untrustworthy(GATEWAY, what));
            }
        }
        let seen = VersionRow {
            source: read.source,
            record: read.record,
            version: binding.version,
            header_sha256: *sha256,
        };
        self.keep.saw_version(&seen).await?;
        Ok(header)
    }

    /// When the gateway recorded a header.
    async fn put_time(
        &self,
        read: &ReadRequest,
        header: &Envelope,
    ) -> Result<Time, ConnectorError> {
        let query = VersionQuery {
            case: Some(read.case),
            record: Some(read.record),
            source: Some(read.source),
            limit: None,
        };
        let sha256 = amanat_seal::sha256(&header.payload);
        let versions = self.list_versions(query).await?;
        let listed = versions.iter().find(|seen| seen.header_sha256 == sha256);
        let unlisted = || ConnectorError::untrustworthy(GATEWAY, "a version that it does not list");
        listed.map(|seen| seen.put).ok_or_else(unlisted)
    }

    async fn release_keys(
        &self,
        session: &Session,
        answer: &ReadRecordResponse,
        entry: &Proven,
        token: &str,
    ) -> Result<ReleaseKeysResponse, ConnectorError> {
        let slots = answer.sealed.iter().flat_map(|sealed| &sealed.slots);
        let paths = slots.filter_map(|slot| FieldId::parse(slot.field));
        let request = ReleaseKeysRequest {
            request_id: request_id()?,
            read_receipt: answer.receipt.clone(),
            officer: answer.officer.clone(),
            referral: answer.referral.clone(),
            fields: Some(FieldMask {
                paths: paths.map(|id| id.field().path.to_owned()).collect(),
            }),
        };
        let asked = Asked::of(Server::Custodian, Action::ReleaseKeys, &request);
        let call = with_token(request, token)?;
        let answer = session.servers.keys().release_keys(call).await?;
        let answer = answer.into_inner();
        let own = self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
        if own.body.counterpart_entry_sha256 != entry.entry.sha256() {
            let what = "the keys were released for another read";
            return Err(ConnectorError::untrustworthy(CUSTODIAN, what));
        }
        Ok(answer)
    }
}

const GATEWAY: &str = "gateway";
const CUSTODIAN: &str = "custodian";

/// What was answered is what was asked and what the log says: this record version, this purpose, and of
/// the fields asked each either released or withheld.
fn check_entry(
    read: &ReadRequest,
    header: &Header,
    entry: &Proven,
    answer: &ReadRecordResponse,
) -> Result<Vec<(String, BasisKind)>, ConnectorError> {
    let body = &entry.body;
    let slots = answer
        .sealed
        .iter()
        .flat_map(|sealed| sealed.slots.iter().map(|slot| slot.field));
    let fields = slots.chain(answer.routing.iter().map(|value| value.field));
    let answered = fields
        .filter_map(FieldId::parse)
        .map(|id| id.field().path.to_owned());
    let released = body.released.iter().map(|field| field.path.clone());
    let withheld = body.withheld.iter().map(|field| field.path.clone());
    let is_logged = sorted(answered) == sorted(released.clone())
        && sorted(released.chain(withheld)) == sorted(read.fields.iter().cloned())
        && body.withheld == answer.withheld
        && body.purpose() == read.purpose;
    let binding = header.binding();
    let is_linked = entry.linkage.as_ref().is_some_and(|linkage| {
        linkage.case_id == binding.case.as_bytes()
            && linkage.record_id == binding.record.as_bytes()
            && linkage.source_id == binding.source.as_bytes()
            && linkage.version == binding.version
    });
    if !is_logged || !is_linked {
        let what = "the log's entry is not the one of this answer";
        return Err(ConnectorError::untrustworthy(GATEWAY, what));
    }
    Ok(body
        .released
        .iter()
        .map(|field| (field.path.clone(), field.basis_kind()))
        .collect())
}

/// A field asked twice is answered once.
fn sorted(paths: impl Iterator<Item = String>) -> BTreeSet<String> {
    paths.collect()
}

impl VersionSeen {
    fn parse(wire: &RecordVersion) -> Option<Self> {
        Some(Self {
            case: CaseId::parse(&wire.case_id).ok()?,
            record: RecordId::parse(&wire.record_id).ok()?,
            version: wire.version,
            source: AgencyId::parse(&wire.source_id).ok()?,
            header_sha256: wire.header_sha256.as_slice().try_into().ok()?,
            put: Time::parse(wire.put_time.as_ref()).ok()?,
        })
    }
}

/// A fresh name for one mutation.
pub(crate) fn request_id() -> Result<Vec<u8>, ConnectorError> {
    Ok(RequestId::new(amanat_seal::random()?).to_vec())
}

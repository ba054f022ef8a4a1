//! Submissions: a new record, and corrections of one that this agency put.

use amanat_schema::{
    CaseId, RecordId,
    case_file::CaseFile,
    catalogue::SCHEMA_VERSION,
    key::{ActivateKeyRequest, DepositKeyRequest},
    policy::{HandlingCode, Purpose},
    record::PutRecordRequest,
    statement::RecordHeader,
};
use amanat_seal::{Binding, Header, SUITE, pseudonym::Pseudonym, sha256};
use prost::Message as _;

use super::{GATEWAY, ReadRequest, VersionQuery, VersionSeen, request_id};
use crate::{
    Connector, ConnectorError, Delivery, PendingJob, again,
    jobs::{Kind, NewJob, is_final},
    keep::VersionRow,
    subject::{by_phone_alone, links},
};

/// The field that a source reads to see a header that another connector of its agency put.
const ANY_FIELD: &str = "case.urgency";

/// Whether a correction is of the record's own person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamePerson {
    /// To be compared: whom the file's identifiers lead to, with whom the record is known here to be of.
    Compare,
    /// An officer has checked it.
    Checked,
}

/// A record that was handed in: durable, and delivered unless [`Submitted::undelivered`] says otherwise.
#[derive(Debug)]
pub struct Submitted {
    pub case: CaseId,
    pub record: RecordId,
    pub version: u32,
    /// This agency's pseudonym of the person; `None` while that waits, and for a correction that names no
    /// identifier.
    pub pseudonym: Option<Pseudonym>,
    /// This agency's other cases of the same person, oldest first, as far as this connector handed them in.
    pub own_cases: Vec<CaseId>,
    /// Nothing but a phone leads to those cases, and families share phones.
    pub by_phone_alone: bool,
    /// Of a correction: the pseudonym that the record had here, if it has another person's now.
    pub before: Option<Pseudonym>,
    /// The entries of the record's own delivery.
    pub delivery: Delivery,
    /// The entries of asking whose record it is.
    pub subject: Delivery,
    /// What is not delivered, the record first. It is in the outbox, unless a server refused it for good.
    pub undelivered: Vec<Undelivered>,
}

/// A part of a submission that is not delivered.
#[derive(Debug)]
pub struct Undelivered {
    /// As the outbox lists it.
    pub kind: &'static str,
    pub error: ConnectorError,
}

impl Undelivered {
    /// Whether a server refused it for good; otherwise it waits in the outbox.
    pub fn is_refused(&self) -> bool {
        is_final(&self.error)
    }
}

impl Submitted {
    /// Itself, if nothing is left to deliver.
    ///
    /// # Errors
    /// Why the first part was not delivered.
    pub fn delivered(mut self) -> Result<Self, ConnectorError> {
        if self.undelivered.is_empty() {
            Ok(self)
        } else {
            Err(self.undelivered.swap_remove(0).error)
        }
    }
}

impl Connector {
    /// Validates, seals and submits a case file as the first version of a new record, in a new case if
    /// none is named, and asks for this agency's pseudonym of the person. Both are durable before the first
    /// call. The pseudonym is asked for first, but the record does not wait for it.
    ///
    /// # Errors
    /// [`ConnectorError::Keep`] if it cannot be made durable, and [`ConnectorError::Refused`] if a server
    /// refuses the record for good. A record that waits in the outbox is no error:
    /// [`Submitted::undelivered`] says so.
    pub async fn submit_case(
        &self,
        file: CaseFile,
        case: Option<CaseId>,
    ) -> Result<Submitted, ConnectorError> {
        let binding = Binding {
            case: case.map_or_else(|| amanat_seal::random().map(CaseId::new), Ok)?,
            record: RecordId::new(amanat_seal::random()?),
            version: 1,
            source: self.profile.agency,
        };
        self.submit(file, &binding, None).await
    }

    /// Submits a case file as the next version of a record that this agency put before. The file is the
    /// whole record: what it leaves out is gone from the new version. Consents and referrals name fields,
    /// not versions, and stay as they are: so the file must be of the record's own person.
    ///
    /// # Errors
    /// [`ConnectorError::Unfit`] if this agency has no such record, a version of it is still in the outbox,
    /// or nothing here tells whose record it is; [`ConnectorError::AnotherPerson`] or [`ConnectorError::PersonUnchecked`] with nothing handed
    /// in; [`ConnectorError::Refused`] with VERSION_MISMATCH if somebody corrected it meanwhile; otherwise as
    /// [`Connector::submit_case`].
    pub async fn correct_case(
        &self,
        record: RecordId,
        file: CaseFile,
        person: SamePerson,
    ) -> Result<Submitted, ConnectorError> {
        let subject = record.to_string();
        let waits =
            |job: &PendingJob| job.kind == Kind::Submission.name() && job.subject == subject;
        if self.pending().await?.iter().any(waits) {
            return Err(ConnectorError::Unfit {
                what: "a version of this record is still in the outbox".to_owned(),
                next: "deliver it first: `amanat outbox deliver`",
            });
        }
        let newest = self.newest_own(record).await?;
        let binding = Binding {
            case: newest.case,
            record,
            version: newest.version + 1,
            source: self.profile.agency,
        };
        let known = self.keep.subject_of_record(record).await?;
        let is_same = match (person, known) {
            (SamePerson::Checked, _) => true,
            (SamePerson::Compare, None) => false,
            (SamePerson::Compare, Some(known)) => {
                self.is_of(known, binding.case, file.identifiers()).await?
            }
        };
        if !is_same {
            return Err(ConnectorError::Unfit {
                what: "nothing here tells whose record this is: the file has no document or phone, or \
                       another connector handed the record in"
                    .to_owned(),
                next: "make sure that the file is of the same person, then pass --person-checked",
            });
        }
        let follows = Some(newest.header_sha256);
        let mut submitted = self.submit(file, &binding, follows).await?;
        if let (Some(known), Some(now)) = (known, submitted.pseudonym) {
            let is_same = self.keep.stands_for(now, known).await?;
            submitted.before = (!is_same).then_some(known);
        }
        Ok(submitted)
    }

    /// Hands in both jobs, then delivers them.
    async fn submit(
        &self,
        file: CaseFile,
        binding: &Binding,
        follows: Option<[u8; 32]>,
    ) -> Result<Submitted, ConnectorError> {
        let record = binding.record.to_string();
        let identifiers = file.identifiers();
        let mut jobs = Vec::new();
        // A person without document or phone is a new one each time, so a correction does not ask again.
        if follows.is_none() || identifiers.iter().any(links) {
            jobs.push(NewJob {
                kind: Kind::Subject,
                subject: &record,
                requests: vec![crate::subject::ask(binding, &identifiers)?],
            });
        }
        jobs.push(NewJob {
            kind: Kind::Submission,
            subject: &record,
            requests: self.seal(file, binding, follows)?,
        });
        let kinds: Vec<_> = jobs.iter().map(|job| job.kind).collect();
        let numbers = self.hand_in(jobs).await?;

        let mut submitted = Submitted {
            case: binding.case,
            record: binding.record,
            version: binding.version,
            pseudonym: None,
            own_cases: Vec::new(),
            by_phone_alone: by_phone_alone(&identifiers),
            before: None,
            delivery: Delivery::default(),
            subject: Delivery::default(),
            undelivered: Vec::new(),
        };
        again::patiently(async {
            for (kind, seq) in kinds.into_iter().zip(numbers) {
                let outcome = self.deliver_job(seq).await;
                if kind == Kind::Subject {
                    submitted.take_subject(outcome);
                    self.recognise(seq, &mut submitted).await?;
                } else {
                    submitted.take_record(outcome)?;
                }
            }
            Ok(submitted)
        })
        .await
    }

    /// What is known of the person, once the gateway has answered.
    async fn recognise(&self, seq: i64, submitted: &mut Submitted) -> Result<(), ConnectorError> {
        if let Some(recognised) = self.recognised(seq).await? {
            submitted.pseudonym = Some(recognised.pseudonym);
            submitted.own_cases = recognised.own_cases;
        }
        Ok(())
    }

    /// Seals and signs one version: the requests of its three calls.
    fn seal(
        &self,
        file: CaseFile,
        binding: &Binding,
        follows: Option<[u8; 32]>,
    ) -> Result<Vec<Vec<u8>>, ConnectorError> {
        let minor_band = file.minor_band(self.now());
        let guardian_conflict = file.guardian_conflict();
        let file = file.with_derived(minor_band, self.profile.agency);
        let sealed = amanat_seal::seal_record(binding, file.values())?;
        let (routing, openings) = amanat_seal::commit_routing(binding, file.values())?;
        let header = self
            .session()?
            .signer
            .sign(binding.case, follows, |head| RecordHeader {
                head: Some(head),
                record_id: binding.record.to_vec(),
                version: binding.version,
                schema_version: SCHEMA_VERSION,
                suite: SUITE,
                key_commitment: sealed.key_commitment.to_vec(),
                minor_band: minor_band.into(),
                guardian_conflict: guardian_conflict.into(),
                handling_code: HandlingCode::H0None.into(),
                fields: sealed.fields,
                routing,
            })?;
        let deposit = DepositKeyRequest {
            request_id: request_id()?,
            header: Some(header.clone()),
            record_key: sealed.key.expose().to_vec(),
        };
        let put = PutRecordRequest {
            request_id: request_id()?,
            header: Some(header),
            sealed: Some(sealed.slots),
            routing: openings,
            deposit_receipt: None,
        };
        let activate = ActivateKeyRequest {
            request_id: request_id()?,
            put_receipt: None,
        };
        Ok(vec![
            deposit.encode_to_vec(),
            put.encode_to_vec(),
            activate.encode_to_vec(),
        ])
    }

    /// The newest version of one of this agency's records: the gateway's list, checked against what this
    /// connector has seen. Another connector's version is seen by reading its header, which this agency signed.
    async fn newest_own(&self, record: RecordId) -> Result<VersionSeen, ConnectorError> {
        let source = self.profile.agency;
        let query = VersionQuery {
            record: Some(record),
            source: Some(source),
            ..VersionQuery::default()
        };
        let newest = self
            .list_versions(query)
            .await?
            .into_iter()
            .filter(|seen| (seen.record, seen.source) == (record, source))
            .max_by_key(|seen| seen.version);
        let Some(newest) = newest else {
            return Err(self.not_own(record).await?);
        };
        if !self.has_seen(&newest).await? {
            self.read_case(&ReadRequest {
                case: newest.case,
                record,
                source,
                fields: vec![ANY_FIELD.to_owned()],
                purpose: Purpose::VictimSupport,
            })
            .await?;
            if !self.has_seen(&newest).await? {
                let what = "the listed version is not the newest that was seen";
                return Err(ConnectorError::untrustworthy(GATEWAY, what));
            }
        }
        Ok(newest)
    }

    /// Why a record is not this agency's to correct.
    async fn not_own(&self, record: RecordId) -> Result<ConnectorError, ConnectorError> {
        let query = VersionQuery {
            record: Some(record),
            ..VersionQuery::default()
        };
        let listed = self.list_versions(query).await?;
        let other = listed.iter().find(|seen| seen.record == record);
        Ok(other.map_or_else(
            || ConnectorError::Unfit {
                what: "this agency put no such record".to_owned(),
                next: "see `amanat case list`",
            },
            |seen| {
                let source = self.name_of(seen.source);
                ConnectorError::Unfit {
                    what: format!("the record is {source}'s; only {source} corrects it"),
                    next: "ask its source to correct it",
                }
            },
        ))
    }

    async fn has_seen(&self, listed: &VersionSeen) -> Result<bool, ConnectorError> {
        let seen = self.keep.version(listed.source, listed.record).await?;
        Ok(seen.is_some_and(|(version, header)| {
            version == listed.version && header == listed.header_sha256
        }))
    }
}

/// The version that a request puts. Once the gateway took it, no older one is believed to be the newest.
pub(crate) fn version_of(put: &PutRecordRequest) -> Result<VersionRow, ConnectorError> {
    let damaged = || ConnectorError::Keep("a stored header cannot be read".into());
    let statement = put.header.as_ref().ok_or_else(damaged)?;
    let payload = &statement.envelope.as_ref().ok_or_else(damaged)?.payload;
    let message = RecordHeader::decode(payload.as_slice()).map_err(|_| damaged())?;
    let header = Header::parse(&message).map_err(|_| damaged())?;
    let Binding {
        source,
        record,
        version,
        ..
    } = *header.binding();
    Ok(VersionRow {
        source,
        record,
        version,
        header_sha256: sha256(payload),
    })
}

impl Submitted {
    fn take_subject(&mut self, outcome: Result<Delivery, ConnectorError>) {
        match outcome {
            Ok(delivery) => self.subject = delivery,
            Err(error) => self.undelivered.push(Undelivered {
                kind: Kind::Subject.name(),
                error,
            }),
        }
    }

    /// A record that was refused for good is the command's failure: nothing is left to wait for.
    fn take_record(
        &mut self,
        outcome: Result<Delivery, ConnectorError>,
    ) -> Result<(), ConnectorError> {
        match outcome {
            Ok(delivery) => self.delivery = delivery,
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => {
                let kind = Kind::Submission.name();
                self.undelivered.insert(0, Undelivered { kind, error });
            }
        }
        Ok(())
    }
}

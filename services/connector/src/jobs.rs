//! Deliveries: what an officer hands in is durable, as the very bytes that will be sent, before the first
//! call is made. A repeat sends the same bytes under the same request ids, so it is done once.

use amanat_schema::{
    audit::Receipt,
    consent::{
        RecordConsentRequest, RecordConsentResponse, WithdrawConsentRequest, WithdrawConsentResponse,
    },
    key::{ActivateKeyRequest, ActivateKeyResponse, DepositKeyRequest, DepositKeyResponse},
    record::{PutRecordRequest, PutRecordResponse},
    referral::{
        SubmitReferralRequest, SubmitReferralResponse, TransitionReferralRequest,
        TransitionReferralResponse,
    },
};
use prost::Message;
use zeroize::Zeroizing;

use crate::{Connector, ConnectorError, Server, client::with_token, keep::JobRow};

/// What a delivery came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The index of the entry that each answered call made, in order.
    pub entries: Vec<(Server, u64)>,
}

/// A delivery that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingJob {
    pub seq: i64,
    pub kind: String,
    /// The id of the record, consent or referral.
    pub subject: String,
    /// How many of its calls were answered.
    pub progress: u32,
}

/// A delivery that a server refused: it is not tried again, and what was handed in is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedJob {
    pub seq: i64,
    pub kind: String,
    /// The id of the record, consent or referral.
    pub subject: String,
    /// The published reason.
    pub reason: String,
}

/// What is delivered; the name is the row's `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Submission,
    Consent,
    /// Each server is told on its own: neither waits for the other to close.
    WithdrawalToCustodian,
    WithdrawalToGateway,
    Referral,
    Acknowledgement,
    Acceptance,
    Rejection,
}

/// One call.
#[derive(Debug, Clone, Copy)]
enum Step {
    DepositKey,
    PutRecord,
    ActivateKey,
    RecordConsent(Server),
    WithdrawConsent(Server),
    SubmitReferral,
    AcknowledgeReferral,
    AcceptReferral,
    RejectReferral,
}

/// A job's requests, one a step, as they are stored under the local key.
#[derive(Clone, PartialEq, Message)]
struct Requests {
    #[prost(bytes = "vec", repeated, tag = "1")]
    steps: Vec<Vec<u8>>,
}

/// The label under which jobs are sealed at rest.
const JOB: &str = "amanat/outbox/v1";

impl Kind {
    const ALL: [Self; 8] = [
        Self::Submission,
        Self::Consent,
        Self::WithdrawalToCustodian,
        Self::WithdrawalToGateway,
        Self::Referral,
        Self::Acknowledgement,
        Self::Acceptance,
        Self::Rejection,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Submission => "submission",
            Self::Consent => "consent",
            Self::WithdrawalToCustodian => "withdrawal to the custodian",
            Self::WithdrawalToGateway => "withdrawal to the gateway",
            Self::Referral => "referral",
            Self::Acknowledgement => "acknowledgement",
            Self::Acceptance => "acceptance",
            Self::Rejection => "rejection",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The calls, in order. The custodian hears of a consent first: a read that the gateway allows is then
    /// never ahead of it.
    const fn steps(self) -> &'static [Step] {
        match self {
            Self::Submission => &[Step::DepositKey, Step::PutRecord, Step::ActivateKey],
            Self::Consent => {
                &[Step::RecordConsent(Server::Custodian), Step::RecordConsent(Server::Gateway)]
            }
            Self::WithdrawalToCustodian => &[Step::WithdrawConsent(Server::Custodian)],
            Self::WithdrawalToGateway => &[Step::WithdrawConsent(Server::Gateway)],
            Self::Referral => &[Step::SubmitReferral],
            Self::Acknowledgement => &[Step::AcknowledgeReferral],
            Self::Acceptance => &[Step::AcceptReferral],
            Self::Rejection => &[Step::RejectReferral],
        }
    }
}

impl Connector {
    /// Makes a delivery durable and returns its number.
    pub(crate) async fn hand_in(
        &self,
        kind: Kind,
        subject: &str,
        requests: Vec<Vec<u8>>,
    ) -> Result<i64, ConnectorError> {
        let plain = Zeroizing::new(Requests { steps: requests }.encode_to_vec());
        let context: [&[u8]; 2] = [kind.name().as_bytes(), subject.as_bytes()];
        let sealed = self.local.wrap(JOB, &context, &plain)?;
        let steps = u32::try_from(kind.steps().len()).unwrap_or(u32::MAX);
        self.keep.add_job(kind.name(), subject, &sealed, steps).await
    }

    /// Hands in and delivers at once. If the servers cannot be reached now, it stays in the outbox.
    pub(crate) async fn deliver_now(
        &self,
        kind: Kind,
        subject: &str,
        requests: Vec<Vec<u8>>,
    ) -> Result<Delivery, ConnectorError> {
        let seq = self.hand_in(kind, subject, requests).await?;
        let jobs = self.keep.open_jobs().await?;
        match jobs.into_iter().find(|job| job.seq == seq) {
            Some(job) => self.deliver(&job).await,
            // Another process of this profile delivered it meanwhile.
            None => Ok(Delivery { entries: Vec::new() }),
        }
    }

    /// What waits in the outbox, oldest first.
    ///
    /// # Errors
    /// [`ConnectorError::Keep`].
    pub async fn pending(&self) -> Result<Vec<PendingJob>, ConnectorError> {
        let jobs = self.keep.open_jobs().await?;
        Ok(jobs
            .into_iter()
            .map(|job| PendingJob {
                seq: job.seq,
                kind: job.kind,
                subject: job.subject,
                progress: job.progress,
            })
            .collect())
    }

    /// What a server refused, oldest first.
    ///
    /// # Errors
    /// [`ConnectorError::Keep`].
    pub async fn refused(&self) -> Result<Vec<RefusedJob>, ConnectorError> {
        let jobs = self.keep.refused_jobs().await?;
        let job = |(seq, kind, subject, reason)| RefusedJob { seq, kind, subject, reason };
        Ok(jobs.into_iter().map(job).collect())
    }

    /// Tries everything that waits, oldest first; each with what it came to.
    ///
    /// # Errors
    /// [`ConnectorError::Keep`].
    pub async fn deliver_pending(
        &self,
    ) -> Result<Vec<(PendingJob, Result<Delivery, ConnectorError>)>, ConnectorError> {
        let mut outcomes = Vec::new();
        for job in self.keep.open_jobs().await? {
            let outcome = self.deliver(&job).await;
            let JobRow { seq, kind, subject, progress, .. } = job;
            outcomes.push((PendingJob { seq, kind, subject, progress }, outcome));
        }
        Ok(outcomes)
    }

    /// Makes the calls that are left. A refusal takes the job out of the queue; anything else leaves it.
    async fn deliver(&self, job: &JobRow) -> Result<Delivery, ConnectorError> {
        let damaged = || ConnectorError::Keep(format!("job {} cannot be read", job.seq));
        let kind = Kind::parse(&job.kind).ok_or_else(damaged)?;
        let context: [&[u8]; 2] = [kind.name().as_bytes(), job.subject.as_bytes()];
        let plain = self.local.unwrap(JOB, &context, &job.job)?;
        let requests = Requests::decode(plain.as_slice()).map_err(|_| damaged())?.steps;
        let mut answers = job.answers.clone();
        let mut entries = Vec::new();
        let steps = (0..).zip(kind.steps()).zip(requests.into_iter().map(Zeroizing::new));
        for ((at, step), request) in steps {
            if at < job.progress {
                continue;
            }
            match self.call(*step, &request, &answers).await {
                Ok((server, receipt, answer)) => {
                    self.keep.answered(job.seq, at, &answer).await?;
                    answers.push(answer);
                    entries.push((server, receipt.index));
                }
                Err(ConnectorError::Refused(refusal)) if !refusal.retry => {
                    self.keep.refused(job.seq, &refusal.reason).await?;
                    return Err(ConnectorError::Refused(refusal));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Delivery { entries })
    }

    /// One call: the stored request, completed with what the steps before answered.
    async fn call(
        &self,
        step: Step,
        request: &[u8],
        answers: &[Vec<u8>],
    ) -> Result<(Server, Receipt, Vec<u8>), ConnectorError> {
        let (keys, records) = (|| self.servers.keys(), || self.servers.records());
        let referrals = || self.servers.referrals();
        let (server, receipt, answer) = match step {
            Step::DepositKey => {
                let request = stored::<DepositKeyRequest>(request)?;
                let answer = keys().deposit_key(request).await?.into_inner();
                (Server::Custodian, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::PutRecord => {
                let deposit = before::<DepositKeyResponse>(answers, 0)?;
                let mut request = stored::<PutRecordRequest>(request)?;
                request.deposit_receipt = deposit.deposit_receipt;
                let answer: PutRecordResponse = records().put_record(request).await?.into_inner();
                (Server::Gateway, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::ActivateKey => {
                let put = before::<PutRecordResponse>(answers, 1)?;
                let mut request = stored::<ActivateKeyRequest>(request)?;
                request.put_receipt = put.receipt;
                let request = with_token(request, &self.signer.token()?)?;
                let answer: ActivateKeyResponse = keys().activate_key(request).await?.into_inner();
                (Server::Custodian, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::RecordConsent(server) => {
                let request = stored::<RecordConsentRequest>(request)?;
                let mut client = self.servers.consents(server);
                let answer: RecordConsentResponse =
                    client.record_consent(request).await?.into_inner();
                (server, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::WithdrawConsent(server) => {
                let request = stored::<WithdrawConsentRequest>(request)?;
                let mut client = self.servers.consents(server);
                let answer: WithdrawConsentResponse =
                    client.withdraw_consent(request).await?.into_inner();
                (server, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::SubmitReferral => {
                let request = stored::<SubmitReferralRequest>(request)?;
                let answer: SubmitReferralResponse =
                    referrals().submit_referral(request).await?.into_inner();
                (Server::Gateway, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::AcknowledgeReferral | Step::AcceptReferral | Step::RejectReferral => {
                let request = stored::<TransitionReferralRequest>(request)?;
                let mut client = referrals();
                let answer: TransitionReferralResponse = match step {
                    Step::AcknowledgeReferral => client.acknowledge_referral(request).await,
                    Step::AcceptReferral => client.accept_referral(request).await,
                    _ => client.reject_referral(request).await,
                }?
                .into_inner();
                (Server::Gateway, answer.receipt.clone(), answer.encode_to_vec())
            }
        };
        let receipt = self.keep_receipt(server, receipt).await?;
        Ok((server, receipt, answer))
    }

    /// Verifies a receipt, as evidence that what was answered is on the log, and keeps it.
    pub(crate) async fn keep_receipt(
        &self,
        server: Server,
        receipt: Option<Receipt>,
    ) -> Result<Receipt, ConnectorError> {
        let receipt = receipt
            .ok_or_else(|| ConnectorError::untrustworthy(server.name(), "there is no receipt"))?;
        let log = self.log(server);
        let proven = amanat_ledger::receipt::verify(&receipt, log)
            .map_err(|error| ConnectorError::from((server.name(), error)))?;
        if proven.body.agency_id != self.profile.agency.as_bytes() {
            let what = "the receipt is of another agency's entry";
            return Err(ConnectorError::untrustworthy(server.name(), what));
        }
        self.keep.receipt(log.origin(), &receipt, &proven.checkpoint).await?;
        Ok(receipt)
    }

    pub(crate) fn log(&self, server: Server) -> &amanat_ledger::LogVerifier {
        match server {
            Server::Gateway => &self.directory.gateway().log,
            Server::Custodian => &self.directory.custodian().log,
        }
    }
}

fn stored<M: Message + Default>(bytes: &[u8]) -> Result<M, ConnectorError> {
    M::decode(bytes).map_err(|_| ConnectorError::Keep("a stored request cannot be read".into()))
}

fn before<M: Message + Default>(answers: &[Vec<u8>], step: usize) -> Result<M, ConnectorError> {
    stored(answers.get(step).map_or(&[], Vec::as_slice))
}

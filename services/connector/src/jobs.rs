//! Deliveries: what an officer hands in is durable, as the very bytes that will be sent, before the first
//! call is made. A repeat sends the same bytes under the same request ids, so it is done once.

mod listed;

use amanat_ledger::{LogVerifier, Proven};
use amanat_schema::{
    audit::{Action, Receipt},
    consent::{RecordConsentRequest, WithdrawConsentRequest},
    key::{ActivateKeyRequest, DepositKeyRequest, DepositKeyResponse},
    policy::Decision,
    record::{PutRecordRequest, PutRecordResponse},
    referral::{SubmitReferralRequest, TransitionReferralRequest},
};
use prost::{Message, Name};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    Connector, ConnectorError, Fault, Reason, Server, VerifyError,
    again::Attempts,
    client::with_token,
    keep::{JobRow, SealedJob},
    referral::Move,
    trace,
};

pub use listed::{PendingJob, RefusedJob};

/// What a delivery came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The index of the entry that each answered call made, in order.
    pub entries: Vec<(Server, u64)>,
}

/// A delivery to hand in: the requests of its kind's steps.
pub(crate) struct NewJob<'a> {
    pub(crate) kind: Kind,
    /// The id of the record, consent or referral.
    pub(crate) subject: &'a str,
    pub(crate) requests: Vec<Vec<u8>>,
}

/// What is delivered; the name is the row's `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whose record it is, asked of both servers.
    Subject,
    Submission,
    Consent,
    /// Each server is told on its own: neither waits for the other to close.
    WithdrawalToCustodian,
    WithdrawalToGateway,
    Referral,
    Move(Move),
}

/// One call.
#[derive(Debug, Clone, Copy)]
enum Step {
    FindSubject,
    DepositKey,
    PutRecord,
    ActivateKey,
    RecordConsent(Server),
    WithdrawConsent(Server),
    SubmitReferral,
    MoveReferral(Move),
}

/// A job's requests, one a step, as they are stored under the local key.
#[derive(Clone, PartialEq, Message)]
struct Requests {
    #[prost(bytes = "vec", repeated, tag = "1")]
    steps: Vec<Vec<u8>>,
}

/// What was asked of a server: the entry that its receipt proves must be the one of this very request, so
/// that no answer can be spliced to another question.
pub(crate) struct Asked {
    pub(crate) server: Server,
    action: Action,
    request_sha256: [u8; 32],
}

impl Asked {
    pub(crate) fn of<T: Message + Name>(server: Server, action: Action, request: &T) -> Self {
        Self {
            server,
            action,
            request_sha256: amanat_identity::request_sha256(request),
        }
    }
}

/// The reasons that no later delivery changes. Everything else waits: a withdrawal must not be lost
/// because a server was frozen or a clock was off for an hour.
const FINAL: [Reason; 7] = [
    Reason::FieldInvalid,
    Reason::TooLarge,
    Reason::AccessDenied,
    Reason::NothingReleasable,
    Reason::StateConflict,
    Reason::RequestIdReused,
    Reason::VersionMismatch,
];

/// The label under which jobs are sealed at rest.
const JOB: &str = "amanat/outbox/v1";

impl Kind {
    const ALL: [Self; 12] = [
        Self::Subject,
        Self::Submission,
        Self::Consent,
        Self::WithdrawalToCustodian,
        Self::WithdrawalToGateway,
        Self::Referral,
        Self::Move(Move::Acknowledge),
        Self::Move(Move::Accept),
        Self::Move(Move::Reject),
        Self::Move(Move::Start),
        Self::Move(Move::Complete),
        Self::Move(Move::Revoke),
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Submission => "submission",
            Self::Consent => "consent",
            Self::WithdrawalToCustodian => "withdrawal to the custodian",
            Self::WithdrawalToGateway => "withdrawal to the gateway",
            Self::Referral => "referral",
            Self::Move(step) => step.name(),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The calls, in order. The custodian hears of a consent first: a read that the gateway allows is then
    /// never ahead of it.
    const fn steps(self) -> &'static [Step] {
        match self {
            Self::Subject => &[Step::FindSubject],
            Self::Submission => &[Step::DepositKey, Step::PutRecord, Step::ActivateKey],
            Self::Consent => &[
                Step::RecordConsent(Server::Custodian),
                Step::RecordConsent(Server::Gateway),
            ],
            Self::WithdrawalToCustodian => &[Step::WithdrawConsent(Server::Custodian)],
            Self::WithdrawalToGateway => &[Step::WithdrawConsent(Server::Gateway)],
            Self::Referral => &[Step::SubmitReferral],
            Self::Move(Move::Acknowledge) => &[Step::MoveReferral(Move::Acknowledge)],
            Self::Move(Move::Accept) => &[Step::MoveReferral(Move::Accept)],
            Self::Move(Move::Reject) => &[Step::MoveReferral(Move::Reject)],
            Self::Move(Move::Start) => &[Step::MoveReferral(Move::Start)],
            Self::Move(Move::Complete) => &[Step::MoveReferral(Move::Complete)],
            Self::Move(Move::Revoke) => &[Step::MoveReferral(Move::Revoke)],
        }
    }
}

impl Connector {
    /// Makes deliveries durable, all or none, and returns their numbers.
    pub(crate) async fn hand_in(&self, jobs: Vec<NewJob<'_>>) -> Result<Vec<i64>, ConnectorError> {
        let mut sealed = Vec::with_capacity(jobs.len());
        for NewJob {
            kind,
            subject,
            requests,
        } in jobs
        {
            let requests: Vec<_> = requests.into_iter().map(Zeroizing::new).collect();
            sealed.push(SealedJob {
                kind: kind.name(),
                subject,
                sealed: self.sealed(kind, subject, &requests)?,
                steps: u32::try_from(kind.steps().len()).unwrap_or(u32::MAX),
                accepted: (self.clock)(),
            });
        }
        self.keep.add_jobs(&sealed).await
    }

    fn sealed(
        &self,
        kind: Kind,
        subject: &str,
        requests: &[Zeroizing<Vec<u8>>],
    ) -> Result<Vec<u8>, ConnectorError> {
        let mut all = Requests {
            steps: requests.iter().map(|step| step.to_vec()).collect(),
        };
        let plain = Zeroizing::new(all.encode_to_vec());
        all.steps.zeroize();
        let context: [&[u8]; 2] = [kind.name().as_bytes(), subject.as_bytes()];
        Ok(self.local.wrap(JOB, &context, &plain)?)
    }

    /// Hands in and delivers at once. If the servers cannot be reached now, it stays in the outbox.
    pub(crate) async fn deliver_now(
        &self,
        kind: Kind,
        subject: &str,
        requests: Vec<Vec<u8>>,
    ) -> Result<Delivery, ConnectorError> {
        let job = NewJob {
            kind,
            subject,
            requests,
        };
        let mut delivery = Delivery::default();
        for seq in self.hand_in(vec![job]).await? {
            delivery
                .entries
                .extend(self.deliver_job(seq).await?.entries);
        }
        Ok(delivery)
    }

    /// Delivers one that was handed in.
    pub(crate) async fn deliver_job(&self, seq: i64) -> Result<Delivery, ConnectorError> {
        let jobs = self.keep.open_jobs().await?;
        match jobs.into_iter().find(|job| job.seq == seq) {
            Some(job) => trace::one(self.deliver(&job)).await,
            // Another process of this profile delivered it meanwhile.
            None => Ok(Delivery::default()),
        }
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
            let outcome = trace::one(self.deliver(&job)).await;
            let JobRow {
                seq,
                kind,
                subject,
                progress,
                ..
            } = job;
            outcomes.push((
                PendingJob {
                    seq,
                    kind,
                    subject,
                    progress,
                },
                outcome,
            ));
        }
        Ok(outcomes)
    }

    /// Makes the calls that are left. A refusal takes the job out of the queue; anything else leaves it.
    async fn deliver(&self, job: &JobRow) -> Result<Delivery, ConnectorError> {
        let damaged = || ConnectorError::Keep(format!("job {} cannot be read", job.seq));
        let kind = Kind::parse(&job.kind).ok_or_else(damaged)?;
        let context: [&[u8]; 2] = [kind.name().as_bytes(), job.subject.as_bytes()];
        let plain = self.local.unwrap(JOB, &context, &job.job)?;
        let requests = Requests::decode(plain.as_slice())
            .map_err(|_| damaged())?
            .steps;
        let mut requests: Vec<_> = requests.into_iter().map(Zeroizing::new).collect();
        let mut answers = job.answers.clone();
        let mut entries = Vec::new();
        for (at, step) in (0..).zip(kind.steps()).skip(job.answers.len()) {
            let request = requests
                .get_mut(at)
                .map(std::mem::take)
                .ok_or_else(damaged)?;
            match self.call_again(*step, job.seq, &request, &answers).await {
                Ok((made, answer)) => {
                    // What was answered is not kept for the next step: a deposit holds the record key.
                    let rest = self.sealed(kind, &job.subject, &requests)?;
                    self.keep.answered(job.seq, at, &answer, &rest).await?;
                    answers.push(answer);
                    entries.extend(made);
                }
                Err(error) => {
                    if is_final(&error) {
                        self.keep.refused(job.seq, error.reason()).await?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(Delivery { entries })
    }

    /// One step, once more if its certificate was renewed meanwhile: its request id makes it one.
    async fn call_again(
        &self,
        step: Step,
        seq: i64,
        request: &[u8],
        answers: &[Vec<u8>],
    ) -> Result<(Vec<(Server, u64)>, Vec<u8>), ConnectorError> {
        let mut attempts = Attempts::begin();
        loop {
            let session = self.session();
            match self.call(step, seq, request, answers).await {
                Err(error) => attempts.go_on(self, &session, error).await?,
                Ok(answered) => return Ok(answered),
            }
        }
    }

    /// One step: the stored request, completed with what the steps before answered. The entries that it made,
    /// and what it was answered.
    async fn call(
        &self,
        step: Step,
        seq: i64,
        request: &[u8],
        answers: &[Vec<u8>],
    ) -> Result<(Vec<(Server, u64)>, Vec<u8>), ConnectorError> {
        let (asked, receipt, answer) = match step {
            Step::FindSubject => return self.deliver_subject(seq, request).await,
            Step::DepositKey => {
                let request = stored::<DepositKeyRequest>(request)?;
                let asked = Asked::of(Server::Custodian, Action::DepositKey, &request);
                let answer = self
                    .session()
                    .servers
                    .keys()
                    .deposit_key(request)
                    .await?
                    .into_inner();
                (asked, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::PutRecord => {
                let deposit = before::<DepositKeyResponse>(answers, 0)?;
                let mut request = stored::<PutRecordRequest>(request)?;
                request.deposit_receipt = deposit.deposit_receipt;
                let asked = Asked::of(Server::Gateway, Action::PutRecord, &request);
                let answer = self
                    .session()
                    .servers
                    .records()
                    .put_record(request)
                    .await?
                    .into_inner();
                (asked, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::ActivateKey => {
                let put = before::<PutRecordResponse>(answers, 1)?;
                let mut request = stored::<ActivateKeyRequest>(request)?;
                request.put_receipt = put.receipt;
                let asked = Asked::of(Server::Custodian, Action::ActivateKey, &request);
                let session = self.session();
                let request = with_token(request, &session.signer.token()?)?;
                let answer = session
                    .servers
                    .keys()
                    .activate_key(request)
                    .await?
                    .into_inner();
                (asked, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::RecordConsent(server) => {
                let request = stored::<RecordConsentRequest>(request)?;
                let asked = Asked::of(server, Action::RecordConsent, &request);
                let mut client = self.session().servers.consents(server);
                let answer = client.record_consent(request).await?.into_inner();
                (asked, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::WithdrawConsent(server) => {
                let request = stored::<WithdrawConsentRequest>(request)?;
                let asked = Asked::of(server, Action::WithdrawConsent, &request);
                let mut client = self.session().servers.consents(server);
                let answer = client.withdraw_consent(request).await?.into_inner();
                (asked, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::SubmitReferral => {
                let request = stored::<SubmitReferralRequest>(request)?;
                let asked = Asked::of(Server::Gateway, Action::SubmitReferral, &request);
                let answer = self
                    .session()
                    .servers
                    .referrals()
                    .submit_referral(request)
                    .await?
                    .into_inner();
                (asked, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::MoveReferral(step) => {
                let request = stored::<TransitionReferralRequest>(request)?;
                let asked = Asked::of(Server::Gateway, step.action(), &request);
                let answer = self.move_referral(step, request).await?;
                (asked, answer.receipt.clone(), answer.encode_to_vec())
            }
        };
        let proven = self.keep_receipt(&asked, receipt.as_ref()).await?;
        if matches!(step, Step::PutRecord) {
            self.saw_put(&stored::<PutRecordRequest>(request)?).await?;
        }
        Ok((vec![(asked.server, proven.index)], answer))
    }

    /// Verifies a receipt, as evidence that what was asked is on the log, allowed, and keeps it.
    pub(crate) async fn keep_receipt(
        &self,
        asked: &Asked,
        receipt: Option<&Receipt>,
    ) -> Result<Proven, ConnectorError> {
        let server = asked.server;
        let untrustworthy = |what: &str| ConnectorError::untrustworthy(server.name(), what);
        let receipt = receipt.ok_or_else(|| untrustworthy("there is no receipt"))?;
        let log = &self.log(server);
        let proven = amanat_ledger::receipt::verify(receipt, log)
            .map_err(|error| ConnectorError::from((server.name(), error)))?;
        let request = proven
            .linkage
            .as_ref()
            .map(|linkage| linkage.request_sha256.as_slice());
        let is_of_this = proven.body.agency_id == self.profile.agency.as_bytes()
            && proven.body.action() == asked.action
            && proven.body.decision() == Decision::Allow
            && request == Some(asked.request_sha256.as_slice());
        if !is_of_this {
            return Err(untrustworthy("the receipt is not of this request's entry"));
        }
        if let Some(what) = self.keep.receipt(log, receipt, &proven.checkpoint).await? {
            let (index, what) = (Some(proven.index), what.to_owned());
            return Err(VerifyError {
                server,
                index,
                what,
                fault: Fault::Contradiction,
            }
            .into());
        }
        Ok(proven)
    }

    pub(crate) fn log(&self, server: Server) -> LogVerifier {
        let directory = &self.session().directory;
        match server {
            Server::Gateway => directory.gateway().log.clone(),
            Server::Custodian => directory.custodian().log.clone(),
        }
    }
}

/// Whether an error takes a job out of the queue.
pub(crate) fn is_final(error: &ConnectorError) -> bool {
    let ConnectorError::Refused(refusal) = error else {
        return false;
    };
    refusal
        .known_reason()
        .is_some_and(|reason| FINAL.contains(&reason))
}

pub(crate) fn stored<M: Message + Default>(bytes: &[u8]) -> Result<M, ConnectorError> {
    M::decode(bytes).map_err(|_| ConnectorError::Keep("a stored request cannot be read".into()))
}

fn before<M: Message + Default>(answers: &[Vec<u8>], step: usize) -> Result<M, ConnectorError> {
    stored(answers.get(step).map_or(&[], Vec::as_slice))
}

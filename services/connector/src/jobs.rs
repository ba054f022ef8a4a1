//! Deliveries: what an officer hands in is durable, as the very bytes that will be sent, before the first
//! call is made. A repeat sends the same bytes under the same request ids, so it is done once.

mod asked;
mod call;
mod listed;

use prost::Message;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    Connector, ConnectorError, Reason, Server, again,
    keep::{JobRow, SealedJob, StepRow},
    referral::Move,
    trace,
};

pub(crate) use asked::Asked;
pub(crate) use call::{Answered, stored};
pub use listed::{PendingJob, RefusedJob};

use call::Step;

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

/// A job's requests, one a step, as they are stored under the local key.
#[derive(Clone, PartialEq, Message)]
struct Requests {
    #[prost(bytes = "vec", repeated, tag = "1")]
    steps: Vec<Vec<u8>>,
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

    /// The servers whose word its steps rest on. A withdrawal rests on none: it can only close, so it is told to a
    /// server that nothing else is told to.
    const fn rests_on(self) -> &'static [Server] {
        match self {
            Self::Subject | Self::Submission | Self::Consent => {
                &[Server::Custodian, Server::Gateway]
            }
            Self::WithdrawalToCustodian | Self::WithdrawalToGateway => &[],
            Self::Referral | Self::Move(_) => &[Server::Gateway],
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
        self.deliver_all(vec![job]).await
    }

    /// The same of several, none of which waits for another: each is durable before the first call, and tried
    /// even if one before it could not be delivered.
    pub(crate) async fn deliver_all(
        &self,
        jobs: Vec<NewJob<'_>>,
    ) -> Result<Delivery, ConnectorError> {
        let numbers = self.hand_in(jobs).await?;
        let outcomes = again::patiently(async {
            let mut outcomes = Vec::with_capacity(numbers.len());
            for job in numbers {
                let undelivered = |cause| ConnectorError::Undelivered {
                    job,
                    cause: Box::new(cause),
                };
                outcomes.push(self.deliver_job(job).await.map_err(undelivered));
            }
            outcomes
        })
        .await;
        let mut delivery = Delivery::default();
        for outcome in outcomes {
            delivery.entries.extend(outcome?.entries);
        }
        Ok(delivery)
    }

    /// Delivers one that was handed in.
    pub(crate) async fn deliver_job(&self, seq: i64) -> Result<Delivery, ConnectorError> {
        match self.keep.open_job(seq).await? {
            Some(job) => again::patiently(trace::one(self.deliver(&job))).await,
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
        // However much waits, a server that answers nobody is waited for once.
        again::patiently(async {
            let mut outcomes = Vec::new();
            for job in self.pending().await? {
                let outcome = self.deliver_job(job.seq).await;
                outcomes.push((job, outcome));
            }
            Ok(outcomes)
        })
        .await
    }

    /// # Errors
    /// [`ConnectorError::Verify`] if the log of one was seen to contradict itself: nothing is begun that it would
    /// have to vouch for.
    async fn believes(&self, servers: &[Server]) -> Result<(), ConnectorError> {
        for server in servers {
            let log = self.log(*server)?;
            if let Some(contradiction) = self.keep.contradiction(log.origin()).await? {
                return Err(contradiction.of(*server));
            }
        }
        Ok(())
    }

    /// Makes the calls that are left. A refusal takes the job out of the queue; anything else leaves it.
    async fn deliver(&self, job: &JobRow) -> Result<Delivery, ConnectorError> {
        let damaged = || ConnectorError::Keep(format!("job {} cannot be read", job.seq));
        let kind = Kind::parse(&job.kind).ok_or_else(damaged)?;
        self.believes(kind.rests_on()).await?;
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
            match self.call_again(*step, &request, &answers).await {
                Ok(answered) => {
                    let row = StepRow {
                        seq: job.seq,
                        step: at,
                        evidence: &answered.evidence,
                        answer: &answered.answer,
                        // What was answered is not kept for the next step: a deposit holds the record key.
                        rest: &self.sealed(kind, &job.subject, &requests)?,
                        learnt: &answered.learnt,
                    };
                    let is_ours = self.keep.answered(&row).await?;
                    answers.push(answered.answer);
                    entries.extend(answered.entries);
                    // Another process of this profile is ahead, and may have come to the end or dropped it.
                    if !is_ours && self.keep.open_job(job.seq).await?.is_none() {
                        break;
                    }
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

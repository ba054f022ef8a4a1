//! The calls of deliveries.

use amanat_schema::{
    audit::Action,
    consent::{RecordConsentRequest, WithdrawConsentRequest},
    key::{ActivateKeyRequest, DepositKeyRequest, DepositKeyResponse},
    record::{PutRecordRequest, PutRecordResponse},
    referral::{SubmitReferralRequest, TransitionReferralRequest},
};
use prost::Message;

use super::Asked;
use crate::{
    Connector, ConnectorError, Server,
    again::Attempts,
    case::version_of,
    client::with_token,
    keep::{Evidence, Learnt},
    referral::Move,
};

/// One call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    FindSubject,
    DepositKey,
    PutRecord,
    ActivateKey,
    RecordConsent(Server),
    WithdrawConsent(Server),
    SubmitReferral,
    MoveReferral(Move),
}

/// What a step was answered. Nothing of it is kept yet.
pub(crate) struct Answered {
    /// In the logs, in the order in which it made them.
    pub(crate) entries: Vec<(Server, u64)>,
    pub(crate) evidence: Evidence,
    pub(crate) answer: Vec<u8>,
    pub(crate) learnt: Learnt,
}

impl Connector {
    /// One step, once more if its certificate was renewed meanwhile: its request id makes it one.
    pub(super) async fn call_again(
        &self,
        step: Step,
        request: &[u8],
        answers: &[Vec<u8>],
    ) -> Result<Answered, ConnectorError> {
        let mut attempts = Attempts::default();
        loop {
            let session = self.session()?;
            match self.call(step, request, answers).await {
                Err(error) => attempts.go_on(self, &session, error).await?,
                Ok(answered) => return Ok(answered),
            }
        }
    }

    /// One step: the stored request, completed with what the steps before answered.
    async fn call(
        &self,
        step: Step,
        request: &[u8],
        answers: &[Vec<u8>],
    ) -> Result<Answered, ConnectorError> {
        let mut learnt = Learnt::Nothing;
        let (asked, receipt, answer) = match step {
            Step::FindSubject => return self.deliver_subject(request).await,
            Step::DepositKey => {
                let request = stored::<DepositKeyRequest>(request)?;
                let asked = Asked::of(Server::Custodian, Action::DepositKey, &request);
                let answer = self
                    .session()?
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
                learnt = Learnt::Version(version_of(&request)?);
                let asked = Asked::of(Server::Gateway, Action::PutRecord, &request);
                let answer = self
                    .session()?
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
                let session = self.session()?;
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
                let mut client = self.session()?.servers.consents(server);
                let answer = client.record_consent(request).await?.into_inner();
                (asked, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::WithdrawConsent(server) => {
                let request = stored::<WithdrawConsentRequest>(request)?;
                let asked = Asked::of(server, Action::WithdrawConsent, &request);
                let mut client = self.session()?.servers.consents(server);
                let answer = client.withdraw_consent(request).await?.into_inner();
                (asked, answer.receipt.clone(), answer.encode_to_vec())
            }
            Step::SubmitReferral => {
                let request = stored::<SubmitReferralRequest>(request)?;
                let asked = Asked::of(Server::Gateway, Action::SubmitReferral, &request);
                let answer = self
                    .session()?
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
        let evidence = self.verified(&asked, receipt.as_ref())?;
        Ok(Answered {
            entries: vec![evidence.entry()],
            evidence,
            answer,
            learnt,
        })
    }
}

pub(crate) fn stored<M: Message + Default>(bytes: &[u8]) -> Result<M, ConnectorError> {
    M::decode(bytes).map_err(|_| ConnectorError::Keep("a stored request cannot be read".into()))
}

fn before<M: Message + Default>(answers: &[Vec<u8>], step: usize) -> Result<M, ConnectorError> {
    stored(answers.get(step).map_or(&[], Vec::as_slice))
}

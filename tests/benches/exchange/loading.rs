//! Records as an exchange fills with them: each call that there is between a record's intake and its first reading.

use std::{future::Future, sync::Arc, time::Instant};

use amanat_schema::{
    CaseId, RecordId,
    audit::Receipt,
    consent::{RecordConsentRequest, consent_service_client::ConsentServiceClient},
    key::{ActivateKeyRequest, key_service_client::KeyServiceClient},
    policy::{Purpose, ReferralState},
    record::{MinorBand, Need, Urgency, record_service_client::RecordServiceClient},
    referral::{
        SubmitReferralRequest, TransitionReferralRequest,
        referral_service_client::ReferralServiceClient,
    },
    statement::{Consent, ConsentDecision, Referral, ReferralTransition, Statement},
};
use amanat_tests::{
    party::{id, now},
    pause,
    story::{HOUR, Sealed},
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::stage::{Agency, Stage, of};

/// How many are under way.
const TOGETHER: usize = 64;
/// Between two words about how far it is.
const AT_ONCE: usize = 10_000;
/// About as long as what the connector seals of a consent's form.
const EVIDENCE: [u8; 500] = [0xa5; 500];
pub(crate) const PURPOSE: Purpose = Purpose::Shelter;

/// Of the source, with one record.
pub(crate) struct Case {
    pub(crate) case: CaseId,
    pub(crate) record: RecordId,
}

impl Stage {
    /// Until there are so many cases.
    pub(crate) async fn load(self: &mut Arc<Self>, cases: usize) {
        while self.cases.len() < cases {
            let (begin, count) = (Instant::now(), (cases - self.cases.len()).min(AT_ONCE));
            let loaded = together(count, |number| share(Arc::clone(self), number)).await;
            let rate = count as f64 / begin.elapsed().as_secs_f64();
            self.alone().cases.extend(loaded);
            let name = self.engine.of("records");
            eprintln!("loaded {} of {cases} {name}, {rate:.0}/s", self.cases.len());
        }
    }

    /// When no operation is under way.
    pub(crate) fn alone(self: &mut Arc<Self>) -> &mut Self {
        Arc::get_mut(self).expect("an operation still holds the stage")
    }
}

async fn share(stage: Arc<Stage>, number: usize) -> Case {
    let case = Case {
        case: CaseId::new(amanat_seal::random().unwrap()),
        record: RecordId::new(amanat_seal::random().unwrap()),
    };
    let put = put(&stage.source, &case, number).await;
    activate(&stage.source, put, number).await;
    consent(&stage, &case, number).await;
    refer(&stage, &case, number).await;
    case
}

async fn put(source: &Agency, ids: &Case, number: usize) -> Option<Receipt> {
    let sealed = Sealed::under(&source.token(), &source.party, ids.case, ids.record, None);
    let deposited = KeyServiceClient::new(of(&source.custodian, number))
        .deposit_key(sealed.deposit())
        .await;
    let deposited = deposited.unwrap().into_inner();
    let put = RecordServiceClient::new(of(&source.gateway, number))
        .put_record(sealed.put_request(deposited.deposit_receipt))
        .await;
    put.unwrap().into_inner().receipt
}

async fn activate(source: &Agency, put_receipt: Option<Receipt>, number: usize) {
    let request = ActivateKeyRequest {
        request_id: id(),
        put_receipt,
    };
    let mut keys = KeyServiceClient::new(of(&source.custodian, number));
    loop {
        match keys.activate_key(source.asked(request.clone())).await {
            // After a restart the custodian's own connection to the gateway takes a moment.
            Err(status) if status.code() == Code::Unavailable => pause().await,
            activated => {
                activated.unwrap();
                return;
            }
        }
    }
}

async fn consent(stage: &Stage, ids: &Case, number: usize) {
    let (source, from) = (&stage.source, now() - HOUR);
    let terms = |head| Consent {
        head: Some(head),
        consent_id: id(),
        decision: ConsentDecision::Permit.into(),
        paths: stage.paths.clone(),
        recipient_id: stage.reader.party.agency.to_vec(),
        source_id: source.party.agency.to_vec(),
        purpose: PURPOSE.into(),
        valid_from_time: Some(from.to_timestamp()),
        expire_time: Some((from + 90 * 24 * HOUR).to_timestamp()),
        formal_mode: true,
        evidence_sha256: amanat_seal::sha256(&EVIDENCE).to_vec(),
        ..Consent::default()
    };
    let statement = source
        .party
        .sign_with(&source.token(), ids.case, &[], terms);
    for (channels, evidence) in [(&source.custodian, &[][..]), (&source.gateway, &EVIDENCE)] {
        let request = RecordConsentRequest {
            request_id: id(),
            consent: Some(statement.clone()),
            sealed_evidence: evidence.to_vec(),
        };
        let mut consents = ConsentServiceClient::new(of(channels, number));
        consents.record_consent(request).await.unwrap();
    }
}

async fn refer(stage: &Stage, ids: &Case, number: usize) {
    let (source, reader, referral_id) = (&stage.source, &stage.reader, id());
    let terms = |head| Referral {
        head: Some(head),
        referral_id: referral_id.clone(),
        recipient_id: reader.party.agency.to_vec(),
        purpose: PURPOSE.into(),
        services: vec![Need::LegalAid.into()],
        urgency: Urgency::Urgent.into(),
        minor_band: MinorBand::Adult.into(),
        paths: stage.paths.clone(),
        previous_referral_id: Vec::new(),
    };
    let submission = source
        .party
        .sign_with(&source.token(), ids.case, &[], terms);
    let request = SubmitReferralRequest {
        request_id: id(),
        referral: Some(submission.clone()),
    };
    ReferralServiceClient::new(of(&source.gateway, number))
        .submit_referral(request)
        .await
        .unwrap();
    let mut referrals = ReferralServiceClient::new(of(&reader.gateway, number));
    let step = |state: ReferralState, after: &Statement| {
        let follows = amanat_seal::sha256(&after.envelope.as_ref().unwrap().payload);
        let terms = |head| ReferralTransition {
            head: Some(head),
            referral_id: referral_id.clone(),
            to_state: state.into(),
            ..ReferralTransition::default()
        };
        reader
            .party
            .sign_with(&reader.token(), ids.case, &follows, terms)
    };
    let request = |transition: &Statement| TransitionReferralRequest {
        request_id: id(),
        transition: Some(transition.clone()),
    };
    let seen = step(ReferralState::Acknowledged, &submission);
    let acknowledged = referrals.acknowledge_referral(request(&seen)).await;
    acknowledged.unwrap();
    let taken = step(ReferralState::Accepted, &seen);
    referrals.accept_referral(request(&taken)).await.unwrap();
}

/// Makes many of something, a few at a time, in the order of their numbers.
pub(crate) async fn together<T, F>(count: usize, make: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut made = Vec::with_capacity(count);
    let mut under_way = JoinSet::new();
    for number in 0..count {
        if under_way.len() == TOGETHER {
            made.push(under_way.join_next().await.unwrap().unwrap());
        }
        let one = make(number);
        under_way.spawn(async move { (number, one.await) });
    }
    made.extend(under_way.join_all().await);
    made.sort_unstable_by_key(|(number, _)| *number);
    made.into_iter().map(|(_, one)| one).collect()
}

//! ConsentService, the edge: parse, one verb, render.

use amanat_journal::Book;
use amanat_schema::{
    AgencyId, CaseId, ConsentId, Violation,
    audit::{Action, Linkage, Receipt},
    consent::{
        ListConsentsRequest, ListConsentsResponse, RecordConsentRequest, RecordConsentResponse,
        RecordedConsent, WithdrawConsentRequest, WithdrawConsentResponse,
        consent_service_server::ConsentService,
    },
    policy::Right,
    statement::{Consent, Withdrawal},
};
use amanat_server::Refusal;
use tonic::{Request, Response, Status};

use super::{ConsentCall, ConsentReply, ListConsents, Listed, RecordConsent, WithdrawConsent};
use crate::{Act, Desk, Filters, Pages, Refused, Stored};

/// Whether this server keeps the sealed evidence part of consents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    Kept,
    /// The custodian holds the decision part only.
    NotKept,
}

/// Serves the consent ledger of one server.
pub struct ConsentDesk<B: Book> {
    pub desk: Desk<B>,
    pub evidence: Evidence,
}

const RIGHTS: [Right; 1] = [Right::CaseWorker];

#[tonic::async_trait]
impl<B, R> ConsentService for ConsentDesk<B>
where
    B: Book<Answer = Result<R, Refusal>>,
    B::Call: From<Refused> + From<ConsentCall>,
    R: TryInto<ConsentReply> + Send + 'static,
{
    async fn record_consent(
        &self,
        request: Request<RecordConsentRequest>,
    ) -> Result<Response<RecordConsentResponse>, Status> {
        let wire = request.get_ref();
        let (act, signed) = self.desk.delivered::<_, Consent>(
            &request,
            "RecordConsent",
            &wire.request_id,
            wire.consent.as_ref(),
        )?;
        let case = signed.head().case;
        self.desk
            .authorise(&act, Action::RecordConsent, &RIGHTS, || of_case(case))
            .await?;
        let terms = amanat_policy::parse_consent(signed.message()).map_err(Refusal::invalid)?;
        self.known_agency(terms.recipient)?;
        self.check_evidence(&wire.sealed_evidence, &signed.message().evidence_sha256)?;
        let statement = Stored::from(&signed);
        let evidence = request.into_inner().sealed_evidence;
        let receipt = self
            .done(ConsentCall::Record(RecordConsent {
                act,
                terms,
                statement,
                evidence,
            }))
            .await?;
        Ok(Response::new(RecordConsentResponse {
            receipt: Some(receipt),
        }))
    }

    async fn withdraw_consent(
        &self,
        request: Request<WithdrawConsentRequest>,
    ) -> Result<Response<WithdrawConsentResponse>, Status> {
        let wire = request.get_ref();
        let (act, signed) = self.desk.delivered::<_, Withdrawal>(
            &request,
            "WithdrawConsent",
            &wire.request_id,
            wire.withdrawal.as_ref(),
        )?;
        let case = signed.head().case;
        self.desk
            .authorise(&act, Action::WithdrawConsent, &RIGHTS, || of_case(case))
            .await?;
        let consent = ConsentId::parse(&signed.message().consent_id)
            .map_err(|_| Refusal::field("withdrawal.consent_id", "16 bytes"))?;
        let statement = Stored::from(&signed);
        let receipt = self
            .done(ConsentCall::Withdraw(WithdrawConsent {
                act,
                case,
                consent,
                statement,
            }))
            .await?;
        Ok(Response::new(WithdrawConsentResponse {
            receipt: Some(receipt),
        }))
    }

    async fn list_consents(
        &self,
        request: Request<ListConsentsRequest>,
    ) -> Result<Response<ListConsentsResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::ListConsents, &RIGHTS, Linkage::default)
            .await?;
        let pages = self.desk.pages(act.agency, request.get_ref());
        let list = parse_list(act, request.get_ref(), &pages).map_err(Refusal::invalid)?;
        let answered = self.desk.call(ConsentCall::List(list).into()).await?;
        match answered.reply.try_into() {
            Ok(ConsentReply::Listed { consents, next }) => {
                Ok(Response::new(ListConsentsResponse {
                    consents: consents.into_iter().map(render).collect(),
                    next_page_token: pages.token(next)?,
                    receipt: Some(answered.receipt),
                }))
            }
            // A list is answered with a list.
            Ok(ConsentReply::Done | ConsentReply::Withdrawn(_)) | Err(_) => {
                Err(Refusal::audit_unavailable().into())
            }
        }
    }
}

impl<B, R> ConsentDesk<B>
where
    B: Book<Answer = Result<R, Refusal>>,
    B::Call: From<Refused> + From<ConsentCall>,
{
    async fn done(&self, call: ConsentCall) -> Result<Receipt, Status> {
        self.desk
            .call(call.into())
            .await
            .map(|answered| answered.receipt)
    }

    fn known_agency(&self, recipient: AgencyId) -> Result<(), Refusal> {
        match self.desk.rules.current().directory.agency(recipient) {
            Some(_) => Ok(()),
            None => Err(Refusal::field(
                "consent.recipient_id",
                "an agency of the directory",
            )),
        }
    }

    fn check_evidence(&self, evidence: &[u8], sha256: &[u8]) -> Result<(), Refusal> {
        let fits = match self.evidence {
            Evidence::Kept => amanat_seal::sha256(evidence).as_slice() == sha256,
            Evidence::NotKept => evidence.is_empty(),
        };
        let expected = match self.evidence {
            Evidence::Kept => "the bytes whose SHA-256 the consent names",
            Evidence::NotKept => "nothing: the evidence part goes to the gateway only",
        };
        if fits {
            Ok(())
        } else {
            Err(Refusal::field("sealed_evidence", expected))
        }
    }
}

fn parse_list(
    act: Act,
    wire: &ListConsentsRequest,
    pages: &Pages<'_>,
) -> Result<ListConsents, Vec<Violation>> {
    let mut filters = Filters::default();
    let case = filters.id("case_id", &wire.case_id, CaseId::parse);
    let recipient = filters.id("recipient_id", &wire.recipient_id, AgencyId::parse);
    let purpose = filters.code("purpose", wire.purpose);
    let page = pages.parse(wire.page_size, &wire.page_token);
    filters.finish(page, |page| ListConsents {
        act,
        case,
        recipient,
        purpose,
        page,
    })
}

fn render(listed: Listed) -> RecordedConsent {
    RecordedConsent {
        consent: Some(listed.envelope),
        status: listed.status.into(),
        record_time: Some(listed.recorded.to_timestamp()),
    }
}

fn of_case(case: CaseId) -> Linkage {
    Linkage {
        case_id: case.to_vec(),
        ..Linkage::default()
    }
}

//! AuditService, the edge.

use amanat_journal::{Book, EntryFilter, JournalError};
use amanat_ledger::SignedCheckpoint;
use amanat_schema::{
    AgencyId, CaseId, Violation,
    audit::{
        Action, ConsistencyProof, Entry, GetCheckpointRequest, GetCheckpointResponse,
        GetConsistencyProofRequest, GetConsistencyProofResponse, GetEntryBundleRequest,
        GetEntryBundleResponse, GetEntryRequest, GetEntryResponse, GetInclusionProofRequest,
        GetInclusionProofResponse, Linkage as WireLinkage, ListEntriesRequest, ListEntriesResponse,
        audit_service_server::AuditService,
    },
    policy::Right,
};
use amanat_server::Refusal;
use tonic::{Request, Response, Status};

use super::{AuditCall, AuditReply, Linkage, SeenEntry, reads_all};
use crate::{Act, Desk, Filters, Pages, Refused, refusal};

/// Serves the log of one server.
pub struct AuditDesk<B: Book> {
    pub desk: Desk<B>,
}

/// An agency's supervisors read their own agency's entries, auditors of the oversight body all.
const RIGHTS: [Right; 3] = [Right::Auditor, Right::Supervisor, Right::CaseWorker];
/// The most sizes that one consistency call proves.
const MOST_SIZES: usize = 256;

#[tonic::async_trait]
impl<B, R> AuditService for AuditDesk<B>
where
    B: Book<Answer = Result<R, Refusal>>,
    B::Call: From<Refused> + From<AuditCall>,
    R: TryInto<AuditReply> + Send + 'static,
{
    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::ListEntries, &RIGHTS, WireLinkage::default)
            .await?;
        let pages = self.desk.pages(act.agency, request.get_ref());
        let filter = parse_filter(&act, request.get_ref(), &pages).map_err(Refusal::invalid)?;
        let (officer, limit) = (act.officer.id.clone(), filter.limit);
        let page = self.desk.reader.page(&filter).await;
        let page = page.map_err(|error| refusal(&error))?;
        let call = AuditCall::List { act, limit, page };
        let answered = self.desk.call(call.into()).await?;
        match answered.reply.try_into() {
            Ok(AuditReply::Listed { entries, next }) => Ok(Response::new(ListEntriesResponse {
                entries: entries
                    .into_iter()
                    .map(|e| self.render(e, &officer))
                    .collect(),
                next_page_token: pages.token(next)?,
                receipt: Some(answered.receipt),
            })),
            // A list is answered with a list.
            Ok(AuditReply::Got(_)) | Err(_) => Err(Refusal::audit_unavailable().into()),
        }
    }

    async fn get_entry(
        &self,
        request: Request<GetEntryRequest>,
    ) -> Result<Response<GetEntryResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::GetEntry, &RIGHTS, WireLinkage::default)
            .await?;
        let (officer, idx) = (act.officer.id.clone(), request.get_ref().index);
        let found = self.desk.reader.entry(idx).await;
        let found = found.map_err(|error| refusal(&error))?.map(Box::new);
        let answered = self.desk.call(AuditCall::Get { act, found }.into()).await?;
        let Ok(AuditReply::Got(seen)) = answered.reply.try_into() else {
            // A get is answered with an entry.
            return Err(Refusal::audit_unavailable().into());
        };
        let checkpoint = self.newest().await?;
        let checkpoint = checkpoint.ok_or_else(Refusal::audit_unavailable)?;
        let proof = self.desk.reader.inclusion(idx, checkpoint.head.size).await;
        let proof = proof.map_err(|error| refusal(&error))?;
        let mut receipt = seen.stored.clone().receipt(proof, &checkpoint);
        if seen.linkage == Linkage::Withheld {
            receipt.linkage = None;
        }
        Ok(Response::new(GetEntryResponse {
            entry: Some(self.render(*seen, &officer)),
            entry_receipt: Some(receipt),
            receipt: Some(answered.receipt),
        }))
    }

    async fn get_checkpoint(
        &self,
        _request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let checkpoint = self.newest().await?;
        let checkpoint = checkpoint.map(|c| c.text).unwrap_or_default();
        Ok(Response::new(GetCheckpointResponse { checkpoint }))
    }

    async fn get_entry_bundle(
        &self,
        request: Request<GetEntryBundleRequest>,
    ) -> Result<Response<GetEntryBundleResponse>, Status> {
        let GetEntryBundleRequest { from_index, count } = request.into_inner();
        let entries = self.desk.reader.bundle(from_index, count).await;
        let entries = entries.map_err(|error| refusal(&error))?;
        Ok(Response::new(GetEntryBundleResponse { entries }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        let GetInclusionProofRequest { index, size } = request.into_inner();
        let proof = self.desk.reader.inclusion(index, size).await;
        let proof = proof.map_err(|error| refusal(&error))?;
        Ok(Response::new(GetInclusionProofResponse {
            proof: render_hashes(&proof),
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let sizes = request.into_inner().sizes;
        if !(2..=MOST_SIZES).contains(&sizes.len()) {
            return Err(Refusal::field("sizes", "two to 256 sizes").into());
        }
        let mut proofs = Vec::with_capacity(sizes.len() - 1);
        for (old, new) in sizes.iter().zip(sizes.iter().skip(1)) {
            if *old == 0 || old >= new {
                return Err(Refusal::field("sizes", "rising sizes from 1 on").into());
            }
            let hashes = self.desk.reader.consistency(*old, *new).await;
            let hashes = hashes.map_err(|error: JournalError| refusal(&error))?;
            proofs.push(ConsistencyProof {
                hashes: render_hashes(&hashes),
            });
        }
        Ok(Response::new(GetConsistencyProofResponse { proofs }))
    }
}

impl<B: Book> AuditDesk<B> {
    async fn newest(&self) -> Result<Option<SignedCheckpoint>, Refusal> {
        let newest = self.desk.reader.checkpoint().await;
        newest.map_err(|error| {
            // It is not about what was asked.
            if let JournalError::Log(_) = error {
                Refusal::log_inconsistent()
            } else {
                refusal(&error)
            }
        })
    }

    fn render(&self, seen: SeenEntry, officer: &str) -> Entry {
        let SeenEntry { stored, linkage } = seen;
        let shown = linkage == Linkage::Shown;
        // Only an officer's own commitment is opened, even to the same agency.
        let opening = shown.then(|| stored.officer(&self.desk.openings)).flatten();
        Entry {
            index: stored.idx,
            officer: opening.filter(|opening| opening.value == officer.as_bytes()),
            body: stored.body,
            salt: stored.salt,
            linkage: shown.then_some(stored.linkage),
        }
    }
}

fn render_hashes(hashes: &[amanat_ledger::Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.0.to_vec()).collect()
}

fn parse_filter(
    act: &Act,
    wire: &ListEntriesRequest,
    pages: &Pages<'_>,
) -> Result<EntryFilter, Vec<Violation>> {
    let mut filters = Filters::default();
    let agency = filters.id("agency_id", &wire.agency_id, AgencyId::parse);
    let case = filters.id("case_id", &wire.case_id, CaseId::parse);
    let expected = "nothing: an auditor reads without case linkage";
    filters.that(case.is_none() || !reads_all(act), "case_id", expected);
    let action = filters.code("action", wire.action);
    let decision = filters.code("decision", wire.decision);
    let since = filters.time("from_time", wire.from_time.as_ref());
    let until = filters.time("to_time", wire.to_time.as_ref());
    let rises = since.zip(until).is_none_or(|(since, until)| since < until);
    filters.that(rises, "to_time", "a time after from_time");
    let page = pages.parse(wire.page_size, &wire.page_token);
    filters.finish(page, |page| EntryFilter {
        // Others than auditors see no entry but their own agency's: of another's, none.
        agency: if reads_all(act) {
            agency
        } else {
            agency.or(Some(act.agency))
        },
        case,
        action,
        decision,
        since,
        until,
        from: wire.from_index.max(u64::try_from(page.after).unwrap_or(0)),
        limit: page.size,
    })
}

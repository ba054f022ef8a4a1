//! OprfService, the edge: parse, one verb, and only when its entry and its debit are durable the evaluation.

mod keys;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use amanat_desk::{Act, Desk, Filters, Pages};
use amanat_identity::Directory;
use amanat_schema::{
    AgencyId, CaseId, RequestId, Time, Violation,
    audit::{Action, Linkage},
    policy::{AgencyKind, Right},
    subject::{
        BlindedBatch, EvaluateIdentifiersRequest, EvaluateIdentifiersResponse, EvaluatedBatch,
        EvaluationReason, IdentifierDomain, ListUnusedEvaluationsRequest,
        ListUnusedEvaluationsResponse, UnusedEvaluation, oprf_service_server::OprfService,
    },
};
use amanat_seal::{oprf::is_element, pseudonym::HandleKey};
use amanat_server::Refusal;
use amanat_telemetry::{Counter, KeyValue};
use tonic::{Request, Response, Status};

pub(crate) use keys::OprfKeys;

use crate::store::{
    Call, Custody, Reply,
    evaluation::{EvaluateIdentifiers, ListUnused, Unused},
};
use keys::{Name, Points, listed};

pub(crate) struct OprfDesk {
    pub(crate) desk: Desk<Custody>,
    pub(crate) keys: Arc<OprfKeys>,
    pub(crate) handles: Arc<HandleKey>,
    pub(crate) identifiers: Counter<u64>,
}

const MOST_POINTS: usize = 100;
/// A token that nothing asks for yet could only be hoarded.
const SERVED: [IdentifierDomain; 2] = [IdentifierDomain::Victim, IdentifierDomain::Composite];
const CASE_WORKERS: [Right; 1] = [Right::CaseWorker];
const AUDITORS: [Right; 1] = [Right::Auditor];
const NOBODY: [Right; 0] = [];

/// What is asked, with every field in order.
struct Ask {
    case: Option<CaseId>,
    reason: EvaluationReason,
    batches: Vec<Batch>,
}

struct Batch {
    name: Name,
    blinded: Vec<Vec<u8>>,
}

#[tonic::async_trait]
impl OprfService for OprfDesk {
    async fn evaluate_identifiers(
        &self,
        request: Request<EvaluateIdentifiersRequest>,
    ) -> Result<Response<EvaluateIdentifiersResponse>, Status> {
        let act = self.desk.asked(&request)?;
        let wire = request.into_inner();
        let rights = may_evaluate(act.kind, wire.reason());
        self.desk
            .authorise(&act, Action::EvaluateIdentifiers, rights, || of_case(&wire))
            .await?;
        let rules = self.desk.rules.current();
        let ask = parse(wire, &rules.directory).map_err(Refusal::invalid)?;
        let evaluate = EvaluateIdentifiers {
            officer: self.handles.handle(act.agency, &act.officer.id),
            act,
            case: ask.case,
            reason: ask.reason,
            items: ask.items(),
        };
        let count = evaluate.items.values().map(|items| u64::from(*items)).sum();
        let points = self.keyed(ask, &rules.directory)?;
        let answered = self.desk.call(Call::Evaluate(Box::new(evaluate))).await;
        self.count(count, answered.is_ok());
        let answered = answered?;
        Ok(Response::new(EvaluateIdentifiersResponse {
            batches: evaluated(points).await?,
            receipt: Some(answered.receipt),
        }))
    }

    async fn list_unused_evaluations(
        &self,
        request: Request<ListUnusedEvaluationsRequest>,
    ) -> Result<Response<ListUnusedEvaluationsResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(
                &act,
                Action::ListEvaluations,
                may_list(act.kind),
                Linkage::default,
            )
            .await?;
        let pages = self.desk.pages(act.agency, request.get_ref());
        let now = (self.desk.guard.clock)();
        let list = parse_list(act, request.get_ref(), &pages, now).map_err(Refusal::invalid)?;
        let answered = self.desk.call(Call::ListUnused(Box::new(list))).await?;
        let Reply::Unused { unused, next } = answered.reply else {
            // A list is answered with a list.
            return Err(Refusal::audit_unavailable().into());
        };
        Ok(Response::new(ListUnusedEvaluationsResponse {
            evaluations: unused.into_iter().map(render).collect(),
            next_page_token: pages.token(next)?,
            receipt: Some(answered.receipt),
        }))
    }
}

impl OprfDesk {
    fn count(&self, identifiers: u64, is_allowed: bool) {
        let outcome = if is_allowed { "evaluated" } else { "refused" };
        self.identifiers
            .add(identifiers, &[KeyValue::new("outcome", outcome)]);
    }

    /// The keys of what is asked. A directory that lists keys whose seeds are not here is not taken into
    /// use, so one that is missing all the same is the operator's to mend, and nothing is counted.
    fn keyed(&self, ask: Ask, directory: &Directory) -> Result<Vec<Points>, Refusal> {
        let keyed = ask.batches.into_iter().map(|Batch { name, blinded }| {
            let key = listed(directory, name).and_then(|public| self.keys.get(name, public));
            let key = Arc::clone(key.ok_or_else(|| {
                let (domain, epoch) = (name.0.as_str_name(), name.1);
                tracing::error!(
                    domain,
                    epoch,
                    "oprf.keys lacks a key that the directory lists"
                );
                Refusal::audit_unavailable()
            })?);
            Ok(Points { key, blinded })
        });
        keyed.collect()
    }
}

/// The entry is durable by now, whatever becomes of the answer.
async fn evaluated(points: Vec<Points>) -> Result<Vec<EvaluatedBatch>, Refusal> {
    let evaluated = tokio::task::spawn_blocking(move || keys::evaluate(&points)).await;
    evaluated.ok().and_then(Result::ok).ok_or_else(|| {
        tracing::error!("points that were checked could not be evaluated");
        Refusal::audit_unavailable()
    })
}

impl Ask {
    /// How many points for each key domain, over all its epochs: which of them hide the same identifier,
    /// nobody can see.
    fn items(&self) -> BTreeMap<IdentifierDomain, u32> {
        let mut items = BTreeMap::new();
        for Batch { name, blinded } in &self.batches {
            // At most MOST_POINTS.
            *items.entry(name.0).or_default() += u32::try_from(blinded.len()).unwrap_or(u32::MAX);
        }
        items
    }
}

/// The oversight body plants canaries and looks no one up; all others the reverse. Without a valid reason
/// whoever could have one is told what is wrong with it.
fn may_evaluate(kind: AgencyKind, reason: EvaluationReason) -> &'static [Right] {
    match (kind == AgencyKind::Oversight, reason) {
        (true, EvaluationReason::Canary | EvaluationReason::Unspecified) => &AUDITORS,
        (
            false,
            EvaluationReason::Intake | EvaluationReason::Search | EvaluationReason::Unspecified,
        ) => &CASE_WORKERS,
        (true, EvaluationReason::Intake | EvaluationReason::Search)
        | (false, EvaluationReason::Canary) => &NOBODY,
    }
}

fn may_list(kind: AgencyKind) -> &'static [Right] {
    if kind == AgencyKind::Oversight {
        &AUDITORS
    } else {
        &NOBODY
    }
}

/// Every field; a point that is none is named.
fn parse(wire: EvaluateIdentifiersRequest, directory: &Directory) -> Result<Ask, Vec<Violation>> {
    let mut wrong = Wrong::default();
    let reason = wire.reason();
    let known = reason != EvaluationReason::Unspecified;
    wrong.unless(known, "reason", "INTAKE, SEARCH or CANARY");
    let request_id = RequestId::parse(&wire.request_id);
    wrong.unless(request_id.is_ok(), "request_id", "16 random bytes");
    let case = CaseId::parse(&wire.case_id).ok();
    if reason == EvaluationReason::Canary {
        let expected = "nothing: a canary belongs to no case";
        wrong.unless(wire.case_id.is_empty(), "case_id", expected);
    } else {
        wrong.unless(case.is_some(), "case_id", "16 bytes");
    }
    let points: usize = wire.batches.iter().map(|b| b.blinded_elements.len()).sum();
    let fits = (1..=MOST_POINTS).contains(&points);
    wrong.unless(fits, "batches", "together 1 to 100 points");
    let mut batches = Vec::new();
    // So many are not looked at one by one.
    if fits {
        let mut seen = BTreeSet::new();
        for (at, batch) in wire.batches.into_iter().enumerate() {
            let path = format!("batches[{at}]");
            batches.push(parse_batch(&path, batch, directory, &mut seen, &mut wrong));
        }
    }
    wrong.finish(Ask {
        case,
        reason,
        batches,
    })
}

/// One key that the directory lists, once, and at least one point.
fn parse_batch(
    path: &str,
    batch: BlindedBatch,
    directory: &Directory,
    seen: &mut BTreeSet<Name>,
    wrong: &mut Wrong,
) -> Batch {
    let (domain, epoch) = (batch.domain(), batch.epoch);
    let name = (domain, epoch);
    if !SERVED.contains(&domain) {
        let expected = "VICTIM or COMPOSITE; suspects' tokens are not served yet";
        wrong.note(&format!("{path}.domain"), expected);
    } else if listed(directory, name).is_none() {
        let expected = "an epoch that the directory lists for this domain";
        wrong.note(&format!("{path}.epoch"), expected);
    } else if !seen.insert(name) {
        let expected = "another key than the batches before have";
        wrong.note(&format!("{path}.epoch"), expected);
    }
    let blinded = batch.blinded_elements;
    if blinded.is_empty() {
        wrong.note(&format!("{path}.blinded_elements"), "at least one point");
    }
    for (at, point) in blinded.iter().enumerate() {
        if !is_element(point) {
            let expected = "32 bytes, a ristretto255 element other than the identity";
            wrong.note(&format!("{path}.blinded_elements[{at}]"), expected);
        }
    }
    Batch { name, blinded }
}

fn parse_list(
    act: Act,
    wire: &ListUnusedEvaluationsRequest,
    pages: &Pages<'_>,
    now: Time,
) -> Result<ListUnused, Vec<Violation>> {
    let mut filters = Filters::default();
    let agency = filters.id("agency_id", &wire.agency_id, AgencyId::parse);
    let page = pages.parse(wire.page_size, &wire.page_token);
    filters.finish(page, |page| ListUnused {
        act,
        agency,
        over_by: (!wire.include_running).then_some(now),
        page,
    })
}

fn render(unused: Unused) -> UnusedEvaluation {
    UnusedEvaluation {
        agency_id: unused.agency.to_vec(),
        officer_handle: unused.officer,
        reason: unused.reason.into(),
        count: unused.count,
        evaluate_time: Some(unused.evaluated.to_timestamp()),
        deposit_by_time: Some(unused.deposit_by.to_timestamp()),
    }
}

fn of_case(wire: &EvaluateIdentifiersRequest) -> Linkage {
    Linkage {
        case_id: CaseId::parse(&wire.case_id).map_or_else(|_| Vec::new(), CaseId::to_vec),
        ..Linkage::default()
    }
}

/// All that is wrong with a request.
#[derive(Default)]
struct Wrong(Vec<Violation>);

impl Wrong {
    fn note(&mut self, path: &str, expected: &str) {
        self.0.push(Violation {
            path: path.to_owned(),
            expected: expected.to_owned(),
        });
    }

    fn unless(&mut self, holds: bool, path: &str, expected: &str) {
        if !holds {
            self.note(path, expected);
        }
    }

    fn finish<T>(self, parsed: T) -> Result<T, Vec<Violation>> {
        if self.0.is_empty() {
            Ok(parsed)
        } else {
            Err(self.0)
        }
    }
}

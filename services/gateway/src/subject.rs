//! SubjectService, the edge: parse, one verb, render. Tokens end here; their peppered forms go on.

use std::{collections::BTreeSet, sync::Arc};

use amanat_desk::{Act, Desk, Filters, Pages};
use amanat_identity::Directory;
use amanat_schema::{
    AgencyId, RequestId, Time, Violation,
    audit::{Action, Linkage, Receipt},
    policy::{AgencyKind, Right},
    subject::{
        CanaryHit, EvaluationReason, FindSubjectRequest, FindSubjectResponse, IdentifierDomain,
        IdentifierTokens, ListCanaryHitsRequest, ListCanaryHitsResponse, ListMergesRequest,
        ListMergesResponse, Merge, MergeSubjectsRequest, MergeSubjectsResponse, PlantCanaryRequest,
        PlantCanaryResponse, SplitSubjectsRequest, SplitSubjectsResponse, SubjectIdentifierType,
        subject_service_server::SubjectService,
    },
};
use amanat_seal::pseudonym::{HandleKey, Peppers, Pseudonym};
use amanat_server::Refusal;
use prost::{Message, Name};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};
use zeroize::Zeroize as _;

use crate::store::{
    Call, Exchange, Reply,
    subject::{
        FindReason, FindSubject, Identifier, JudgePair, Judgement, KEY_VERSION, ListCanaryHits,
        ListMerges, MergeView, Peppered, PlantCanary, SeenHit, SubjectCall, SubjectId,
        SubjectReply,
    },
};

pub(crate) struct SubjectDesk {
    pub(crate) desk: Desk<Exchange>,
    pub(crate) peppers: Arc<Peppers>,
    pub(crate) handles: HandleKey,
    /// Woken by every answer to FindSubject, whatever it asked for, so that no answer waits for an alarm.
    pub(crate) answered: Arc<Notify>,
}

const WORKERS: [Right; 1] = [Right::CaseWorker];
const READERS: [Right; 2] = [Right::CaseWorker, Right::Supervisor];
const JUDGES: [Right; 1] = [Right::Supervisor];
const MOST_IDENTIFIERS: usize = 16;
/// Bytes.
const LONGEST_LABEL: usize = 64;
const NONCE_LEN: usize = 32;

#[tonic::async_trait]
impl SubjectService for SubjectDesk {
    async fn find_subject(
        &self,
        mut request: Request<FindSubjectRequest>,
    ) -> Result<Response<FindSubjectResponse>, Status> {
        let act = self.desk.asked(&request);
        // Out of the request before anything can fail, so that they are wiped.
        let tokens = Tokens(std::mem::take(&mut request.get_mut().identifiers));
        let act = act?;
        self.desk
            .authorise(&act, Action::FindSubject, &WORKERS, Linkage::default)
            .await?;
        let find = self.parse_find(act, request.get_ref(), &tokens)?;
        drop(tokens);
        let answered = self.answer(SubjectCall::Find(find)).await;
        self.answered.notify_one();
        let (Reply::Subject(SubjectReply::Found(pseudonym)), receipt) = answered? else {
            // A find is answered with a pseudonym.
            return Err(Refusal::audit_unavailable().into());
        };
        Ok(Response::new(FindSubjectResponse {
            pseudonym: pseudonym.to_string(),
            key_version: KEY_VERSION,
            receipt: Some(receipt),
        }))
    }

    async fn list_merges(
        &self,
        request: Request<ListMergesRequest>,
    ) -> Result<Response<ListMergesResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::ListMerges, &READERS, Linkage::default)
            .await?;
        let pages = self.desk.pages(act.agency, request.get_ref());
        let list = parse_merges(act, request.get_ref(), &pages).map_err(Refusal::invalid)?;
        let answered = self.answer(SubjectCall::List(list)).await?;
        let (Reply::Subject(SubjectReply::Merges { merges, next }), receipt) = answered else {
            // A list is answered with a list.
            return Err(Refusal::audit_unavailable().into());
        };
        Ok(Response::new(ListMergesResponse {
            merges: merges.into_iter().map(render_merge).collect(),
            next_page_token: pages.token(next)?,
            receipt: Some(receipt),
        }))
    }

    async fn merge_subjects(
        &self,
        request: Request<MergeSubjectsRequest>,
    ) -> Result<Response<MergeSubjectsResponse>, Status> {
        let wire = request.get_ref();
        let named = [("into", &wire.into), ("from", &wire.from)];
        let receipt = self
            .judge(&request, Judgement::OnePerson, &wire.request_id, named)
            .await?;
        Ok(Response::new(MergeSubjectsResponse {
            receipt: Some(receipt),
        }))
    }

    async fn split_subjects(
        &self,
        request: Request<SplitSubjectsRequest>,
    ) -> Result<Response<SplitSubjectsResponse>, Status> {
        let wire = request.get_ref();
        let named = [("one", &wire.one), ("other", &wire.other)];
        let receipt = self
            .judge(&request, Judgement::TwoPersons, &wire.request_id, named)
            .await?;
        Ok(Response::new(SplitSubjectsResponse {
            receipt: Some(receipt),
        }))
    }

    async fn plant_canary(
        &self,
        mut request: Request<PlantCanaryRequest>,
    ) -> Result<Response<PlantCanaryResponse>, Status> {
        let act = self.desk.asked(&request);
        let tokens = Tokens(request.get_mut().identifier.take().into_iter().collect());
        let act = act?;
        self.desk
            .authorise(&act, Action::PlantCanary, overseers(&act), Linkage::default)
            .await?;
        let plant = self.parse_plant(act, request.get_ref(), &tokens)?;
        drop(tokens);
        let (_, receipt) = self.answer(SubjectCall::Plant(plant)).await?;
        Ok(Response::new(PlantCanaryResponse {
            receipt: Some(receipt),
        }))
    }

    async fn list_canary_hits(
        &self,
        request: Request<ListCanaryHitsRequest>,
    ) -> Result<Response<ListCanaryHitsResponse>, Status> {
        let act = self.desk.asked(&request)?;
        let (action, rights) = (Action::ListCanaryHits, overseers(&act));
        self.desk
            .authorise(&act, action, rights, Linkage::default)
            .await?;
        let wire = request.get_ref();
        let pages = self.desk.pages(act.agency, wire);
        let page = pages.parse(wire.page_size, &wire.page_token);
        let page = page.map_err(|violation| Refusal::invalid(vec![violation]))?;
        let call = SubjectCall::Hits(ListCanaryHits { act, page });
        let answered = self.answer(call).await?;
        let (Reply::Subject(SubjectReply::Hits { hits, next }), receipt) = answered else {
            // A list is answered with a list.
            return Err(Refusal::audit_unavailable().into());
        };
        Ok(Response::new(ListCanaryHitsResponse {
            hits: hits.into_iter().map(render_hit).collect(),
            next_page_token: pages.token(next)?,
            receipt: Some(receipt),
        }))
    }
}

/// Out of a request, and wiped with this.
struct Tokens(Vec<IdentifierTokens>);

impl Drop for Tokens {
    fn drop(&mut self) {
        for token in self.0.iter_mut().flat_map(|of| &mut of.tokens) {
            token.token.zeroize();
        }
    }
}

impl SubjectDesk {
    async fn answer(&self, call: SubjectCall) -> Result<(Reply, Receipt), Status> {
        let answered = self.desk.call(Call::Subject(Box::new(call))).await?;
        Ok((answered.reply, answered.receipt))
    }

    /// A person's word on two of the agency's subjects, by the names that the request gives them.
    async fn judge<T: Message + Name>(
        &self,
        request: &Request<T>,
        judgement: Judgement,
        request_id: &[u8],
        named: [(&str, &String); 2],
    ) -> Result<Receipt, Status> {
        let (action, method) = match judgement {
            Judgement::OnePerson => (Action::MergeSubjects, "MergeSubjects"),
            Judgement::TwoPersons => (Action::SplitSubjects, "SplitSubjects"),
        };
        let mut act = self.desk.asked(request)?;
        self.desk
            .authorise(&act, action, &JUDGES, Linkage::default)
            .await?;
        let mut wrong = Wrong::default();
        act.request = wrong.request_id(request_id).map(|id| (method, id));
        let [(one_path, one), (other_path, other)] = named;
        let one = wrong.pseudonym(one_path, one);
        let other = wrong.pseudonym(other_path, other);
        let differ = one.is_none() || one != other;
        wrong.that(differ, other_path, "another subject than the first");
        let (Some(into), Some(from), true) = (one, other, wrong.0.is_empty()) else {
            return Err(Refusal::invalid(wrong.0).into());
        };
        let call = JudgePair {
            act,
            judgement,
            into,
            from,
        };
        let (_, receipt) = self.answer(SubjectCall::Judge(call)).await?;
        Ok(receipt)
    }

    fn parse_find(
        &self,
        mut act: Act,
        wire: &FindSubjectRequest,
        tokens: &Tokens,
    ) -> Result<FindSubject, Refusal> {
        let mut wrong = Wrong::default();
        let request_id = wrong.request_id(&wire.request_id);
        act.request = request_id.map(|id| ("FindSubject", id));
        wrong.nonce(&wire.nonce);
        let reason = find_reason(wire.reason());
        wrong.that(reason.is_some(), "reason", "INTAKE or SEARCH");
        let identifiers = self.parse_identifiers(act.agency, tokens, &mut wrong);
        let Some(reason) = reason.filter(|_| wrong.0.is_empty()) else {
            return Err(Refusal::invalid(wrong.0));
        };
        let fresh = amanat_seal::random().map_err(|_| Refusal::audit_unavailable())?;
        Ok(FindSubject {
            officer_handle: self.handles.handle(act.agency, &act.officer.id),
            act,
            reason,
            identifiers,
            fresh: SubjectId(fresh),
        })
    }

    /// Those of one person: none twice, and of each type of document one number. The types are as claimed.
    fn parse_identifiers(
        &self,
        agency: AgencyId,
        tokens: &Tokens,
        wrong: &mut Wrong,
    ) -> Vec<Identifier> {
        let few = tokens.0.len() <= MOST_IDENTIFIERS;
        wrong.that(few, "identifiers", "at most 16");
        let directory = &self.desk.rules.current().directory;
        let (mut identifiers, mut seen) = (Vec::<Identifier>::new(), BTreeSet::new());
        for (at, presented) in tokens.0.iter().enumerate().take(MOST_IDENTIFIERS) {
            let path = format!("identifiers[{at}]");
            let identifier = self.identify(agency, directory, presented, &path, wrong);
            let mut stored = identifier.tokens.iter().map(|(_, stored)| *stored);
            let is_new = stored.all(|stored| seen.insert(stored));
            wrong.that(is_new, &path, "an identifier that is not listed before");
            let is_second = is_document(identifier.kind)
                && identifiers
                    .iter()
                    .any(|other| other.kind == identifier.kind);
            let expected = "one person's: one number of each type of document";
            wrong.that(!is_new || !is_second, &path, expected);
            identifiers.push(identifier);
        }
        identifiers
    }

    fn parse_plant(
        &self,
        mut act: Act,
        wire: &PlantCanaryRequest,
        tokens: &Tokens,
    ) -> Result<PlantCanary, Refusal> {
        let mut wrong = Wrong::default();
        let request_id = wrong.request_id(&wire.request_id);
        act.request = request_id.map(|id| ("PlantCanary", id));
        wrong.nonce(&wire.nonce);
        let fits = (1..=LONGEST_LABEL).contains(&wire.label.len());
        wrong.that(fits, "label", "1 to 64 bytes");
        let printable = !wire.label.contains(char::is_control);
        wrong.that(printable, "label", "text without control characters");
        let directory = &self.desk.rules.current().directory;
        let identifier = tokens.0.first().map(|presented| {
            self.identify(act.agency, directory, presented, "identifier", &mut wrong)
        });
        wrong.that(identifier.is_some(), "identifier", "an identifier's tokens");
        let identifier = identifier.and_then(|of| Some((domain(of.kind)?, of)));
        match identifier {
            Some((domain, identifier)) if wrong.0.is_empty() => Ok(PlantCanary {
                officer_handle: self.handles.handle(act.agency, &act.officer.id),
                act,
                domain,
                identifier,
                label: wire.label.clone(),
            }),
            _ => Err(Refusal::invalid(wrong.0)),
        }
    }

    /// Peppers the tokens for the agency, which must be of every epoch that the directory lists and of no other.
    fn identify(
        &self,
        agency: AgencyId,
        directory: &Directory,
        wire: &IdentifierTokens,
        path: &str,
        wrong: &mut Wrong,
    ) -> Identifier {
        let kind = strength(wire.r#type());
        let domain = domain(kind);
        let expected = "a type of identifier";
        wrong.that(domain.is_some(), &format!("{path}.type"), expected);
        let mut tokens = Vec::new();
        for (at, of) in wire.tokens.iter().enumerate() {
            let token = <&[u8; 64]>::try_from(of.token.as_slice()).ok();
            let token_path = format!("{path}.tokens[{at}].token");
            wrong.that(token.is_some(), &token_path, "64 bytes");
            tokens.extend(token.map(|token| (of.epoch, token)));
        }
        tokens.sort_unstable_by_key(|(epoch, _)| *epoch);
        if let Some(domain) = domain {
            let listed = directory.oprf_keys(domain).map(|(epoch, _)| epoch);
            let given = tokens.iter().map(|(epoch, _)| *epoch);
            let fits = !tokens.is_empty() && given.eq(listed);
            let expected = "one token for each epoch of its key that the directory lists";
            wrong.that(fits, &format!("{path}.tokens"), expected);
        }
        let stored = |token| Peppered(self.peppers.stored(agency, token));
        let canary = |token| Peppered(self.peppers.canary(token));
        Identifier {
            kind,
            as_canary: tokens.iter().map(|(_, token)| canary(token)).collect(),
            tokens: tokens
                .iter()
                .map(|(epoch, token)| (*epoch, stored(token)))
                .collect(),
        }
    }
}

/// A B-form's number is the card's that follows it, and its token the same: it weighs as much.
fn strength(kind: SubjectIdentifierType) -> SubjectIdentifierType {
    match kind {
        SubjectIdentifierType::BForm => SubjectIdentifierType::Cnic,
        SubjectIdentifierType::Unspecified
        | SubjectIdentifierType::Cnic
        | SubjectIdentifierType::Passport
        | SubjectIdentifierType::AfghanPor
        | SubjectIdentifierType::AfghanAcc
        | SubjectIdentifierType::Phone
        | SubjectIdentifierType::Composite => kind,
    }
}

/// What a person has one number of.
fn is_document(kind: SubjectIdentifierType) -> bool {
    match kind {
        SubjectIdentifierType::Cnic
        | SubjectIdentifierType::BForm
        | SubjectIdentifierType::Passport
        | SubjectIdentifierType::AfghanPor
        | SubjectIdentifierType::AfghanAcc => true,
        SubjectIdentifierType::Unspecified
        | SubjectIdentifierType::Phone
        | SubjectIdentifierType::Composite => false,
    }
}

/// A canary is planted, not found.
fn find_reason(reason: EvaluationReason) -> Option<FindReason> {
    match reason {
        EvaluationReason::Intake => Some(FindReason::Intake),
        EvaluationReason::Search => Some(FindReason::Search),
        EvaluationReason::Unspecified | EvaluationReason::Canary => None,
    }
}

/// Under which of the custodian's keys an identifier is evaluated.
fn domain(kind: SubjectIdentifierType) -> Option<IdentifierDomain> {
    match kind {
        SubjectIdentifierType::Unspecified => None,
        SubjectIdentifierType::Composite => Some(IdentifierDomain::Composite),
        SubjectIdentifierType::Cnic
        | SubjectIdentifierType::BForm
        | SubjectIdentifierType::Passport
        | SubjectIdentifierType::AfghanPor
        | SubjectIdentifierType::AfghanAcc
        | SubjectIdentifierType::Phone => Some(IdentifierDomain::Victim),
    }
}

/// Canaries are the oversight body's; in another agency no right suffices.
fn overseers(act: &Act) -> &'static [Right] {
    if act.kind == AgencyKind::Oversight {
        &[Right::Auditor]
    } else {
        &[]
    }
}

/// All that is wrong with a request.
#[derive(Default)]
struct Wrong(Vec<Violation>);

impl Wrong {
    fn that(&mut self, holds: bool, path: &str, expected: &str) {
        if !holds {
            self.0.push(Violation {
                path: path.to_owned(),
                expected: expected.to_owned(),
            });
        }
    }

    fn request_id(&mut self, bytes: &[u8]) -> Option<RequestId> {
        let id = RequestId::parse(bytes).ok();
        self.that(id.is_some(), "request_id", "16 random bytes");
        id
    }

    fn nonce(&mut self, bytes: &[u8]) {
        self.that(bytes.len() == NONCE_LEN, "nonce", "32 random bytes");
    }

    fn pseudonym(&mut self, path: &str, text: &str) -> Option<Pseudonym> {
        let pseudonym = text.parse().ok();
        let expected = "a pseudonym with its check symbol";
        self.that(pseudonym.is_some(), path, expected);
        pseudonym
    }
}

fn parse_merges(
    act: Act,
    wire: &ListMergesRequest,
    pages: &Pages<'_>,
) -> Result<ListMerges, Vec<Violation>> {
    let mut filters = Filters::default();
    let status = filters.code("status", wire.status);
    let page = pages.parse(wire.page_size, &wire.page_token);
    filters.finish(page, |page| ListMerges { act, status, page })
}

fn render_merge(merge: MergeView) -> Merge {
    Merge {
        into: merge.into.to_string(),
        from: merge.from.to_string(),
        status: merge.status.into(),
        propose_time: Some(merge.proposed.to_timestamp()),
        decide_time: merge.decided.map(Time::to_timestamp),
    }
}

fn render_hit(hit: SeenHit) -> CanaryHit {
    CanaryHit {
        label: hit.label,
        agency_id: hit.agency.to_vec(),
        officer_handle: hit.officer_handle,
        hit_time: Some(hit.at.to_timestamp()),
    }
}

//! Whose record it is: identifiers become tokens by the custodian's key, tokens this agency's pseudonym by the
//! gateway's. Neither server learns an identifier, and no token is ever stored here.

mod identifiers;
mod merge;
mod oversight;
mod recognise;

use amanat_schema::{
    CaseId, RecordId, Violation,
    audit::Action,
    identifier::{Identifier, second_document},
    subject::{
        BlindedBatch, EpochToken, EvaluateIdentifiersRequest, EvaluationReason, FindSubjectRequest,
        IdentifierDomain, IdentifierTokens, SubjectIdentifierType,
    },
};
use amanat_seal::{
    Binding,
    oprf::{Blinding, OprfInput},
    pseudonym::Pseudonym,
};
use prost::Message;
use zeroize::Zeroize as _;

use crate::{
    Connector, ConnectorError, Delivery, Reason, Server,
    case::request_id,
    client::with_token,
    jobs::{Answered, Asked, stored},
    keep::{Evidence, Learnt, SubjectRow},
    patient::Once,
    trace,
};

pub use identifiers::{DocumentFile, IdentifierFile};
pub use merge::MergeSeen;
pub use oversight::{CanaryHitSeen, UnusedSeen};
pub use recognise::Recognised;
pub(crate) use recognise::{by_phone_alone, links};

/// The most identifiers of one person that the gateway takes.
const MOST: usize = 16;
const GATEWAY: &str = "gateway";
const CUSTODIAN: &str = "custodian";

/// What a search found. It does not tell whether anybody knew the person: a pseudonym is made for whoever has
/// none yet.
#[derive(Debug, Clone)]
pub struct Found {
    pub pseudonym: Pseudonym,
    /// The case that the search was made for.
    pub case: CaseId,
    /// This agency's cases of the person, oldest first, as far as this connector handed them in.
    pub own_cases: Vec<CaseId>,
    /// Nothing but a phone leads to those cases, and families share phones.
    pub by_phone_alone: bool,
    pub delivery: Delivery,
}

/// A subject job's one request. `Debug` shows nothing.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct Ask {
    #[prost(message, repeated, tag = "1")]
    identifiers: Vec<KeptIdentifier>,
    #[prost(bytes = "vec", tag = "2")]
    case_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    record_id: Vec<u8>,
    /// The same for every try, so that the gateway answers a repeat from memory.
    #[prost(bytes = "vec", tag = "4")]
    request_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    nonce: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct KeptIdentifier {
    #[prost(enumeration = "SubjectIdentifierType", tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    canonical: String,
}

impl Drop for KeptIdentifier {
    fn drop(&mut self) {
        self.canonical.zeroize();
    }
}

/// The request of a subject job: whose record this is, at its intake.
pub(crate) fn ask(
    binding: &Binding,
    identifiers: &[Identifier],
) -> Result<Vec<u8>, ConnectorError> {
    let kept = identifiers
        .iter()
        .take(MOST)
        .map(|identifier| KeptIdentifier {
            kind: identifier.kind().into(),
            canonical: identifier.canonical().to_owned(),
        });
    let ask = Ask {
        identifiers: kept.collect(),
        case_id: binding.case.to_vec(),
        record_id: binding.record.to_vec(),
        request_id: request_id()?,
        nonce: amanat_seal::random::<32>()?.to_vec(),
    };
    Ok(ask.encode_to_vec())
}

/// A request with its tokens, kept for a second try and then wiped.
struct Spare(FindSubjectRequest);

impl Drop for Spare {
    fn drop(&mut self) {
        let identifiers = self.0.identifiers.iter_mut();
        for token in identifiers.flat_map(|identifier| &mut identifier.tokens) {
            token.token.zeroize();
        }
    }
}

/// One key's batch, while the custodian evaluates it.
struct Batch {
    domain: IdentifierDomain,
    epoch: u32,
    public_key: [u8; 32],
    /// Which of the identifiers.
    of: Vec<usize>,
    blinding: Blinding,
}

/// Tokens and the entry that making them took.
struct Evaluated {
    identifiers: Vec<IdentifierTokens>,
    entry: Option<(Server, u64)>,
}

impl Connector {
    /// Whether this agency has met a person before, by its own pseudonym. A search is made for a case, and
    /// counts against the officer's budget; submit a record in that case, or oversight sees a search that led
    /// nowhere. A new case is named if none is given. Nothing of a search is kept in the outbox, and a search
    /// says of no two identifiers that they are one person's.
    ///
    /// # Errors
    /// [`ConnectorError::Input`] for no identifier, or more than 16; [`ConnectorError::Invalid`] for two
    /// numbers of one type of document; [`ConnectorError::Refused`] with QUOTA_EXCEEDED; [`ConnectorError::Untrustworthy`] if a proof or a pseudonym does not hold.
    pub async fn find_subject(
        &self,
        identifiers: &[Identifier],
        case: Option<CaseId>,
    ) -> Result<Found, ConnectorError> {
        if identifiers.is_empty() || identifiers.len() > MOST {
            return Err(ConnectorError::Input {
                what: format!("a search is of one identifier at least and of {MOST} at most"),
                next: "change the file of identifiers, and search again",
            });
        }
        if let Some(at) = second_document(identifiers) {
            return Err(ConnectorError::Invalid(vec![Violation {
                path: format!("identifiers[{at}]"),
                expected: "one number of each type of document of one person".to_owned(),
            }]));
        }
        let case = case.map_or_else(|| amanat_seal::random().map(CaseId::new), Ok)?;
        trace::one(self.search(identifiers, case, EvaluationReason::Search)).await
    }

    /// Asks the gateway as a search, which binds nothing, with tokens that were evaluated for some reason.
    async fn search(
        &self,
        identifiers: &[Identifier],
        case: CaseId,
        evaluated_for: EvaluationReason,
    ) -> Result<Found, ConnectorError> {
        let evaluated = self
            .evaluate(identifiers, Some(case), evaluated_for)
            .await?;
        let request = FindSubjectRequest {
            request_id: request_id()?,
            identifiers: evaluated.identifiers,
            nonce: amanat_seal::random::<32>()?.to_vec(),
            reason: EvaluationReason::Search.into(),
        };
        let (pseudonym, found) = self.find(request).await?;
        self.keep.evidence(&found).await?;
        Ok(Found {
            pseudonym,
            case,
            own_cases: self.keep.cases_of(pseudonym).await?,
            by_phone_alone: by_phone_alone(identifiers),
            delivery: Delivery {
                entries: evaluated.entry.into_iter().chain([found.entry()]).collect(),
            },
        })
    }

    /// The one step of a subject job. What is answered is the pseudonym.
    pub(crate) async fn deliver_subject(&self, request: &[u8]) -> Result<Answered, ConnectorError> {
        let damaged = || ConnectorError::Keep("a kept identifier cannot be read".into());
        let ask = stored::<Ask>(request)?;
        let case = CaseId::parse(&ask.case_id).map_err(|_| damaged())?;
        let record = RecordId::parse(&ask.record_id).map_err(|_| damaged())?;
        let identifiers = ask
            .identifiers
            .iter()
            .map(|kept| Identifier::from_canonical(kept.kind(), &kept.canonical))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| damaged())?;
        let evaluated = self
            .evaluate(&identifiers, Some(case), EvaluationReason::Intake)
            .await?;
        let request = FindSubjectRequest {
            request_id: ask.request_id,
            identifiers: evaluated.identifiers,
            nonce: ask.nonce,
            reason: EvaluationReason::Intake.into(),
        };
        let (pseudonym, found) = self.find_again(request).await?;
        let subject = SubjectRow {
            record,
            pseudonym,
            found: self.now(),
        };
        Ok(Answered {
            entries: evaluated.entry.into_iter().chain([found.entry()]).collect(),
            evidence: found,
            answer: pseudonym.as_bytes().to_vec(),
            learnt: Learnt::Subject(case, subject),
        })
    }

    /// Tokens of identifiers, under every key that the directory lists for them. Fresh blinds each time.
    async fn evaluate(
        &self,
        identifiers: &[Identifier],
        case: Option<CaseId>,
        reason: EvaluationReason,
    ) -> Result<Evaluated, ConnectorError> {
        let mut tokens: Vec<_> = identifiers
            .iter()
            .map(|identifier| IdentifierTokens {
                r#type: identifier.kind().into(),
                tokens: Vec::new(),
            })
            .collect();
        if identifiers.is_empty() {
            return Ok(Evaluated {
                identifiers: tokens,
                entry: None,
            });
        }
        let batches = self.blind(identifiers)?;
        let request = EvaluateIdentifiersRequest {
            request_id: request_id()?,
            case_id: case.map(CaseId::to_vec).unwrap_or_default(),
            reason: reason.into(),
            batches: batches.iter().map(Batch::to_wire).collect(),
        };
        let asked = Asked::of(Server::Custodian, Action::EvaluateIdentifiers, &request);
        let session = self.session()?;
        let mut request = with_token(request, &session.signer.token()?)?;
        // A repeat would be taken off the budget like another person's identifiers.
        request.extensions_mut().insert(Once);
        let answer = session.servers.oprf().evaluate_identifiers(request).await?;
        let answer = answer.into_inner();
        let proven = self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
        if answer.batches.len() != batches.len() {
            let what = "not every batch was evaluated";
            return Err(ConnectorError::untrustworthy(CUSTODIAN, what));
        }
        for (batch, evaluated) in batches.into_iter().zip(&answer.batches) {
            let made = batch
                .blinding
                .finalize(
                    &evaluated.evaluated_elements,
                    &evaluated.proof,
                    &batch.public_key,
                )
                .map_err(|error| ConnectorError::untrustworthy(CUSTODIAN, error))?;
            for (of, token) in batch.of.into_iter().zip(made) {
                if let Some(identifier) = tokens.get_mut(of) {
                    identifier.tokens.push(EpochToken {
                        epoch: batch.epoch,
                        token: token.as_bytes().to_vec(),
                    });
                }
            }
        }
        Ok(Evaluated {
            identifiers: tokens,
            entry: Some((Server::Custodian, proven.index)),
        })
    }

    fn blind(&self, identifiers: &[Identifier]) -> Result<Vec<Batch>, ConnectorError> {
        let mut batches = Vec::new();
        for domain in [IdentifierDomain::Victim, IdentifierDomain::Composite] {
            let (of, named): (Vec<_>, Vec<_>) = identifiers
                .iter()
                .enumerate()
                .filter(|(_, identifier)| identifier.domain() == domain)
                .unzip();
            if of.is_empty() {
                continue;
            }
            let listed = batches.len();
            for (epoch, public_key) in self.session()?.directory.oprf_keys(domain) {
                let inputs = named.iter().map(|named| OprfInput::new(domain, named));
                let blinding = inputs
                    .collect::<Result<_, _>>()
                    .and_then(Blinding::new)
                    .map_err(|error| ConnectorError::Input {
                        what: error.to_string(),
                        next: "change the identifier, and search again",
                    })?;
                batches.push(Batch {
                    domain,
                    epoch,
                    public_key: *public_key,
                    of: of.clone(),
                    blinding,
                });
            }
            if batches.len() == listed {
                return Err(ConnectorError::NoOprfKey);
            }
        }
        Ok(batches)
    }

    /// As [`Connector::find`], for a request that may have been answered before. If the directory listed other
    /// keys then, the same request id stands for other tokens and is refused; with an identifier the answer is
    /// the same under any id.
    async fn find_again(
        &self,
        request: FindSubjectRequest,
    ) -> Result<(Pseudonym, Evidence), ConnectorError> {
        let spare = Spare(request.clone());
        match self.find(request).await {
            Err(ConnectorError::Refused(refusal))
                if refusal.known_reason() == Some(Reason::RequestIdReused)
                    && !spare.0.identifiers.is_empty() =>
            {
                let mut again = spare.0.clone();
                again.request_id = request_id()?;
                self.find(again).await
            }
            outcome => outcome,
        }
    }

    async fn find(
        &self,
        request: FindSubjectRequest,
    ) -> Result<(Pseudonym, Evidence), ConnectorError> {
        let asked = Asked::of(Server::Gateway, Action::FindSubject, &request);
        let session = self.session()?;
        let request = with_token(request, &session.signer.token()?)?;
        let answer = session.servers.subjects().find_subject(request).await?;
        let answer = answer.into_inner();
        let evidence = self.verified(&asked, answer.receipt.as_ref())?;
        let Ok(pseudonym) = answer.pseudonym.parse() else {
            self.keep.evidence(&evidence).await?;
            let what = "a malformed pseudonym";
            return Err(ConnectorError::untrustworthy(GATEWAY, what));
        };
        Ok((pseudonym, evidence))
    }
}

impl Batch {
    fn to_wire(&self) -> BlindedBatch {
        BlindedBatch {
            domain: self.domain.into(),
            epoch: self.epoch,
            blinded_elements: self
                .blinding
                .elements()
                .iter()
                .map(|element| element.to_vec())
                .collect(),
        }
    }
}

//! The desk of a server: from a request to an act, from an act to a logged answer.

use std::sync::Arc;

use amanat_identity::{Caller, Signed, SignedError, inspect::lasts, statement::AgencyStatement};
use amanat_journal::{Access, Book, Committed, Draft, Journal, JournalError, Reader, Ruling};
use amanat_schema::{
    AgencyId, RequestId, Time,
    audit::{Action, EntryBody, Linkage, Opening, Receipt},
    policy::{Decision, Right},
    statement::Statement,
};
use amanat_seal::WrapKey;
use amanat_server::{Guard, LARGEST_REQUEST, Refusal};
use prost::Message;
use tonic::{Request, Status};

use crate::{Act, Paged, Pages, Rulebook, Rules};

/// What a service's handlers work with.
pub struct Desk<B: Book> {
    pub guard: Guard,
    pub rules: Rulebook,
    pub journal: Journal<B>,
    pub reader: Reader,
    /// Opens what stands sealed beside the log, for the officer whose it is.
    pub openings: Arc<WrapKey>,
}

impl<B: Book> Clone for Desk<B> {
    fn clone(&self) -> Self {
        Self {
            guard: self.guard.clone(),
            rules: self.rules.clone(),
            journal: self.journal.clone(),
            reader: self.reader.clone(),
            openings: Arc::clone(&self.openings),
        }
    }
}

/// A refusal that a handler found before any store was asked; a verb of every book, so that it is logged.
#[derive(Debug)]
pub enum Refused {
    /// A known agency's officer lacks the right.
    Act {
        act: Box<Act>,
        action: Action,
        linkage: Linkage,
    },
    /// Credentials that were not accepted, counted; of the agency that the certificate named, if any did.
    Credentials {
        agency: Option<AgencyId>,
        count: u64,
    },
    /// What was more than the agency's share, counted.
    Crowd {
        agency: Option<AgencyId>,
        count: u64,
    },
}

/// A committed, allowed answer.
pub struct Answered<R> {
    pub reply: R,
    pub receipt: Receipt,
    /// Opens the entry's commitment to the caller's own officer id; `None` on a repeat.
    pub officer: Option<Opening>,
}

impl<B: Book> Desk<B> {
    /// Tells its operator what it begins to serve with.
    pub async fn begins(&self) {
        // One that cannot be read is told by who needs it.
        let newest = self.reader.checkpoint().await.ok().flatten();
        let now = (self.guard.clock)();
        let rules = self.rules.current();
        let directory = &rules.directory;
        let how = match (self.journal.freezing())() {
            None => "serving",
            Some(_) => "serving the log's proofs and nothing else, for it is frozen",
        };
        tracing::info!(
            program = env!("CARGO_PKG_VERSION"),
            directory = directory.version(),
            directory_lasts = lasts(directory.valid_until(), now),
            suspended = rules.suspended(now),
            log_entries = newest.map_or(0, |newest| newest.head.size),
            "{how}"
        );
    }
}

impl Refused {
    pub fn access(&self) -> Access {
        Access::default()
    }

    /// In whose share of the log's queue it waits; what is counted is this server's own.
    pub fn agency(&self) -> Option<AgencyId> {
        match self {
            Self::Act { act, .. } => Some(act.agency),
            Self::Credentials { .. } | Self::Crowd { .. } => None,
        }
    }

    /// The refusal of an act whose agency was shut out while it waited to be decided; `None` if it was not.
    pub fn shut_out<R>(
        act: Option<&Act>,
        rules: &Rules,
        now: Time,
    ) -> Option<Ruling<Result<R, Refusal>>> {
        let act = act.filter(|act| act.is_shut_out(rules, now))?;
        let refused = Self::Credentials {
            agency: Some(act.agency),
            count: 1,
        };
        Some(refused.decide(rules))
    }

    pub fn decide<R>(&self, rules: &Rules) -> Ruling<Result<R, Refusal>> {
        let (refusal, draft) = match self {
            Self::Act {
                act,
                action,
                linkage,
            } => {
                let refusal = Refusal::access();
                let draft = act.refused(
                    rules,
                    *action,
                    linkage.clone(),
                    &refusal,
                    "the officer lacks the right",
                );
                (refusal, draft)
            }
            Self::Credentials { agency, count } => {
                let action = Action::AuthenticationFailures;
                counted(rules, *agency, *count, action, Refusal::credential())
            }
            Self::Crowd { agency, count } => {
                let action = Action::QuotaRefusals;
                counted(rules, *agency, *count, action, Refusal::crowded())
            }
        };
        Ruling {
            answer: Err(refusal),
            draft: Some(draft),
            remember: None,
        }
    }
}

/// One entry for all that an agency was refused.
fn counted(
    rules: &Rules,
    agency: Option<AgencyId>,
    count: u64,
    action: Action,
    refusal: Refusal,
) -> (Refusal, Draft) {
    let known = agency.and_then(|id| Some((id, rules.directory.agency(id)?.kind)));
    let (agency_id, kind) = known.map_or_else(Default::default, |(id, kind)| (id.to_vec(), kind));
    let body = EntryBody {
        action: action.into(),
        decision: Decision::Deny.into(),
        public_reason: refusal.reason().to_owned(),
        directory_sha256: rules.directory.sha256().to_vec(),
        table_sha256: rules.table_sha256.to_vec(),
        agency_id,
        agency_kind: kind.into(),
        count,
        ..EntryBody::default()
    };
    let draft = Draft {
        body,
        linkage: Linkage::default(),
        officer: String::new(),
        reasons: String::new(),
    };
    (refusal, draft)
}

impl<B: Book> Desk<B> {
    /// The act of an officer who asks with a token.
    ///
    /// # Errors
    /// CREDENTIAL_INVALID, TOO_LARGE.
    pub fn asked<T: Message + prost::Name>(&self, request: &Request<T>) -> Result<Act, Refusal> {
        let Caller {
            agency,
            kind,
            certificate_sha256,
            officer,
        } = self.guard.caller(request)?;
        Ok(Act {
            agency,
            kind,
            certificate_sha256,
            officer,
            request_sha256: request_sha256(request.get_ref())?,
            request: None,
        })
    }

    /// The act of the officer who signed a statement, delivered by that officer's agency.
    ///
    /// # Errors
    /// CREDENTIAL_INVALID, FIELD_INVALID, TOO_LARGE.
    pub fn delivered<T: Message + prost::Name, M: AgencyStatement>(
        &self,
        request: &Request<T>,
        method: &'static str,
        request_id: &[u8],
        statement: Option<&Statement>,
    ) -> Result<(Act, Signed<M>), Refusal> {
        let (agency, peer) = self.guard.peer_agency(request)?;
        let request_sha256 = request_sha256(request.get_ref())?;
        let rules = self.rules.current();
        let kind = rules
            .directory
            .agency(agency)
            .ok_or_else(Refusal::credential)?
            .kind;
        let statement =
            statement.ok_or_else(|| Refusal::field("statement", "a signed statement"))?;
        let now = (self.guard.clock)();
        let signed = Signed::<M>::verify(statement, &rules.directory, &self.guard.tokens, now)
            .and_then(|signed| match signed.head().agency == agency {
                true => Ok(signed),
                false => Err(SignedError::Signer),
            })
            .map_err(|why| self.unsigned(agency, &why))?;
        let officer = signed.officer();
        let officer = officer.ok_or_else(|| self.guard.refuse(Some(agency)))?;
        let request_id = RequestId::parse(request_id)
            .map_err(|_| Refusal::field("request_id", "16 random bytes"))?;
        let act = Act {
            agency,
            kind,
            certificate_sha256: peer.certificate_sha256,
            officer: Arc::clone(officer),
            request_sha256,
            request: Some((method, request_id)),
        };
        Ok((act, signed))
    }

    /// The page tokens of a list as this agency reads it.
    pub fn pages(&self, agency: AgencyId, request: &impl Paged) -> Pages<'_> {
        Pages::new(&self.openings, agency, request)
    }

    fn unsigned(&self, agency: AgencyId, why: &SignedError) -> Refusal {
        match why {
            SignedError::Malformed => Refusal::field("statement", "a statement with its head"),
            SignedError::Field(field) => {
                Refusal::field(&format!("statement.{field}"), "a valid value")
            }
            // It is its own agency's, so it may be told: what waited in an outbox has to be signed anew.
            SignedError::Retired => {
                tracing::info!(%why, %agency, "a statement was refused");
                self.guard.refuse(Some(agency));
                let expected = "a signature by a key in force: its agency has retired this one, so sign it \
                                anew with the new key";
                Refusal::field("statement", expected)
            }
            SignedError::Exchange
            | SignedError::Signer
            | SignedError::Signature(_)
            | SignedError::TokenBinding
            | SignedError::Suspended
            | SignedError::Compromised
            | SignedError::Token(_)
            | SignedError::Age => {
                tracing::info!(%why, %agency, "a statement was refused");
                self.guard.refuse(Some(agency))
            }
        }
    }
}

impl<B, R> Desk<B>
where
    B: Book<Answer = Result<R, Refusal>>,
    B::Call: From<Refused>,
{
    /// Goes on if the officer has any of the rights; otherwise logs the refusal.
    ///
    /// # Errors
    /// ACCESS_DENIED with the index of its entry, or that the log cannot take it.
    pub async fn authorise(
        &self,
        act: &Act,
        action: Action,
        rights: &[Right],
        linkage: impl FnOnce() -> Linkage,
    ) -> Result<(), Status> {
        if act.officer.has_any(rights) {
            return Ok(());
        }
        let act = Box::new(act.clone());
        let refused = self
            .call(
                Refused::Act {
                    act,
                    action,
                    linkage: linkage(),
                }
                .into(),
            )
            .await;
        // It is refused whatever the log has to say.
        Err(refused.err().unwrap_or_else(|| Refusal::access().into()))
    }

    /// Decides and records one call.
    ///
    /// # Errors
    /// The refusal with the index of its entry, or why the log has no answer.
    pub async fn call(&self, call: B::Call) -> Result<Answered<R>, Status> {
        Self::answered(self.commit(call).await?)
    }

    /// The same, before it is judged: for what may not be decided yet.
    ///
    /// # Errors
    /// Why the log has no answer.
    pub async fn commit(&self, call: B::Call) -> Result<Committed<B::Answer>, Refusal> {
        let agency = self.journal.agency(&call);
        self.journal.call(call).await.map_err(|error| {
            if let JournalError::Crowded = error {
                self.guard.crowd(agency)
            } else {
                refusal(&error)
            }
        })
    }

    /// What a decided call is answered.
    ///
    /// # Errors
    /// The refusal with the index of its entry.
    pub fn answered(committed: Committed<B::Answer>) -> Result<Answered<R>, Status> {
        let index = committed.receipt.as_ref().map(|receipt| receipt.index);
        let reply = committed.answer.map_err(|refusal| refusal.logged(index))?;
        // INVARIANT: every act of a caller makes an entry, so an allowed one has its receipt.
        let receipt = committed.receipt.ok_or_else(Refusal::audit_unavailable)?;
        Ok(Answered {
            reply,
            receipt,
            officer: committed.officer,
        })
    }

    /// Writes what was refused without an entry of its own since the last call, one entry an agency and one for
    /// callers whom no certificate made known; called once a minute.
    pub async fn log_refused(&self) {
        let refused = self.guard.take_refused().into_iter();
        let refused = refused.map(|(agency, count)| Refused::Credentials { agency, count });
        let crowded = self.guard.take_crowded().into_iter();
        let crowded = crowded.map(|(agency, count)| Refused::Crowd { agency, count });
        for refused in refused.chain(crowded) {
            let told = format!("{refused:?}");
            if self.journal.call(refused.into()).await.is_err() {
                tracing::error!(told, "what was refused could not be logged");
            }
        }
    }
}

/// Why the journal has no answer, as a caller is told.
pub fn refusal(error: &JournalError) -> Refusal {
    match error {
        JournalError::RequestIdReused => Refusal::request_id_reused(),
        JournalError::Frozen(_) => Refusal::log_inconsistent(),
        JournalError::Log(_) => Refusal::field("index", "an entry and a size of this log"),
        JournalError::Crowded => Refusal::crowded(),
        JournalError::Full => Refusal::out_of_space(),
        JournalError::Slow => Refusal::slow_list(),
        JournalError::Busy
        | JournalError::Unwritable(_)
        | JournalError::Unreachable(_)
        | JournalError::Database(_)
        | JournalError::OtherOpeningsKey
        | JournalError::File { .. } => Refusal::audit_unavailable(),
    }
}

fn request_sha256<T: Message + prost::Name>(request: &T) -> Result<[u8; 32], Refusal> {
    if request.encoded_len() > LARGEST_REQUEST {
        return Err(Refusal::too_large());
    }
    Ok(amanat_identity::request_sha256(request))
}

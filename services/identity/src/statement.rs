//! Statements as a server accepts them: signed by an agency of the directory, with the token that an
//! officer held when it was signed. Which right it needs is for the service to check.

use std::{sync::Arc, time::Duration};

use amanat_schema::{
    AgencyId, CaseId, StatementId, Time,
    statement::{
        Consent, Envelope, RecordHeader, Referral, ReferralTransition, Statement, StatementHead,
        Withdrawal,
    },
};
use amanat_seal::statement::{StatementError, Verified, key_id};
use prost::Message;

use crate::{Directory, Officer, RetiredKey, TokenError, TokenVerifier, token::CLOCK_SKEW};

/// How long a durable outbox may take to deliver.
const LONGEST_DELIVERY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A message that agencies sign.
pub trait AgencyStatement: Message + prost::Name + Default {
    /// Whether it counts however late it is delivered.
    const NEVER_TOO_LATE: bool;

    fn head(&self) -> Option<&StatementHead>;
}

macro_rules! agency_statements {
    ($($message:ty => $never_too_late:literal),+ $(,)?) => {$(
        impl AgencyStatement for $message {
            const NEVER_TOO_LATE: bool = $never_too_late;

            fn head(&self) -> Option<&StatementHead> {
                self.head.as_ref()
            }
        }
    )+};
}

agency_statements! {
    RecordHeader => false,
    Consent => false,
    // It can only close.
    Withdrawal => true,
    Referral => false,
    ReferralTransition => false,
}

/// The checked head of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub statement_id: StatementId,
    /// The signer.
    pub agency: AgencyId,
    pub case: CaseId,
    /// SHA-256 of the payload that it follows; `None` for the first of its chain.
    pub follows: Option<[u8; 32]>,
    pub signed_time: Time,
}

/// A statement whose signature, officer and time were checked. Only verification makes one.
pub struct Signed<M> {
    verified: Verified<M>,
    envelope: Envelope,
    head: Head,
    /// `None` where the statement was checked without its token: by the holder of the envelope alone.
    officer: Option<Arc<Officer>>,
    /// The key that signed it, if it signs nothing new.
    retired: Option<RetiredKey>,
}

#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    #[error("the statement is missing or has no head")]
    Malformed,
    #[error("the statement's {0} is not valid")]
    Field(&'static str),
    #[error("the statement belongs to another exchange")]
    Exchange,
    #[error("the statement's signer is not an agency of the directory")]
    Signer,
    #[error(transparent)]
    Signature(#[from] StatementError),
    #[error("the statement is not signed with the token that it carries")]
    TokenBinding,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the statement is signed with a key that is suspended")]
    Suspended,
    #[error("the statement is signed with a key that its agency has retired")]
    Retired,
    #[error(
        "the statement is signed with a key that somebody else may have used, and nothing shows that it was \
         recorded before"
    )]
    Compromised,
    #[error("the statement was signed in the future or more than 7 days ago")]
    Age,
}

impl<M: AgencyStatement> Signed<M> {
    /// Checks a statement that is being delivered now.
    ///
    /// # Errors
    /// [`SignedError`], by the first rule that it breaks.
    pub fn verify(
        statement: &Statement,
        directory: &Directory,
        tokens: &TokenVerifier,
        now: Time,
    ) -> Result<Self, SignedError> {
        let envelope = statement.envelope.as_ref().ok_or(SignedError::Malformed)?;
        let mut signed = Self::verify_signature(envelope, directory)?;
        let head = &signed.head;
        if head.signed_time > now + CLOCK_SKEW
            || (!M::NEVER_TOO_LATE && head.signed_time + LONGEST_DELIVERY < now)
        {
            return Err(SignedError::Age);
        }
        // What was recorded before stays; what can only close is not kept out by a thief's trouble.
        if !M::NEVER_TOO_LATE && signed.is_suspended(directory, now) {
            return Err(SignedError::Suspended);
        }
        if !M::NEVER_TOO_LATE && signed.retired.is_some() {
            return Err(SignedError::Retired);
        }
        let bound = signed
            .message()
            .head()
            .map(|head| head.officer_token_sha256.as_slice());
        if bound != Some(amanat_seal::sha256(statement.officer_token.as_bytes()).as_slice()) {
            return Err(SignedError::TokenBinding);
        }
        let officer = tokens.verify_carried(
            &statement.officer_token,
            head.agency,
            directory,
            head.signed_time,
            now,
        )?;
        signed.officer = Some(officer);
        Ok(signed)
    }

    /// Checks the signature of a statement that was delivered before, by its envelope alone. Of a key that
    /// somebody else may have used nothing counts, for it is not known when the statement was recorded.
    ///
    /// # Errors
    /// [`SignedError`], by the first rule that it breaks.
    pub fn verify_envelope(
        envelope: &Envelope,
        directory: &Directory,
    ) -> Result<Self, SignedError> {
        Self::verify_signature(envelope, directory)?.before(None)
    }

    /// Checks the signature of a statement that was recorded then.
    ///
    /// # Errors
    /// [`SignedError`], by the first rule that it breaks.
    pub fn verify_recorded(
        envelope: &Envelope,
        directory: &Directory,
        recorded: Time,
    ) -> Result<Self, SignedError> {
        Self::verify_signature(envelope, directory)?.before(Some(recorded))
    }

    /// Checks the signature of a statement that somebody shows now, recorded or not: nobody can tell when it
    /// was signed, so none by a suspended key counts, nor by one that somebody else may have used, whatever
    /// time the statement names.
    ///
    /// # Errors
    /// [`SignedError`], by the first rule that it breaks.
    pub fn verify_shown(
        envelope: &Envelope,
        directory: &Directory,
        now: Time,
    ) -> Result<Self, SignedError> {
        let signed = Self::verify_envelope(envelope, directory)?;
        signed.counts_when_shown(directory, now)?;
        Ok(signed)
    }

    /// What [`Signed::verify_shown`] checks beside the envelope, and may come out otherwise a moment later.
    ///
    /// # Errors
    /// [`SignedError::Suspended`].
    pub fn counts_when_shown(&self, directory: &Directory, now: Time) -> Result<(), SignedError> {
        if self.is_suspended(directory, now) {
            return Err(SignedError::Suspended);
        }
        Ok(())
    }

    /// The signature alone, by any key that is or was the signer's.
    fn verify_signature(envelope: &Envelope, directory: &Directory) -> Result<Self, SignedError> {
        // The signer is named inside; only that agency's keys can then have signed it.
        let claimed = M::decode(envelope.payload.as_slice()).map_err(|_| SignedError::Malformed)?;
        let wire = claimed.head().ok_or(SignedError::Malformed)?;
        if wire.exchange_id != directory.exchange_id() {
            return Err(SignedError::Exchange);
        }
        let head = parse_head(wire)?;
        let agency = directory.agency(head.agency).ok_or(SignedError::Signer)?;
        let verified =
            amanat_seal::statement::verify_decoded(envelope, claimed, &agency.signers())?;
        let mut retired = agency.retired_statement_keys.iter().copied();
        let retired = retired.find(|retired| {
            let id = key_id(&retired.public_key);
            envelope.signatures.iter().any(|by| by.key_id == id)
        });
        Ok(Self {
            verified,
            envelope: envelope.clone(),
            head,
            officer: None,
            retired,
        })
    }

    /// Signed before its key was retired, and recorded before anybody else may have used it.
    fn before(self, recorded: Option<Time>) -> Result<Self, SignedError> {
        let Some(key) = self.retired else {
            return Ok(self);
        };
        if self.head.signed_time > key.retired {
            return Err(SignedError::Retired);
        }
        match (key.compromised_since, recorded) {
            (None, _) => Ok(self),
            (Some(since), Some(recorded)) if recorded < since => Ok(self),
            _ => Err(SignedError::Compromised),
        }
    }

    /// Whether a key that signed it is suspended.
    fn is_suspended(&self, directory: &Directory, now: Time) -> bool {
        let mut signers = self.envelope.signatures.iter();
        signers.any(|by| directory.is_key_suspended(self.head.agency, &by.key_id, now))
    }

    pub fn message(&self) -> &M {
        self.verified.message()
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    pub fn payload_sha256(&self) -> &[u8; 32] {
        self.verified.payload_sha256()
    }

    /// The officer who signed; `None` if only the envelope was checked.
    pub fn officer(&self) -> Option<&Arc<Officer>> {
        self.officer.as_ref()
    }
}

fn parse_head(wire: &StatementHead) -> Result<Head, SignedError> {
    Ok(Head {
        statement_id: StatementId::parse(&wire.statement_id)
            .map_err(|_| SignedError::Field("head.statement_id"))?,
        agency: AgencyId::parse(&wire.agency_id)
            .map_err(|_| SignedError::Field("head.agency_id"))?,
        case: CaseId::parse(&wire.case_id).map_err(|_| SignedError::Field("head.case_id"))?,
        follows: match wire.follows.as_slice() {
            [] => None,
            bytes => Some(
                bytes
                    .try_into()
                    .map_err(|_| SignedError::Field("head.follows"))?,
            ),
        },
        signed_time: Time::parse(wire.signed_time.as_ref())
            .map_err(|_| SignedError::Field("head.signed_time"))?,
    })
}

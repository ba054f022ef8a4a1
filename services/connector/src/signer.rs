//! Who acts, and signing in the agency's name.

use amanat_identity::{Officer, OwnCertificate, TokenIssuer};
use amanat_schema::{
    AgencyId, CaseId, StatementId,
    clock::Clock,
    statement::{Statement, StatementHead},
};
use amanat_seal::statement::SigningKey;
use prost::{Message, Name};

use crate::{ConnectorError, Profile};

/// Who acts in a command.
#[derive(Clone)]
pub enum Acting {
    /// An officer of the profile, by local name; the development issuer makes the token.
    Officer(String),
    /// A token of the agency's identity provider.
    Token(String),
}

pub(crate) struct Signer {
    agency: AgencyId,
    exchange_id: String,
    key: SigningKey,
    source: TokenSource,
    clock: Clock,
}

enum TokenSource {
    Given(String),
    Issued {
        issuer: TokenIssuer,
        officer: Officer,
        certificate: [u8; 32],
    },
}

impl Signer {
    pub(crate) fn new(
        profile: &Profile,
        acting: Acting,
        own: &OwnCertificate,
        exchange_id: &str,
        clock: &Clock,
    ) -> Result<Self, ConnectorError> {
        let source = match acting {
            Acting::Token(token) => TokenSource::Given(token),
            Acting::Officer(name) => {
                let issuer = profile
                    .token_issuer()?
                    .ok_or_else(|| ConnectorError::Input {
                        what: "this profile issues no tokens".to_owned(),
                        next: "give a token of your identity provider with --token-file FILE",
                    })?;
                let officer = profile.officers.get(&name).ok_or_else(|| {
                    let names: Vec<_> = profile.officers.keys().map(String::as_str).collect();
                    ConnectorError::Input {
                        what: format!(
                            "the profile has no officer `{name}`; known names: {}",
                            names.join(", ")
                        ),
                        next: "give one of these names with --officer NAME, or a token with --token-file FILE",
                    }
                })?;
                TokenSource::Issued {
                    issuer,
                    officer: officer.officer()?,
                    certificate: own.sha256(),
                }
            }
        };
        Ok(Self {
            agency: profile.agency,
            exchange_id: exchange_id.to_owned(),
            key: profile.statement_key()?,
            source,
            clock: clock.clone(),
        })
    }

    pub(crate) fn token(&self) -> Result<String, ConnectorError> {
        match &self.source {
            TokenSource::Given(token) => Ok(token.clone()),
            TokenSource::Issued {
                issuer,
                officer,
                certificate,
            } => Ok(issuer.issue(
                officer,
                certificate,
                &amanat_seal::random()?,
                (self.clock)(),
            )?),
        }
    }

    /// Signs the statement that `build` makes around its head.
    pub(crate) fn sign<M: Message + Name>(
        &self,
        case: CaseId,
        follows: Option<[u8; 32]>,
        build: impl FnOnce(StatementHead) -> M,
    ) -> Result<Statement, ConnectorError> {
        let officer_token = self.token()?;
        let head = StatementHead {
            exchange_id: self.exchange_id.clone(),
            statement_id: StatementId::new(amanat_seal::random()?).to_vec(),
            agency_id: self.agency.to_vec(),
            case_id: case.to_vec(),
            follows: follows.map(Vec::from).unwrap_or_default(),
            officer_token_sha256: amanat_seal::sha256(officer_token.as_bytes()).to_vec(),
            signed_time: Some((self.clock)().to_timestamp()),
        };
        let envelope = self.key.sign(&build(head));
        Ok(Statement {
            envelope: Some(envelope),
            officer_token,
        })
    }
}

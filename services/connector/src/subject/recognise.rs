//! Whether somebody is the same person, by this agency's own pseudonyms.

use amanat_schema::{
    CaseId,
    identifier::Identifier,
    subject::{EvaluationReason, SubjectIdentifierType},
};
use amanat_seal::pseudonym::Pseudonym;

use crate::{Connector, ConnectorError};

/// Whom a delivery of the outbox asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    pub pseudonym: Pseudonym,
    /// This agency's other cases of the person, oldest first, as far as this connector handed them in.
    pub own_cases: Vec<CaseId>,
}

impl Connector {
    /// What a delivery learnt of the person; `None` if it asked for none, or is not answered yet.
    ///
    /// # Errors
    /// [`ConnectorError::Keep`].
    pub async fn recognised(&self, job: i64) -> Result<Option<Recognised>, ConnectorError> {
        let Some((case, pseudonym)) = self.keep.subject_of_job(job).await? else {
            return Ok(None);
        };
        let mut own_cases = self.keep.cases_of(pseudonym).await?;
        own_cases.retain(|other| *other != case);
        Ok(Some(Recognised {
            pseudonym,
            own_cases,
        }))
    }

    /// This agency's cases that bear a pseudonym, or one that it stands for, oldest first, as far as this
    /// connector handed them in.
    ///
    /// # Errors
    /// [`ConnectorError::Keep`].
    pub async fn own_cases(&self, pseudonym: Pseudonym) -> Result<Vec<CaseId>, ConnectorError> {
        self.keep.cases_of(pseudonym).await
    }

    /// Whether a file's identifiers lead to whom a record is known to be of; false if none of them can tell.
    ///
    /// # Errors
    /// [`ConnectorError::AnotherPerson`] if they lead to somebody else; [`ConnectorError::PersonUnchecked`] if
    /// a server did not say to whom.
    pub(crate) async fn is_of(
        &self,
        known: Pseudonym,
        case: CaseId,
        identifiers: Vec<Identifier>,
    ) -> Result<bool, ConnectorError> {
        let telling = telling(identifiers);
        if telling.is_empty() {
            return Ok(false);
        }
        let unchecked = |cause| ConnectorError::PersonUnchecked(Box::new(cause));
        // The custodian counts it to the record that is there: or oversight would be told of each correction
        // as of a search that led nowhere.
        let found = self.search(&telling, case, EvaluationReason::Intake).await;
        let found = found.map_err(unchecked)?.pseudonym;
        if self.are_one(found, known).await.map_err(unchecked)? {
            Ok(true)
        } else {
            Err(ConnectorError::AnotherPerson { known, found })
        }
    }

    /// Whether the gateway's answer is, or stands for, a pseudonym that was answered before. Another connector
    /// of this agency may have merged or split them, so the gateway is asked.
    pub(crate) async fn are_one(
        &self,
        found: Pseudonym,
        known: Pseudonym,
    ) -> Result<bool, ConnectorError> {
        if found == known {
            return Ok(true);
        }
        self.list_merges(None).await?;
        self.keep.stands_for(found, known).await
    }
}

/// Those that can tell one person from another: documents, or without any a phone. A phone beside a document
/// would vouch for whoever shares it; a name and a year tell nobody.
fn telling(mut identifiers: Vec<Identifier>) -> Vec<Identifier> {
    let has_document = identifiers.iter().any(is_document);
    identifiers.retain(|identifier| links(identifier) && is_document(identifier) == has_document);
    identifiers
}

/// Whether it leads to a person by itself.
pub(crate) fn links(identifier: &Identifier) -> bool {
    identifier.kind() != SubjectIdentifierType::Composite
}

fn is_document(identifier: &Identifier) -> bool {
    links(identifier) && identifier.kind() != SubjectIdentifierType::Phone
}

/// Whether nothing but a phone leads to whom it is.
pub(crate) fn by_phone_alone(identifiers: &[Identifier]) -> bool {
    identifiers.iter().any(links) && !identifiers.iter().any(is_document)
}

#[cfg(test)]
mod tests {
    use SubjectIdentifierType::{
        AfghanAcc, AfghanPor, BForm, Cnic, Composite, Passport, Phone, Unspecified,
    };

    use super::*;

    fn of(kinds: &[SubjectIdentifierType]) -> Vec<Identifier> {
        let parse = |kind: &SubjectIdentifierType| match kind {
            Composite => Identifier::composite("Noor", "Karim", 1994),
            Phone => Identifier::parse(Phone, "+923000000117"),
            Unspecified | Cnic | BForm | Passport | AfghanPor | AfghanAcc => {
                Identifier::parse(*kind, "0000012345678")
            }
        };
        kinds.iter().map(parse).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_phone_vouches_for_nobody_who_has_a_document_and_a_name_for_nobody() {
        let kinds: fn(Vec<Identifier>) -> Vec<_> = |all| all.iter().map(Identifier::kind).collect();
        assert_eq!(kinds(telling(of(&[Cnic, Phone, Composite]))), [Cnic]);
        assert_eq!(kinds(telling(of(&[Phone, Composite]))), [Phone]);
        assert_eq!(kinds(telling(of(&[Composite]))), []);
        assert!(by_phone_alone(&of(&[Phone, Composite])));
        assert!(!by_phone_alone(&of(&[Phone, Cnic])));
        assert!(!by_phone_alone(&of(&[Composite])));
    }
}

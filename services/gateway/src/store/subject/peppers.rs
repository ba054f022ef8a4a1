//! The peppers that all that is stored is under. A new one is put on top, once, before anything is served;
//! nobody needs to be asked for an identifier again.

use amanat_desk::{Act, Rules};
use amanat_schema::{
    AgencyId,
    audit::{Action, Linkage},
};
use amanat_server::Refusal;

use super::{Keys, Peppered, SubjectReply};
use crate::store::{Reply, Ruled, refuse};

/// What the keys are known again by; no identifier's token and no subject's id is all zeros.
const NO_TOKEN: [u8; 64] = [0; 64];
const NOBODY: [u8; 16] = [0; 16];

/// Why nothing can be served. Each says what to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PepperError {
    #[error(
        "subjects.peppers names {configured} files, but the stored identifiers are under {applied}; restore \
         the missing ones and name all, oldest first"
    )]
    Missing { configured: usize, applied: usize },
    #[error(
        "subjects.peppers are not those that the stored identifiers are under; restore them and name them \
         in their order, oldest first"
    )]
    Other,
    #[error(
        "subjects.pseudonym_key is not the one that the stored pseudonyms were made with; restore it"
    )]
    OtherPseudonymKey,
}

/// What stands in the database, and what becomes of it.
pub(super) struct PepperFacts {
    pub(super) state: State,
    pub(super) identifiers: Vec<(AgencyId, Peppered)>,
    pub(super) canaries: Vec<Peppered>,
    pub(super) advanced: Option<Advanced>,
}

#[derive(PartialEq, Eq)]
pub(super) struct State {
    /// 0 before the first start.
    pub(super) applied: usize,
    pub(super) pepper_check: Vec<u8>,
    pub(super) pseudonym_check: Vec<u8>,
}

/// Old and new.
pub(super) struct Advanced {
    pub(super) state: State,
    pub(super) identifiers: Vec<(AgencyId, Peppered, Peppered)>,
    pub(super) canaries: Vec<(Peppered, Peppered)>,
}

/// Nobody's act, so no entry.
pub(super) fn advance(facts: &mut Option<PepperFacts>, keys: &Keys) -> Ruled {
    let outcome = facts.as_mut().map_or(Ok(0), |facts| facts.advance(keys));
    Ruled {
        answer: Ok(Reply::from(SubjectReply::Advanced(outcome))),
        draft: None,
        remember: None,
    }
}

/// Under these peppers nobody who is known would be found, and no canary heard.
pub(super) fn outdated(act: &Act, rules: &Rules, action: Action) -> Ruled {
    let refusal = Refusal::outdated();
    let truth = "what is stored is under other peppers than this replica's";
    let draft = act.refused(rules, action, Linkage::default(), &refusal, truth);
    refuse(refusal, draft)
}

impl State {
    fn of(keys: &Keys) -> Self {
        let nobody = AgencyId::new(NOBODY);
        let pseudonym = keys.pseudonyms.pseudonym(nobody, &NOBODY);
        Self {
            applied: keys.peppers.count(),
            pepper_check: keys.peppers.canary(&NO_TOKEN).to_vec(),
            pseudonym_check: pseudonym.as_bytes().to_vec(),
        }
    }
}

impl PepperFacts {
    fn advance(&mut self, keys: &Keys) -> Result<usize, PepperError> {
        let (now, applied) = (State::of(keys), self.state.applied);
        let on_top = |Peppered(stored): &Peppered| Peppered(keys.peppers.advance(stored, applied));
        if now.applied < applied {
            return Err(PepperError::Missing {
                configured: now.applied,
                applied,
            });
        }
        if applied > 0 {
            let check = <[u8; 32]>::try_from(self.state.pepper_check.as_slice());
            let check = check.map(|check| on_top(&Peppered(check)).0.to_vec());
            if check.ok().as_ref() != Some(&now.pepper_check) {
                return Err(PepperError::Other);
            }
            if self.state.pseudonym_check != now.pseudonym_check {
                return Err(PepperError::OtherPseudonymKey);
            }
        }
        if self.state == now {
            return Ok(0);
        }
        let identifiers = self.identifiers.iter();
        let canaries = self.canaries.iter();
        self.advanced = Some(Advanced {
            state: now,
            identifiers: identifiers
                .map(|(agency, stored)| (*agency, *stored, on_top(stored)))
                .collect(),
            canaries: canaries.map(|stored| (*stored, on_top(stored))).collect(),
        });
        Ok(self.identifiers.len() + self.canaries.len())
    }
}

//! Why a call is not served, and what that comes to.

use amanat_desk::{Act, Rules};
use amanat_journal::Ruling;
use amanat_schema::audit::{Action, Linkage};
use amanat_server::Refusal;

use super::{Reply, Ruled, quiet};

/// A check that failed.
pub(crate) struct Objection {
    /// What the caller is told.
    refusal: Box<Refusal>,
    /// For the operator, and behind the entry's commitment.
    why: &'static str,
    /// Behind the commitment only: it may say what became of a consent.
    detail: String,
    weight: Weight,
}

/// What an objection comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// A refusal that a person must hear of: what was shown here cannot come from honest parties.
    Alarm,
    Refusal,
    /// Nothing, for now: [`Unseen::Waits`].
    Nothing,
}

impl Objection {
    pub(super) fn quiet(refusal: Refusal, why: &'static str) -> Self {
        Self {
            refusal: Box::new(refusal),
            why,
            detail: String::new(),
            weight: Weight::Refusal,
        }
    }

    pub(super) fn alarm(refusal: Refusal, why: &'static str) -> Self {
        Self {
            weight: Weight::Alarm,
            ..Self::quiet(refusal, why)
        }
    }

    pub(super) fn unseen(unseen: Unseen) -> Self {
        let why = "the checkpoint was not proved to continue the observed head";
        Self {
            weight: match unseen {
                Unseen::Waits => Weight::Nothing,
                Unseen::IsRefused => Weight::Refusal,
            },
            ..Self::quiet(Refusal::audit_unavailable(), why)
        }
    }

    pub(super) fn with(self, detail: String) -> Self {
        Self { detail, ..self }
    }

    /// The refusal with its entry, of the action ALARM if it raises one; not remembered, so that the caller
    /// can try again when things have changed.
    pub(super) fn rule(self, act: &Act, rules: &Rules, action: Action, linkage: Linkage) -> Ruled {
        let action = match self.weight {
            Weight::Nothing => return quiet(Ok(Reply::Unseen)),
            Weight::Refusal => action,
            Weight::Alarm => {
                tracing::error!(why = self.why, agency = %act.agency, "ALARM: a request does not fit");
                Action::Alarm
            }
        };
        let truth = format!("{} {}", self.why, self.detail);
        let refusal = self.refusal;
        let draft = act.refused(rules, action, linkage, &refusal, truth.trim_end());
        Ruling {
            answer: Err(*refusal),
            draft: Some(draft),
            remember: None,
        }
    }
}

/// What becomes of a call that rests on a checkpoint which was not observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// Nothing is decided: whoever calls has the checkpoint followed again.
    Waits,
    IsRefused,
}

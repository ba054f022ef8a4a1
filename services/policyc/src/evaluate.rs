//! Asks Cedar about a cell in every combination of facts.
//!
//! Cedar skips a rule that fails, even a `forbid`. Here a failure denies, whatever the other rules say, and
//! no table is made of rules of which any fails anywhere.

use std::{collections::BTreeMap, fmt::Display, str::FromStr as _};

use amanat_policy::Context;
use amanat_schema::{
    catalogue::FieldGroup,
    policy::{AgencyKind, Purpose},
};
use cedar_policy::{
    ActionConstraint, AuthorizationError, Authorizer, Context as Circumstances, Decision, Entities,
    EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet, Request, RestrictedExpression,
    Schema,
};

use crate::{
    domain::{Cell, FACTS, Named},
    rules::{Rule, Rules},
};

/// What the rules say of one cell in one combination of facts.
#[derive(Debug, Clone)]
pub(crate) struct Answer<'a> {
    pub(crate) permitted: bool,
    /// The rules that decided, in the order of files and lines: if permitted, those that permit; if not,
    /// those that forbid; none, if no rule speaks.
    pub(crate) decided_by: Vec<&'a Rule>,
    pub(crate) failed: Vec<Failure<'a>>,
}

/// A rule that could not be applied.
#[derive(Debug, Clone)]
pub(crate) struct Failure<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) message: String,
}

/// The answers of one cell, by the number of the combination.
#[derive(Debug, Clone)]
pub(crate) struct Answers<'a> {
    pub(crate) cell: Cell,
    pub(crate) answers: Vec<Answer<'a>>,
}

impl Answers<'_> {
    /// The combinations for which `holds`, as a mask.
    pub(crate) fn mask(&self, holds: impl Fn(&Answer<'_>) -> bool) -> u32 {
        (0..)
            .zip(&self.answers)
            .filter(|(_, answer)| holds(answer))
            .fold(0, |mask, (combination, _)| mask | 1_u32 << combination)
    }
}

/// The policy engine refuses a name or a request of the domain. The names are plain and the schema lists
/// them, so this is a mistake of this program.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the policy engine does not take the domain: {0}")]
pub struct EngineError(String);

impl EngineError {
    fn new(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

/// The rules, ready to be asked.
pub(crate) struct Engine<'a> {
    schema: &'a Schema,
    by_id: BTreeMap<&'a str, &'a Rule>,
    authorizer: Authorizer,
    entities: Entities,
    kinds: BTreeMap<AgencyKind, EntityUid>,
    purposes: BTreeMap<Purpose, (EntityUid, PolicySet)>,
    groups: BTreeMap<FieldGroup, EntityUid>,
    circumstances: Vec<Circumstances>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(rules: &'a Rules) -> Result<Self, EngineError> {
        let by_id = rules.rules.iter().map(|rule| (rule.id.as_str(), rule));
        Ok(Self {
            schema: &rules.schema,
            by_id: by_id.collect(),
            authorizer: Authorizer::new(),
            entities: Entities::empty(),
            kinds: entities("AgencyKind")?,
            purposes: purposes(rules)?,
            groups: entities("FieldGroup")?,
            circumstances: Context::every()
                .map(circumstances)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Asks about a cell in every combination of facts.
    pub(crate) fn ask(&self, cell: Cell) -> Result<Answers<'a>, EngineError> {
        let missing = || EngineError(format!("{cell} is not in it"));
        let kind = self.kinds.get(&cell.kind).ok_or_else(missing)?;
        let (purpose, rules) = self.purposes.get(&cell.purpose).ok_or_else(missing)?;
        let group = self.groups.get(&cell.group).ok_or_else(missing)?;
        let answers = (0..)
            .zip(&self.circumstances)
            .map(|(combination, circumstances)| {
                // Checked once a cell: the facts of the other combinations have the same names and types.
                let schema = (combination == 0).then_some(self.schema);
                let request = Request::new(
                    kind.clone(),
                    purpose.clone(),
                    group.clone(),
                    circumstances.clone(),
                    schema,
                );
                self.answer(&request.map_err(EngineError::new)?, rules)
            });
        let answers = answers.collect::<Result<_, _>>()?;
        Ok(Answers { cell, answers })
    }

    fn answer(&self, request: &Request, rules: &PolicySet) -> Result<Answer<'a>, EngineError> {
        let response = self
            .authorizer
            .is_authorized(request, rules, &self.entities);
        let diagnostics = response.diagnostics();
        let decided_by = diagnostics.reason().map(|id| self.rule(id));
        let mut decided_by = decided_by.collect::<Result<Vec<_>, _>>()?;
        decided_by.sort_by_key(|rule| rule.place());
        let failed = diagnostics.errors().map(|error| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            let rule = self.rule(error.policy_id())?;
            let message = error.inner().to_string();
            Ok(Failure { rule, message })
        });
        let mut failed = failed.collect::<Result<Vec<_>, _>>()?;
        failed.sort_by_key(|failure| failure.rule.place());
        Ok(Answer {
            // INVARIANT: a failure denies.
            permitted: response.decision() == Decision::Allow && failed.is_empty(),
            decided_by,
            failed,
        })
    }

    fn rule(&self, id: &PolicyId) -> Result<&'a Rule, EngineError> {
        let id: &str = id.as_ref();
        self.by_id
            .get(id)
            .copied()
            .ok_or_else(|| EngineError(format!("{id} is no rule of ours")))
    }
}

/// Every code as an entity of this type.
fn entities<T: Named>(of: &str) -> Result<BTreeMap<T, EntityUid>, EngineError> {
    let name = EntityTypeName::from_str(of).map_err(EngineError::new)?;
    Ok(T::every()
        .map(|code| {
            let id = EntityId::new(code.name());
            (code, EntityUid::from_type_name_and_id(name.clone(), id))
        })
        .collect())
}

/// Each purpose with the rules that its requests are asked of. A rule for other purposes neither decides nor
/// fails, since Cedar looks at nothing in a rule before its action fits; leaving it out makes asking several
/// times faster.
fn purposes(rules: &Rules) -> Result<BTreeMap<Purpose, (EntityUid, PolicySet)>, EngineError> {
    let purposes = entities::<Purpose>("Action")?.into_iter();
    let with_rules = purposes.map(|(purpose, action)| {
        // The schema has no action groups, so `in` a list is being one of it.
        let speaks = |constraint| match constraint {
            ActionConstraint::Any => true,
            ActionConstraint::In(actions) => actions.contains(&action),
            ActionConstraint::Eq(one) => one == action,
        };
        let policies = rules.set.policies();
        let policies = policies.filter(|policy| speaks(policy.action_constraint()));
        let set = PolicySet::from_policies(policies.cloned()).map_err(EngineError::new)?;
        Ok((purpose, (action, set)))
    });
    with_rules.collect()
}

fn circumstances(context: Context) -> Result<Circumstances, EngineError> {
    let facts = FACTS.iter().map(|(name, holds)| {
        let holds = RestrictedExpression::new_bool(holds(context));
        ((*name).to_owned(), holds)
    });
    Circumstances::from_pairs(facts).map_err(EngineError::new)
}

#[cfg(test)]
pub(crate) mod tests;

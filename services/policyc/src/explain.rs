//! Why an agency may read something or may not, and what would open it.

use std::{collections::BTreeMap, fmt};

use amanat_policy::Context;
use amanat_schema::catalogue;

use crate::{
    domain::{Cell, Named},
    evaluate::{Answers, Engine, EngineError, Failure},
    rules::{Rule, Rules},
    words::{Circumstances, facts},
};

/// The answer to one question, with its reasons. Printed, it is for a person.
#[derive(Debug)]
pub struct Explanation<'a> {
    cell: Cell,
    context: Context,
    permitted: bool,
    /// The rules that permit it, or those that forbid it.
    decided_by: Vec<&'a Rule>,
    failed: Vec<Failure<'a>>,
    /// In which circumstances the cell is open, and by which rules.
    open: Circumstances,
    opened_by: Vec<&'a Rule>,
}

/// Asks the rules about one cell.
///
/// # Errors
/// [`EngineError`]: a mistake of this program.
pub fn explain(
    rules: &Rules,
    cell: Cell,
    context: Context,
) -> Result<Explanation<'_>, EngineError> {
    let answers = Engine::new(rules)?.ask(cell)?;
    Ok(Explanation::of(&answers, context))
}

impl<'a> Explanation<'a> {
    pub(crate) fn of(answers: &Answers<'a>, context: Context) -> Self {
        let answer = (0..)
            .zip(&answers.answers)
            .find(|(combination, _)| *combination == context.combination())
            .map(|(_, answer)| answer);
        let permitting = answers.answers.iter().filter(|answer| answer.permitted);
        let opened_by: BTreeMap<_, _> = permitting
            .flat_map(|answer| &answer.decided_by)
            .map(|rule| (rule.place(), *rule))
            .collect();
        Self {
            cell: answers.cell,
            context,
            permitted: answer.is_some_and(|answer| answer.permitted),
            decided_by: answer
                .map(|answer| answer.decided_by.clone())
                .unwrap_or_default(),
            failed: answer
                .map(|answer| answer.failed.clone())
                .unwrap_or_default(),
            open: Circumstances(answers.mask(|answer| answer.permitted)),
            opened_by: opened_by.into_values().collect(),
        }
    }

    pub fn is_permitted(&self) -> bool {
        self.permitted
    }

    /// The ids of the rules that decided: those that permit, or those that forbid; none, if no rule speaks.
    pub fn decided_by(&self) -> impl Iterator<Item = &str> {
        self.decided_by.iter().map(|rule| rule.id.as_str())
    }

    fn question(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, purpose, group) = (self.cell.kind, self.cell.purpose, self.cell.group);
        let may = if self.permitted { "may" } else { "may not" };
        let (kind, purpose, facts) = (kind.name(), purpose.name(), facts(self.context));
        writeln!(
            f,
            "{kind} {may} read {} for {purpose}: {facts}.",
            group.name()
        )?;
        let fields = catalogue::FIELDS
            .iter()
            .filter(|field| field.group == group);
        let fields: Vec<_> = fields.map(|field| field.path).collect();
        writeln!(f, "{} is {}.", group.name(), fields.join(", "))
    }

    fn reasons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Failure { rule, message } in &self.failed {
            writeln!(
                f,
                "\nThis rule fails here, and a rule that fails denies: {message}"
            )?;
            quote(f, rule)?;
        }
        if !self.failed.is_empty() {
            return Ok(());
        }
        match (self.permitted, self.decided_by.is_empty()) {
            (true, _) => writeln!(f, "\nPermitted by:")?,
            (false, false) => writeln!(f, "\nForbidden by:")?,
            (false, true) => writeln!(
                f,
                "\nNo rule permits it in these circumstances, and what no rule permits is refused."
            )?,
        }
        self.decided_by.iter().try_for_each(|rule| quote(f, rule))
    }

    fn way_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.permitted {
            return writeln!(
                f,
                "\nIt is open {}. An accepted referral is needed besides, and for all but ROUTING her \
                 consent\nor another lawful basis.",
                self.open
            );
        }
        if self.opened_by.is_empty() {
            return writeln!(f, "\nNo circumstances open it.");
        }
        writeln!(f, "\nIt opens {}, by:", self.open)?;
        self.opened_by.iter().try_for_each(|rule| quote(f, rule))
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.question(f)?;
        self.reasons(f)?;
        self.way_out(f)
    }
}

/// A rule with the comment above it.
fn quote(f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
    writeln!(f, "  {rule}")?;
    rule.comment
        .lines()
        .try_for_each(|line| writeln!(f, "      {line}"))
}

#[cfg(test)]
mod tests;

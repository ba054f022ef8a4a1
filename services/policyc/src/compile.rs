//! The rules compiled: the decision table and the pages that people review.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use amanat_policy::{DecisionTable, TableError};
use amanat_schema::policy::Purpose;
use cedar_policy::Effect;

use crate::{
    domain::{Cell, Named},
    evaluate::{Answers, Engine, EngineError},
    page,
    rules::{Rule, Rules},
    words::{self, Circumstances},
};

/// What stands before the cells of every table.
const HEADER: &str = include_str!("header.txt");

/// What the rules of a folder come to. The same rules give the same bytes.
#[derive(Debug)]
pub struct Compiled {
    pub table: DecisionTable,
    /// The table's text form.
    pub text: String,
    /// One page a purpose.
    pub pages: BTreeMap<Purpose, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Failing(#[from] FailingRules),
    /// What the rules come to is no table: they open what none may.
    #[error("the rules come to a table that no server takes: {error}\n{lines}")]
    Table {
        error: TableError,
        /// The lines that are refused.
        lines: String,
    },
    #[error(transparent)]
    Idle(#[from] IdleRules),
    /// Nothing is open, but the next permit could open it: one rule must say to whoever reads the rules that
    /// none may.
    #[error(
        "no one rule forbids IMMIGRATION_ENFORCEMENT whatever the kind, the group and the circumstances, and \
         no table is made without it:\n  \
         forbid (principal, action == Action::\"IMMIGRATION_ENFORCEMENT\", resource);"
    )]
    Unwalled,
}

/// Rules that fail when they are applied, each with the cells for which it does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FailingRules(pub Vec<FailingRule>);

impl fmt::Display for FailingRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rule that fails denies, and no table is made of it")?;
        self.0
            .iter()
            .try_for_each(|failing| write!(f, "\n  {failing}"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule} fails for {cell}, {when}: {message}")]
pub struct FailingRule {
    /// Id, file and line.
    pub rule: String,
    pub cell: Cell,
    pub when: Circumstances,
    pub message: String,
}

/// Rules that decide no cell in any circumstances, in the order of files and lines. Whoever reads one
/// believes that it opens or closes something.
#[derive(Debug, Clone, thiserror::Error)]
pub struct IdleRules(pub Vec<Rule>);

impl fmt::Display for IdleRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rule that decides no cell misleads, and no table is made of it")?;
        self.0.iter().try_for_each(|rule| match rule.effect {
            Effect::Permit => write!(
                f,
                "\n  {rule} permits nothing: it never applies, or a forbid always overrides it"
            ),
            Effect::Forbid => write!(f, "\n  {rule} forbids nothing: it never applies"),
        })
    }
}

/// Asks the rules about every cell in every combination of facts, and writes down what they say.
///
/// # Errors
/// [`CompileError`]; then there is no table at all.
pub fn compile(rules: &Rules) -> Result<Compiled, CompileError> {
    let answers = ask_all(rules)?;
    let failing = failing(&answers);
    if !failing.is_empty() {
        return Err(FailingRules(failing).into());
    }
    let text = text(&answers);
    let table = DecisionTable::parse(&text).map_err(|error| refused(error, &text))?;
    let idle = idle(rules, &answers);
    if !idle.is_empty() {
        return Err(IdleRules(idle).into());
    }
    if !is_walled(rules, &answers) {
        return Err(CompileError::Unwalled);
    }
    let pages = Purpose::every()
        .map(|purpose| (purpose, page::render(&table, purpose)))
        .collect();
    Ok(Compiled { table, text, pages })
}

/// The answers of every cell, in the order of cells.
pub(crate) fn ask_all(rules: &Rules) -> Result<Vec<Answers<'_>>, EngineError> {
    let engine = Engine::new(rules)?;
    Cell::every().map(|cell| engine.ask(cell)).collect()
}

fn failing(answers: &[Answers<'_>]) -> Vec<FailingRule> {
    let mut failing = Vec::new();
    for answers in answers {
        // By place, so that the list reads in the order of the files.
        let mut of_cell = BTreeMap::new();
        for failure in answers.answers.iter().flat_map(|answer| &answer.failed) {
            of_cell.entry(failure.rule.place()).or_insert(failure);
        }
        failing.extend(of_cell.into_iter().map(|(place, failure)| FailingRule {
            rule: failure.rule.to_string(),
            cell: answers.cell,
            when: Circumstances(answers.mask(|answer| {
                answer
                    .failed
                    .iter()
                    .any(|other| other.rule.place() == place)
            })),
            message: failure.message.clone(),
        }));
    }
    failing
}

/// The rules that are no reason anywhere: permits that permit nothing, forbids that apply nowhere.
fn idle(rules: &Rules, answers: &[Answers<'_>]) -> Vec<Rule> {
    let answers = answers.iter().flat_map(|answers| &answers.answers);
    let deciding: BTreeSet<_> = answers
        .flat_map(|answer| &answer.decided_by)
        .map(|rule| rule.place())
        .collect();
    let idle = rules.rules.iter();
    idle.filter(|rule| !deciding.contains(&rule.place()))
        .cloned()
        .collect()
}

/// Whether one rule forbids IMMIGRATION_ENFORCEMENT in every cell and in any circumstances.
fn is_walled(rules: &Rules, answers: &[Answers<'_>]) -> bool {
    let forbids = |rule: &Rule| {
        let mut answers = answers
            .iter()
            .filter(|answers| answers.cell.purpose == Purpose::ImmigrationEnforcement)
            .flat_map(|answers| &answers.answers);
        let place = rule.place();
        answers.all(|answer| answer.decided_by.iter().any(|by| by.place() == place))
    };
    let mut rules = rules.rules.iter();
    rules.any(|rule| rule.effect == Effect::Forbid && forbids(rule))
}

fn text(answers: &[Answers<'_>]) -> String {
    let mut text = HEADER.to_owned();
    for block in
        answers.chunk_by(|a, b| (a.cell.kind, a.cell.purpose) == (b.cell.kind, b.cell.purpose))
    {
        let lines: String = block
            .iter()
            .map(|answers| (answers.cell, answers.mask(|answer| answer.permitted)))
            .filter(|(_, mask)| *mask != 0)
            .map(|(cell, mask)| format!("{cell} {mask:08x}\n"))
            .collect();
        if !lines.is_empty() {
            text.push('\n');
            text.push_str(&rules_of(block));
            text.push_str(&lines);
        }
    }
    text
}

/// A block's comment: the rules that open its cells, in the order of files and lines.
fn rules_of(block: &[Answers<'_>]) -> String {
    let answers = block.iter().flat_map(|answers| &answers.answers);
    let opening: BTreeMap<_, _> = answers
        .filter(|answer| answer.permitted)
        .flat_map(|answer| &answer.decided_by)
        .map(|rule| (rule.place(), rule.id.as_str()))
        .collect();
    words::lines("# ", "# ", opening.into_values())
}

/// The error with the lines that it names by number.
fn refused(error: TableError, text: &str) -> CompileError {
    let numbers: BTreeSet<_> = error.0.iter().map(|problem| problem.line).collect();
    let lines: Vec<_> = (1..)
        .zip(text.lines())
        .filter(|(number, _)| numbers.contains(number))
        .map(|(number, line)| format!("  line {number}: {line}"))
        .collect();
    let lines = lines.join("\n");
    CompileError::Table { error, lines }
}

#[cfg(test)]
mod tests;

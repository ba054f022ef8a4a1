//! Compiles the role ceiling: Cedar rules, written for people, into the decision table, which is all that
//! the servers load. Its program is `amanat-policy`; `deploy/policies/README.md` tells how to change a rule.
//!
//! [`compile`] asks the rules about every agency kind, purpose and field group in every combination of
//! facts. Registrars review what comes out, by [`Difference`] and by pages, and sign the table's hash.

mod command;
mod compile;
mod diff;
mod domain;
mod evaluate;
mod explain;
mod folder;
mod page;
mod rules;
mod schema;
mod words;

pub use command::main;
pub use compile::{CompileError, Compiled, FailingRule, FailingRules, IdleRules, compile};
pub use diff::{Change, Difference};
pub use domain::{Cell, Named};
pub use evaluate::EngineError;
pub use explain::{Explanation, explain};
pub use folder::{FolderError, PAGES, TABLE, compiled, differences, table, write};
pub use rules::{Problem, Refused, Rule, Rules, RulesError};
pub use schema::SCHEMA;
pub use words::Circumstances;

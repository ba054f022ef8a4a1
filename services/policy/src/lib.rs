//! Who may read what: the decision table, the terms of a consent, the states of a referral, and
//! [`decide`], which brings them together for one read.
//!
//! Pure: no I/O, no clock, no randomness. Gateway and custodian each call [`decide`] on their own facts,
//! and the same facts give the same answer. Whatever is unknown, unspecified or absent denies.

mod check;
mod decide;
mod grant;
mod referral;
mod table;

pub use decide::{
    Basis, Outcome, Question, Reader, RecordFacts, ReferralFacts, Release, TrueReason, Withheld,
    decide, without_consent,
};
pub use grant::{Choice, ConsentTerms, Grant, parse_consent};
pub use referral::{
    Actor, IllegalTransition, OPENING, ReferralTerms, Step, UNANSWERED, is_closed, is_open, next,
    opens_content, parse_referral, respond_within,
};
pub use table::{Context, DecisionTable, TableError, TableFault, TableProblem};

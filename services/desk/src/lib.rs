//! What gateway and custodian do alike: who acts, what the log keeps of it, and the two services that both
//! serve over their own stores, the consent ledger and the audit log.
//!
//! A handler asks the [`Desk`] who acts ([`Desk::asked`] by token, [`Desk::delivered`] by statement), whether
//! it may ([`Desk::authorise`], which logs a refusal), and hands a verb to the journal ([`Desk::call`]).

mod act;
pub mod audit;
pub mod consent;
#[allow(
    clippy::module_inception,
    reason = "the type is the room's name; its file is where one looks for it"
)]
mod desk;
mod filter;
pub mod inspect;
pub mod keeping;
mod lifetimes;
mod metrics;
mod own;
mod page;
pub mod release;
pub mod reload;
mod remembered;
pub mod settings;
pub mod setup;
mod statements;
pub mod vitals;

use amanat_database::{Changing, Step};

pub use act::{Act, Rulebook, Rules, Superseded};
pub use desk::{Answered, Desk, Refused, refusal};
pub use filter::Filters;
pub use lifetimes::Lifetimes;
pub use metrics::METRICS;
pub use page::{Page, Paged, Pages};
pub use remembered::{Remembered, RememberedByCase};
pub use statements::{Known, StatementFacts, Stored};

/// The tables of this room, in order.
pub const STEPS: [Step; 2] = [
    Step {
        name: "statements",
        sqlite: include_str!("../migrations/0002_statements.sql"),
        postgres: include_str!("../migrations/postgres/0002_statements.sql"),
    },
    Step {
        name: "consent-purposes",
        sqlite: include_str!("../migrations/0006_consent_purposes.sql"),
        postgres: include_str!("../migrations/postgres/0006_consent_purposes.sql"),
    },
];

/// What changes in them: of a consent, how many reads rested on it.
pub const CHANGING: [Changing; 1] = [Changing::columns("consents", &["reads"])];

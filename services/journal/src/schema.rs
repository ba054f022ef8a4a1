//! The journal's own steps of a database.

use amanat_database::Step;

/// Its tables; a service's steps follow.
pub(crate) const FIRST: Step = Step {
    name: "journal",
    sqlite: include_str!("../migrations/0001_journal.sql"),
    postgres: include_str!("../migrations/postgres/0001_journal.sql"),
};
/// What the journal changed later: each a step of each service's list, which takes it at its own end.
pub const ENTRY_TIMES: Step = Step {
    name: "entry-times",
    sqlite: include_str!("../migrations/0002_entry_times.sql"),
    postgres: include_str!("../migrations/postgres/0002_entry_times.sql"),
};
pub const REQUESTS_BY_KEY: Step = Step {
    name: "requests-by-key",
    sqlite: include_str!("../migrations/0003_requests_by_key.sql"),
    postgres: include_str!("../migrations/postgres/0003_requests_by_key.sql"),
};

/// The journal's tables whose rows change.
pub(crate) const CHANGING: &str = "head";

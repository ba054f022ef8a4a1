//! The journal's own steps of a database.

use amanat_database::{Changing, Step};

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
pub const ENTRY_SPANS: Step = Step {
    name: "entry-spans",
    sqlite: include_str!("../migrations/0004_entry_spans.sql"),
    postgres: include_str!("../migrations/postgres/0004_entry_spans.sql"),
};
pub const OWN_KEYS: Step = Step {
    name: "own-keys",
    sqlite: include_str!("../migrations/0005_own_keys.sql"),
    postgres: include_str!("../migrations/postgres/0005_own_keys.sql"),
};
pub const ENTRY_INDEX: Step = Step {
    name: "entry-index",
    sqlite: include_str!("../migrations/0006_entry_index.sql"),
    postgres: include_str!("../migrations/postgres/0006_entry_index.sql"),
};

/// What changes in the journal's tables.
pub(crate) const CHANGING: Changing =
    Changing::columns("head", &["size", "root", "checkpoint", "frozen"]);

-- Identifiers evaluated, and how many of the day's budget are used. No column holds an identifier, a point
-- or an officer's id.

CREATE TABLE evaluations (
    seq             INTEGER PRIMARY KEY,  -- in the order of deciding
    agency          BLOB NOT NULL,        -- who asked
    officer_handle  BLOB NOT NULL,        -- 16 bytes; the same for the same officer of the agency
    case_id         BLOB,                 -- the case named; NULL for a canary, which belongs to none
    reason          INTEGER NOT NULL,     -- amanat.subject.v1.EvaluationReason
    items           INTEGER NOT NULL,     -- how many points
    unaccounted     INTEGER NOT NULL,     -- how many of them no record accounts for; 0 for a canary
    evaluate_time   INTEGER NOT NULL,     -- this server's clock, milliseconds since 1970
    deposit_by_time INTEGER NOT NULL,     -- a key deposited later accounts for nothing; milliseconds since 1970
    CHECK (unaccounted BETWEEN 0 AND items)
) STRICT;

CREATE INDEX evaluations_unaccounted ON evaluations (seq) WHERE unaccounted > 0;
CREATE INDEX evaluations_unaccounted_by_case ON evaluations (agency, case_id, seq) WHERE unaccounted > 0;

-- What the records of an agency in a case account for beyond what was evaluated before them.
CREATE TABLE allowances (
    agency     BLOB NOT NULL,
    case_id    BLOB NOT NULL,
    points     INTEGER NOT NULL,  -- of the newest record, not used up yet
    until_time INTEGER NOT NULL,  -- then they count no more; this server's clock, milliseconds since 1970
    PRIMARY KEY (agency, case_id),
    CHECK (points >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE budgets (
    agency         BLOB NOT NULL,
    officer_handle BLOB NOT NULL,     -- 16 bytes; none: the agency's own budget
    domain         INTEGER NOT NULL,  -- amanat.subject.v1.IdentifierDomain; each has a budget of its own
    day            INTEGER NOT NULL,  -- the newest day that was counted, UTC, days since 1970
    items          INTEGER NOT NULL,  -- how many points on that day
    PRIMARY KEY (agency, officer_handle, domain)
) STRICT, WITHOUT ROWID;

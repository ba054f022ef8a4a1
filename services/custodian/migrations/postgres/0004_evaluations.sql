-- Identifiers evaluated, and how many of the day's budget are used. No column holds an identifier, a point
-- or an officer's id.

CREATE TABLE evaluations (
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of deciding
    agency          bytea NOT NULL,   -- who asked
    officer_handle  bytea NOT NULL,   -- 16 bytes; the same for the same officer of the agency
    case_id         bytea,            -- the case named; NULL for a canary, which belongs to none
    reason          bigint NOT NULL,  -- amanat.subject.v1.EvaluationReason
    items           bigint NOT NULL,  -- how many points
    unaccounted     bigint NOT NULL,  -- how many of them no record accounts for; 0 for a canary
    evaluate_time   bigint NOT NULL,  -- this server's clock, milliseconds since 1970
    deposit_by_time bigint NOT NULL,  -- a key deposited later accounts for nothing; milliseconds since 1970
    CHECK (unaccounted BETWEEN 0 AND items)
);

CREATE INDEX evaluations_unaccounted ON evaluations (seq) WHERE unaccounted > 0;
CREATE INDEX evaluations_unaccounted_by_case ON evaluations (agency, case_id, seq) WHERE unaccounted > 0;

-- The service may update the table, for what records account for: this is all that it changes.
CREATE TRIGGER evaluations_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    seq, agency, officer_handle, case_id, reason, items, evaluate_time, deposit_by_time
    ON evaluations FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- What the records of an agency in a case account for beyond what was evaluated before them.
CREATE TABLE allowances (
    agency     bytea NOT NULL,
    case_id    bytea NOT NULL,
    points     bigint NOT NULL,  -- of the newest record, not used up yet
    until_time bigint NOT NULL,  -- then they count no more; this server's clock, milliseconds since 1970
    PRIMARY KEY (agency, case_id),
    CHECK (points >= 0)
);

CREATE TABLE budgets (
    agency         bytea NOT NULL,
    officer_handle bytea NOT NULL,   -- 16 bytes; none: the agency's own budget
    domain         bigint NOT NULL,  -- amanat.subject.v1.IdentifierDomain; each has a budget of its own
    day            bigint NOT NULL,  -- the newest day that was counted, UTC, days since 1970
    items          bigint NOT NULL,  -- how many points on that day
    PRIMARY KEY (agency, officer_handle, domain)
);

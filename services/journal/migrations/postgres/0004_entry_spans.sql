-- Entries are listed by whatever is asked for without a walk over the log.

-- Of each 1,024 entries, once they are all there, between which times they lie: a clock can step back, so time and
-- index need not rise together, and an index by time would not say where in the log to look.
CREATE TABLE entry_spans (
    span       bigint PRIMARY KEY,  -- entries from span * 1024 on
    first_time bigint NOT NULL,     -- the least of their times, milliseconds since 1970
    last_time  bigint NOT NULL      -- the greatest
);

CREATE TRIGGER entry_spans_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entry_spans
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

INSERT INTO entry_spans (span, first_time, last_time)
    SELECT idx / 1024, min(time), max(time) FROM entries
    WHERE idx < (SELECT coalesce(max(idx) + 1, 0) FROM entries) / 1024 * 1024
    GROUP BY idx / 1024;

DROP INDEX entries_by_time;

CREATE INDEX entries_by_action ON entries (action, idx);
CREATE INDEX entries_by_agency_and_action ON entries (agency, action, idx);

-- Refusals, DECISION_DENY: few among many.
CREATE INDEX refusals ON entries (idx) WHERE decision = 2;
CREATE INDEX refusals_by_agency ON entries (agency, idx) WHERE decision = 2;
CREATE INDEX refusals_by_action ON entries (action, idx) WHERE decision = 2;

-- Entries are found by what is filtered for, once their span is complete. With indexes on the entries themselves each
-- batch would write as many pages as it has cases, for lists that hardly anybody asks for at that moment; the entries
-- behind the last complete span are few, and are looked through.
CREATE TABLE entry_index (
    idx      INTEGER PRIMARY KEY,
    agency   BLOB,
    case_id  BLOB,
    action   INTEGER NOT NULL,
    decision INTEGER NOT NULL,
    time     INTEGER NOT NULL
) STRICT;

INSERT INTO entry_index (idx, agency, case_id, action, decision, time)
    SELECT idx, agency, case_id, action, decision, time FROM entries
    WHERE idx < (SELECT coalesce(max(span) + 1, 0) FROM entry_spans) * 1024 ORDER BY idx;

DROP INDEX entries_by_agency;
DROP INDEX entries_by_case;
DROP INDEX entries_by_action;
DROP INDEX entries_by_agency_and_action;
DROP INDEX refusals;
DROP INDEX refusals_by_agency;
DROP INDEX refusals_by_action;

CREATE INDEX entries_by_agency ON entry_index (agency, idx);
CREATE INDEX entries_by_case ON entry_index (case_id, idx);
CREATE INDEX entries_by_action ON entry_index (action, idx);
CREATE INDEX entries_by_agency_and_action ON entry_index (agency, action, idx);

-- Refusals, DECISION_DENY: few among many.
CREATE INDEX refusals ON entry_index (idx) WHERE decision = 2;
CREATE INDEX refusals_by_agency ON entry_index (agency, idx) WHERE decision = 2;
CREATE INDEX refusals_by_action ON entry_index (action, idx) WHERE decision = 2;

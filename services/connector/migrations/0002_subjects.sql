-- The agency's own pseudonyms of the people in its cases. Nothing here says who they are: identifiers wait
-- in a sealed job until the gateway has answered, and tokens are never stored.

CREATE TABLE subjects (
    seq       INTEGER PRIMARY KEY REFERENCES jobs (seq),  -- the job that asked: one answer a job
    pseudonym BLOB NOT NULL,                              -- 16 bytes, as the gateway answered
    case_id   BLOB NOT NULL,
    record_id BLOB NOT NULL,                              -- of this agency, in that case
    found     INTEGER NOT NULL                            -- when it was answered, milliseconds since 1970 UTC
) STRICT;

CREATE INDEX subjects_by_pseudonym ON subjects (pseudonym);
CREATE INDEX subjects_by_case ON subjects (case_id);

CREATE TABLE merged (
    absorbed BLOB PRIMARY KEY,  -- the pseudonym that is answered no more
    standing BLOB NOT NULL      -- the one that stands for both
) STRICT, WITHOUT ROWID;

-- What an agency's connector keeps: deliveries until they are done, and the evidence of what was
-- answered. Jobs are sealed under the profile's local key and erased when they are done.

CREATE TABLE jobs (
    seq      INTEGER PRIMARY KEY,  -- in the order of acceptance
    kind     TEXT NOT NULL,        -- what is delivered, as in `submission`
    subject  TEXT NOT NULL,        -- the id of the record, consent or referral
    job      BLOB NOT NULL,        -- sealed; empty once it is done
    steps    INTEGER NOT NULL,     -- how many calls it takes
    progress INTEGER NOT NULL,     -- how many were answered
    refused  TEXT NOT NULL         -- the published reason if a server refused it; empty otherwise
) STRICT;

CREATE TABLE answers (
    seq    INTEGER NOT NULL REFERENCES jobs (seq),
    step   INTEGER NOT NULL,  -- from 0
    answer BLOB NOT NULL,     -- the response, as it came
    PRIMARY KEY (seq, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipts (
    origin  TEXT NOT NULL,     -- of the log
    idx     INTEGER NOT NULL,  -- of the entry
    receipt BLOB NOT NULL,     -- amanat.audit.v1.Receipt: evidence of completeness against either server
    PRIMARY KEY (origin, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    origin TEXT PRIMARY KEY,  -- of the log
    size   INTEGER NOT NULL,
    note   TEXT NOT NULL      -- the largest checkpoint that this connector was shown
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    source        BLOB NOT NULL,
    record_id     BLOB NOT NULL,
    version       INTEGER NOT NULL,  -- the highest that this connector has seen
    header_sha256 BLOB NOT NULL,
    PRIMARY KEY (source, record_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE consents (
    consent_id BLOB PRIMARY KEY,  -- granted here
    case_id    BLOB NOT NULL      -- so that it can be withdrawn by its id, with no server to ask
) STRICT, WITHOUT ROWID;

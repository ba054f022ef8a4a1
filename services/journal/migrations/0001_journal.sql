-- The durable half of the log. Rows are only ever added; `head` is the one row that moves.

CREATE TABLE entries (
    idx          INTEGER PRIMARY KEY,  -- place in the log, from 0, without holes
    entry        BLOB NOT NULL,        -- the 34 public bytes: format, salted hash of the body
    body         BLOB NOT NULL,        -- canonical amanat.audit.v1.EntryBody
    salt         BLOB NOT NULL,        -- 32 bytes, of the entry's hash
    linkage      BLOB NOT NULL,        -- canonical amanat.audit.v1.Linkage, behind its own commitment
    linkage_salt BLOB NOT NULL,        -- 32 bytes
    openings     BLOB NOT NULL,        -- sealed openings of the personal commitments; can be shredded
    agency       BLOB,                 -- who acted, for filters; NULL if nobody known did
    case_id      BLOB,                 -- what it is about, for filters; NULL if no case
    action       INTEGER NOT NULL,     -- amanat.audit.v1.Action, for filters
    decision     INTEGER NOT NULL      -- amanat.policy.v1.Decision, for filters
) STRICT;

CREATE INDEX entries_by_agency ON entries (agency, idx);
CREATE INDEX entries_by_case ON entries (case_id, idx);

CREATE TABLE nodes (
    idx  INTEGER PRIMARY KEY,  -- stored-hash index: every complete subtree, in the order of completion
    hash BLOB NOT NULL         -- 32 bytes
) STRICT;

CREATE TABLE head (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    size       INTEGER NOT NULL,  -- number of entries
    root       BLOB NOT NULL,     -- of the tree over them, 32 bytes
    checkpoint TEXT NOT NULL      -- the signed note of this size; empty while size is 0
) STRICT;

CREATE TABLE requests (
    agency         BLOB NOT NULL,     -- who asked
    method         TEXT NOT NULL,     -- the RPC
    request_id     BLOB NOT NULL,     -- the caller's name for the mutation
    request_sha256 BLOB NOT NULL,     -- of the request: another one under the same id is refused
    idx            INTEGER NOT NULL,  -- the entry that it made
    answer         BLOB NOT NULL,     -- what was answered beside the receipt
    PRIMARY KEY (agency, method, request_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_by_id ON requests (request_id);

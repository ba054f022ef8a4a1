-- The durable half of the log. Rows are only ever added; `head` is the one row that moves.

CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are only ever added', TG_TABLE_NAME;
END
$$;

CREATE TABLE entries (
    idx          bigint PRIMARY KEY,  -- place in the log, from 0, without holes
    entry        bytea NOT NULL,      -- the 34 public bytes: format, salted hash of the body
    body         bytea NOT NULL,      -- canonical amanat.audit.v1.EntryBody
    salt         bytea NOT NULL,      -- 32 bytes, of the entry's hash
    linkage      bytea NOT NULL,      -- canonical amanat.audit.v1.Linkage, behind its own commitment
    linkage_salt bytea NOT NULL,      -- 32 bytes
    openings     bytea NOT NULL,      -- sealed openings of the personal commitments; can be shredded
    agency       bytea,               -- who acted, for filters; NULL if nobody known did
    case_id      bytea,               -- what it is about, for filters; NULL if no case
    action       bigint NOT NULL,     -- amanat.audit.v1.Action, for filters
    decision     bigint NOT NULL      -- amanat.policy.v1.Decision, for filters
);

CREATE INDEX entries_by_agency ON entries (agency, idx);
CREATE INDEX entries_by_case ON entries (case_id, idx);

CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE nodes (
    idx  bigint PRIMARY KEY,  -- stored-hash index: every complete subtree, in the order of completion
    hash bytea NOT NULL       -- 32 bytes
);

CREATE TRIGGER nodes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON nodes
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- The row that all writers take in turn. It changes with each transaction, so its page has room for many versions.
CREATE TABLE head (
    id         bigint PRIMARY KEY CHECK (id = 1),
    size       bigint NOT NULL,  -- number of entries
    root       bytea NOT NULL,   -- of the tree over them, 32 bytes
    checkpoint text NOT NULL,    -- the signed note of this size; empty while size is 0
    frozen     text NOT NULL     -- why no replica may write any more; empty while all may
) WITH (fillfactor = 10);

CREATE TABLE requests (
    agency         bytea NOT NULL,   -- who asked
    method         text NOT NULL,    -- the RPC
    request_id     bytea NOT NULL,   -- the caller's name for the mutation
    request_sha256 bytea NOT NULL,   -- of the request: another one under the same id is refused
    idx            bigint NOT NULL,  -- the entry that it made
    answer         bytea NOT NULL,   -- what was answered beside the receipt
    PRIMARY KEY (agency, method, request_id)
);

CREATE TRIGGER requests_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON requests
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

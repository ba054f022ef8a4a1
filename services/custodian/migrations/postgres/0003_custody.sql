-- Record keys in custody, and the gateway's log as it was seen from here. No column holds a key in clear,
-- a ciphertext or a value.

CREATE TABLE deposits (
    record_id     bytea NOT NULL,   -- of its source; another agency's same id is another record
    source        bytea NOT NULL,   -- the agency that signed the header
    version       bigint NOT NULL,  -- 1, 2, 3, …
    header        bytea NOT NULL,   -- the signed envelope, as it came
    header_sha256 bytea NOT NULL,   -- of its payload; another header under this version is refused until it expires
    kek_epoch     bigint NOT NULL,  -- which key wraps the record key
    wrapped       bytea,            -- the record key, wrapped; NULL once it expired without being activated
    receipt       bytea NOT NULL,   -- the signed DepositReceipt, answered again to the same header
    deposit_time  bigint NOT NULL,  -- this server's clock, milliseconds since 1970
    activate_time bigint,           -- NULL while pending
    PRIMARY KEY (record_id, source, version),
    CHECK (activate_time IS NULL OR wrapped IS NOT NULL)
);

CREATE INDEX deposits_pending ON deposits (deposit_time)
    WHERE activate_time IS NULL AND wrapped IS NOT NULL;

-- The service may update the table; no deposit ever goes or becomes another record's.
CREATE TRIGGER deposits_stay BEFORE DELETE OR TRUNCATE OR UPDATE OF record_id, source, version
    ON deposits FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE releases (
    entry_id     bytea PRIMARY KEY,  -- of the gateway's entry: good for one release
    entry_sha256 bytea NOT NULL,     -- of its 34 bytes, behind which officer and paths stand
    release_time bigint NOT NULL     -- of the first, this server's clock, milliseconds since 1970
);

CREATE TRIGGER releases_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON releases
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE missing_consents (
    source     bytea NOT NULL,   -- of the record; another agency's consent of this id is another consent
    case_id    bytea NOT NULL,
    consent_id bytea NOT NULL,   -- the gateway released on it, and it was not here
    first_time bigint NOT NULL,  -- when that was first so, this server's clock, milliseconds since 1970
    alarm_time bigint,           -- when it had been missing for too long; NULL if it came in time, or may yet
    PRIMARY KEY (source, case_id, consent_id)
);

-- The service may update the table, for the alarm: this is all that it changes.
CREATE TRIGGER missing_consents_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    source, case_id, consent_id, first_time
    ON missing_consents FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- The largest is the observed head. Others are kept so that a smaller checkpoint needs no new proof.
CREATE TABLE observed_heads (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of observing
    size         bigint NOT NULL UNIQUE,  -- entries of the gateway's log
    root         bytea NOT NULL,          -- 32 bytes
    note         text NOT NULL,           -- the gateway's signed checkpoint
    observe_time bigint NOT NULL          -- the observing server's clock, milliseconds since 1970
);

-- Two words of the gateway that cannot both be true. While a row stands here nothing is deposited,
-- activated or released; a person who has settled the matter takes it away, which the service may not.
CREATE TABLE evidence (
    seq       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    why       text NOT NULL,
    ours      text NOT NULL,   -- the checkpoint observed before
    theirs    text NOT NULL,   -- the checkpoint that contradicts it
    find_time bigint NOT NULL  -- the finding server's clock, milliseconds since 1970
);

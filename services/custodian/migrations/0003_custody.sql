-- Record keys in custody, and the gateway's log as it was seen from here. No column holds a key in clear,
-- a ciphertext or a value.

CREATE TABLE deposits (
    record_id     BLOB NOT NULL,     -- of its source; another agency's same id is another record
    source        BLOB NOT NULL,     -- the agency that signed the header
    version       INTEGER NOT NULL,  -- 1, 2, 3, …
    header        BLOB NOT NULL,     -- the signed envelope, as it came
    header_sha256 BLOB NOT NULL,     -- of its payload; another header under this version is refused until it expires
    kek_epoch     INTEGER NOT NULL,  -- which key wraps the record key
    wrapped       BLOB,              -- the record key, wrapped; NULL once it expired without being activated
    receipt       BLOB NOT NULL,     -- the signed DepositReceipt, answered again to the same header
    deposit_time  INTEGER NOT NULL,  -- this server's clock, milliseconds since 1970
    activate_time INTEGER,           -- NULL while pending
    PRIMARY KEY (record_id, source, version),
    CHECK (activate_time IS NULL OR wrapped IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX deposits_pending ON deposits (deposit_time)
    WHERE activate_time IS NULL AND wrapped IS NOT NULL;

CREATE TABLE releases (
    entry_id     BLOB PRIMARY KEY,  -- of the gateway's entry: good for one release
    entry_sha256 BLOB NOT NULL,     -- of its 34 bytes, behind which officer and paths stand
    release_time INTEGER NOT NULL   -- of the first, this server's clock, milliseconds since 1970
) STRICT, WITHOUT ROWID;

CREATE TABLE missing_consents (
    source     BLOB NOT NULL,     -- of the record; another agency's consent of this id is another consent
    case_id    BLOB NOT NULL,
    consent_id BLOB NOT NULL,     -- the gateway released on it, and it was not here
    first_time INTEGER NOT NULL,  -- when that was first so, this server's clock, milliseconds since 1970
    alarm_time INTEGER,           -- when it had been missing for too long; NULL if it came in time, or may yet
    PRIMARY KEY (source, case_id, consent_id)
) STRICT, WITHOUT ROWID;

-- The largest is the observed head. Others are kept so that a smaller checkpoint needs no new proof.
CREATE TABLE observed_heads (
    seq          INTEGER PRIMARY KEY,     -- in the order of observing
    size         INTEGER NOT NULL UNIQUE, -- entries of the gateway's log
    root         BLOB NOT NULL,           -- 32 bytes
    note         TEXT NOT NULL,           -- the gateway's signed checkpoint
    observe_time INTEGER NOT NULL         -- this server's clock, milliseconds since 1970
) STRICT;

-- Two words of the gateway that cannot both be true. While a row stands here nothing is deposited,
-- activated or released; a person who has settled the matter takes it away.
CREATE TABLE evidence (
    seq       INTEGER PRIMARY KEY,
    why       TEXT NOT NULL,
    ours      TEXT NOT NULL,    -- the checkpoint observed before
    theirs    TEXT NOT NULL,    -- the checkpoint that contradicts it
    find_time INTEGER NOT NULL  -- this server's clock, milliseconds since 1970
) STRICT;

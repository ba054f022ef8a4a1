-- Deposits beside the index of their key. A table without rowids keeps its rows in the key's tree, also in its inner
-- pages: with a signed header each about four to a page, so that a look-up goes through many more of them.

CREATE TABLE deposits_beside_key (
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
) STRICT;

INSERT INTO deposits_beside_key (record_id, source, version, header, header_sha256, kek_epoch, wrapped, receipt,
        deposit_time, activate_time)
    SELECT record_id, source, version, header, header_sha256, kek_epoch, wrapped, receipt, deposit_time, activate_time
    FROM deposits;

DROP TABLE deposits;
ALTER TABLE deposits_beside_key RENAME TO deposits;

CREATE INDEX deposits_pending ON deposits (deposit_time)
    WHERE activate_time IS NULL AND wrapped IS NOT NULL;

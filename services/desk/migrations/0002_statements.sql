-- Statements and the consent ledger, as gateway and custodian each keep them. Rows are only ever added,
-- but for the count of reads.

CREATE TABLE statements (
    statement_id   BLOB PRIMARY KEY,  -- accepted once, for ever
    payload_sha256 BLOB NOT NULL      -- other bytes under the same id are refused
) STRICT, WITHOUT ROWID;

CREATE TABLE consents (
    seq            INTEGER PRIMARY KEY,   -- in the order of recording
    case_id        BLOB NOT NULL,
    consent_id     BLOB NOT NULL,         -- its name in the case; another case cannot take it
    source         BLOB NOT NULL,         -- the agency that signed it
    recipient      BLOB NOT NULL,         -- the one agency that it is about
    envelope       BLOB NOT NULL,         -- the signed bytes, as they came
    payload_sha256 BLOB NOT NULL,
    evidence       BLOB NOT NULL,         -- sealed evidence part; empty at the custodian
    record_time    INTEGER NOT NULL,      -- this server's clock, milliseconds since 1970
    reads          INTEGER NOT NULL,      -- how many reads rested on it here
    UNIQUE (case_id, consent_id)
) STRICT;

CREATE INDEX consents_by_source ON consents (source, seq);
CREATE INDEX consents_by_recipient ON consents (recipient, seq);

CREATE TABLE withdrawals (
    case_id       BLOB NOT NULL,     -- as the withdrawal names it; counts for a consent of this case
    consent_id    BLOB NOT NULL,     -- may be withdrawn before it arrives
    agency        BLOB NOT NULL,     -- who signed the withdrawal; counts if it is entitled to
    envelope      BLOB NOT NULL,     -- the signed bytes, as they came
    withdraw_time INTEGER NOT NULL,  -- this server's clock, milliseconds since 1970
    PRIMARY KEY (case_id, consent_id, agency)
) STRICT, WITHOUT ROWID;

-- Statements and the consent ledger, as gateway and custodian each keep them. Rows are only ever added,
-- but for the count of reads. Authority follows the signer: an id is its signer's own, and another agency
-- that uses the same one has said another thing.

CREATE TABLE statements (
    statement_id   BLOB NOT NULL,
    agency         BLOB NOT NULL,  -- who signed it
    payload_sha256 BLOB NOT NULL,  -- accepted once, for ever; other bytes under the same id are refused
    PRIMARY KEY (statement_id, agency)
) STRICT, WITHOUT ROWID;

CREATE TABLE consents (
    seq            INTEGER PRIMARY KEY,   -- in the order of recording
    case_id        BLOB NOT NULL,
    consent_id     BLOB NOT NULL,         -- its source's name for it in the case
    source         BLOB NOT NULL,         -- the agency that signed it
    recipient      BLOB NOT NULL,         -- the one agency that it is about
    supersedes     BLOB,                  -- the consent of this source in this case that it replaces; NULL if none
    envelope       BLOB NOT NULL,         -- the signed bytes, as they came
    payload_sha256 BLOB NOT NULL,
    evidence       BLOB NOT NULL,         -- sealed evidence part; empty at the custodian
    record_time    INTEGER NOT NULL,      -- this server's clock, milliseconds since 1970
    reads          INTEGER NOT NULL,      -- how many reads rested on it here
    UNIQUE (case_id, consent_id, source)
) STRICT;

CREATE INDEX consents_by_source ON consents (source, seq);
CREATE INDEX consents_by_recipient ON consents (recipient, seq);
CREATE INDEX consents_by_case ON consents (case_id, source, recipient);
CREATE INDEX consents_by_superseded ON consents (case_id, source, supersedes);

CREATE TABLE withdrawals (
    case_id       BLOB NOT NULL,     -- as the withdrawal names it; counts for consents of this case
    consent_id    BLOB NOT NULL,     -- may be withdrawn before it arrives
    agency        BLOB NOT NULL,     -- who signed the withdrawal; counts for the consents it is entitled to
    envelope      BLOB NOT NULL,     -- the signed bytes, as they came
    withdraw_time INTEGER NOT NULL,  -- this server's clock, milliseconds since 1970
    PRIMARY KEY (case_id, consent_id, agency)
) STRICT, WITHOUT ROWID;

CREATE INDEX withdrawals_by_agency ON withdrawals (case_id, agency);

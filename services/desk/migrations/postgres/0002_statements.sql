-- Statements and the consent ledger, as gateway and custodian each keep them. Rows are only ever added,
-- but for the count of reads. Authority follows the signer: an id is its signer's own, and another agency
-- that uses the same one has said another thing.

CREATE TABLE statements (
    statement_id   bytea NOT NULL,
    agency         bytea NOT NULL,  -- who signed it
    payload_sha256 bytea NOT NULL,  -- accepted once, for ever; other bytes under the same id are refused
    PRIMARY KEY (statement_id, agency)
);

CREATE TRIGGER statements_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON statements
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE consents (
    seq            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of recording
    case_id        bytea NOT NULL,
    consent_id     bytea NOT NULL,         -- its source's name for it in the case
    source         bytea NOT NULL,         -- the agency that signed it
    recipient      bytea NOT NULL,         -- the one agency that it is about
    supersedes     bytea,                  -- the consent of this source in this case that it replaces; NULL if none
    envelope       bytea NOT NULL,         -- the signed bytes, as they came
    payload_sha256 bytea NOT NULL,
    evidence       bytea NOT NULL,         -- sealed evidence part; empty at the custodian
    record_time    bigint NOT NULL,        -- this server's clock, milliseconds since 1970
    reads          bigint NOT NULL,        -- how many reads rested on it here
    UNIQUE (case_id, consent_id, source)
);

CREATE INDEX consents_by_source ON consents (source, seq);
CREATE INDEX consents_by_recipient ON consents (recipient, seq);
CREATE INDEX consents_by_case ON consents (case_id, source, recipient);
CREATE INDEX consents_by_superseded ON consents (case_id, source, supersedes);

-- The service may update the table, for the count of reads: this is all that it changes.
CREATE TRIGGER consents_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    seq, case_id, consent_id, source, recipient, supersedes, envelope, payload_sha256, evidence, record_time
    ON consents FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE withdrawals (
    case_id       bytea NOT NULL,     -- as the withdrawal names it; counts for consents of this case
    consent_id    bytea NOT NULL,     -- may be withdrawn before it arrives
    agency        bytea NOT NULL,     -- who signed the withdrawal; counts for the consents it is entitled to
    envelope      bytea NOT NULL,     -- the signed bytes, as they came
    withdraw_time bigint NOT NULL,    -- this server's clock, milliseconds since 1970
    PRIMARY KEY (case_id, consent_id, agency)
);

CREATE INDEX withdrawals_by_agency ON withdrawals (case_id, agency);

CREATE TRIGGER withdrawals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON withdrawals
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

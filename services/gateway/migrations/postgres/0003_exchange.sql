-- The exchange: sealed records and referrals. No column holds a sealed value or a key.

CREATE TABLE records (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of putting
    case_id       bytea NOT NULL,
    record_id     bytea NOT NULL,   -- of its source; another agency's same id is another record
    version       bigint NOT NULL,  -- 1, 2, 3, …
    source        bytea NOT NULL,   -- the agency that signed the header
    header        bytea NOT NULL,   -- the signed envelope, as it came
    header_sha256 bytea NOT NULL,   -- of its payload; the next version names it
    sealed        bytea NOT NULL,   -- amanat.record.v1.SealedFields
    routing       bytea NOT NULL,   -- amanat.record.v1.PutRecordRequest with its routing values only
    put_time      bigint NOT NULL,  -- this server's clock, milliseconds since 1970
    UNIQUE (source, record_id, version)
);

-- Ciphertext does not get smaller.
ALTER TABLE records ALTER COLUMN sealed SET STORAGE EXTERNAL;

CREATE INDEX records_by_case ON records (case_id, source);
CREATE INDEX records_by_source ON records (source, seq);

CREATE TRIGGER records_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON records
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE referrals (
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of submission
    referral_id     bytea NOT NULL,   -- its sender's name for it; another's same id is another referral
    case_id         bytea NOT NULL,
    sender          bytea NOT NULL,
    recipient       bytea NOT NULL,
    submission      bytea NOT NULL,   -- the sender's signed envelope, as it came
    payload_sha256  bytea NOT NULL,   -- of the submission
    state           bigint NOT NULL,  -- amanat.policy.v1.ReferralState
    last_sha256     bytea NOT NULL,   -- of the newest signed step's payload; the next step names it
    submit_time     bigint NOT NULL,  -- this server's clock, milliseconds since 1970
    respond_by_time bigint NOT NULL,
    UNIQUE (referral_id, sender)
);

CREATE INDEX referrals_by_case ON referrals (case_id, sender);
CREATE INDEX referrals_by_recipient ON referrals (recipient, seq);
CREATE INDEX referrals_by_sender ON referrals (sender, seq);

-- The service may update the table, for its state and newest step: these are all that it changes.
CREATE TRIGGER referrals_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    seq, referral_id, case_id, sender, recipient, submission, payload_sha256, submit_time, respond_by_time
    ON referrals FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE referral_steps (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of recording
    referral_id bytea NOT NULL,
    sender      bytea NOT NULL,  -- of the referral
    envelope    bytea NOT NULL   -- the acting agency's signed transition, as it came
);

CREATE INDEX referral_steps_by_referral ON referral_steps (referral_id, sender, seq);

CREATE TRIGGER referral_steps_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON referral_steps
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

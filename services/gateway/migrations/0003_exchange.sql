-- The exchange: sealed records and referrals. No column holds a sealed value or a key.

CREATE TABLE records (
    seq           INTEGER PRIMARY KEY,  -- in the order of putting
    case_id       BLOB NOT NULL,
    record_id     BLOB NOT NULL,        -- of its source; another agency's same id is another record
    version       INTEGER NOT NULL,     -- 1, 2, 3, …
    source        BLOB NOT NULL,        -- the agency that signed the header
    header        BLOB NOT NULL,        -- the signed envelope, as it came
    header_sha256 BLOB NOT NULL,        -- of its payload; the next version names it
    sealed        BLOB NOT NULL,        -- amanat.record.v1.SealedFields
    routing       BLOB NOT NULL,        -- amanat.record.v1.PutRecordRequest with its routing values only
    put_time      INTEGER NOT NULL,     -- this server's clock, milliseconds since 1970
    UNIQUE (source, record_id, version)
) STRICT;

CREATE INDEX records_by_case ON records (case_id, source);
CREATE INDEX records_by_source ON records (source, seq);

CREATE TABLE referrals (
    seq             INTEGER PRIMARY KEY,   -- in the order of submission
    referral_id     BLOB NOT NULL,         -- its sender's name for it; another's same id is another referral
    case_id         BLOB NOT NULL,
    sender          BLOB NOT NULL,
    recipient       BLOB NOT NULL,
    submission      BLOB NOT NULL,         -- the sender's signed envelope, as it came
    payload_sha256  BLOB NOT NULL,         -- of the submission
    state           INTEGER NOT NULL,      -- amanat.policy.v1.ReferralState
    last_sha256     BLOB NOT NULL,         -- of the newest signed step's payload; the next step names it
    submit_time     INTEGER NOT NULL,      -- this server's clock, milliseconds since 1970
    respond_by_time INTEGER NOT NULL,
    UNIQUE (referral_id, sender)
) STRICT;

CREATE INDEX referrals_by_case ON referrals (case_id, sender);
CREATE INDEX referrals_by_recipient ON referrals (recipient, seq);
CREATE INDEX referrals_by_sender ON referrals (sender, seq);

CREATE TABLE referral_steps (
    seq         INTEGER PRIMARY KEY,  -- in the order of recording
    referral_id BLOB NOT NULL,
    sender      BLOB NOT NULL,        -- of the referral
    envelope    BLOB NOT NULL         -- the acting agency's signed transition, as it came
) STRICT;

CREATE INDEX referral_steps_by_referral ON referral_steps (referral_id, sender, seq);

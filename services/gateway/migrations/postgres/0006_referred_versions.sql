-- A page of versions is read off an index, however many referrals brought what is listed.

-- Which versions of others' records an agency may know of: those in a case whose source has a referral to it there
-- that is accepted and not over. What `records` and `referrals` say, in the order in which it is listed; rows come and
-- go with the referrals.
CREATE TABLE referred_versions (
    recipient bytea NOT NULL,   -- of the referral
    seq       bigint NOT NULL,  -- the version's, in `records`
    source    bytea NOT NULL,   -- the version's, which sent the referral
    PRIMARY KEY (recipient, seq)
);

CREATE INDEX referred_versions_by_source ON referred_versions (recipient, source, seq);

CREATE TRIGGER referred_versions_come_and_go BEFORE UPDATE OR TRUNCATE ON referred_versions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- REFERRAL_STATE_ACCEPTED and REFERRAL_STATE_IN_SERVICE.
INSERT INTO referred_versions (recipient, seq, source)
    SELECT DISTINCT f.recipient, r.seq, r.source FROM referrals AS f
    JOIN records AS r ON r.case_id = f.case_id AND r.source = f.sender
    WHERE f.state IN (3, 6);

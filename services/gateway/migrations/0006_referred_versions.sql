-- A page of versions is read off an index, however many referrals brought what is listed.

-- Which versions of others' records an agency may know of: those in a case whose source has a referral to it there
-- that is accepted and not over. What `records` and `referrals` say, in the order in which it is listed; rows come and
-- go with the referrals.
CREATE TABLE referred_versions (
    recipient BLOB NOT NULL,     -- of the referral
    seq       INTEGER NOT NULL,  -- the version's, in `records`
    source    BLOB NOT NULL,     -- the version's, which sent the referral
    PRIMARY KEY (recipient, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX referred_versions_by_source ON referred_versions (recipient, source, seq);

-- REFERRAL_STATE_ACCEPTED and REFERRAL_STATE_IN_SERVICE.
INSERT INTO referred_versions (recipient, seq, source)
    SELECT DISTINCT f.recipient, r.seq, r.source FROM referrals AS f
    CROSS JOIN records AS r ON r.case_id = f.case_id AND r.source = f.sender
    WHERE f.state IN (3, 6);

-- All that a list shows: what comes behind a record's sealed values in its row is some six pages away.
DROP INDEX records_by_source;
CREATE INDEX records_by_source ON records (source, seq, case_id, record_id, version, header_sha256, put_time);

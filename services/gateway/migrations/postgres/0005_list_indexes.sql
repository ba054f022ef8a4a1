-- Lists walk an index to their page: what an agency may see is never sorted as a whole.

-- A record is looked up by its id, whichever sources use it.
CREATE INDEX records_by_record ON records (record_id, source, version);

CREATE INDEX referrals_by_recipient_and_state ON referrals (recipient, state, seq);
CREATE INDEX referrals_by_sender_and_state ON referrals (sender, state, seq);
CREATE INDEX referrals_by_recipient_and_case ON referrals (recipient, case_id, seq);
CREATE INDEX referrals_by_sender_and_case ON referrals (sender, case_id, seq);

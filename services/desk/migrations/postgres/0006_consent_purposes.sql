-- Consents are listed by case, recipient and purpose.

-- amanat.policy.v1.Purpose, as the envelope says; for lists only
ALTER TABLE consents ADD COLUMN purpose bigint NOT NULL DEFAULT 0;

CREATE INDEX consents_by_source_and_case ON consents (source, case_id, seq);
CREATE INDEX consents_by_recipient_and_case ON consents (recipient, case_id, seq);
CREATE INDEX consents_by_source_and_recipient ON consents (source, recipient, seq);
CREATE INDEX consents_by_source_and_purpose ON consents (source, purpose, seq);
CREATE INDEX consents_by_recipient_and_purpose ON consents (recipient, purpose, seq);

CREATE TRIGGER consents_purpose_append_only BEFORE UPDATE OF purpose ON consents
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- The record of the benchmark as one would keep it in PostgreSQL without an exchange: a column a protected field,
-- sealed by pgcrypto; row-level security by agency, and by consent; pgaudit's object audit of the table.
-- {columns} are the catalogue's sealed leaves. Run by the superuser, once a variant.

CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE EXTENSION IF NOT EXISTS pgaudit;

DO $$
BEGIN
    CREATE ROLE auditor NOLOGIN;
    CREATE ROLE police LOGIN;
    CREATE ROLE shelter LOGIN;
EXCEPTION WHEN duplicate_object THEN
    NULL; -- another variant was measured before
END
$$;

ALTER DATABASE amanat SET pgaudit.role = 'auditor';
-- Else the log does not say which record was read. Not for the police: their parameters are the values in clear.
ALTER ROLE shelter SET pgaudit.log_parameter = on;
-- The key is in the server's memory whatever one does: it seals and opens.
ALTER DATABASE amanat SET record.key = '0123456789abcdef0123456789abcdef';

DROP TABLE IF EXISTS record, consent;

CREATE TABLE record (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source name   NOT NULL,
    -- What a read carries beside the released fields, and what a submission carries on top: the bytes of the
    -- exchange's own messages that are no field.
    header text   NOT NULL,
    proofs text   NOT NULL,
    {columns}
)
-- What follows favours this side, by up to half: the small fields stay in one row, and no compression of what was
-- encrypted is tried.
WITH (toast_tuple_target = 8160);

DO $$
DECLARE
    stored name;
BEGIN
    FOR stored IN
        SELECT attname FROM pg_attribute
        WHERE attrelid = 'record'::regclass AND attnum > 0 AND atttypid IN ('text'::regtype, 'bytea'::regtype)
    LOOP
        EXECUTE format('ALTER TABLE record ALTER %I SET STORAGE EXTERNAL', stored);
    END LOOP;
END
$$;

CREATE TABLE consent (
    record_id   bigint      NOT NULL,
    recipient   name        NOT NULL,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (record_id, recipient)
);

ALTER TABLE record ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON record USING (source = current_user);
CREATE POLICY consented ON record FOR SELECT USING (
    EXISTS (SELECT FROM consent WHERE record_id = record.id AND recipient = current_user AND now() < expire_time)
);

GRANT INSERT ON record TO police;
GRANT SELECT (id, header, {released}) ON record TO shelter;
GRANT SELECT ON consent TO shelter;
GRANT SELECT, INSERT ON record TO auditor;

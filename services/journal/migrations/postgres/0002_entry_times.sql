-- Entries are listed by time.

-- as the body says, milliseconds since 1970; for filters
ALTER TABLE entries ADD COLUMN time bigint NOT NULL DEFAULT 0;

CREATE INDEX entries_by_time ON entries (time);

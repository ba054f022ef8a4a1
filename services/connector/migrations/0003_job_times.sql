-- How long a delivery waits, for whoever watches over the outbox.

ALTER TABLE jobs ADD COLUMN accept_time INTEGER;  -- this machine's clock, milliseconds since 1970; NULL: before this step
